"""Feet that stay where they are while the pelvis moves: two-bone inverse kinematics of both legs, differentiable.

Legs are turned from the reference's: where the pelvis is the reference's, they are the reference's. Axes: B batch, T frames.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from model.body import Body
from model.geometry import apply_matrices, full_precision
from model.types import SmplxParams

LEFT, RIGHT = (1, 4, 7), (2, 5, 8)  # hip, knee, ankle
REACH = 0.999  # of a leg's length that it stretches to


def plant_feet(body: Body, params: SmplxParams, reference: SmplxParams) -> SmplxParams:
    """Frames [B, T] with hips, knees and ankles such that the feet are where those of the reference [B] are."""
    with full_precision(params.transl):
        rest = body.rest_joints(reference.shape_coefficients.float())  # [B, J, 3]
        before = roma.rotvec_to_rotmat(reference.full_pose.float())
        pose = params.full_pose.float()
        root = roma.rotvec_to_rotmat(pose[..., 0, :])  # [B, T, 3, 3]
        pelvis = rest[:, None, 0] + params.transl
        legs = torch.tensor((LEFT, RIGHT), device=pose.device)  # [2, 3]
        hip, knee, ankle = (rest[:, legs[:, i]] for i in range(3))  # [B, 2, 3]
        thigh, shin, out = knee - hip, ankle - knee, hip - rest[:, :1]
        # the reference: turns and places of its legs
        turn = before[:, :1] @ before[:, legs[:, 0]]  # [B, 2, 3, 3]
        lower = turn @ before[:, legs[:, 1]]
        first = (rest[:, 0] + reference.transl)[:, None] + apply_matrices(before[:, :1], out)
        foot = first + apply_matrices(turn, thigh) + apply_matrices(lower, shin)
        front = lower[..., 2]  # where knees point
        lengths = thigh.norm(dim=-1), shin.norm(dim=-1)
        upper_before, lower_before = _bend(foot - first, front, *lengths)
        now = pelvis[:, :, None] + apply_matrices(root[:, :, None], out[:, None])
        upper_now, lower_now = _bend(foot[:, None] - now, front[:, None].expand_as(now), *(x[:, None] for x in lengths))
        thighs = upper_now @ upper_before.mT[:, None] @ turn[:, None]  # [B, T, 2, 3, 3] in space
        shins = lower_now @ lower_before.mT[:, None] @ lower[:, None]
        feet = (lower @ before[:, legs[:, 2]])[:, None]
        local = torch.stack([root[:, :, None].mT @ thighs, thighs.mT @ shins, shins.mT @ feet.expand_as(shins)], 3)
        pose = pose.clone()
        pose[..., legs.flatten(), :] = roma.rotmat_to_rotvec(local).flatten(2, 3)
        return SmplxParams.from_pose(pose, params.betas, params.expression, params.transl)


def _bend(way: Tensor, front: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [..., 3, 3] of thigh and shin of a leg that spans `way` [..., 3] with its knee towards `front`."""
    length = way.norm(dim=-1)
    distance = torch.minimum(length, REACH * (upper + lower))[..., None]
    line = way / length[..., None]
    knees = front - (front * line).sum(-1, keepdim=True) * line
    knees = knees / knees.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    upper, lower = upper[..., None], lower[..., None]
    along = (upper**2 + distance**2 - lower**2) / (2 * distance)
    bent = along * line + (upper**2 - along**2).clamp(min=1e-8).sqrt() * knees
    return _frame(bent, knees), _frame(distance * line - bent, knees)


def _frame(bone: Tensor, front: Tensor) -> Tensor:
    y = bone / bone.norm(dim=-1, keepdim=True)
    z = front - (front * y).sum(-1, keepdim=True) * y
    z = z / z.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return torch.stack([torch.linalg.cross(y, z), y, z], -1)
