"""A speaker's whole body saying something: `perform` joins mouth, face, hands and posture into SMPL-X parameters.

World frame: metres, y up, the person at the origin of the body's template looking along +z. T frames, sampled at frame
centres t = (i + 0.5) / fps of the speech. The same phones, style and seed give the same motion; another seed is another
draw of the same speaker's way of moving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES, Body
from model.types import SmplxParams
from samples.builders.arms import MIRROR_POINT, ArmBones, ArmPose, solve_arm
from samples.builders.curves import RATE, Curve, smooth, times, wander
from samples.builders.face import FaceStyle, brows_and_lids, head_and_eyes
from samples.builders.gesture import GestureStyle, hand_path, plan_strokes
from samples.builders.speech import Phone
from samples.builders.visemes import EXPRESSIONS, LIPS, MouthStyle, mouth

GRID = 2.0**-14  # parameters are rounded to this (0.06 mrad, 0.06 mm), so that they compress


@dataclass(frozen=True)
class Style:
    """All that makes a speaker move like themselves."""

    mouth: MouthStyle = field(default_factory=MouthStyle)
    face: FaceStyle = field(default_factory=FaceStyle)
    gesture: GestureStyle = field(default_factory=GestureStyle)
    sway: float = 1.0  # gain of the body's slow movement
    lean: float = 0.04  # radians forward
    turn: float = 0.0  # resting yaw of the body, radians


def perform(phones: Sequence[Phone], frames: int, fps: int, style: Style, body: Body, betas: np.ndarray, seed: int) -> SmplxParams:
    """Motion [T] of a person of shape `betas` [10] who says `phones`; values on GRID."""
    rng = np.random.default_rng(seed)
    count = frames * RATE // fps
    at = [round((i + 0.5) / fps * RATE - 0.5) for i in range(frames)]  # curves' samples lie at (k + 0.5) / RATE

    jaw, lips = mouth(phones, count, style.mouth, rng)
    head, eyes = head_and_eyes(phones, count, style.face, rng)
    brows = brows_and_lids(phones, count, style.face, rng)
    strokes = plan_strokes(phones, style.gesture, rng)
    paths = {side: hand_path(strokes, side, phones, count, style.gesture, rng)[at] for side in "lr"}
    spine, hips, shift = _posture(count, style, paths, at, rng)

    joints = body.rest_joints(torch.cat([torch.as_tensor(betas, dtype=torch.float32), torch.zeros(10)])).double().numpy()
    left = solve_arm(paths["l"], _bones(joints, "left", np.ones(3)))
    right = solve_arm(paths["r"], _bones(joints, "right", MIRROR_POINT)).mirrored()

    pose = np.zeros((frames, len(JOINT_NAMES), 3))
    pose[:, _joint("pelvis")] = _rotvec(hips[at])
    for name, share in (("spine1", 0.3), ("spine2", 0.35), ("spine3", 0.35)):
        pose[:, _joint(name)] = _rotvec(share * spine[at])
    for name, share in (("neck", 0.4), ("head", 0.6)):
        pose[:, _joint(name)] = _rotvec(share * (head[at] - 0.6 * spine[at]))
    for side, roll in (("left", 0.04), ("right", -0.04)):
        pose[:, _joint(f"{side}_hip")] = (0, 0, roll)
    _put_arm(pose, "left", left)
    _put_arm(pose, "right", right)
    pose[:, _joint("jaw"), 0] = jaw[at]
    for side in ("left", "right"):
        pose[:, _joint(f"{side}_eye_smplhf"), :2] = eyes[at]

    expression = np.zeros((frames, len(EXPRESSIONS)))
    expression[:, [EXPRESSIONS.index(n) for n in LIPS]] = lips[at]
    expression[:, [EXPRESSIONS.index(n) for n in ("brow_up", "brow_down", "blink")]] = brows[at]
    smile = np.clip(2 * style.mouth.smile + wander(rng, count, 0.18, 2.5, 0.3), 0, 1.2)
    expression[:, 0] = smile[at] * (1 - 0.4 * np.clip(lips[at, 1], 0, 1))  # rounding the lips undoes the smile

    tensor = lambda x: torch.from_numpy(np.round(np.asarray(x) / GRID) * GRID).float()  # noqa: E731
    shape = tensor(np.broadcast_to(betas, (frames, 10)))
    return SmplxParams.from_pose(tensor(pose), shape, tensor(expression), tensor(shift[at]))


def _posture(count: int, style: Style, paths: dict[str, Curve], at: list[int], rng: np.random.Generator) -> tuple[Curve, Curve, Curve]:
    """Spine and pelvis angles [N, 3] each, translation [N, 3]: slow sway, breath, weight shifts, a turn with the moving hand."""
    spine = wander(rng, count, style.sway * np.array([0.030, 0.040, 0.025]), 1.6, 0.25)
    spine[:, 0] += style.lean + 0.006 * np.sin(2 * np.pi * 0.27 * times(count) + rng.uniform(0, 6))
    out, forward = (paths["r"][:, k] - paths["l"][:, k] for k in (0, 2))
    turning = np.interp(np.arange(count), at, 0.06 * out + 0.12 * forward)
    spine[:, 1] += smooth(turning, 0.12)
    hips = wander(rng, count, style.sway * np.array([0.010, 0.045, 0.012]), 2.5, 0.4)
    hips[:, 1] += style.turn
    shift = wander(rng, count, style.sway * np.array([0.022, 0.003, 0.014]), 2.5, 0.4)
    hips[:, 2] -= 0.8 * shift[:, 0]
    return spine, hips, shift


def _bones(joints: np.ndarray, side: str, mirror: np.ndarray) -> ArmBones:
    return ArmBones(*(joints[_joint(f"{side}_{n}")] * mirror for n in ("collar", "shoulder", "elbow", "wrist")))


def _put_arm(pose: np.ndarray, side: str, arm: ArmPose) -> None:
    for name in ("collar", "shoulder", "elbow", "wrist"):
        pose[:, _joint(f"{side}_{name}")] = getattr(arm, name)
    first = _joint(f"{side}_index1")
    pose[:, first : first + 15] = arm.hand


def _rotvec(angles: Curve) -> np.ndarray:
    """Yaw, then pitch, then roll about the joint's own axes, from columns (pitch x, yaw y, roll z)."""
    return Rotation.from_euler("YXZ", angles[:, [1, 0, 2]]).as_rotvec()


def _joint(name: str) -> int:
    return JOINT_NAMES.index(name)
