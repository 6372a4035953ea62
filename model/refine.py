"""Refine the body that stage 1 reads from a picture against what else the picture says.

The likeliest body given three things, each with the covariance of its errors, learned from people that stage 1 was not
trained on (`python -m samples.build_refine`): how stage 1 is off, where mediapipe puts 23 landmarks and how deep it says
12 bones lie, and where `refine_points` finds 22 joints. Depth comes from bone lengths and from what usually goes together.
Gauss and Newton; world axes are the body's (y up), the camera sits at the origin and looks along -z.

Axes: B people, K landmarks, L bones, J joints (22), M measured numbers, D unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.body import JOINT_NAMES, Body
from model.fit_layout import joint_points, named_point, stack
from model.fit_points import Carrier
from model.refine_points import BODY, JointPoints
from model.types import SmplxParams, TensorGroup

LANDMARKS = {  # mediapipe's pose landmark → joint or named vertex
    0: "nose", 2: "leye", 5: "reye", 7: "lear", 8: "rear", 11: "left_shoulder", 12: "right_shoulder", 13: "left_elbow", 14: "right_elbow",
    15: "left_wrist", 16: "right_wrist", 19: "left_index1", 20: "right_index1", 23: "left_hip", 24: "right_hip", 25: "left_knee",
    26: "right_knee", 27: "left_ankle", 28: "right_ankle", 29: "LHeel", 30: "RHeel", 31: "LBigToe", 32: "RBigToe",
}  # fmt: skip
BONES = (  # pose landmarks whose world coordinates say how a bone lies in depth
    (11, 13), (13, 15), (12, 14), (14, 16), (23, 25), (25, 27), (24, 26), (26, 28), (11, 12), (23, 24), (23, 11), (24, 12),
)  # fmt: skip
POINTS = len(LANDMARKS)
SEEN = 0.3  # visibility from which a landmark counts
UNKNOWN = 1e4  # added to the variance of what is not seen
ROBUST = 4.0  # standard deviations; what is further off counts less
BETAS, ROUNDS = 10, 6
ANGLES = 3 * BODY
UNKNOWNS = ANGLES + BETAS + 3  # angles, betas, the pelvis: x ÷ depth, y ÷ depth, log depth
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # camera axes ↔ world axes


@dataclass(frozen=True)
class Seen(TensorGroup):
    """What a picture says of a body beside stage 1."""

    landmarks: Tensor  # [B, K, 2] x ÷ z, y ÷ z of the camera's rays
    bones: Tensor  # [B, L] the unit direction's component towards the camera
    joints: Tensor  # [B, J, 2] rays
    unsure: Tensor  # [B, M] variance beyond the usual: 0, or `UNKNOWN`

    @classmethod
    def of(
        cls,
        pose: NDArray[Any],  # [B, 33, 2 or 3] pixels; NaN where nobody was found
        visibility: NDArray[Any],  # [B, 33]
        pose_world: NDArray[Any],  # [B, 33, 3] metres, camera axes
        intrinsics: Tensor,  # [B, 3, 3] of the picture
    ) -> Seen:
        """What mediapipe found; joints are not known yet."""
        f32 = lambda x: torch.from_numpy(np.nan_to_num(np.asarray(x, np.float32)))  # noqa: E731
        index, (start, end) = list(LANDMARKS), zip(*BONES, strict=True)
        shown = f32(visibility) * np.isfinite(pose[..., 0])
        world = f32(pose_world)
        bones = world[:, list(end)] - world[:, list(start)]
        depth = -bones[..., 2] / bones.norm(dim=-1).clamp(min=1e-6)
        lost = shown < SEEN
        hidden = torch.cat([lost[:, index].repeat_interleave(2, 1), lost[:, list(start)] | lost[:, list(end)]], 1)
        unsure = torch.cat([hidden, torch.ones(len(hidden), 2 * BODY)], 1) * UNKNOWN
        return cls(rays(f32(pose)[:, index, :2], intrinsics), depth, torch.zeros(len(hidden), BODY, 2), unsure)

    def with_joints(self, joints: Tensor, inside: Tensor) -> Seen:  # [B, J, 2] rays, [B, J] whether in the picture
        unsure = self.unsure.clone()
        unsure[:, -2 * BODY :] = (~inside).repeat_interleave(2, 1) * UNKNOWN
        return Seen(self.landmarks, self.bones, joints, unsure)

    def numbers(self) -> Tensor:  # [B, M]
        return torch.cat([self.landmarks.flatten(1), self.bones, self.joints.flatten(1)], 1)


def rays(pixels: Tensor, intrinsics: Tensor) -> Tensor:  # [B, N, 2], [B, 3, 3] → [B, N, 2] x ÷ z, y ÷ z
    return (pixels - intrinsics[:, None, :2, 2]) / intrinsics[:, None, [0, 1], [0, 1]]


def pixels_of(joints: Tensor, intrinsics: Tensor) -> Tensor:  # [B, N, 3] in the camera's frame, [B, 3, 3] → [B, N, 2]
    return joints[..., :2] / joints[..., 2:] * intrinsics[:, None, [0, 1], [0, 1]] + intrinsics[:, None, :2, 2]


@dataclass(frozen=True)
class Errors:
    """How stage 1 and detectors are usually off: what was learned."""

    offsets: Tensor  # [K, 3] from the body's point to where mediapipe puts the landmark, template space
    usual: Tensor  # [D] truth minus stage 1, its mean
    spread: Tensor  # [D, D] its covariance
    bias: Tensor  # [M] seen minus truth (metres at the person's depth; bones: of the unit direction), its mean
    noise: Tensor  # [M, M] its covariance

    @classmethod
    def load(cls, path: Path) -> Errors:
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: torch.from_numpy(npz[f.name].astype(np.float32)) for f in fields(cls)})


def load_points(path: Path, body: Body) -> JointPoints:
    """The network in the same file."""
    network = JointPoints(body.parents)
    with np.load(path, allow_pickle=False) as npz:
        state = {k[len("points.") :]: torch.from_numpy(npz[k].astype(np.float32)) for k in npz.files if k.startswith("points.")}
    network.load_state_dict(state)
    return network.eval()


class Refiner:
    """Bodies as vectors of unknowns, what is measured of them, and the likeliest one."""

    def __init__(self, body: Body, errors: Errors):
        self.body, self.errors = body, errors
        points = stack([named_point(body, name) for name in LANDMARKS.values()] + [joint_points(body, torch.arange(BODY))])
        points.rest[:POINTS] += errors.offsets
        coordinates = torch.cartesian_prod(torch.arange(BODY), torch.arange(3))
        self.carrier = Carrier(body, points, coordinates)
        ends = [[_joint(LANDMARKS[i]) for i in bone] for bone in BONES]
        self.start, self.end = torch.tensor(ends).T + POINTS

    def refined(self, start: SmplxParams, seen: Seen) -> SmplxParams:
        """Bodies [B] in the camera's frame, from stage 1's."""
        upright = flipped(self.body, start)
        return flipped(self.body, self.params(self.likeliest(upright, seen), upright))

    def likeliest(self, start: SmplxParams, seen: Seen) -> Tensor:  # [B] upright → [B, D]
        errors, expected = self.errors, self.unknowns(start) + self.errors.usual
        precision = torch.linalg.inv(errors.spread.double())
        noise = errors.noise.double() + torch.diag_embed(seen.unsure.double())
        certainty, width = torch.linalg.inv(noise), noise.diagonal(dim1=1, dim2=2).sqrt()
        x = expected
        for _ in range(ROUNDS):
            off, slope = (t.double() for t in self.residuals(x, start, seen))
            off = off - errors.bias
            weight = 1 / (1 + (off / width / ROBUST).square())
            weighed = slope.mT @ (weight.sqrt()[:, :, None] * certainty * weight.sqrt()[:, None])
            pull = (weighed @ off[..., None])[..., 0] - (x - expected).double() @ precision
            x = x + torch.linalg.solve(weighed @ slope + precision, pull).float()
        return x

    def unknowns(self, params: SmplxParams) -> Tensor:  # [B] upright → [B, D]
        pelvis = self.body.rest_joints(params.shape_coefficients)[:, 0] + params.transl
        depth = -pelvis[:, 2:]
        return torch.cat([params.full_pose[:, :BODY].flatten(1), params.betas, pelvis[:, :2] / depth, depth.log()], 1)

    def params(self, x: Tensor, like: SmplxParams) -> SmplxParams:  # [B, D] → [B]; hands and face as they were
        pose, betas, depth = like.full_pose.clone(), x[:, ANGLES : ANGLES + BETAS], x[:, -1:].exp()
        pose[:, :BODY] = x[:, :ANGLES].unflatten(1, (BODY, 3))
        pelvis = torch.cat([x[:, -3:-1] * depth, -depth], 1)
        rest = self.body.rest_joints(torch.cat([betas, like.expression], 1))[:, 0]
        return SmplxParams.from_pose(pose, betas, like.expression, pelvis - rest)

    def residuals(self, x: Tensor, like: SmplxParams, seen: Seen) -> tuple[Tensor, Tensor]:
        """Seen minus measured of bodies [B, M], rays in metres at the person's depth, and what is measured by the unknowns [B, M, D]."""
        points, slope = self._points(x, like)
        depth = x[:, -1].exp()[:, None, None]
        away = -points[..., 2]
        ray = torch.stack([points[..., 0], -points[..., 1]], -1) / away[..., None]
        of_ray = torch.stack([slope[..., 0] + ray[..., None, 0] * slope[..., 2], ray[..., None, 1] * slope[..., 2] - slope[..., 1]], 2)
        of_ray = of_ray / away[..., None, None] * depth[..., None]
        bone = points[:, self.end] - points[:, self.start]
        turn = slope[:, self.end] - slope[:, self.start]
        length = bone.norm(dim=-1, keepdim=True)
        unit = bone / length
        of_bone = (turn[..., 2] - unit[..., None, 2] * (turn * unit[:, :, None]).sum(-1)) / length
        off = [(seen.landmarks - ray[:, :POINTS]) * depth, seen.bones - unit[..., 2], (seen.joints - ray[:, POINTS:]) * depth]
        return torch.cat([t.flatten(1) for t in off], 1), torch.cat(
            [of_ray[:, :POINTS].flatten(1, 2), of_bone, of_ray[:, POINTS:].flatten(1, 2)], 1
        )

    def _points(self, x: Tensor, like: SmplxParams) -> tuple[Tensor, Tensor]:  # [B, K + J, 3], [B, K + J, D, 3]
        posed, depth = self.carrier.place(self.params(x, like)), x[:, -1].exp()
        slope = torch.zeros(*posed.points.shape[:2], UNKNOWNS, 3)
        every_axis = torch.eye(3).expand(*posed.points.shape[:2], 3, 3)
        slope[:, :, :ANGLES] = self.carrier.by_pose(self.carrier.slopes(posed), every_axis).mT
        slope[:, :, ANGLES : ANGLES + BETAS] = (self.carrier.by_shape(posed)[..., :BETAS] - self.body.joint_dirs[0, :, :BETAS]).mT
        slope[:, :, -3, 0] = slope[:, :, -2, 1] = depth[:, None]
        slope[:, :, -1] = (torch.stack([x[:, -3], x[:, -2], -torch.ones(len(x))], 1) * depth[:, None])[:, None]
        return posed.points, slope


def mirrored(body: Body, params: SmplxParams) -> SmplxParams:
    """Bodies [B] in the camera's frame as a mirror shows them, left and right exchanged."""
    other = [JOINT_NAMES.index(other_side(name)) for name in JOINT_NAMES]
    pose = params.full_pose[:, other] * torch.tensor([1.0, -1.0, -1.0]).to(params.transl)
    pelvis = body.rest_joints(params.shape_coefficients)[:, 0]
    place = (pelvis + params.transl) * torch.tensor([-1.0, 1.0, 1.0]).to(pelvis) - pelvis
    return SmplxParams.from_pose(pose, params.betas, params.expression, place)


def between(body: Body, first: SmplxParams, second: SmplxParams) -> SmplxParams:
    """The mean of bodies [B] that are nearly alike: rotations by chords."""
    turns = roma.special_procrustes(sum(roma.rotvec_to_rotmat(p.full_pose) for p in (first, second)))  # type: ignore[arg-type]
    pelvis = sum(body.rest_joints(p.shape_coefficients)[:, 0] + p.transl for p in (first, second)) / 2
    betas, expression = (first.betas + second.betas) / 2, (first.expression + second.expression) / 2
    rest = body.rest_joints(torch.cat([betas, expression], 1))[:, 0]
    return SmplxParams.from_pose(roma.rotmat_to_rotvec(turns), betas, expression, pelvis - rest)


def flipped(body: Body, params: SmplxParams) -> SmplxParams:
    """Camera's frame ↔ upright world."""
    return body.moved(params, FLIP.expand(len(params.transl), 4, 4))


def _joint(name: str) -> int:
    return JOINT_NAMES.index(name)


def other_side(name: str) -> str:
    """left_wrist ↔ right_wrist."""
    return name.replace("left_", "*").replace("right_", "left_").replace("*", "right_")
