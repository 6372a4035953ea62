"""Arms that touch but never pass through the trunk, the head, the legs or each other: capsules, and how deep they overlap.

The trunk and the head are stacks of lying capsules measured on the body's own surface; hands and forearms are capsules
between joints. Metres; T frames, K and L capsules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import roma
import torch
from numba import njit
from numpy.typing import NDArray

from model.body import JOINT_NAMES, Body
from model.types import SmplxParams

Array = NDArray[np.float64]
SPACING = 0.05  # metres between the trunk's capsules
DEEP = 0.005  # metres of overlap that count as passing through; skin gives that much
THIGH = 0.075
TINY = 1e-12
CLOTHES, SLEEVES, BARE = 0.018, 0.009, 0.003  # metres between skin and what hands should touch
# from joint, to joint, from where to where along it, radius
_ARM = (
    ("elbow", "wrist", 0.0, 0.5, 0.040), ("elbow", "wrist", 0.5, 1.0, 0.031), ("wrist", "index1", 0.0, 1.0, 0.017),
    ("wrist", "middle1", 0.0, 1.0, 0.018), ("wrist", "pinky1", 0.0, 1.0, 0.016), ("index1", "index3", 0.0, 1.6, 0.009),
    ("middle1", "middle3", 0.0, 1.6, 0.009), ("pinky1", "pinky3", 0.0, 1.6, 0.008), ("thumb1", "thumb3", 0.0, 1.6, 0.011),
)  # fmt: skip
_WAY = np.array([0.25, 0.75, 1, 1, 1, 1, 1, 1, 1])  # share of a push at each capsule's middle that the wrist takes; the elbow has the rest
_UPPER_ARM = ("shoulder", "elbow", 0.3, 1.0, 0.045)


@dataclass(frozen=True)
class Capsules:
    start: Array  # [T, K, 3]
    end: Array  # [T, K, 3]
    radius: Array  # [K]

    def __add__(self, other: Capsules) -> Capsules:
        join = lambda name, axis: np.concatenate([getattr(self, name), getattr(other, name)], axis)  # noqa: E731
        return Capsules(join("start", 1), join("end", 1), join("radius", 0))

    def __getitem__(self, frames: NDArray[np.intp]) -> Capsules:
        return Capsules(self.start[frames], self.end[frames], self.radius)


@dataclass(frozen=True)
class Trunk:
    """What an arm must stay out of, in the template: each capsule moves with one joint."""

    start: Array  # [K, 3]
    end: Array  # [K, 3]
    radius: Array  # [K]
    joint: NDArray[np.int64]  # [K]
    margin: Array  # [K] metres that hands stay off: clothes, or nothing on the head

    def posed(self, transforms: Array) -> Capsules:  # [T, J, 3, 4]
        moved = transforms[:, self.joint]
        turn, place = moved[..., :3], moved[..., 3]
        move = lambda x: np.einsum("tkij,kj->tki", turn, x) + place  # noqa: E731
        return Capsules(move(self.start), move(self.end), self.radius)


@dataclass(frozen=True)
class Clearance:
    """How deep the arms of one motion are in the body and in each other, metres."""

    trunk: Array  # [T] deepest overlap of forearms and hands with trunk, head and thighs; 0 where apart
    arms: Array  # [T] deepest overlap of the two arms

    @property
    def share(self) -> float:
        """Share of frames in which something is deeper than DEEP."""
        return float((np.maximum(self.trunk, self.arms) > DEEP).mean())


def arm_clearance(params: SmplxParams, body: Body) -> Clearance:
    """Measure a motion [T]: skin against skin, clothes not counted."""
    joints, transforms = kinematics(params, body)
    trunk = trunk_of(body, params.betas[0].numpy()).posed(transforms)
    left, right = (arm_capsules(joints, side) for side in ("left", "right"))
    inside = [np.maximum(overlap(arm, trunk)[0], 0).max((1, 2)) for arm in (left, right)]
    between = overlap(left, right + upper_arm(joints, "right"))[0], overlap(right, left + upper_arm(joints, "left"))[0]
    return Clearance(np.maximum(*inside), np.maximum(*(np.maximum(b, 0).max((1, 2)) for b in between)))


def kinematics(params: SmplxParams, body: Body) -> tuple[Array, Array]:
    """Posed joints [T, J, 3] and template → posed transforms [T, J, 3, 4]."""
    with torch.no_grad():
        turns = roma.rotvec_to_rotmat(params.full_pose)
        joints, transforms = body.kinematics(turns, params.shape_coefficients, params.transl)
    return joints.double().numpy(), transforms.double().numpy()


def trunk_of(body: Body, betas: NDArray[np.floating]) -> Trunk:
    """The trunk, head and thighs of a body of shape `betas` [10], from its skin."""
    shape = torch.cat([torch.as_tensor(np.asarray(betas), dtype=torch.float32), torch.zeros(10)])
    surface = (body.template + body.shape_dirs @ shape).double().numpy()
    rest = body.rest_joints(shape).double().numpy()
    owner = body.skin_weights.numpy().argmax(1)
    at = {name: rest[JOINT_NAMES.index(name)] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")}
    core = np.isin(owner, [JOINT_NAMES.index(n) for n in ("pelvis", "spine1", "spine2", "spine3", "left_hip", "right_hip")])
    rows: list[tuple[Array, Array, float, int]] = []
    for y in np.arange(at["pelvis"][1] - 0.10, at["neck"][1] - 0.04, SPACING):
        names = [n for n in ("pelvis", "spine1", "spine2", "spine3") if at[n][1] <= y + 0.03] or ["pelvis"]
        rows += _slice(surface[core], y, JOINT_NAMES.index(names[-1]))
    skull = np.isin(owner, [JOINT_NAMES.index(n) for n in ("head", "jaw")])
    for y in np.arange(surface[skull, 1].min() + 0.02, surface[skull, 1].max() - 0.02, SPACING):
        rows += _slice(surface[skull], y, JOINT_NAMES.index("head"))
    for side in ("left", "right"):
        hip, knee = (JOINT_NAMES.index(f"{side}_{n}") for n in ("hip", "knee"))
        rows.append((rest[hip], rest[knee], THIGH, hip))
    start, end, radius, joints = zip(*rows, strict=True)
    joint = np.array(joints)
    margin = np.where(joint == JOINT_NAMES.index("head"), BARE, CLOTHES)
    return Trunk(np.array(start), np.array(end), np.array(radius), joint, margin)


def _slice(points: Array, y: float, joint: int) -> list[tuple[Array, Array, float, int]]:
    """One lying capsule as wide and as deep as the points near height `y`; none where there are no points."""
    near = points[np.abs(points[:, 1] - y) < SPACING / 2]
    if len(near) < 8:
        return []
    low, high = np.quantile(near[:, [0, 2]], [0.02, 0.98], axis=0)
    half, middle = (high - low) / 2, (high + low) / 2
    radius = float(half.min())
    centre, reach = np.array([middle[0], y, middle[1]]), np.array([half[0] - radius, 0.0, half[1] - radius])
    return [(centre - reach, centre + reach, radius, joint)]


def chin_of(body: Body, betas: NDArray[np.floating]) -> Array:
    """The chin's point [3] in the template of a body of shape `betas` [10]; it moves with the jaw."""
    shape = torch.cat([torch.as_tensor(np.asarray(betas), dtype=torch.float32), torch.zeros(10)])
    surface = (body.template + body.shape_dirs @ shape).double().numpy()
    jaw = surface[body.skin_weights.numpy()[:, JOINT_NAMES.index("jaw")] > 0.5]
    return jaw[(0.5 * jaw[:, 2] - jaw[:, 1] - np.abs(jaw[:, 0])).argmax()]


def arm_capsules(joints: Array, side: str) -> Capsules:
    return _between(joints, side, _ARM)


def upper_arm(joints: Array, side: str) -> Capsules:
    return _between(joints, side, (_UPPER_ARM,))


def _between(joints: Array, side: str, rows: tuple[tuple[str, str, float, float, float], ...]) -> Capsules:
    at = lambda k: joints[:, [JOINT_NAMES.index(f"{side}_{r[k]}") for r in rows]]  # noqa: E731
    a, way = at(0), at(1) - at(0)
    low, high, radius = (np.array([r[k] for r in rows]) for k in (2, 3, 4))
    return Capsules(a + low[:, None] * way, a + high[:, None] * way, radius)


def overlap(a: Capsules, b: Capsules) -> tuple[Array, Array]:
    """How deep each capsule of `a` [T, K] is in each of `b` [T, L], and the way [T, K, L, 3] from b's axis to a's."""
    return _overlap(a.start, a.end - a.start, a.radius, b.start, b.end - b.start, b.radius)


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(p, u, r, q, v, s):  # type: ignore[no-untyped-def]
    """Of capsules that go from `p` [T, K, 3] by `u` with radius `r` [K], and from `q` [T, L, 3] by `v` with radius `s` [L]."""
    frames, count, others = p.shape[0], p.shape[1], q.shape[1]
    deep, way = np.empty((frames, count, others)), np.empty((frames, count, others, 3))
    for t in range(frames):
        for k in range(count):
            for j in range(others):
                uu = vv = uv = uw = vw = square = 0.0
                for i in range(3):
                    w = p[t, k, i] - q[t, j, i]
                    uu += u[t, k, i] * u[t, k, i]
                    vv += v[t, j, i] * v[t, j, i]
                    uv += u[t, k, i] * v[t, j, i]
                    uw += u[t, k, i] * w
                    vw += v[t, j, i] * w
                x = min(max((uv * vw - vv * uw) / max(uu * vv - uv * uv, TINY), 0.0), 1.0)
                y = min(max((uv * x + vw) / max(vv, TINY), 0.0), 1.0)
                x = min(max((uv * y - uw) / max(uu, TINY), 0.0), 1.0)
                y = min(max((uv * x + vw) / max(vv, TINY), 0.0), 1.0)
                for i in range(3):
                    gap = (p[t, k, i] - q[t, j, i]) + x * u[t, k, i] - y * v[t, j, i]
                    way[t, k, j, i] = gap
                    square += gap * gap
                deep[t, k, j] = r[k] + s[j] - math.sqrt(square)
    return deep, way


def pushes(joints: Array, body: Capsules, margin: Array, ahead: Array) -> dict[str, tuple[Array, Array]]:
    """By side: how the wrist [T, 3] (world) and the elbow [T, 3] should give way so that nothing overlaps, clothes counted.

    `body`: a posed trunk of that `margin`; `ahead` [T, 3] where the chest looks.
    """
    arms = {side: arm_capsules(joints, side) for side in ("left", "right")}
    out = {}
    for side, other, sign in (("left", "right", 1.0), ("right", "left", -1.0)):
        amount, way, share = _deepest(*overlap(arms[side], body), margin)
        # never push a hand round the back, and out of the middle towards the front
        behind = np.minimum((way * ahead).sum(1, keepdims=True), 0)
        first = _asked(amount, way - behind * ahead + 1e-4 * ahead, share)
        amount, way, share = _deepest(*overlap(arms[side], arms[other] + upper_arm(joints, other)), SLEEVES)
        bias = np.array([sign * 0.02, 0.0, -sign * 0.02])  # each arm keeps to its side, the right one goes in front
        second = _asked(amount, way + bias, share)
        out[side] = (first[0] + 0.5 * second[0], first[1] + 0.5 * second[1])
    return out


def _deepest(deep: Array, way: Array, margin: Array | float) -> tuple[Array, Array, Array]:
    """Of each frame's deepest overlap [T, K, L]: metres [T], its way [T, 3], the share of a push that the wrist takes [T, 1]."""
    rows, index = np.arange(len(deep)), (deep + margin).reshape(len(deep), -1).argmax(1)
    arm, other = np.divmod(index, deep.shape[2])
    return np.maximum((deep + margin)[rows, arm, other], 0), way[rows, arm, other], _WAY[arm][:, None]


def _asked(amount: Array, way: Array, share: Array) -> tuple[Array, Array]:
    """What pushing by `amount` along `way` asks of the wrist and of the elbow, [T, 3] each."""
    push = amount[:, None] * way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    return share * push, (1 - share) * push
