"""Which point of the body each detected landmark stands for, how sure it is, and what a clip's landmarks say.

Axis legend: `T` frames, `K` landmarks used (body, left hand, right hand, face), `J` joints (55), `D` bones.
Landmark numbers are mediapipe's: 33 of the pose, 21 a hand, 478 of the refined face mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from smplx.vertex_ids import vertex_ids
from torch import Tensor

from model.body import JOINT_NAMES, Body, PoseDirs, SurfacePoints
from model.fit_priors import joint_index
from model.types import JOINTS

FACE_POINTS = 478  # mediapipe's refined face mesh: 468 points and 2 x 5 of the irises
_TIPS = ("thumb", "index", "middle", "ring", "pinky")
_BODY: dict[int, tuple[str, float]] = {  # pose landmark → joint or named vertex, standard deviation in metres
    11: ("left_shoulder", 0.03), 12: ("right_shoulder", 0.03), 13: ("left_elbow", 0.03), 14: ("right_elbow", 0.03),
    15: ("left_wrist", 0.03), 16: ("right_wrist", 0.03), 23: ("left_hip", 0.04), 24: ("right_hip", 0.04),
    25: ("left_knee", 0.04), 26: ("right_knee", 0.04), 27: ("left_ankle", 0.04), 28: ("right_ankle", 0.04),
    29: ("LHeel", 0.04), 30: ("RHeel", 0.04), 31: ("LBigToe", 0.05), 32: ("RBigToe", 0.05), 7: ("lear", 0.04),
    8: ("rear", 0.04),
}  # fmt: skip
LIMBS: tuple[tuple[int, int, float], ...] = (  # bones as pose landmarks, and how far mediapipe's direction is off
    (11, 12, 0.15), (11, 13, 0.12), (13, 15, 0.1), (12, 14, 0.12), (14, 16, 0.1), (23, 11, 0.1), (24, 12, 0.1),
    (23, 24, 0.15), (23, 25, 0.4), (25, 27, 0.4), (24, 26, 0.4), (26, 28, 0.4),
)  # fmt: skip
HAND_SIGMA, FACE_SIGMA = 0.010, 0.004
FACE_WEIGHT = 25.0  # of all face points together, in body landmarks
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95, 88, 178, 87, 14,
    317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
EYES = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
    263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
)  # fmt: skip
OVAL = (152, 148, 176, 149, 150, 136, 172, 377, 400, 378, 379, 365, 397)
_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
_NOSE_CHEEKS = (
    1, 4, 5, 195, 197, 6, 168, 98, 327, 2, 129, 358, 48, 278, 10, 338, 109, 234, 454, 127, 356, 93, 323, 50, 280,
    205, 425,
)  # fmt: skip
_IRISES = (468, 473)
FACE_SUBSET = tuple(sorted({*LIPS, *EYES, *OVAL, *_BROWS, *_NOSE_CHEEKS, *_IRISES}))
BODY_NAMES = tuple(name for name, _ in _BODY.values())
HAND_NAMES = tuple(  # the body's points for mediapipe's 21 landmarks of the left hand, then of the right one
    name
    for side in ("left", "right")
    for name in (
        f"{side}_wrist",
        *(n for f in _TIPS for n in (*(f"{side}_{f}{k}" for k in (1, 2, 3)), f"{side[0]}{f}")),
    )
)
BODY_COUNT, HAND_COUNT = len(_BODY), 21
LANDMARKS = BODY_COUNT + 2 * HAND_COUNT + len(FACE_SUBSET)
BODY_PART = slice(0, BODY_COUNT)
UPPER_LIMBS = range(6)  # shoulders, elbows, wrists
HANDS_PART = slice(BODY_COUNT, BODY_COUNT + 2 * HAND_COUNT)
FACE_PART = slice(BODY_COUNT + 2 * HAND_COUNT, LANDMARKS)


@dataclass(frozen=True)
class FaceEmbedding:
    """Mediapipe's face points on a body's surface: barycentric points plus an offset in template space, metres."""

    faces: np.ndarray  # [478] int64, triangle index
    barycentric: np.ndarray  # [478, 3] float32
    offset: np.ndarray  # [478, 3] float32

    def __post_init__(self) -> None:
        for name, shape in (("faces", (FACE_POINTS,)), ("barycentric", (FACE_POINTS, 3)), ("offset", (FACE_POINTS, 3))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"FaceEmbedding.{name}: expected {shape}, got {getattr(self, name).shape}")


@dataclass(frozen=True)
class Layout:
    """The body's side of the correspondence: every landmark is a point that the skeleton carries."""

    points: SurfacePoints  # K points; joints, too: carried by themselves alone
    sigma: Tensor  # [K] metres
    limb: Tensor  # [D, 2] int64 joints at the ends of the directed bones
    limb_sigma: Tensor  # [D] of the unit direction


@dataclass(frozen=True)
class Observations:
    """The clip's side: everything that the fit is told. World axes are the body's (y up), not the camera's."""

    points: Tensor  # [T, K, 2] pixels; 0 where unseen
    weights: Tensor  # [T, K] 0 where unseen
    limbs: Tensor  # [T, D, 3] unit directions in world axes
    limb_weights: Tensor  # [T, D]
    torso_pixels: Tensor  # [T, 7, 2] shoulders, elbows, nose, ears: pixels (NaN unseen)
    torso_metres: Tensor  # [T, 7, 2] the same in metres, x right and y down
    size: tuple[int, int]  # width, height, pixels
    fps: float

    def __len__(self) -> int:
        return len(self.points)


def make_layout(body: Body, face: FaceEmbedding, offsets: Tensor | None = None) -> Layout:
    """`offsets` [BODY + 2·21, 3]: from the body's point to where the detector puts the landmark, in template space."""
    named = stack([_named_point(body, name) for name in (*BODY_NAMES, *HAND_NAMES)])
    skin = body.surface(face.faces[FACE_SUBSET,], face.barycentric[FACE_SUBSET,])
    skin.rest += torch.from_numpy(face.offset)[FACE_SUBSET,].to(skin.rest)
    if offsets is not None:
        named.rest += offsets.to(named.rest)
    sigma = [s for _, s in _BODY.values()] + [HAND_SIGMA] * (2 * HAND_COUNT) + [FACE_SIGMA] * len(FACE_SUBSET)
    ends = [[joint_index(_BODY[i][0]), joint_index(_BODY[j][0])] for i, j, _ in LIMBS]
    limb_sigma = torch.tensor([s for _, _, s in LIMBS])
    return Layout(stack([named, skin]), torch.tensor(sigma), torch.tensor(ends), limb_sigma)


def observe(
    pose: np.ndarray,  # [T, 33, 3] pixels
    visibility: np.ndarray,  # [T, 33] 0..1
    pose_world: np.ndarray,  # [T, 33, 3] metres, camera axes
    face: np.ndarray,  # [T, 478, 3] pixels
    left_hand: np.ndarray,  # [T, 21, 3] pixels
    right_hand: np.ndarray,  # [T, 21, 3] pixels
    size: tuple[int, int],  # width, height, pixels
    fps: float,
) -> Observations:
    """Detected landmarks (NaN where not found) → what the fit is told. What lies outside the picture is unseen."""
    f32 = lambda x: torch.from_numpy(np.ascontiguousarray(x, np.float32))  # noqa: E731
    body, world, hands = f32(pose), f32(pose_world), torch.stack([f32(left_hand), f32(right_hand)], 1)
    frames, ids = len(body), list(_BODY)
    inside = ((body[..., :2] > 0) & (body[..., :2] < torch.tensor(size))).all(-1)
    sure = f32(visibility).clamp(0, 1) * inside
    sure = torch.where(sure < 0.3, 0.0, sure)  # NaN pixels compare as outside
    points = torch.cat([body[:, ids, :2], hands[..., :2].flatten(1, 2), f32(face)[:, FACE_SUBSET, :2]], 1)
    fixed = torch.cat([_hand_weights(), _hand_weights(), _face_weights()]).expand(frames, -1)
    weights = torch.cat([sure[:, ids], fixed], 1) * ~points[..., 0].isnan()
    starts, ends = [i for i, _, _ in LIMBS], [j for _, j, _ in LIMBS]
    both = torch.minimum(f32(visibility)[:, starts], f32(visibility)[:, ends])
    bone = lambda x, i, j: _unit(x[..., j, :] - x[..., i, :]) * torch.tensor([1.0, -1.0, -1.0])  # noqa: E731
    torso = [11, 12, 13, 14, 0, 7, 8]
    return Observations(
        points=points.nan_to_num(), weights=weights.nan_to_num(), limbs=bone(world, starts, ends),
        limb_weights=torch.where(both < 0.3, 0.0, both) * ~world[:, :1, 0].isnan(),
        torso_pixels=body[:, torso, :2], torso_metres=world[:, torso, :2], size=size, fps=fps,
    )  # fmt: skip


def _hand_weights() -> Tensor:  # [21]
    return torch.tensor([1.0] + [0.7] * (HAND_COUNT - 1))


def _face_weights() -> Tensor:  # [face points] lips above eyes and outline above the rest
    weight = torch.ones(FACE_POINTS)
    weight[list(LIPS)] = 2.5
    weight[[*EYES, *OVAL]] = 1.5
    chosen = weight[list(FACE_SUBSET)]
    return chosen * FACE_WEIGHT / chosen.sum()


def _unit(x: Tensor) -> Tensor:
    """Unit vectors; 0 where undefined."""
    return (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)).nan_to_num()


def joint_points(body: Body, joints: Tensor) -> SurfacePoints:
    """Joints [N] as points [N] that the skeleton carries."""
    alone = torch.nn.functional.one_hot(joints, JOINTS).float()
    dirs = PoseDirs(body.pose_features, body.pose_points[:0], body.pose_basis[:, :0])
    return SurfacePoints(body.joint_template[joints], body.joint_dirs[joints], dirs, alone)


def _named_point(body: Body, name: str) -> SurfacePoints:
    """A joint or one of smplx's named vertices as a point [1] that the skeleton carries."""
    if name in JOINT_NAMES:
        return joint_points(body, torch.tensor([joint_index(name)]))
    face, corner = (torch.as_tensor(body.faces) == vertex_ids["smplx"][name]).nonzero()[0]
    return body.surface(face[None], torch.nn.functional.one_hot(corner[None], 3).float())


def stack(parts: list[SurfacePoints]) -> SurfacePoints:
    join = lambda name, dim: torch.cat([getattr(p, name) for p in parts], dim)  # noqa: E731
    has_pose_dirs = parts[0].pose_dirs.shape[0] > 0
    pose_dirs = join("pose_dirs", 1) if has_pose_dirs else parts[0].pose_dirs
    return SurfacePoints(join("rest", 0), join("shape_dirs", 0), pose_dirs, join("weights", 0))
