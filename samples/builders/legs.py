"""Feet that stay where they stand while the hips move: two-bone inverse kinematics of both legs. T frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES

Array = NDArray[np.float64]
REACH = 0.995  # of a leg's length that it stretches to
SINK = 0.012  # metres that the hips stand lower than in the template, so that the knees are not locked
FORWARD = np.array([0.0, 0.0, 1.0])


def stand(pose: Array, shift: Array, rest: Array, stance: float) -> Array:
    """Set hips, knees and ankles of `pose` [T, 55, 3] (pelvis given) in place; returns the body's translation [T, 3].

    `rest` [55, 3] are the template's joints, `shift` [T, 3] the wished translation; each leg stands `stance` radians
    further out than in the template.
    """
    shift = shift - [0.0, SINK, 0.0]
    pelvis = Rotation.from_rotvec(pose[:, 0])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hip, knee, ankle = (JOINT_NAMES.index(f"{side}_{n}") for n in ("hip", "knee", "ankle"))
        thigh, shin = rest[knee] - rest[hip], rest[ankle] - rest[knee]
        upper, lower = np.linalg.norm(thigh), np.linalg.norm(shin)
        foot = rest[ankle] + [sign * stance * (upper + lower), 0.0, 0.0]
        toe_out = Rotation.from_euler("y", sign * (0.10 + stance))
        from_hip = foot - (rest[0] + shift + pelvis.apply(rest[hip] - rest[0]))
        distance = np.minimum(np.linalg.norm(from_hip, axis=1), REACH * (upper + lower))[:, None]
        line = from_hip / np.linalg.norm(from_hip, axis=1, keepdims=True)
        knees = _across(toe_out.apply(FORWARD) + 0 * line, line)
        along = (upper**2 + distance**2 - lower**2) / (2 * distance)
        bent = along * line + np.sqrt(np.maximum(upper**2 - along**2, 0)) * knees
        thigh_turn = _frame(bent, knees) * _frame(thigh[None], FORWARD[None]).inv()
        shin_turn = _frame(distance * line - bent, knees) * _frame(shin[None], FORWARD[None]).inv()
        pose[:, hip] = (pelvis.inv() * thigh_turn).as_rotvec()
        pose[:, knee] = (thigh_turn.inv() * shin_turn).as_rotvec()
        pose[:, ankle] = (shin_turn.inv() * toe_out).as_rotvec()
    return shift


def _across(x: Array, line: Array) -> Array:
    """The part of `x` [T, 3] at right angles to unit `line` [T, 3], of length 1."""
    x = x - (x * line).sum(1, keepdims=True) * line
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _frame(bone: Array, front: Array) -> Rotation:
    """Rotations whose y axis runs against `bone` [T, 3] and whose z axis is as near `front` [T, 3] as can be."""
    up = -bone / np.linalg.norm(bone, axis=1, keepdims=True)
    z = _across(front, up)
    return Rotation.from_matrix(np.stack([np.cross(up, z), up, z], -1))
