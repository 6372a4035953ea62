"""A speaker's whole body saying something: `perform` joins mouth, face, hands, posture and legs into SMPL-X parameters.

World frame: metres, y up, the person at the origin of the body's template looking along +z. T frames, sampled at frame
centres t = (i + 0.5) / fps of the speech. The same score and take give the same motion; another take is another draw of
the same speaker's way of moving.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES, Body
from model.types import SmplxParams
from samples.builders.arms import CONTROLS, MIRROR_POINT, ArmBones, ArmPose, bend_fingers, solve_arm
from samples.builders.contact import chin_of, kinematics, pushes, trunk_of
from samples.builders.curves import RATE, Curve, pulse, smooth, through, wander
from samples.builders.face import brows_and_lids, head_and_eyes
from samples.builders.gesture import Stroke
from samples.builders.legs import stand
from samples.builders.people import embedded_body
from samples.builders.plan import Style
from samples.builders.score import BODY_CHANCE, FACE_CHANCE, MOUTH_CHANCE, Score, chance, hands_of, samples_at_rate
from samples.builders.speech import SILENCE, Phone
from samples.builders.visemes import EXPRESSIONS, LIPS, mouth

GRID = 2.0**-14  # parameters are rounded to this (0.06 mrad, 0.06 mm), so that they compress
ROUNDS, PULLS = 20, 17  # of pushing the arms apart; of them, those that bring a hand to the chin
NEAR_ENOUGH = 0.002  # metres of push that may be left; clothes are thicker
UNDER_CHIN = np.array([0.0, -0.014, 0.012])  # metres from the chin to the knuckles that touch it
SIDES = (("l", "left", np.ones(3)), ("r", "right", MIRROR_POINT))


def perform(score: Score, take: int | None = None, betas: np.ndarray | None = None) -> SmplxParams:
    """Motion [T] of a person of shape `betas` [10] (none: average) who says the score; values on GRID.

    `take` is the draw of the motion (none: the plan's own).
    """
    plan, body = score.plan, embedded_body()
    take = plan.take if take is None else take
    shape = np.zeros(10, np.float32) if betas is None else np.asarray(betas, np.float32)
    style, phones, count = plan.style, score.phones, samples_at_rate(score)
    frames = lambda curve: at_frames(curve, score.frames, score.fps)  # noqa: E731

    jaw, lips = (frames(c) for c in mouth(phones, count, style.mouth, chance(plan, take, MOUTH_CHANCE)))
    rng = chance(plan, take, FACE_CHANCE)
    towards = 0.8 * plan.shot.yaw - style.turn  # most is said to the camera
    head, eyes = (frames(c) for c in head_and_eyes(phones, count, style.face, rng, towards))
    brows = frames(brows_and_lids(phones, count, style.face, rng))
    smile = frames(np.clip(2 * style.mouth.smile + wander(rng, count, 0.18, 2.5, 0.3), 0, 1.2))
    hands, strokes = hands_of(score, take)
    rng = chance(plan, take, BODY_CHANCE)
    air = breath(phones, count, rng)
    spine, hips, shift = (frames(c) for c in _posture(count, style, hands, air, rng))

    pose = np.zeros((score.frames, len(JOINT_NAMES), 3))
    pose[:, _joint("pelvis")] = _rotvec(hips)
    for name, share in (("spine1", 0.3), ("spine2", 0.35), ("spine3", 0.35)):
        pose[:, _joint(name)] = _rotvec(share * spine)
    for name, share in (("neck", 0.4), ("head", 0.6)):
        pose[:, _joint(name)] = _rotvec(share * (head - 0.6 * spine))
    pose[:, _joint("jaw"), 0] = jaw
    for side in ("left", "right"):
        pose[:, _joint(f"{side}_eye_smplhf"), :2] = eyes
    rest = body.rest_joints(torch.cat([torch.from_numpy(shape), torch.zeros(10)])).double().numpy()
    shift = stand(pose, shift, rest, style.stance)

    expression = np.zeros((score.frames, len(EXPRESSIONS)))
    expression[:, [EXPRESSIONS.index(n) for n in LIPS]] = lips
    expression[:, [EXPRESSIONS.index(n) for n in ("brow_up", "brow_down", "blink")]] = brows
    expression[:, 0] = smile * (1 - 0.4 * np.clip(lips[:, 1], 0, 1))  # rounding the lips undoes the smile

    still = _params(pose, shape, expression, shift)
    to_chin = {s: frames(_touching(strokes, s, count)) for s in hands}
    _put_arms(pose, {s: frames(c) for s, c in hands.items()}, to_chin, frames(air), still, rest, body, float(score.fps))
    return _params(pose, shape, expression, shift)


def at_frames(curve: Curve, frames: int, fps: Fraction) -> Curve:
    """Samples [N, ...] at curves.RATE → values [frames, ...] at the middles of the frames."""
    place = np.clip((np.arange(frames) + 0.5) / float(fps) * RATE - 0.5, 0, len(curve) - 1)
    low = np.minimum(place.astype(int), len(curve) - 2)
    weight = (place - low).reshape(-1, *[1] * (curve.ndim - 1))
    return curve[low] * (1 - weight) + curve[low + 1] * weight


def breath(phones: Sequence[Phone], count: int, rng: np.random.Generator) -> Curve:
    """How full the lungs are [N], 0..1: a breath in at pauses, out while speaking."""
    end = count / RATE
    marks = [p.start for p in phones if p.name == SILENCE and p.end - p.start > 0.2]
    for gap in np.arange(0.5, end, 3.8):  # nobody speaks much longer on one breath
        if all(abs(gap - m) > 2.0 for m in marks):
            marks.append(float(gap))
    keys = [(-2.0, np.array([0.3]))]
    for mark in sorted(marks):
        if mark > keys[-1][0] + 0.3:
            keys += [(mark, np.array([rng.uniform(0, 0.2)])), (mark + rng.uniform(0.4, 0.6), np.array([rng.uniform(0.7, 1.0)]))]
    keys.append((max(end, keys[-1][0]) + 3.0, np.array([0.0])))
    return smooth(through(keys, count)[:, 0], 0.05)


def _posture(count: int, style: Style, hands: dict[str, Curve], air: Curve, rng: np.random.Generator) -> tuple[Curve, Curve, Curve]:
    """Spine and pelvis angles [N, 3] each, translation [N, 3]: sway, breath, weight from leg to leg, a turn with the moving hand."""
    spine = wander(rng, count, style.sway * np.array([0.030, 0.040, 0.025]), 1.6, 0.25)
    spine[:, 0] += style.lean - 0.014 * air
    out, forward = (hands["r"][:, k] - hands["l"][:, k] for k in (0, 2))
    spine[:, 1] += smooth(0.06 * out + 0.12 * forward, 0.12)
    hips = wander(rng, count, style.sway * np.array([0.010, 0.040, 0.010]), 2.5, 0.4)
    hips[:, 1] += style.turn
    shift = wander(rng, count, style.sway * np.array([0.012, 0.002, 0.010]), 2.5, 0.4)
    shift[:, 0] += _weight(count, style.sway, rng)
    hips[:, 2] -= 0.8 * shift[:, 0]
    spine[:, 2] += 0.5 * shift[:, 0]
    return spine, hips, shift


def _weight(count: int, gain: float, rng: np.random.Generator) -> Curve:
    """Metres to the side [N]: now and then the weight goes to the other leg."""
    side = rng.choice([-1.0, 1.0])
    keys = [(-2.0, np.array([side * gain * rng.uniform(0, 0.02)]))]
    time = rng.uniform(1.5, 5)
    while time < count / RATE:
        side = -side
        keys += [(time, keys[-1][1]), (time + rng.uniform(0.7, 1.2), np.array([side * gain * rng.uniform(0.008, 0.03)]))]
        time += rng.uniform(3, 8)
    return through(keys, count)[:, 0]


def _put_arms(
    pose: np.ndarray,  # [T, 55, 3], changed in place
    controls: dict[str, Curve],  # [T, CONTROLS] by side
    to_chin: dict[str, Curve],  # [T] by side: 1 while the knuckles are at the chin
    air: Curve,  # [T]
    still: SmplxParams,  # the motion without its arms
    rest: np.ndarray,  # [55, 3]
    body: Body,
    fps: float,
) -> None:
    """Solve both arms, bring hands to the chin, and push them out of the body and of each other."""
    betas, transforms = still.betas[0].numpy(), kinematics(still, body)[1]
    trunk, chin = trunk_of(body, betas), transforms[:, _joint("jaw")] @ np.append(chin_of(body, betas) + UNDER_CHIN, 1.0)
    around, ahead = trunk.posed(transforms), transforms[:, _joint("spine3"), :, 2]
    chest = Rotation.from_matrix(transforms[:, _joint("spine3"), :, :3])
    bones = {s: _bones(rest, side, mirror) for s, side, mirror in SIDES}
    fingers = {s: bend_fingers(c) for s, c in controls.items()}
    given = {s: np.zeros((len(pose), CONTROLS)) for s in controls}  # way to the wrist and swivel to the elbow
    joints, asked = np.zeros(pose.shape), {side: (np.zeros((len(pose), 3)), np.zeros((len(pose), 3))) for _, side, _ in SIDES}
    frames = np.arange(len(pose))  # whose arms have moved; the others are as they were
    for round_ in range(ROUNDS + 1):
        some = pose[frames]
        for s, side, _ in SIDES:
            arm = solve_arm((controls[s] + given[s])[frames], bones[s], fingers[s][frames])
            arm.collar[:, 2] += 0.02 * air[frames]
            _put_arm(some, side, arm if s == "l" else arm.mirrored())
        pose[frames] = some
        if round_ == ROUNDS:
            return
        moved = _params(some, betas, still.expression.numpy()[frames], still.transl.numpy()[frames])
        joints[frames] = kinematics(moved, body)[0]
        for side, pair in pushes(joints[frames], around[frames], trunk.margin, ahead[frames]).items():
            for whole, part in zip(asked[side], pair, strict=True):
                whole[frames] = part
        if not any(w.any() for w in to_chin.values()) and max(np.abs(x).max() for pair in asked.values() for x in pair) < NEAR_ENOUGH:
            return
        before = {s: g.copy() for s, g in given.items()}
        for s, side, mirror in SIDES:
            wrist, elbow = (_eased(chest.inv().apply(x) * mirror, fps) for x in asked[side])
            given[s][:, :3] += (0.8 * wrist + 0.5 * elbow) / bones[s].length
            given[s][:, 3] += 3.0 * elbow[:, 0]  # a quarter of a metre from the line shoulder-wrist, about
            if round_ < PULLS:
                pull = to_chin[s][:, None] * chest.inv().apply(chin - joints[:, _joint(f"{side}_index2")]) * mirror
                given[s][:, :3] += 0.5 * pull / bones[s].length
            given[s][:, :4] = _frames_smooth(given[s][:, :4], 0.025 * fps)
        frames = np.flatnonzero(np.any([(given[s] != before[s]).any(1) for s in given], 0))


def _touching(strokes: Sequence[Stroke], side: str, count: int) -> Curve:
    """1 while the hand of `side` is held at the chin, [N]."""
    mine = [s for s in strokes if s.form == "chin" and side in s.hands]
    at = [pulse(count, s.apex, 0.8 * (s.apex - s.start) + 0.05, s.hold - s.apex, 0.5) for s in mine]
    return np.max(at, 0) if at else np.zeros(count)


def _eased(push: np.ndarray, fps: float) -> np.ndarray:
    """A push [T, 3] that comes and goes smoothly and is nowhere weaker than asked."""
    amount = np.linalg.norm(push, axis=1)
    way = _frames_smooth(push, 0.05 * fps)
    way = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    width = max(3, 2 * round(0.08 * fps) + 1)
    return way * _frames_smooth(maximum_filter1d(amount, width), 0.04 * fps)[:, None]


def _frames_smooth(x: np.ndarray, frames: float) -> np.ndarray:
    return smooth(x, frames / RATE)


def _params(pose: np.ndarray, betas: np.ndarray, expression: np.ndarray, shift: np.ndarray) -> SmplxParams:
    tensor = lambda x: torch.from_numpy(np.round(np.asarray(x) / GRID) * GRID).float()  # noqa: E731
    shape = tensor(np.broadcast_to(betas, (len(pose), 10)))
    return SmplxParams.from_pose(tensor(pose), shape, tensor(expression), tensor(shift))


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
