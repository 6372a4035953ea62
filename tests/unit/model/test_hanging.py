"""Cloth that hangs: skirts follow pelvis and thighs, trousers and all else the skin."""

import pytest
import torch

from model.anchors import Anchors
from model.body import JOINT_NAMES
from model.geometry import rotation_from_quaternion
from model.hanging import OFF
from model.types import SMPLX_SHAPES, SmplxParams

LEFT_KNEE = JOINT_NAMES.index("left_knee")


@pytest.fixture(scope="module")
def anchors(body):
    return Anchors(body, 2048, 1.4)


def bent(**joints):  # [1] a body whose named joints are turned
    pose = torch.zeros(1, 55, 3)
    for name, turn in joints.items():
        pose[0, JOINT_NAMES.index(name)] = torch.tensor(turn)
    return SmplxParams.from_pose(pose, *(torch.zeros(1, *SMPLX_SHAPES[k]) for k in ("betas", "expression", "transl")))


def outward(anchors, metres):  # [1, N, 3] offsets of all anchors along their normals
    return metres * anchors.frames[None, :, :, 2]


@pytest.fixture(scope="module")
def shin(anchors):
    return (anchors.points.weights[:, LEFT_KNEE] > 0.99) & (anchors.hanging.legs > 1 - 1e-6)


def test_what_lies_close_to_the_leg_moves_with_it(anchors, shin):
    params = bent(left_knee=[1.2, 0.0, 0.0])
    close = outward(anchors, 0.9 * OFF[0])
    means, turns = anchors.posed(close, params)
    _, skin_turns = anchors.posed(None, params)
    torch.testing.assert_close(turns, skin_turns, atol=1e-6, rtol=0)
    straight, _ = anchors.posed(close, bent())
    assert (means - straight)[0, shin].norm(dim=-1).mean() > 0.15


def test_what_hangs_beside_a_shin_stays_when_the_knee_bends(anchors, shin):
    far = outward(anchors, 1.1 * OFF[1])
    (means, turns), (straight, upright) = (anchors.posed(far, params) for params in (bent(left_knee=[1.2, 0.0, 0.0]), bent()))
    torch.testing.assert_close(means[0, shin], straight[0, shin], atol=1e-3, rtol=0)  # skin swells behind a bent knee
    torch.testing.assert_close(turns[0, shin], upright[0, shin], atol=1e-5, rtol=0)


def test_a_skirt_goes_half_as_far_as_the_thighs(anchors, shin):
    far = outward(anchors, 1.1 * OFF[1])
    turn = [0.4, 0.0, 0.0]
    params = bent(left_hip=turn, right_hip=turn)
    _, turns = anchors.posed(far, params)
    angle = torch.arccos(rotation_from_quaternion(turns)[0, shin, 1, 1])
    torch.testing.assert_close(angle, torch.full_like(angle, 0.2), atol=5e-3, rtol=0)


def test_arms_and_head_never_hang(anchors):
    params = bent(left_shoulder=[0.0, 0.0, -0.8], neck=[0.0, 0.5, 0.0])
    far = outward(anchors, 0.2)
    _, turns = anchors.posed(far, params)
    _, skin_turns = anchors.posed(None, params)
    above = anchors.hanging.legs == 0
    assert above.sum() > 1000
    torch.testing.assert_close(turns[0, above], skin_turns[0, above], atol=1e-6, rtol=0)


def test_offsets_are_learned_through_what_hangs(anchors):
    offsets = outward(anchors, 0.0).requires_grad_()
    means, turns = anchors.posed(offsets, bent(left_knee=[1.2, 0.0, 0.0]))
    (means.sum() + turns.sum()).backward()
    assert torch.isfinite(offsets.grad).all()
    shifted = (outward(anchors, 0.5 * sum(OFF))).requires_grad_()
    means, _ = anchors.posed(shifted, bent(left_knee=[1.2, 0.0, 0.0]))
    means.sum().backward()
    assert torch.isfinite(shifted.grad).all()
