"""The network that tells where arms point."""

from __future__ import annotations

import numpy as np

from model.fit_arms import ArmDirections, arm_features
from pipelines.fit import ARMS

PAIRS = [(11, 12), (13, 14), (15, 16), (23, 24), (19, 20)]


def test_a_mirrored_person_has_mirrored_arms():
    rng = np.random.default_rng(0)
    pose, world = rng.normal(250, 60, (5, 33, 3)), rng.normal(0, 0.3, (5, 33, 3))
    order = list(range(33))
    for left, right in PAIRS:
        order[left], order[right] = right, left
    flip = np.array([-1.0, 1.0, 1.0])
    plain, mirrored = arm_features(pose, world), arm_features((pose * flip)[:, order], (world * flip)[:, order])
    assert np.allclose(mirrored, plain[:, ::-1], atol=1e-9)


def test_directions_are_unit_vectors_that_do_not_depend_on_the_size_of_the_picture():
    rng = np.random.default_rng(1)
    pose, world = rng.normal(250, 60, (5, 33, 3)), rng.normal(0, 0.3, (5, 33, 3))
    arms = ArmDirections.load(ARMS)
    small, large = arms(arm_features(pose, world)), arms(arm_features(2 * pose + 7, world))
    assert np.allclose(np.linalg.norm(small, axis=-1), 1, atol=1e-5)
    assert np.allclose(small, large, atol=1e-5)
