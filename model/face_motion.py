"""The face alone: points of the surface as jaw and expression move them, the head at rest.

What EMAGE's face figures look at, and a hundredth of the work of posing the whole body. Axes: T frames, P points.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from model.body import Body, SurfacePoints

JAW = 22


class FaceMotion:
    """Points on one body's face; agrees with `Body.posed_points` where all other joints are at rest."""

    def __init__(self, body: Body, points: SurfacePoints):
        self.rest, self.count = points.rest, len(points.rest)
        self.shape_dirs = points.shape_dirs.flatten(0, 1).T.contiguous()  # [20, P*3]
        self.weight = points.weights[:, JAW, None].expand(-1, 3).contiguous()
        self.joint, self.joint_dirs = body.joint_template[JAW], body.joint_dirs[JAW]
        mine = points.pose_features // 9 == JAW - 1  # correctives that the jaw's rotation drives
        self.features = points.pose_features[mine] % 9
        self.correctives = points.rest.new_zeros(int(mine.sum()), self.count, 3)
        self.correctives[:, points.pose_points] = points.pose_basis[mine].reshape(int(mine.sum()), len(points.pose_points), 3)

    def to(self, device: torch.device) -> FaceMotion:
        """Itself, on the device."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor) and value.device != device:
                setattr(self, name, value.to(device))
        return self

    def __call__(
        self,
        jaw: Tensor,  # [T, 3] axis-angle
        betas: Tensor,  # [10]
        expression: Tensor,  # [T, 10]
    ) -> Tensor:  # [T, P, 3] metres
        coefficients = torch.cat([betas.expand(len(jaw), -1), expression], 1)
        points = self.rest + (coefficients @ self.shape_dirs).reshape(-1, self.count, 3)
        turn = roma.rotvec_to_rotmat(jaw) - torch.eye(3, device=jaw.device)
        if len(self.features):
            points = points + torch.einsum("tk,kpc->tpc", turn.flatten(1)[:, self.features], self.correctives)
        joint = self.joint + coefficients @ self.joint_dirs.T
        return points + self.weight * ((points - joint[:, None]) @ turn.mT)
