"""Points that a skeleton carries, and how they move with pose, shape and expression: derivatives in closed form.

A joint turns what hangs on it about its own place, so a point's derivative by an angle is an axis times a lever arm.
Pose correctives move points by millimetres; their derivative is left out.

Axis legend: `T` frames, `J` joints (55), `P` points, `A` pose coordinates that may change, `R` covectors at a point, `E`
pairs (point, coordinate) of which the one moves with the other in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from model.body import Body, SurfacePoints
from model.types import JOINTS, SmplxParams

CARRIED = 1e-3  # a point whose weights below a joint sum to less than this does not move with it
WHOLLY = 1 - 1e-5  # one whose weights sum to more moves with it as if it were all there


@dataclass(frozen=True)
class Posed:
    """Points and the skeleton that carries them."""

    points: Tensor  # [T, P, 3] world, metres
    joints: Tensor  # [T, J, 3]
    transforms: Tensor  # [T, J, 3, 4] template → posed
    rest: Tensor  # [T, P, 3] template space, shaped
    blend: Tensor  # [T, P, 3, 4] template → posed
    pose: Tensor  # [T, J, 3]

    def frames(self, part: slice) -> Posed:
        return Posed(*(x[part] for x in vars(self).values()))


@dataclass(frozen=True)
class Slopes:
    """What the derivatives of points by pose coordinates are made of."""

    arms: Tensor  # [T, P, 3] points from the frame's origin
    axes: Tensor  # [T, A, 3]
    moments: Tensor  # [T, A, 3] a point that hangs on the joint wholly moves by axis × arm − moment
    partly: Tensor  # [T, E, 3] derivatives of the pairs of which that is not so


class Carrier:
    """`points` of a body seen as functions of the pose coordinates `coordinates` [A, 2] (joint, axis)."""

    def __init__(self, body: Body, points: SurfacePoints, coordinates: Tensor):
        self.body, self.surface, self.coordinates = body, points, coordinates
        below = torch.eye(JOINTS).to(points.weights)  # [J, J] 1 where the second hangs on the first
        for joint in range(JOINTS - 1, 0, -1):
            below[body.parents[joint]] += below[joint]
        self.above = below.T.contiguous()
        share = (points.weights @ below.T)[:, coordinates[:, 0]]  # [P, A] of each point, what hangs on the joint
        self.moves = share > CARRIED  # [P, A]
        self.wholly = (share > WHOLLY).to(points.weights)
        self.point, self.column = (self.moves & (share <= WHOLLY)).nonzero().T  # [E]
        self.part_joint = coordinates[self.column, 0]
        self.part_weights = points.weights[self.point] * below[self.part_joint]  # [E, J]

    def place(self, params: SmplxParams) -> Posed:
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        coefficients = params.shape_coefficients
        joints, transforms = self.body.kinematics(rotations, coefficients, params.transl)
        rest = self.body.shaped(self.surface, rotations, coefficients)
        blend = (self.surface.weights @ transforms.flatten(2)).unflatten(2, (3, 4))
        return Posed(_carried(blend, rest), joints, transforms, rest, blend, params.full_pose)

    def slopes(self, posed: Posed) -> Slopes:
        at, origin = self.coordinates, posed.joints[:, :1]
        turns = posed.transforms[..., :3] @ right_jacobian(posed.pose)  # [T, J, 3, 3] columns: world axes of the three coordinates
        axes = turns[:, at[:, 0], :, at[:, 1]].transpose(0, 1)
        moments = torch.linalg.cross(axes, (posed.joints - origin)[:, at[:, 0]])
        part = (self.part_weights @ posed.transforms.flatten(2)).unflatten(2, (3, 4))
        lever = _carried(part, posed.rest[:, self.point])
        lever = lever - self.part_weights.sum(1)[:, None] * posed.joints[:, self.part_joint]
        return Slopes(posed.points - origin, axes, moments, torch.linalg.cross(axes[:, self.column], lever))

    def by_pose(
        self,
        slopes: Slopes,
        covectors: Tensor,  # [T, P, R, 3]
        points: slice = slice(None),  # those that the covectors stand at
        count: int | None = None,  # the first so many coordinates alone; none: all
    ) -> Tensor:  # [T, P, R, A]
        """Derivatives of covector times point by the pose coordinates."""
        frames, number, rows = covectors.shape[:3]
        # covector · (axis × arm − moment) = (arm × covector) · axis − covector · moment
        turned = torch.linalg.cross(slopes.arms[:, points, None].expand_as(covectors), covectors)
        lines = torch.cat([turned, covectors], -1).reshape(frames, number * rows, 6)
        screws = torch.cat([slopes.axes, -slopes.moments], 2)[:, :count]
        out = (lines @ screws.mT).reshape(frames, number, rows, -1)
        out *= self.wholly[points, None, :count]
        first, last, _ = points.indices(len(self.wholly))
        mine = (self.point >= first) & (self.point < last)
        point, column = self.point[mine] - first, self.column[mine]
        # an index on each side of a slice puts its axis in front
        out[:, point, :, column] = (covectors[:, point] * slopes.partly[:, mine, None]).sum(-1).transpose(0, 1)
        return out

    def by_shape(self, posed: Posed) -> Tensor:  # [T, P, 3, 20]
        """Derivatives of the points by betas, then expression."""
        dirs, parents = self.body.joint_dirs, self.body.parent_index
        turns = posed.transforms[..., :3]
        bones = turns[:, parents] @ (dirs - dirs[parents])
        bones[:, 0] = dirs[0]
        held = (self.above @ bones.flatten(2)).view_as(bones) - turns @ dirs  # [T, J, 3, 20]
        frames, points = posed.points.shape[:2]
        carried = self.surface.weights @ held.transpose(0, 1).reshape(JOINTS, -1)  # [P, T 60]
        turned = posed.blend[..., :3].transpose(0, 1).reshape(points, frames * 3, 3)
        out = torch.baddbmm(carried.view(points, frames * 3, -1), turned, self.surface.shape_dirs)
        return out.view(points, frames, 3, -1).transpose(0, 1)


def _carried(blend: Tensor, rest: Tensor) -> Tensor:  # [T, P, 3, 4], [T, P, 3] → [T, P, 3]
    x, y, z = rest[..., None].unbind(-2)
    return blend[..., 0] * x + blend[..., 1] * y + blend[..., 2] * z + blend[..., 3]


def right_jacobian(rotvec: Tensor) -> Tensor:  # [..., 3] → [..., 3, 3]
    """`R(v + d) ≈ R(v) exp(J d)`."""
    angle = rotvec.norm(dim=-1)[..., None, None].clamp(min=1e-4)
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    one = torch.eye(3).to(rotvec)
    return one - (1 - angle.cos()) / angle**2 * hat + (angle - angle.sin()) / angle**3 * hat @ hat
