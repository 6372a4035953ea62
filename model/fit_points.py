"""Points that a skeleton carries, and how they move with pose, shape and expression: derivatives in closed form.

A joint turns what hangs on it about its own place, so a point's derivative by an angle is an axis times a lever arm.
Pose correctives move points by millimetres; their derivative is left out.

Axis legend: `T` frames, `J` joints (55), `P` points, `A` pose coordinates that may change, `E` pairs (point, coordinate)
of which the one moves the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from model.body import Body, SurfacePoints
from model.types import JOINTS, SmplxParams

CARRIED = 1e-3  # a point whose weights below a joint sum to less than this does not move with it


@dataclass(frozen=True)
class Moved:
    """Posed points with their derivatives."""

    points: Tensor  # [T, P, 3] world, metres
    by_pose: Tensor  # [T, E, 3] of `Carrier.pairs`
    by_shape: Tensor  # [T, P, 3, 20] by betas, then expression


class Carrier:
    """`points` of a body seen as functions of the pose coordinates `coordinates` [A, 2] (joint, axis)."""

    def __init__(self, body: Body, points: SurfacePoints, coordinates: Tensor):
        self.body, self.surface, self.coordinates = body, points, coordinates
        below = torch.eye(JOINTS).to(points.weights)  # [J, J] 1 where the second hangs on the first
        for joint in range(JOINTS - 1, 0, -1):
            below[body.parents[joint]] += below[joint]
        self.above = below.T.contiguous()
        share = points.weights @ below.T  # [P, J] of each point, what hangs on the joint
        moves = share[:, coordinates[:, 0]] > CARRIED
        self.pairs = moves.nonzero()  # [E, 2] point, coordinate
        joints = coordinates[self.pairs[:, 1], 0]
        unique, self.slot = torch.unique(self.pairs[:, 0] * JOINTS + joints, return_inverse=True)
        self.slot_point, self.slot_joint = unique // JOINTS, unique % JOINTS
        self.slot_weights = points.weights[self.slot_point] * below[self.slot_joint]  # [S, J]

    def place(self, params: SmplxParams) -> Tensor:  # [T, P, 3]
        """Posed points alone."""
        transforms, rest = self._posed(params)[1:]
        blend = torch.einsum("pj,tjc->tpc", self.surface.weights, transforms.flatten(2)).unflatten(2, (3, 4))
        return (blend[..., :3] * rest[:, :, None]).sum(-1) + blend[..., 3]

    def move(self, params: SmplxParams) -> Moved:
        """Posed points and their derivatives."""
        joints, transforms, rest = self._posed(params)
        turns = transforms[..., :3]
        blend = torch.einsum("pj,tjc->tpc", self.surface.weights, transforms.flatten(2)).unflatten(2, (3, 4))
        points = (blend[..., :3] * rest[:, :, None]).sum(-1) + blend[..., 3]
        axes = turns @ right_jacobian(params.full_pose)  # [T, J, 3, 3] columns: world axes of the three coordinates
        part = torch.einsum("sj,tjc->tsc", self.slot_weights, transforms.flatten(2)).unflatten(2, (3, 4))
        lever = (part[..., :3] * rest[:, self.slot_point, None]).sum(-1) + part[..., 3]
        lever = lever - self.slot_weights.sum(1)[:, None] * joints[:, self.slot_joint]
        at = self.coordinates[self.pairs[:, 1]]
        by_pose = torch.linalg.cross(axes.mT[:, at[:, 0], at[:, 1]], lever[:, self.slot])
        return Moved(points, by_pose, self._by_shape(turns, blend))

    def _posed(self, params: SmplxParams) -> tuple[Tensor, Tensor, Tensor]:
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        coefficients = params.shape_coefficients
        joints, transforms = self.body.kinematics(rotations, coefficients, params.transl)
        return joints, transforms, self.body.shaped(self.surface, rotations, coefficients)

    def _by_shape(self, turns: Tensor, blend: Tensor) -> Tensor:  # [T, J, 3, 3], [T, P, 3, 4] → [T, P, 3, 20]
        dirs, parents = self.body.joint_dirs, self.body.parent_index
        bones = turns[:, parents] @ (dirs - dirs[parents])
        bones[:, 0] = dirs[0]
        joints = torch.einsum("ja,tac->tjc", self.above, bones.flatten(2))  # [T, J, 60]
        held = joints - (turns @ dirs).flatten(2)
        return blend[..., :3] @ self.surface.shape_dirs + torch.einsum("pj,tjc->tpc", self.surface.weights, held).unflatten(2, (3, -1))


def right_jacobian(rotvec: Tensor) -> Tensor:  # [..., 3] → [..., 3, 3]
    """`R(v + d) ≈ R(v) exp(J d)`."""
    angle = rotvec.norm(dim=-1)[..., None, None].clamp(min=1e-4)
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    one = torch.eye(3).to(rotvec)
    return one - (1 - angle.cos()) / angle**2 * hat + (angle - angle.sin()) / angle**3 * hat @ hat
