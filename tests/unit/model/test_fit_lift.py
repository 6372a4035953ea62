"""What the landmarks tell of directions and lengths of bones, and what they and a height tell of shape."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

from model.fit_arms import USUAL, upper_arm
from model.fit_features import FACE_SHAPE, clip_features, face_shape, proportions
from model.fit_layout import LEGS, LIFTED, lifted, observe
from model.fit_lift import BONES, Lift
from model.fit_shape import SIGMA, log_height, log_lengths, shape_prior
from pipelines.fit import LIFT

FRAMES = 7


@dataclass(frozen=True)
class Found:
    pose: np.ndarray
    visibility: np.ndarray
    pose_world: np.ndarray
    face: np.ndarray
    left_hand: np.ndarray
    right_hand: np.ndarray
    size: np.ndarray
    fps: np.ndarray


@pytest.fixture(scope="module")
def lift() -> Lift:
    return Lift.load(LIFT)


def drawn(seed: int) -> Found:
    rng = np.random.default_rng(seed)
    cloud = lambda count, middle, spread: rng.normal(middle, spread, (FRAMES, count, 3))  # noqa: E731
    return Found(
        cloud(33, 250, 60), np.ones((FRAMES, 33)), cloud(33, 0, 0.3), cloud(478, 250, 30), cloud(21, 200, 20), cloud(21, 300, 20),
        np.array([500, 500]), np.array([25, 1]),
    )  # fmt: skip


def mirrored(found: Found) -> Found:
    """The same person in a mirror."""
    flip = np.array([-1.0, 1.0, 1.0])
    order, face = list(range(33)), list(range(478))
    for left in (11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 7, 9):
        order[left], order[left + 1] = left + 1, left
    order[2], order[5] = 5, 2
    for left, right in ((33, 263), (234, 454)):
        face[left], face[right] = right, left
    return replace(
        found, pose=(found.pose * flip)[:, order], visibility=found.visibility[:, order], pose_world=(found.pose_world * flip)[:, order],
        face=(found.face * flip)[:, face], left_hand=found.right_hand * flip, right_hand=found.left_hand * flip,
    )  # fmt: skip


def test_the_right_side_is_read_as_the_left_side_of_a_mirrored_person():
    found = drawn(0)
    assert np.allclose(clip_features(mirrored(found)), clip_features(found)[::-1], atol=1e-5)


def test_directions_and_lengths_do_not_depend_on_the_size_of_the_picture(lift):
    found = drawn(1)
    pixels = ("pose", "face", "left_hand", "right_hand", "size")
    larger = replace(found, **{f.name: 2 * getattr(found, f.name) for f in fields(found) if f.name in pixels})
    for small, large in zip(lift(found), lift(larger), strict=True):
        assert np.allclose(small, large, atol=1e-4)
    assert np.allclose(np.linalg.norm(lift.directions(found), axis=-1), 1, atol=1e-5)


def test_frames_without_a_person_have_no_directions_and_weigh_nothing(lift):
    found = drawn(2)
    for name in ("pose", "pose_world"):
        getattr(found, name)[3] = np.nan
    seen = observe(found.pose, found.visibility, found.pose_world, found.face, found.left_hand, found.right_hand, (500, 500), 25.0)
    told = lifted(seen, lift.directions(found), found.visibility)
    assert not told.limb_weights[3].any()
    assert told.limbs.isfinite().all()
    assert (told.limb_weights[2, len(LEGS) :] > 0).all()
    assert torch.allclose(told.limbs[2, len(LEGS) :].norm(dim=-1), torch.ones(len(LIFTED)))


def test_a_face_or_hands_that_were_never_found_leave_something_to_be_told(lift):
    found = drawn(3)
    for name in ("face", "left_hand", "right_hand"):
        getattr(found, name)[:] = np.nan
    directions, lengths, _ = lift(found)
    assert np.isfinite(directions).all()
    assert np.isfinite(lengths).all()


def test_the_shape_of_a_face_does_not_depend_on_where_it_is_looks_or_how_large_it_is():
    found = drawn(5)
    like = found.face[0, FACE_SHAPE] - found.face[0, FACE_SHAPE].mean(0)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    one = replace(found, face=np.broadcast_to(found.face[1], found.face.shape))
    turned = replace(one, face=1.7 * one.face @ turn + 40)
    assert np.allclose(face_shape(one, like), face_shape(turned, like), atol=1e-6)
    assert np.allclose(face_shape(replace(one, face=one.face * 0 + 3 * found.face[0] @ turn), like), 0, atol=1e-6)


def test_one_unusual_frame_does_not_change_the_shape_of_a_face(lift):
    found = drawn(6)
    steady = replace(found, face=np.repeat(found.face[:1], FRAMES, 0))
    odd = replace(steady, face=steady.face.copy())
    odd.face[2] = found.face[5]
    shapes = [face_shape(x, lift.face.astype(np.float64)) for x in (steady, odd)]
    assert np.allclose(*shapes, atol=1e-9)


def test_landmarks_that_are_only_guessed_say_nothing_of_lengths(lift):
    found = drawn(7)
    found.visibility[:, 13:17] = 0.1
    wild = replace(found, pose=found.pose.copy())
    wild.pose[:, 13:17] *= 0.01
    across = np.zeros((FRAMES, 2, len(BONES), 3))
    across[..., 0] = 1
    told = [lift.lengths(proportions(x, across), face_shape(x, lift.face)) for x in (found, wild)]
    assert np.allclose(*told, atol=1e-6)


def test_impossible_proportions_give_lengths_that_people_have(lift):
    found = drawn(8)
    _, lengths, covariance = lift(replace(found, pose=found.pose * 50))
    assert (np.abs(lengths - lift.length_bias) < 15 * np.sqrt(np.diag(covariance))).all()


def waving(long: float, eyes: float = 20.0) -> tuple[Found, np.ndarray]:
    """Arms that swing, seen from far away, with upper arms `long` times the usual; and their bones' directions [T, S, D, 3]."""
    rng = np.random.default_rng(9)
    found, turns = drawn(9), rng.normal(size=(FRAMES, 2, len(BONES), 3)) * [1, 1, 0.3]
    directions = turns / np.linalg.norm(turns, axis=-1, keepdims=True)
    directions[:, :, 4] = [1, 0, 0]
    size = np.array([10_000, 10_000])  # of a picture in which the eyes are so close together that depth makes no difference
    wrists = directions[:, :, :2] * (USUAL * [long, 1])[:, None] * eyes
    pose = np.full((FRAMES, 33, 3), 5000.0)
    pose[:, 15:17] += wrists.sum(2) * [1, -1, 1]
    pose[:, 13:15] = rng.uniform(1, 9999, (FRAMES, 2, 3))  # elbows do not count
    face = np.zeros((FRAMES, 478, 3))
    face[:, 468, 0] = eyes
    nowhere = np.full((FRAMES, 21, 3), np.nan)
    return replace(found, pose=pose, face=face, left_hand=nowhere, right_hand=nowhere, size=size), directions


@pytest.mark.parametrize("long", [0.8, 1.0, 1.25])
def test_wrists_tell_how_long_the_upper_arm_is_wherever_the_elbows_are(long):
    assert upper_arm(*waving(long)) == pytest.approx(np.log(long * USUAL[0]), abs=0.02)


def test_arms_that_are_not_seen_say_nothing_and_leave_the_lengths_as_they_were(lift):
    found, directions = waving(1.0)
    found.visibility[:, 15:17] = 0.1
    assert np.isnan(upper_arm(found, directions))
    hidden = drawn(10)
    hidden.visibility[:, 15:17] = 0.1
    own, lengths, covariance = lift(hidden)
    assert np.allclose(lengths, lift.lengths(proportions(hidden, own), face_shape(hidden, lift.face)))
    assert covariance is lift.length_covariance


def test_longer_reach_makes_longer_arms(lift):
    assert lift.arm[0] > 0.02
    assert lift.arm[1] > 0.02
    assert (np.diag(lift.arm_covariance)[:2] < 0.95 * np.diag(lift.length_covariance)[:2]).all()


def test_a_bone_that_points_at_the_camera_says_nothing_of_its_length():
    found = drawn(4)
    across = np.zeros((FRAMES, 2, len(BONES), 3))
    across[..., 0] = 1
    away = across.copy()
    away[:, :, 1] = [0, 0, 1]  # the forearms
    plain, hidden = proportions(found, across), proportions(found, away)
    assert np.isnan(hidden).sum() == np.isnan(plain).sum() + 1


@pytest.mark.parametrize("height", [1.5, 1.9])
def test_a_given_height_is_the_height_of_the_shape(body, height):
    found = shape_prior(body, height=height).mean
    assert log_height(body, found.double())[0].exp().item() == pytest.approx(height, abs=0.02)


def test_lengths_that_are_told_are_found_and_others_stay_likely(body):
    wanted = torch.tensor([1.0, -0.5, 0.3, 0, 0, 0.4, 0, 0, 0, 0]).double()
    lengths = log_lengths(body, wanted)[0]
    prior = shape_prior(body, lengths.numpy(), 1e-4 * np.eye(len(lengths)))
    assert torch.allclose(log_lengths(body, prior.mean.double())[0], lengths, atol=0.03)
    unsure = shape_prior(body, lengths.numpy(), 1e-2 * np.eye(len(lengths)))
    assert torch.allclose(unsure.mean, prior.mean, atol=1e-5)  # a best guess is not drawn to the mean once more
    assert (torch.linalg.eigvalsh(prior.precision) - torch.linalg.eigvalsh(unsure.precision)).min() > -1e-3
    assert shape_prior(body).mean.abs().max() == 0


def test_lengths_that_are_told_are_held_and_what_they_do_not_tell_is_free(body):
    usual, slope = log_lengths(body, torch.zeros(10).double())
    prior = shape_prior(body, usual.numpy(), 0.06**2 * np.eye(len(usual)))
    spread = torch.linalg.inv(prior.precision.double())
    assert (slope @ spread @ slope.T).diagonal().sqrt().max() < 0.06 / 5
    assert torch.linalg.eigvalsh(spread).max().sqrt() > 0.9 * SIGMA


def test_a_height_that_nobody_has_is_refused(body):
    with pytest.raises(ValueError, match=r"fit\.height: expected 1\.0 to 2\.3 metres, got 18"):
        shape_prior(body, height=18.0)
