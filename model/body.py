"""Any body in the SMPL-X file schema: joints, linear blend skinning, surface points, all batched.

Agrees with the `smplx` package to float precision (tests/unit/model/test_body.py); kinematics run level by
level of the joint tree, so a batch costs about ten small matrix products.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import roma
import torch
from torch import Tensor, nn

from model.geometry import apply_matrices, rotvec_from_rotation
from model.types import JOINTS, SmplxParams

JOINT_NAMES = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "jaw left_eye_smplhf right_eye_smplhf "
    + " ".join(f"{s}_{f}{k}" for s in ("left", "right") for f in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3))
).split()  # fmt: skip
UPPER_BODY = (9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
HANDS = {"left": (20, *range(25, 40)), "right": (21, *range(40, 55))}


POSE_FEATURES = 9 * (JOINTS - 1)  # entries of the rotation matrices of all joints but the root


class PoseDirs(NamedTuple):
    """Pose correctives without their zeros: only some joints have any, and each moves only the points about it."""

    features: Tensor  # [K] of the 486 entries of R − 1
    points: Tensor  # [M] of the P points
    basis: Tensor  # [K, M*3] metres

    @classmethod
    def pack(cls, dense: Tensor) -> PoseDirs:  # [486, P*3], or [0, 0] for none
        at_point = dense.reshape(len(dense), dense.shape[1] // 3, 3)
        features, points = at_point.any(2).any(1).nonzero()[:, 0], at_point.any(2).any(0).nonzero()[:, 0]
        return cls(features, points, at_point[features][:, points].flatten(1))

    def dense(self, count: int) -> Tensor:  # [486, P*3], or [0, 0] for none
        if not len(self.features):
            return self.basis.new_zeros(0, 0)
        out = self.basis.new_zeros(POSE_FEATURES, count, 3)
        out[self.features[:, None], self.points] = self.basis.reshape(len(self.features), -1, 3)
        return out.flatten(1)


class SurfacePoints(nn.Module):
    """Points fixed to the template surface by face and barycentric weights; they move with the body."""

    rest: Tensor  # [P, 3] template position, metres
    shape_dirs: Tensor  # [P, 3, 20] betas then expression
    weights: Tensor  # [P, J] rows sum to 1
    pose_features: Tensor
    pose_points: Tensor
    pose_basis: Tensor

    def __init__(
        self,
        rest: Tensor,
        shape_dirs: Tensor,
        pose_dirs: Tensor | PoseDirs,  # [486, P*3] or [0, 0] where there are none; kept packed
        weights: Tensor,
    ):
        super().__init__()
        packed = pose_dirs if isinstance(pose_dirs, PoseDirs) else PoseDirs.pack(pose_dirs)
        buffers = {"rest": rest, "shape_dirs": shape_dirs, "weights": weights}
        buffers |= {f"pose_{name}": value for name, value in packed._asdict().items()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    @property
    def packed_pose_dirs(self) -> PoseDirs:
        return PoseDirs(self.pose_features, self.pose_points, self.pose_basis)

    @property
    def pose_dirs(self) -> Tensor:
        """[486, P*3], or [0, 0] where there are none; made anew at each call."""
        return self.packed_pose_dirs.dense(len(self.rest))


class Body(nn.Module):
    """A body model read from an SMPL-X-schema npz."""

    template: Tensor  # [V, 3]
    shape_dirs: Tensor  # [V, 3, 20] betas then expression
    skin_weights: Tensor  # [V, J]
    pose_features: Tensor  # see PoseDirs; empty where the file has none
    pose_points: Tensor
    pose_basis: Tensor
    joint_template: Tensor  # [J, 3]
    joint_dirs: Tensor  # [J, 3, 20]
    level_inverse: Tensor
    parent_index: Tensor

    def __init__(self, data: dict[str, np.ndarray]):
        super().__init__()
        f32 = lambda x: torch.from_numpy(np.ascontiguousarray(np.asarray(x, np.float32)))  # noqa: E731
        shapedirs = np.asarray(data["shapedirs"], np.float32)
        # the real file holds 300 betas then 100 expressions; the embedded one 10 and 10
        expr_start = 300 if shapedirs.shape[2] >= 400 else shapedirs.shape[2] - 10
        dirs = np.concatenate([shapedirs[..., :10], shapedirs[..., expr_start : expr_start + 10]], -1)
        regressor = np.asarray(data["J_regressor"], np.float32)
        pose = packed_posedirs(np.asarray(data["posedirs"]))
        self.faces = np.asarray(data["f"]).astype(np.int64)  # [F, 3]
        self.parents = [int(p) if i else -1 for i, p in enumerate(np.asarray(data["kintree_table"])[0])]
        buffers = {
            "template": f32(data["v_template"]), "shape_dirs": f32(dirs), "skin_weights": f32(data["weights"]),
            "joint_template": f32(regressor @ np.asarray(data["v_template"], np.float32)),
            "joint_dirs": f32(np.einsum("jv,vck->jck", regressor, dirs)),
            "pose_features": pose.features, "pose_points": pose.points, "pose_basis": pose.basis,
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self._plan_levels()

    @classmethod
    def load(cls, file: str | Path | IO[bytes]) -> Body:
        """Read the npz; no pickled entry of it is touched. KeyError names a missing array."""
        wanted = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
        with np.load(file, allow_pickle=False) as npz:
            missing = [k for k in wanted if k not in npz.files]
            if missing:
                raise KeyError(f"{file}: not an SMPL-X model file, it lacks {missing}")
            return cls({k: npz[k] for k in wanted})

    def _plan_levels(self) -> None:
        depth = [0] * JOINTS
        for j in range(1, JOINTS):
            depth[j] = depth[self.parents[j]] + 1
        levels = [[j for j in range(JOINTS) if depth[j] == d] for d in range(max(depth) + 1)]
        order = [j for level in levels for j in level]
        self.level_count = len(levels)
        index = lambda name, x: self.register_buffer(name, torch.tensor(x), persistent=False)  # noqa: E731
        index("level_inverse", [order.index(j) for j in range(JOINTS)])
        index("parent_index", [0, *self.parents[1:]])
        for d in range(1, len(levels)):
            index(f"level_{d}", levels[d])
            index(f"level_parent_{d}", [levels[d - 1].index(self.parents[j]) for j in levels[d]])

    def rest_joints(self, coefficients: Tensor) -> Tensor:  # [..., 20] → [..., J, 3]
        return self.joint_template + torch.einsum("jck,...k->...jc", self.joint_dirs, coefficients)

    def kinematics(
        self,
        rotations: Tensor,  # [B, J, 3, 3] relative to the parent
        coefficients: Tensor,  # [B, 20] betas, then expression
        transl: Tensor,  # [B, 3]
    ) -> tuple[Tensor, Tensor]:
        """Posed joints [B, J, 3] and template → posed transforms [B, J, 3, 4] (column vectors)."""
        of = lambda values, index: values.index_select(1, index)  # noqa: E731  # whose gradient is one sum, an index's a sort first
        rest = self.rest_joints(coefficients)
        bones = rest - of(rest, self.parent_index)
        turn, place = [rotations[:, :1]], [rest[:, :1]]
        for d in range(1, self.level_count):
            joints, parents = getattr(self, f"level_{d}"), getattr(self, f"level_parent_{d}")
            parent_turn = of(turn[-1], parents)
            turn.append(parent_turn @ of(rotations, joints))
            place.append(of(place[-1], parents) + apply_matrices(parent_turn, of(bones, joints)))
        turns = of(torch.cat(turn, 1), self.level_inverse)
        joints_posed = of(torch.cat(place, 1), self.level_inverse) + transl[:, None]
        offset = joints_posed - apply_matrices(turns, rest)
        return joints_posed, torch.cat([turns, offset[..., None]], -1)

    def joints(self, params: SmplxParams) -> Tensor:  # [B, J, 3] world, metres
        return self.kinematics(roma.rotvec_to_rotmat(params.full_pose), params.shape_coefficients, params.transl)[0]

    def surface(self, faces: Tensor | np.ndarray, barycentric: Tensor | np.ndarray) -> SurfacePoints:
        """Points at faces [P] with barycentric weights [P, 3]."""
        corner = torch.as_tensor(self.faces)[torch.as_tensor(faces).long()].to(self.template.device)  # [P, 3]
        bary = torch.as_tensor(barycentric).to(self.template)
        mix = lambda x: (x[corner] * bary.reshape(*bary.shape, *[1] * (x.dim() - 1))).sum(1)  # noqa: E731
        weights = mix(self.skin_weights)
        weights = weights / weights.sum(1, keepdim=True)
        return SurfacePoints(mix(self.template), mix(self.shape_dirs), self._mixed_pose_dirs(corner, bary), weights)

    def _mixed_pose_dirs(self, corner: Tensor, bary: Tensor) -> PoseDirs:  # [P, 3], [P, 3]
        count = len(self.pose_points)
        place = torch.full((len(self.template),), count, device=corner.device)
        place[self.pose_points] = torch.arange(count, device=corner.device)
        place = place[corner]
        points = (place < count).any(1).nonzero()[:, 0]
        basis = torch.nn.functional.pad(self.pose_basis.reshape(-1, count, 3), (0, 0, 0, 1))  # zeros for the rest
        mixed = sum(basis[:, place[points, k]] * bary[points, k, None] for k in range(3))
        return PoseDirs(self.pose_features, points, torch.as_tensor(mixed).flatten(1))

    @property
    def packed_pose_dirs(self) -> PoseDirs:
        return PoseDirs(self.pose_features, self.pose_points, self.pose_basis)

    @property
    def pose_dirs(self) -> Tensor:
        """[486, V*3], or [0, 0] where the file has none; made anew at each call."""
        return self.packed_pose_dirs.dense(len(self.template))

    def all_vertices(self) -> SurfacePoints:
        return SurfacePoints(self.template, self.shape_dirs, self.packed_pose_dirs, self.skin_weights)

    def shaped(self, points: SurfacePoints, rotations: Tensor, coefficients: Tensor) -> Tensor:
        """Template-space positions [B, P, 3] after shape, expression and pose correctives."""
        rest = points.rest + torch.einsum("pck,bk->bpc", points.shape_dirs, coefficients)
        if points.pose_basis.numel():
            feature = (rotations[:, 1:] - torch.eye(3, device=rotations.device)).flatten(1).index_select(1, points.pose_features)
            moved = (feature @ points.pose_basis).reshape(len(rest), -1, 3)
            rest = rest + moved if moved.shape == rest.shape else rest.index_add(1, points.pose_points, moved)
        return rest

    @staticmethod
    def skin(points: Tensor, weights: Tensor, transforms: Tensor) -> tuple[Tensor, Tensor]:
        """Linear blend skinning: [B, P, 3], [P, J], [B, J, 3, 4] → posed [B, P, 3] and blended 3×3 parts."""
        b = transforms.shape[0]
        blend = torch.einsum("pj,bjk->bpk", weights, transforms.reshape(b, -1, 12)).reshape(b, -1, 3, 4)
        return apply_matrices(blend[..., :3], points) + blend[..., 3], blend[..., :3]

    def posed_points(self, points: SurfacePoints, params: SmplxParams) -> Tensor:  # [B, P, 3]
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        _, transforms = self.kinematics(rotations, params.shape_coefficients, params.transl)
        return self.skin(self.shaped(points, rotations, params.shape_coefficients), points.weights, transforms)[0]

    def vertices(self, params: SmplxParams) -> Tensor:  # [B, V, 3]
        return self.posed_points(self.all_vertices(), params)

    def moved(self, params: SmplxParams, transform: Tensor) -> SmplxParams:
        """Parameters of the same bodies after the rigid motion [..., 4, 4]; smplx turns about the pelvis, so `transl` follows."""
        turn, shift = transform[..., :3, :3], transform[..., :3, 3]
        pelvis = self.rest_joints(params.shape_coefficients)[..., 0, :]
        orient = rotvec_from_rotation(turn @ roma.rotvec_to_rotmat(params.global_orient))
        transl = apply_matrices(turn, pelvis + params.transl) + shift - pelvis
        fields = {n: getattr(params, n) for n in params.__dataclass_fields__}
        return SmplxParams(**{**fields, "global_orient": orient, "transl": transl})


def packed_posedirs(posedirs: np.ndarray) -> PoseDirs:
    """Of a file's array [V, 3, 486] of any number type; nothing of its full size is made beside it."""
    features = np.flatnonzero(posedirs.any((0, 1)))
    some = posedirs[..., features]
    points = np.flatnonzero(some.any((1, 2)))
    basis = np.ascontiguousarray(some[points].reshape(3 * len(points), len(features)).T.astype(np.float32))  # [K, M*3]
    return PoseDirs(torch.from_numpy(features), torch.from_numpy(points), torch.from_numpy(basis))
