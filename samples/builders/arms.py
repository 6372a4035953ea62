"""Where a hand is and what it does → rotations of collar, shoulder, elbow, wrist and fingers.

All for the LEFT arm in the chest's frame (x to the person's left, y up, z forward); the right arm is solved as the left
of a mirrored person and its rotations mirrored back. T frames; rotations are rotation vectors in radians.

Controls of one arm, the columns of [T, 14]:
0-2  wrist from the shoulder: outward, up, forward, in arm lengths (shoulder-elbow-wrist)
3    swivel of the elbow outward about the line shoulder-wrist, radians from hanging
4    pronation of the forearm, radians: 0 thumb up, + palm down, - palm up
5-6  wrist flexion (towards the palm), deviation (towards the little finger), radians
7-10 curl of index, middle, ring, little finger: 0 straight, 1 a relaxed curve, 2.3 a fist
11   spread of the fingers, 0..1
12   thumb towards the palm, 0..1
13   curl of the thumb, 0..1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
CONTROLS = 14
MIRROR_POINT = np.array([-1.0, 1.0, 1.0])
MIRROR_ROTATION = np.array([1.0, -1.0, -1.0])
FINGERS = ("index", "middle", "pinky", "ring")  # SMPL-X order; the thumb comes last
_CURL_COLUMN = {"index": 7, "middle": 8, "ring": 9, "pinky": 10}
_SPREAD = {"index": -0.22, "middle": -0.03, "ring": 0.13, "pinky": 0.32}
_FLEX = (0.45, 0.60, 0.38)  # radians at curl 1 of the three joints of a finger


@dataclass(frozen=True)
class ArmBones:
    """Rest positions [3] in metres of a left (or mirrored right) arm."""

    collar: Array
    shoulder: Array
    elbow: Array
    wrist: Array

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.elbow - self.shoulder) + np.linalg.norm(self.wrist - self.elbow))


@dataclass(frozen=True)
class ArmPose:
    collar: Array  # [T, 3]
    shoulder: Array  # [T, 3]
    elbow: Array  # [T, 3]
    wrist: Array  # [T, 3]
    hand: Array  # [T, 15, 3]

    def mirrored(self) -> ArmPose:
        return ArmPose(*(x * MIRROR_ROTATION for x in (self.collar, self.shoulder, self.elbow, self.wrist, self.hand)))


def solve_arm(controls: Array, bones: ArmBones, hand: Array | None = None) -> ArmPose:
    """Two-bone inverse kinematics; targets out of reach are drawn in along their line.

    `hand` [T, 15, 3]: the fingers' rotations where they are known already (`bend_fingers`).
    """
    outward, up, forward = controls[:, 0], controls[:, 1], controls[:, 2]
    lift = np.clip(up + 0.45, 0, 1)
    reach = np.clip(forward - 0.55, 0, 0.5)
    collar = _turn(("y", -0.35 * reach + 0.10 * np.clip(outward, 0, 1)), ("z", 0.22 * lift))
    shoulder = bones.collar + collar.apply(bones.shoulder - bones.collar)
    target = bones.shoulder + bones.length * np.stack([outward, up, forward], 1)

    upper, fore = np.linalg.norm(bones.elbow - bones.shoulder), np.linalg.norm(bones.wrist - bones.elbow)
    line = target - shoulder
    distance = np.clip(np.linalg.norm(line, axis=1), 1.15 * abs(upper - fore) + 0.08, 0.985 * (upper + fore))
    line = _unit(line)
    swivel = controls[:, 3]
    hang = np.stack([np.sin(swivel), -np.cos(swivel), np.full(len(line), -0.35)], 1)
    hang = _unit(hang - (hang * line).sum(1, keepdims=True) * line)
    along = (upper**2 + distance**2 - fore**2) / (2 * distance)
    elbow = along[:, None] * line + np.sqrt(np.maximum(upper**2 - along**2, 1e-8))[:, None] * hang
    first, second = _unit(elbow), _unit(distance[:, None] * line - elbow)
    cosine = np.clip((first * second).sum(1), -1, 1)
    flexion = np.arccos(cosine)
    # at rest upper and forearm lie along x and the elbow bends about y, towards z
    bend = _unit(second - cosine[:, None] * first)
    turned = Rotation.from_matrix(np.stack([first, np.cross(bend, first), bend], -1))
    twist = controls[:, 4]
    return ArmPose(
        collar=collar.as_rotvec(),
        shoulder=(collar.inv() * turned).as_rotvec(),
        elbow=_turn(("y", -flexion), ("x", 0.55 * twist)).as_rotvec(),
        wrist=_turn(("x", 0.45 * twist), ("y", controls[:, 6]), ("z", -controls[:, 5])).as_rotvec(),
        hand=bend_fingers(controls) if hand is None else hand,
    )


def bend_fingers(controls: Array) -> Array:  # [T, CONTROLS] → [T, 15, 3]
    hand = np.zeros((len(controls), 15, 3))
    for f, name in enumerate(FINGERS):
        curl, spread = controls[:, _CURL_COLUMN[name]], controls[:, 11] * _SPREAD[name]
        for joint, flex in enumerate(_FLEX):
            side = spread / (1 + np.clip(curl, 0, 3)) if joint == 0 else 0 * spread
            hand[:, 3 * f + joint] = _turn(("y", side), ("z", -flex * curl)).as_rotvec()
    across, curl = controls[:, 12], controls[:, 13]
    hand[:, 12] = _turn(("x", 0.55 * across), ("y", 0.35 * across + 0.10 * curl)).as_rotvec()
    hand[:, 13] = _turn(("y", 0.10 + 0.45 * curl), ("x", 0.15 * across)).as_rotvec()
    hand[:, 14] = _turn(("y", 0.10 + 0.75 * curl)).as_rotvec()
    return hand


def _turn(*steps: tuple[str, Array]) -> Rotation:
    """Rotations about the joint's own axes, applied outermost first."""
    result = Rotation.identity()
    for axis, angle in steps:
        result = result * Rotation.from_rotvec(angle[:, None] * np.eye(3)["xyz".index(axis)])
    return result


def _unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
