"""From checkpoints to the comparison at the tiniest size: clips too short for FGD, one held-out speaker, untrained weights."""

import json

import torch

from model.stage1 import Stage1
from model.stage2 import Stage2
from pipelines.baseline import motion, retarget, video
from pipelines.body import body_hash
from pipelines.checkpoints import save_weights, weights_file
from pipelines.evaluate import evaluate_stage1, evaluate_stage2
from pipelines.report import comparison

AUDIO = 12  # features of the tiny talks
ROWS = (
    "ground_truth", "frozen", "still_avatar", "nearest_clip", "end_to_end", "two_stage", "true_both", "true_avatar", "true_motion"
)  # fmt: skip


def test_every_row_is_filled_as_far_as_it_can_be(corpus, body):
    config, store = corpus
    baseline = config.baseline.model_validate({"steps": 2, "codes": 4, "width": 16, "layers": 1, "batch": 2, "avatar_steps": 2})
    evaluation = config.evaluation.model_validate({"image_frames": 2, "render_size": 128})
    config = config.model_copy(update={"baseline": baseline, "evaluation": evaluation})
    torch.manual_seed(0)
    about = {"body": body_hash(config), "config": config.model_dump(mode="json"), "audio_dim": AUDIO}
    stage1 = Stage1(config.stage1, body)
    save_weights(weights_file(store, "stage1"), stage1, {**about, "stage": "stage1"})
    save_weights(weights_file(store, "stage2"), Stage2(config.stage2, stage1, AUDIO), {**about, "stage": "stage2"})
    records = [work(config, store) for work in (evaluate_stage1, evaluate_stage2, motion, retarget, video, comparison)]
    assert [r.reason for r in records if r.status != "ok"] == []
    table = json.loads((store.comparison / "table.json").read_text())
    rows = table["rows"]
    assert set(rows) == {*ROWS}
    assert rows["ground_truth"]["upper_mpjpe_mm"] == {"value": 0, "low": None, "high": None, "clips": 1}
    assert "fgd" not in rows["end_to_end"]  # 24 frames hold no window of 32
    assert set(table["headline"]) == {"psnr_gain"}  # nor is there another clip's speech
    # with the true motion the placed person stands where the prediction stood, so that joints in place agree
    assert rows["true_motion"]["upper_pa_mpjpe_mm"]["value"] < 0.1
    again = [work(config, store) for work in (evaluate_stage2, motion, video, comparison)]
    assert {r.output_hash for r in again} <= {r.output_hash for r in records}
