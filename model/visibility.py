"""Where anchors fall in a picture and which of them the camera sees: a coarse depth buffer of points.

Axes: B batch, N points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.geometry import rotation_from_quaternion

CELLS = 64  # cells per side of the depth buffer
DEPTH_SLACK = 0.025  # metres behind the nearest point that still count as seen, plus one cell's width
FAR = 1e6


def picture_places(
    means: Tensor,  # [B, N, 3] camera frame, metres
    turns: Tensor,  # [B, N, 4] template → posed, wxyz
    normals: Tensor,  # [N, 3] outward, template space
    focal_over_size: Tensor,  # [B]
    principal: Tensor,  # [B, 2] from the picture's centre, in sides
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture coordinates [B, N, 2] in -1..1, how well each point is seen [B, N] 0..1, and its facing [B, N] -1..1.

    A point is seen when it lies in the picture before the camera, turns towards it, and no nearer point covers it.
    """
    depth = means[..., 2].clamp(min=0.05)
    places = 2 * (means[..., :2] / depth[..., None] * focal_over_size[:, None, None] + principal[:, None])
    normal = (rotation_from_quaternion(turns) @ normals[..., None])[..., 0]
    facing = -(normal * F.normalize(means, dim=-1)).sum(-1)
    inside = (places.abs().amax(-1) < 1) & (means[..., 2] > 0.05)
    nearest = _nearest_depth(places, torch.where(inside, depth, FAR))
    cell_width = 2 / CELLS * depth / (2 * focal_over_size[:, None])
    covered = depth > nearest + DEPTH_SLACK + cell_width
    seen = (inside & ~covered).float() * ((facing - 0.05) / 0.2).clamp(0, 1)
    return places, seen, facing


def _nearest_depth(places: Tensor, depth: Tensor) -> Tensor:
    """Least depth of any point in a point's own or a neighbouring cell, [B, N]."""
    cell = ((places + 1) / 2 * CELLS).long().clamp(0, CELLS - 1)
    index = cell[..., 1] * CELLS + cell[..., 0]
    buffer = torch.full((len(depth), CELLS * CELLS), FAR, device=depth.device, dtype=depth.dtype)
    buffer = buffer.scatter_reduce(1, index, depth, "amin").unflatten(1, (CELLS, CELLS))
    return (-F.max_pool2d(-buffer[:, None], 3, 1, 1)).flatten(1).gather(1, index)
