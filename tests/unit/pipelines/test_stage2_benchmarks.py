"""What benchmarks of stage 2 say, of a network too small to say anything."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import first_pose, stage2_speed
from benchmarks.stage2 import two_stage
from benchmarks.stage2_pictured import STRIDE, draw_pictured, drawn_batch
from benchmarks.stage2_pixels import arm, learn, look, paired_gains
from benchmarks.talk_scores import Clip
from configs.schema import Config, load_config
from model.audio_to_motion import AudioToMotion
from model.motion import MOTION
from model.rasterize import Render
from model.stage1 import Stage1
from model.types import SmplxParams
from pipelines.checkpoints import load_stage2


@pytest.mark.needs_voice
def test_arms_with_and_without_pixels_begin_alike_and_only_one_sees_pictures(tiny_settings, body, monkeypatch):
    training = {**tiny_settings["stage2_training"], "windows": 1, "draws": 1, "pixel_frames": 1, "own_share": 0.0}
    config = Config.model_validate({**tiny_settings, "stage2_training": training})
    person = draw_pictured(config, 950_000, 2.5, 64)
    pictures = person.images[torch.arange(len(person.images))]
    assert pictures[..., 3].float().mean() > 20
    assert pictures[..., :3].float().std() > 20
    torch.manual_seed(0)
    stage1 = Stage1(config.stage1, body)
    monkeypatch.setattr("benchmarks.stage2_pixels.load_stage1", lambda *_: stage1)
    without, with_pixels, looks = (arm(config, None, None, name, [person], "cpu") for name in ("motion", "pixels", "appearance"))
    first, second = (look(task, person, 0) for task in (without, with_pixels))
    assert first == second
    assert 5 < first["psnr_head"] < 60
    assert first["psnr_mouth_worn"] == first["psnr_mouth_bare"]  # nothing is heard in the looks yet
    for task in (without, with_pixels, looks):
        torch.nn.init.normal_(task.network.appearance.weight, std=0.1)
        learn(task, [person], 2, 1, 0)
    moved = (with_pixels.network.appearance_basis - without.network.appearance_basis).abs().max()
    assert moved > 0
    alone = dict(looks.network.named_parameters())
    for name, parameter in arm(config, None, None, "motion", [person], "cpu").network.named_parameters():
        learned = name.split(".")[0] in ("appearance", "appearance_basis", "appearance_out")
        assert torch.equal(parameter, alone[name]) != learned, name
    seen = look(looks, person, 0)
    assert seen["psnr_mouth_worn"] != seen["psnr_mouth_bare"]
    assert len(person.inputs) == -(-len(person.images) // STRIDE)


@pytest.mark.needs_voice
def test_the_loss_round_the_lips_is_their_mean_error_and_sees_nothing_of_the_rest(tiny_settings, body, monkeypatch):
    config = Config.model_validate(tiny_settings)
    person = draw_pictured(config, 950_000, 2.5, 64)
    monkeypatch.setattr("benchmarks.stage2_pixels.load_stage1", lambda *_: Stage1(config.stage1, body))
    task = arm(config, None, None, "pixels", [person], "cpu")
    seen, _, true, _ = task.seen_windows(drawn_batch([person], np.random.default_rng(0), task.shape, 2))

    def loss(wrong: torch.Tensor) -> float:
        return float(task._face_loss(Render(seen.views + wrong, seen.alpha, seen.alpha), true, seen))

    everywhere = torch.full_like(seen.views, 0.1)
    assert loss(0 * everywhere) == 0
    assert loss(everywhere) == pytest.approx(0.1, rel=1e-4)
    side = seen.views.shape[2]
    below = torch.where(torch.arange(side)[:, None, None] > 0.7 * side, everywhere, 0)
    assert loss(below) < 0.02 < loss(everywhere - below)


def test_gains_are_paired_by_clip():
    rows = [{"psnr": 20.0}, {"psnr": 30.0}], [{"psnr": 21.0}, {"psnr": 31.5}]
    found = {f.name: f.value for f in paired_gains(rows[1], rows[0], ["a", "b"])}
    assert found["psnr_gain"] == 1.25
    assert 1.0 <= found["psnr_gain_low"] <= found["psnr_gain_high"] <= 1.5


def test_the_baseline_is_placed_where_the_truth_begins():
    torch.manual_seed(0)
    network = AudioToMotion(12, 16, 1, 8, 3).eval()
    network.motion.fit([torch.randn(64, MOTION) * 0.1 for _ in range(2)], 0)
    truth = dataclasses.replace(SmplxParams.zeros(40), transl=torch.full((40, 3), 2.0))
    clip = Clip("a", truth, truth, np.random.default_rng(0).random((40, 12), np.float32), np.zeros(1), (), ())
    made = two_stage(network, [clip])[0]
    assert made.transl.shape == (40, 3)
    assert (made.transl - 2).abs().max() < 1.5


def test_made_up_speech_is_the_same_again_and_as_long_as_asked():
    sound = stage2_speed.made_up_speech(0.5, 3)
    assert np.array_equal(sound, stage2_speed.made_up_speech(0.5, 3))
    assert sound.shape == (8000,)
    assert 0.01 < sound.std() < 0.2


@pytest.mark.slow
@pytest.mark.needs_voice
def test_talks_from_a_picture_begin_in_the_pose_found_there(monkeypatch):
    monkeypatch.setattr(first_pose, "SECONDS", 2.5)
    config = load_config(Path("configs/small_comparison.yaml"))
    stage2 = load_stage2(config, Path("samples/weights/stage2.safetensors"))
    person = first_pose.begin(config, stage2, 950_000)
    rows = first_pose.rows_of(stage2, None, [person])
    made = {name: row(0)[0] for name, row in rows.items()}
    assert {len(m.transl) for m in made.values()} == {len(person.features)} == {len(person.truth.transl)}
    elbows = {name: stage2.stage1.body.joints(m[:1])[0, [18, 19]] for name, m in made.items()}
    apart = lambda a, b: float((elbows[a] - elbows[b]).norm(dim=-1).max())  # noqa: E731
    assert apart("read", "steadied") < 0.02
    assert apart("true", "read") < 0.15
    assert (made["read"].body_pose[-1] - made["steadied"].body_pose[-1]).abs().max() > 1e-3
