"""Which point of the body each detected landmark stands for, how sure it is, and what a clip's landmarks say.

Axis legend: `T` frames, `K` landmarks used (body, left hand, right hand, face), `J` joints (55), `D` bones.
Landmark numbers are mediapipe's: 33 of the pose, 21 a hand, 478 of the refined face mesh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from smplx.vertex_ids import vertex_ids
from torch import Tensor

from model.body import JOINT_NAMES, Body, PoseDirs, SurfacePoints
from model.fit_lift import BONES, SIGMA
from model.fit_priors import joint_index
from model.types import JOINTS

FACE_POINTS = 478  # mediapipe's refined face mesh: 468 points and 2 x 5 of the irises
_TIPS = ("thumb", "index", "middle", "ring", "pinky")
_BODY: dict[int, tuple[str, float]] = {  # pose landmark → joint or named vertex, standard deviation in metres
    11: ("left_shoulder", 0.03), 12: ("right_shoulder", 0.03), 13: ("left_elbow", 0.03), 14: ("right_elbow", 0.03),
    15: ("left_wrist", 0.03), 16: ("right_wrist", 0.03), 23: ("left_hip", 0.04), 24: ("right_hip", 0.04),
    25: ("left_knee", 0.04), 26: ("right_knee", 0.04), 27: ("left_ankle", 0.04), 28: ("right_ankle", 0.04),
    29: ("LHeel", 0.04), 30: ("RHeel", 0.04), 31: ("LBigToe", 0.05), 32: ("RBigToe", 0.05), 7: ("lear", 0.015),
    8: ("rear", 0.015),
}  # fmt: skip
LEGS: tuple[tuple[int, int], ...] = ((23, 25), (25, 27), (24, 26), (26, 28))  # bones whose directions are mediapipe's, by pose landmarks
LEG_SIGMA = 0.4  # how far these are off
_ARM_ENDS, _ACROSS = {0: (11, 13), 1: (13, 15)}, (2, 5)  # of `fit_lift.BONES`: by pose landmarks of the left arm; from side to side
# bones whose directions `fit_lift` gives: joints, index into its bones, side (none: in the middle)
LIFTED: tuple[tuple[tuple[str, str], int, int | None], ...] = tuple(
    ((a if side != 1 else a.replace("left", "right"), b if side != 1 else b.replace("left", "right")), bone, side)
    for bone, (a, b) in enumerate(BONES)
    for side in ((None,) if bone in (*_ACROSS, 3) else (0, 1))
)
HAND_SPAN, FACE_SPAN = 0.2, 0.28  # seconds; see `steadied`
PARABOLA = 2  # its degree
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
    limb_sigma: Tensor  # [D, 3] of the unit direction along the world's axes


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
    named = stack([named_point(body, name) for name in (*BODY_NAMES, *HAND_NAMES)])
    skin = body.surface(face.faces[FACE_SUBSET,], face.barycentric[FACE_SUBSET,])
    skin.rest += torch.from_numpy(face.offset)[FACE_SUBSET,].to(skin.rest)
    if offsets is not None:
        named.rest += offsets.to(named.rest)
    sigma = [s for _, s in _BODY.values()] + [HAND_SIGMA] * (2 * HAND_COUNT) + [FACE_SIGMA] * len(FACE_SUBSET)
    ends = [(_BODY[i][0], _BODY[j][0]) for i, j in LEGS] + [bone for bone, _, _ in LIFTED]
    limb_sigma = torch.tensor([(LEG_SIGMA,) * 3 for _ in LEGS] + [SIGMA[bone] for _, bone, _ in LIFTED])
    return Layout(stack([named, skin]), torch.tensor(sigma), torch.tensor([[joint_index(x) for x in pair] for pair in ends]), limb_sigma)


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
    """Detected landmarks (NaN where not found) → what the fit is told, but for trunk and arms in depth: see `lifted`.

    What lies outside the picture is unseen.
    """
    f32 = lambda x: torch.from_numpy(np.ascontiguousarray(x, np.float32))  # noqa: E731
    body, world, hands = f32(pose), f32(pose_world), torch.stack([f32(left_hand), f32(right_hand)], 1)
    frames, ids = len(body), list(_BODY)
    inside = ((body[..., :2] > 0) & (body[..., :2] < torch.tensor(size))).all(-1)
    sure = f32(visibility).clamp(0, 1) * inside
    sure = torch.where(sure < 0.3, 0.0, sure)  # NaN pixels compare as outside
    steady = [steadied(x, fps, seconds) for x, seconds in ((hands[:, 0], HAND_SPAN), (hands[:, 1], HAND_SPAN), (f32(face), FACE_SPAN))]
    points = torch.cat([body[:, ids, :2], steady[0], steady[1], steady[2][:, FACE_SUBSET]], 1)
    fixed = torch.cat([_hand_weights(), _hand_weights(), _face_weights()]).expand(frames, -1)
    weights = torch.cat([sure[:, ids], fixed], 1) * ~points[..., 0].isnan()
    starts, ends = [i for i, _ in LEGS], [j for _, j in LEGS]
    both = torch.minimum(f32(visibility)[:, starts], f32(visibility)[:, ends])
    bone = lambda x, i, j: _unit(x[..., j, :] - x[..., i, :]) * torch.tensor([1.0, -1.0, -1.0])  # noqa: E731
    unknown = torch.zeros(frames, len(LIFTED))
    legs = torch.where(both < 0.3, 0.0, both) * ~world[:, :1, 0].isnan()
    torso = [11, 12, 13, 14, 0, 7, 8]
    return Observations(
        points=points.nan_to_num(), weights=weights.nan_to_num(),
        limbs=torch.cat([bone(world, starts, ends), unknown[..., None].expand(-1, -1, 3)], 1), limb_weights=torch.cat([legs, unknown], 1),
        torso_pixels=body[:, torso, :2], torso_metres=world[:, torso, :2], size=size, fps=fps,
    )  # fmt: skip


def steadied(points: Tensor, fps: float, span: float) -> Tensor:  # [T, K, 2 or more] → [T, K, 2]
    """Points that the detector shifts together from frame to frame, with their middle's path smoothed over `span` seconds.

    Each frame's middle goes onto the parabola through its neighbours; how the points lie to one another stays as it is.
    """
    points = points[..., :2]
    from scipy.signal import savgol_filter  # a third of a second to import, for those who only look at landmarks' names

    window = min(2 * round(span * fps / 2) + 1, len(points) - 1 + len(points) % 2)
    middle = points.mean(1).numpy()
    seen, frames = np.isfinite(middle[:, 0]), np.arange(len(points))
    if window <= PARABOLA + 1 or not seen.any():
        return points
    path = np.stack([np.interp(frames, frames[seen], x[seen]) for x in middle.T], 1)
    shift = torch.from_numpy(savgol_filter(path, window, PARABOLA, axis=0) - path).to(points)
    return points + shift[:, None]


def lifted(seen: Observations, directions: np.ndarray, visibility: np.ndarray) -> Observations:
    """`seen` with the directions [T, S, D, 3] of trunk and arms that `fit_lift` gives (NaN where nobody was found)."""
    limbs, weights = seen.limbs.clone(), seen.limb_weights.clone()
    for row, (_, bone, side) in enumerate(LIFTED, len(LEGS)):
        # a bone of the middle is read twice; in the mirror, one that goes across points the other way
        twice = directions[:, 0, bone] + directions[:, 1, bone] * (-1.0 if bone in _ACROSS else 1.0)
        found = torch.from_numpy(np.ascontiguousarray(twice if side is None else directions[:, side, bone], np.float32))
        sure = torch.ones(len(seen))
        if bone in _ARM_ENDS:
            least = torch.from_numpy(visibility[:, [i + (side or 0) for i in _ARM_ENDS[bone]]].min(1)).float()
            sure = torch.where(least < 0.3, 0.0, least.clamp(0, 1))
        limbs[:, row], weights[:, row] = _unit(found), sure * ~found.isnan().any(-1)
    return replace(seen, limbs=limbs, limb_weights=weights)


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


def named_point(body: Body, name: str) -> SurfacePoints:
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
