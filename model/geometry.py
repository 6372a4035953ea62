"""Rotations: 6D vectors, matrices, wxyz quaternions; and soft bounds. Everything here runs in float32.

A 6D rotation holds the first two columns of the matrix one after the other (Zhou et al., CVPR 2019).
Conversions through axis-angle are roma's, which is differentiable at the identity and at half turns.
Axes: J joints, N points.
"""

from __future__ import annotations

import roma
import torch
import torch.nn.functional as F
from torch import Tensor

IDENTITY_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
UPRIGHT_6D = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # a person who stands upright before an OpenCV camera: diag(1, -1, -1)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which kinematics run: autocast is off on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


def working_dtype(tensor: Tensor) -> torch.dtype:
    """What matrix products of the tensor are worked out in: autocast's type where it is on, else the tensor's own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def rotation_from_6d(six: Tensor) -> Tensor:  # [..., 6] → [..., 3, 3]
    first = F.normalize(six[..., :3], dim=-1)
    second = six[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def apply_matrices(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices [..., 3, 3] times vectors [..., 3]: one of many small products, for which a matrix library is slow."""
    if matrices.is_cpu and not torch.is_grad_enabled():  # sums over three numbers are slow on a processor; the same bits
        return sum_of_three(*(matrices[..., i] * vectors[..., None, i] for i in range(3)))
    return (matrices * vectors[..., None, :]).sum(-1)


def sum_of_three(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """In place of `first`, without gradient, in the order in which products of matrices are summed."""
    return first.add_(second).add_(third)


def rotation_to_6d(rotation: Tensor) -> Tensor:  # [..., 3, 3] → [..., 6]
    return rotation[..., :2].mT.flatten(-2)


def rotvec_to_6d(rotvec: Tensor) -> Tensor:  # [..., 3] → [..., 6]
    return rotation_to_6d(roma.rotvec_to_rotmat(rotvec))


def geodesic_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle between rotations [..., 3, 3], radians 0..π; its gradient is finite everywhere, unlike that of acos."""
    relative = first.mT @ second
    twist = torch.stack([relative[..., i, j] - relative[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(twist.norm(dim=-1), cosine)


def quaternion_from_rotation(rotation: Tensor) -> Tensor:  # [..., 3, 3] → [..., 4] wxyz, unit
    """Of the four ways to read it off the matrix the one with the largest divisor (Shepperd, 1978), without a branch.

    roma's picks matrices by index, for which a GPU is waited for and a compiled step is broken up.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    x, y, z = h - f, c - g, d - b
    rows = ((1 + a + e + i, x, y, z), (x, 1 + a - e - i, b + d, c + g), (y, b + d, 1 - a + e - i, f + h), (z, c + g, f + h, 1 - a - e + i))
    every = torch.stack([torch.stack(row, -1) for row in rows], -2)  # [..., 4, 4]
    best = every.diagonal(dim1=-2, dim2=-1).argmax(-1)
    chosen = (every * F.one_hot(best, 4)[..., None]).sum(-2)
    return F.normalize(chosen, dim=-1)


def rotvec_from_rotation(rotation: Tensor) -> Tensor:  # [..., 3, 3] → [..., 3] axis-angle
    return roma.unitquat_to_rotvec(roma.quat_wxyz_to_xyzw(quaternion_from_rotation(rotation)))


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:  # [..., 4] wxyz, of any length → [..., 3, 3]
    return roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(F.normalize(quaternion, dim=-1)))


def rotate(quaternions: Tensor, vectors: Tensor, back: bool = False) -> Tensor:
    """Vectors [..., 3] turned by unit wxyz quaternions [..., 4], or turned back."""
    axes = -quaternions[..., 1:] if back else quaternions[..., 1:]
    axes, vectors = torch.broadcast_tensors(axes, vectors)
    across = 2 * torch.linalg.cross(axes, vectors)
    return vectors + quaternions[..., :1] * across + torch.linalg.cross(axes, across)


def quaternion_multiply(first: Tensor, second: Tensor) -> Tensor:
    """Product of wxyz quaternions [..., 4]: the rotation `first` after the rotation `second`."""
    a, b = first[..., :1], first[..., 1:]
    c, d = second[..., :1], second[..., 1:]
    real = a * c - (b * d).sum(-1, keepdim=True)
    return torch.cat([real, a * d + c * b + torch.linalg.cross(*torch.broadcast_tensors(b, d))], -1)


def ancestors(parents: list[int]) -> Tensor:
    """[J, J] with 1 where the column's joint is the row's joint or lies on its way to the root."""
    table = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            table[joint] += table[parent]
    return table


def aligned_quaternions(
    rotations: Tensor,  # [B, J, 3, 3] of the joints, in one common space
    parents: Tensor,  # [J] the root's entry is itself
    ancestor_table: Tensor,  # [J, J] from `ancestors`
) -> Tensor:  # [B, J, 4] wxyz, unit
    """Quaternions of which normalised weighted means are the rotation part of linear blend skinning.

    Such a mean agrees with the polar factor of the blended matrix to second order in the angle between the joints, and has
    no decomposition whose gradient breaks where singular values meet. Signs follow the joint tree (a quaternion and its
    negative are one rotation): each joint is turned to its parent's half of the sphere.
    """
    joints = quaternion_from_rotation(rotations)
    opposed = ((joints * joints[:, parents]).sum(-1) < 0).float()  # [B, J]
    flips = opposed @ ancestor_table.T
    return joints * (1 - 2 * flips.remainder(2))[..., None]


def soft_bound(vector: Tensor, limit: float | Tensor) -> Tensor:
    """Shorten vectors [..., D] smoothly so that none is longer than `limit` ([..., 1] or one for all); short ones hardly change."""
    length = vector.norm(dim=-1, keepdim=True)
    ratio = length / limit
    return vector * torch.where(ratio > 1e-3, torch.tanh(ratio) / ratio.clamp(min=1e-3), torch.ones_like(ratio))
