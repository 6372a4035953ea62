"""Pose correctives that keep the volume of bent and twisted joints: `posedirs` of the body file.

Linear skinning shrinks a joint by the cosine of half its angle; dual quaternions bulge. For sampled rotations of one joint
the mixture of both that holds the volume of the joint's region is the target; what SMPL-X's correctives (linear in the
nine entries of R − 1) can say of it is fitted by least squares in the posed place. V vertices, F triangles, S rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES
from samples.builders.skeleton import PARENTS

GRID = 2.0**-13  # metres; 0.12 mm, exact in float16
FEATURES = 9 * (len(JOINT_NAMES) - 1)
SAMPLES = 80  # rotations of one joint
RIDGE = 0.003  # on the nine coefficients, against one radian-sized sample
BLENDED = 0.002  # points of less share, or more than the rest, turn rigidly
MIXTURES = (0.0, 1.4)  # of dual quaternions' way: least and most


@dataclass(frozen=True)
class Bend:
    """How far a left joint turns, in radians about the body's axes (the right one: mirrored), and its region's radius."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    radius: float  # metres about the joint
    measured: tuple[float, float, float]  # axis of the bends that the figures tell
    kept: float = 1.0  # share of the lost volume that is given back


BENDS: dict[str, Bend] = {
    # a hanging arm's shoulder is flatter than a raised one's
    "left_shoulder": Bend((-1.0, -1.6, -1.5), (1.0, 0.7, 0.9), 0.16, (0, 0, -1), kept=0.5),
    "left_elbow": Bend((-1.2, -2.5, -0.4), (1.2, 0.1, 0.4), 0.10, (0, -1, 0)),
    "left_wrist": Bend((-1.2, -0.5, -1.4), (1.2, 0.5, 1.4), 0.07, (0, 0, -1)),
    "left_hip": Bend((-2.0, -0.7, -0.5), (0.5, 0.7, 0.9), 0.20, (-1, 0, 0)),
    "left_knee": Bend((-0.1, -0.3, -0.2), (2.4, 0.3, 0.2), 0.14, (1, 0, 0)),
}


@dataclass(frozen=True)
class JointRegion:
    """The surface about one joint, closed by fans over its openings, and how much of each point follows the joint."""

    centre: np.ndarray  # [3]
    rest: np.ndarray  # [N, 3] relative to the centre
    share: np.ndarray  # [N] of the skinning weight that turns with the joint
    faces: np.ndarray  # [G, 3] into the region
    openings: tuple[np.ndarray, ...]  # directed border edges [E, 2] of each opening
    vertices: np.ndarray  # [N] of the body

    def volume(self, points: np.ndarray) -> float:
        """Cubic metres that points [N, 3] enclose, by signed tetrahedra."""
        total = np.linalg.det(points[self.faces]).sum()
        for edges in self.openings:
            middle = np.broadcast_to(points[np.unique(edges)].mean(0), (len(edges), 3))
            total += np.linalg.det(np.stack([points[edges[:, 1]], points[edges[:, 0]], middle], 1)).sum()
        return float(total / 6)

    def linear(self, turn: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
        return linear_skinning(self.rest if rest is None else rest, self.share, turn)

    def dual(self, turn: np.ndarray) -> np.ndarray:
        return dual_quaternion_skinning(self.rest, self.share, turn)


def linear_skinning(points: np.ndarray, share: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Points [N, 3] about the joint, of which `share` [N] follows its rotation [3, 3]."""
    return (1 - share[:, None]) * points + share[:, None] * (points @ turn.T)


def dual_quaternion_skinning(points: np.ndarray, share: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Arguments as above; about one centre it is a blend of quaternions (Kavan 2007)."""
    quaternion = Rotation.from_matrix(turn).as_quat()
    quaternion *= np.sign(quaternion[3]) or 1.0
    blended = share[:, None] * quaternion + (1 - share[:, None]) * np.array([0, 0, 0, 1.0])
    return Rotation.from_quat(blended).apply(points)


def joint_region(
    name: str,
    template: np.ndarray,  # [V, 3]
    joints: np.ndarray,  # [J, 3]
    weights: np.ndarray,  # [V, J]
    skin: np.ndarray,  # [F, 3] triangles of the skin alone
) -> JointRegion:
    joint, share = JOINT_NAMES.index(name), turning_share(weights, name)
    bend = BENDS[name.replace("right", "left")]
    near = np.linalg.norm(template - joints[joint], axis=1) < bend.radius
    faces = skin[near[skin].all(1)]
    vertices, faces = np.unique(faces, return_inverse=True)
    faces = _largest_piece(faces.reshape(-1, 3), len(vertices))
    return JointRegion(joints[joint], template[vertices] - joints[joint], share[vertices], faces, _openings(faces), vertices)


def turning_share(weights: np.ndarray, name: str) -> np.ndarray:
    """Share [V] of the skinning weight that turns with a joint."""
    joint = JOINT_NAMES.index(name)
    return weights[:, [j for j in range(len(PARENTS)) if _is_below(j, joint)]].sum(1)


def fit_pose_correctives(template: np.ndarray, joints: np.ndarray, weights: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Shapes as in `joint_region`, `faces` of the skin → posedirs [V, 3, 486] float16 on GRID."""
    out = np.zeros((len(template), 3, FEATURES), np.float16)
    for name in BENDS:
        for side in ("left", "right"):
            joint = name.replace("left", side)
            region = joint_region(joint, template, joints, weights, faces)
            share = turning_share(weights, joint)
            blended = np.flatnonzero((share > BLENDED) & (share < 1 - BLENDED))
            blended = blended[np.isin(blended, faces)]
            turns = sample_turns(joint)
            points, share = template[blended] - region.centre, share[blended]
            first = 9 * (JOINT_NAMES.index(joint) - 1)
            mixtures = BENDS[name].kept * np.array([kept_mixture(region, turn) for turn in turns])
            fitted = _fit(points, share, turns, mixtures)
            out[blended, :, first : first + 9] = (np.round(fitted / GRID) * GRID).astype(np.float16)
    return out


def sample_turns(joint: str) -> np.ndarray:
    """Rotations [S, 3, 3] over the joint's range: through it at random, and along its main bend."""
    bend = BENDS[joint.replace("right", "left")]
    rng = np.random.default_rng(5)
    low, high = np.array(bend.low), np.array(bend.high)
    vectors = rng.uniform(low, high, (SAMPLES, 3))
    vectors[: SAMPLES // 2] *= rng.dirichlet([0.6, 0.6, 0.6], SAMPLES // 2)  # mostly about one axis
    main = np.array(bend.measured) * np.linspace(0.2, 2.1, 12)[:, None]
    vectors = np.concatenate([vectors, main])
    if joint.startswith("right"):
        vectors = vectors * [1, -1, -1]
    return Rotation.from_rotvec(vectors).as_matrix()


def kept_mixture(region: JointRegion, turn: np.ndarray) -> float:
    """Share of dual quaternions' way beside linear skinning's at which the region encloses the rest pose's volume."""
    linear, dual = region.linear(turn), region.dual(turn)
    wanted = region.volume(region.rest)
    low, high = MIXTURES
    excess = lambda share: region.volume(linear + share * (dual - linear)) - wanted  # noqa: E731
    if excess(high) < 0:
        return high
    if excess(low) > 0:
        return low
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low


def _fit(points: np.ndarray, share: np.ndarray, turns: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """Rest-space directions [N, 3, 9] whose skinned sum comes closest to each turn's mixture [S] of both skinnings."""
    missing = np.stack([
        mixture * (dual_quaternion_skinning(points, share, turn) - linear_skinning(points, share, turn))
        for turn, mixture in zip(turns, mixtures, strict=True)
    ], 1)  # [N, S, 3], posed  # fmt: skip
    features = (turns - np.eye(3)).reshape(len(turns), 9)
    blend = (1 - share)[:, None, None, None] * np.eye(3) + share[:, None, None, None] * turns  # [N, S, 3, 3]
    # unknown [3, 9] of a point: blend @ (unknown @ feature) = missing
    design = np.einsum("nsij,sk->nsijk", blend, features).reshape(len(points), -1, 27)
    normal = design.transpose(0, 2, 1) @ design + RIDGE * len(turns) * np.eye(27)
    right = design.transpose(0, 2, 1) @ missing.reshape(len(points), -1, 1)
    return np.linalg.solve(normal, right).reshape(-1, 3, 9)


def _is_below(joint: int, ancestor: int) -> bool:
    while joint > ancestor:
        joint = PARENTS[joint]
    return joint == ancestor


def _largest_piece(faces: np.ndarray, count: int) -> np.ndarray:
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    _, piece = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (count, count)), directed=False)
    return faces[piece[faces[:, 0]] == np.bincount(piece[faces[:, 0]]).argmax()]


def _openings(faces: np.ndarray) -> tuple[np.ndarray, ...]:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    code = lambda e: e[:, 0].astype(np.int64) * (faces.max() + 1) + e[:, 1]  # noqa: E731
    border = edges[~np.isin(code(edges), code(edges[:, ::-1]))]
    count = int(faces.max()) + 1
    _, piece = connected_components(coo_matrix((np.ones(len(border)), border.T), (count, count)), directed=False)
    return tuple(border[piece[border[:, 0]] == p] for p in np.unique(piece[border[:, 0]]))
