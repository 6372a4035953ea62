"""What held-out clips begin with, and the configuration that compares at `small` size."""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs.schema import Config, load_config
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.comparison import reading
from pipelines.formats import make_camera, save_fit
from pipelines.held_out_truth import truth_of
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
    assert pictured_body(config, store, body, motion, 100.0) is None
    monkeypatch.setattr("pipelines.speak.fit_picture", lambda *_: pytest.fail("looked at again"))
    assert pictured_body(config, store, body, motion, 100.0) is None


def test_what_a_truth_file_tells_is_the_truth_of_the_clip_and_not_its_fit(corpus, body, tmp_path):
    """A clip of the talk's frames 10 to 30, cropped to a half of its picture: whose body and camera, and where it is seen."""
    config, store = corpus
    motion = next(iterate_motions(store.shards("talks"), "test"))
    talk = standing(40, 3)
    talk = replace(talk, betas=talk.betas[:1].expand(40, -1))
    upright, size = torch.diag(torch.tensor([1.0, -1, -1, 1])), torch.tensor([512, 512])
    camera = make_camera(upright, torch.full((2,), 900.0), torch.full((2,), 256.0), size)
    path = tmp_path / f"{motion.id.split('/')[0]}.npz"
    save_fit(path, talk, camera, torch.ones(40), Fraction(25))
    arrays = dict(np.load(path)) | {f"oracle_{n}": getattr(talk, n).flip(0).numpy() for n in SMPLX_SHAPES if n != "betas"}
    times = {"phones": np.array(["a", "b", "o"]), "phones_start": np.array([0.1, 0.5, 1.3]), "phones_end": np.array([0.3, 0.7, 1.5])}
    np.savez(path, **arrays, **times)
    about = json.loads(motion.sample["clip.json"]) | {"start": 0.4, "size": 128, "crop": {"x": 128, "y": 64, "side": 256}}
    fit = replace(motion.fit, params=motion.fit.params[:20], confidence=motion.fit.confidence[:20])
    motion = replace(motion, fit=fit, sample=motion.sample | {"clip.json": json.dumps(about).encode()})
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"truth": str(tmp_path)})})
    told = truth_of(config, body, motion)
    torch.testing.assert_close(told.fit.params.transl, talk.transl[10:30])
    joints = body.joints(talk[10:30])
    whole, part = ((c.intrinsics @ body_in(c, joints).mT).mT for c in (camera, told.fit.camera))
    pixels = whole[..., :2] / whole[..., 2:]
    torch.testing.assert_close(part[..., :2] / part[..., 2:], (pixels - torch.tensor([128.0, 64.0])) / 2, atol=1e-2, rtol=0)
    seen = body.joints(body.moved(talk.map(lambda x: x.flip(0)), camera.w2c))[10:30]
    torch.testing.assert_close(body.joints(told.second), seen, atol=1e-4, rtol=0)
    kinds, moments = told.phones
    assert len(kinds) == 1
    assert moments.tolist() == pytest.approx([0.2])  # the second phone's middle, the clip's time
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"truth": None})})
    assert truth_of(config, body, motion) is None


def body_in(camera, joints):
    return (camera.w2c[:3, :3] @ joints.mT).mT + camera.w2c[:3, 3]


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
    mouths = {"ground_truth": 0.21, "two_stage": 0.26, "end_to_end": 0.2}
    rows |= {n: {"mouth_r_gain": {"value": v}} for n, v in mouths.items()}
    said = " ".join(reading(SimpleNamespace(rows=rows, judged_by="fits")))  # type: ignore[arg-type]
    assert "costs 4.0 dB" in said
    assert "scores 13.5 dB with that avatar, less than not moving" in said
    assert "Here two-stage does: 0.260, the truth 0.210." in said
    assert "Here end to end" not in said
    assert "are against fits: the oracle draw's 0.5" in said
    assert "Read both systems between those two" in said
    assert "fitted to the clip" not in " ".join(reading(SimpleNamespace(rows={})))  # type: ignore[arg-type]
