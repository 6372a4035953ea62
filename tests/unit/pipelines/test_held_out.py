"""What held-out clips begin with, and the configuration that compares at `small` size."""

import csv
from types import SimpleNamespace

import pytest
import torch

from configs.schema import Config, load_config
from model.types import SmplxParams
from pipelines.comparison import reading
from pipelines.motion_shards import motion_clips
from pipelines.motions import iterate_motions
from pipelines.pictured import NECK, at_focal, pictured_body
from pipelines.placing import placed, unplaced


def standing(frames=4, seed=0):
    params = SmplxParams.zeros(frames)
    rng = torch.Generator().manual_seed(seed)
    params.global_orient[:] = torch.tensor([3.0, 0.1, 0.0]) + 0.1 * torch.randn(frames, 3, generator=rng)
    params.transl[:] = torch.tensor([0.1, 0.3, 2.2]) + 0.1 * torch.randn(frames, 3, generator=rng)
    return params


def test_another_focal_length_sees_the_neck_where_it_was(body):
    params = standing()
    moved = at_focal(body, params, 900.0, 800.0)
    seen = [focal * j[:, NECK, :2] / j[:, NECK, 2:] for focal, j in ((900.0, body.joints(params)), (800.0, body.joints(moved)))]
    torch.testing.assert_close(seen[0], seen[1], atol=1e-2, rtol=0)
    assert torch.equal(moved.transl[:, :2], params.transl[:, :2])


def test_who_is_placed_and_lifted_again_is_who_they_were():
    motion, stands = standing(6, 1), standing(1, 2)
    back = placed(unplaced(motion, stands), stands)
    torch.testing.assert_close(back.transl, motion.transl, atol=1e-5, rtol=0)
    turn = lambda p: torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3).expand(6, 3, 3), p.global_orient[:, None].expand(6, 3, 3)))  # noqa: E731
    torch.testing.assert_close(turn(back), turn(motion), atol=1e-4, rtol=0)


def test_a_picture_that_says_nothing_is_left_to_stage_1_and_looked_at_once(corpus, body, monkeypatch):
    config, store = corpus
    motion = next(iterate_motions(store.shards("talks"), "test"))
    monkeypatch.setattr("pipelines.speak.fit_picture", lambda *_: (None, 100.0, None))
    assert pictured_body(config, store, body, motion) is None
    monkeypatch.setattr("pipelines.speak.fit_picture", lambda *_: pytest.fail("looked at again"))
    assert pictured_body(config, store, body, motion) is None


def test_clips_of_talks_know_their_camera(corpus):
    clip = next(motion_clips(corpus[1].shards("talks"), "train"))
    torch.testing.assert_close(clip.w2c, torch.diag(torch.tensor([1.0, -1, -1, 1])))


def test_the_comparison_at_small_size_takes_the_shipped_sizes():
    found, small, second = (load_config(f"configs/{n}.yaml") for n in ("small_comparison", "small", "small_stage2"))
    assert found.stage1 == small.stage1 == second.stage1
    assert found.stage2 == second.stage2
    assert (found.stage1_training.steps, found.stage2_training.steps) == (0, 0)
    with pytest.raises(ValueError, match="expected start_from"):
        Config.model_validate({"stage2_training": {"steps": 0}})


def test_every_filmed_speaker_is_stated_as_held_out(tmp_path):
    from samples.build_held_out import build_held_out, plan_held_out

    plans = plan_held_out(3)
    assert len({p.speaker for p in plans}) == 3
    (tmp_path / "truth").mkdir()
    for plan in plans:  # as if filmed before
        (tmp_path / f"{plan.id}.mp4").touch()
        (tmp_path / "truth" / f"{plan.id}.npz").touch()
    build_held_out(tmp_path, 3)
    rows = list(csv.DictReader((tmp_path / "talks.csv").open()))
    assert [(r["file"], r["split"]) for r in rows] == [(f"{p.id}.mp4", "test") for p in plans]


def test_the_page_says_what_its_own_numbers_mean():
    rows = {n: {"psnr": {"value": v}} for n, v in (("frozen", 20.0), ("still_avatar", 16.0), ("oracle_draw", 13.5))}
    fgd = {"oracle_draw": 0.5, "frozen": 4.0}
    rows = {n: row | ({"fgd": {"value": fgd[n]}} if n in fgd else {}) for n, row in rows.items()}
    said = " ".join(reading(SimpleNamespace(rows=rows)))  # type: ignore[arg-type]
    assert "costs 4.0 dB" in said
    assert "scores 13.5 dB with that avatar, less than not moving" in said
    assert "Read both systems between those two" in said
    assert "fitted to the clip" not in " ".join(reading(SimpleNamespace(rows={})))  # type: ignore[arg-type]
