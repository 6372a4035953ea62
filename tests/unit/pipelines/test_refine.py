"""Refining a body against landmarks, joints and outline of its picture."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from benchmarks.stage1 import WEIGHTS
from configs.schema import Config
from model.refine import LANDMARKS, UNKNOWNS, Errors, Refiner, Seen, between, flipped, mirrored, pixels_of
from model.refine_points import BODY, SIDE, PatchSource
from model.types import Camera, SmplxParams
from pipelines.checkpoints import load_stage1
from pipelines.landmarks import Landmarks
from pipelines.refine import LEARNED, load_refiner, read_body, refined_body

FOCAL = 700.0
INTRINSICS = torch.tensor([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])


def standing(body, seed: int, depth: float = 2.9) -> SmplxParams:  # [1] in the camera's frame
    g = torch.Generator().manual_seed(seed)
    pose = torch.zeros(1, 55, 3)
    pose[:, 1:BODY] = 0.15 * torch.randn(1, BODY - 1, 3, generator=g)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0, 1.0
    upright = SmplxParams.from_pose(pose, torch.randn(1, 10, generator=g), torch.zeros(1, 10), torch.tensor([[0.0, 0.3, -depth]]))
    return flipped(body, upright)


def seen_of(refiner: Refiner, params: SmplxParams) -> Seen:
    """What would be seen of a body if everything were off in the usual way and no further."""
    upright, count = flipped(refiner.body, params), len(LANDMARKS)
    nothing = Seen(torch.zeros(1, count, 2), torch.zeros(1, 12), torch.zeros(1, BODY, 2), torch.zeros(1, 1))
    x = refiner.unknowns(upright)
    measured = refiner.errors.bias - refiner.residuals(x, upright, nothing)[0]
    landmarks, bones, joints = measured.split([2 * count, 12, 2 * BODY], 1)
    depth = x[0, -1].exp()
    return Seen((landmarks / depth).view(1, -1, 2), bones, (joints / depth).view(1, -1, 2), torch.zeros(1, measured.shape[1]))


def test_exact_measurements_pull_a_body_towards_the_truth(body):
    refiner = load_refiner(body)[0]
    for seed in range(3):
        true, start = standing(body, seed), standing(body, seed + 100)
        start = between(body, between(body, start, true), true)  # a quarter of the way off
        refined = refiner.refined(start, seen_of(refiner, true))
        places = [body.joints(p)[:, :BODY] for p in (true, start, refined)]
        before, after = ((p - places[0]).norm(dim=-1).mean() for p in places[1:])
        pixels = [pixels_of(p, INTRINSICS[None]) for p in places]
        before_across, after_across = ((p - pixels[0]).norm(dim=-1).mean() for p in pixels[1:])
        assert after < before
        assert after_across < 0.5 * before_across


def test_slopes_are_those_of_the_residuals(body):
    refiner = load_refiner(body)[0]
    like = flipped(body, standing(body, 5))
    x, seen = refiner.unknowns(like), seen_of(refiner, standing(body, 6))
    value, slope = refiner.residuals(x, like, seen)
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        step = 1e-3 * torch.randn(1, UNKNOWNS, generator=g)
        step[:, -1] = 0  # rays are carried to the depth of the moment, which the slope holds fixed
        change = value - refiner.residuals(x + step, like, seen)[0]
        assert torch.allclose(change, (slope @ step[..., None])[..., 0], atol=2e-4)


def test_what_is_not_seen_changes_nothing(body):
    refiner = load_refiner(body)[0]
    start, seen = standing(body, 1), seen_of(refiner, standing(body, 1))
    lost = Seen(seen.landmarks, seen.bones, seen.joints, torch.full((1, 102), 1e4))
    wild = Seen(seen.landmarks + 1, seen.bones, seen.joints - 1, lost.unsure)
    first, second = (refiner.unknowns(flipped(body, refiner.refined(start, s))) for s in (lost, wild))
    assert torch.allclose(first, second, atol=0.01)
    assert torch.allclose(first, refiner.unknowns(flipped(body, start)) + refiner.errors.usual, atol=0.02)


def test_a_mirror_turned_twice_gives_the_body_back(body):
    true = standing(body, 2)
    again = mirrored(body, mirrored(body, true))
    assert torch.allclose(body.joints(again), body.joints(true), atol=1e-5)
    joints = body.joints(mirrored(body, true))
    assert torch.allclose(joints[0, 16] * torch.tensor([-1.0, 1, 1]), body.joints(true)[0, 17], atol=2e-3)
    assert torch.allclose(body.joints(between(body, true, true)), body.joints(true), atol=1e-4)


def test_patches_show_what_lies_round_the_joint():
    picture = np.full((1, SIDE, SIDE, 4), 255, np.uint8)
    picture[..., 3] = 0
    picture[0, 100, 60] = (0, 0, 0, 255)
    places = torch.full((1, BODY, 2), 20.0)
    places[0, 0] = torch.tensor([60.0, 100.0])
    source = PatchSource(picture, places.numpy())
    shift = torch.tensor([[0, 0], [2, -4]])
    patches = source.patches(torch.zeros(2).long(), torch.zeros(2).long(), shift, torch.zeros(2, dtype=torch.bool))
    assert patches[0, 3, 20, 20] == 1
    assert patches[1, 3, 24, 18] == 1
    assert patches[0, :4].sum() == 4  # black on white, opaque on nothing


def test_without_landmarks_the_prediction_stays_and_it_is_said(caplog):
    network = load_stage1(Config(), WEIGHTS)
    camera = Camera(torch.eye(4), INTRINSICS, torch.tensor([SIDE, SIDE]))
    picture = torch.full((SIDE, SIDE, 4), 255, dtype=torch.uint8)
    nan = lambda *shape: np.full(shape, np.nan, np.float32)  # noqa: E731
    found = Landmarks(
        nan(1, 33, 3), np.zeros((1, 33), np.float32), nan(1, 33, 3), nan(1, 478, 3), nan(1, 21, 3), nan(1, 21, 3),
        np.array([SIDE, SIDE]), np.array([25, 1]),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        body = refined_body(network, picture, camera, found, INTRINSICS)
    assert [r.message for r in caplog.records] == ["no landmarks found in the picture: the body stays as stage 1 reads it"]
    with torch.no_grad():
        plain = read_body(network, torch.ones(1, 3, SIDE, SIDE), camera.map(lambda x: x[None]))
    assert torch.equal(body.full_pose, plain.full_pose)


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", offsets=np.zeros(3))
    with pytest.raises(KeyError, match="usual"):
        Errors.load(tmp_path / "other.npz")
    assert LEARNED.is_file()
