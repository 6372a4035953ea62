"""Losses, all unreduced: the trainer weighs, masks by confidence and reduces.

Pictures are [..., H, W, C]. Axes: B batch, T frames, J joints, N Gaussians, P, Q points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import roma
import torch
import torch.nn.functional as F
from torch import Tensor

from model.fixed_sums import FixedSums
from model.geometry import full_precision, geodesic_angle
from model.types import SmplxParams, TensorGroup

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for values in 0..1 (Wang et al., 2004)
BAND_ROWS = 64  # of a product with a banded matrix, most of which is zero
CHAMFER_CHUNK = 4096
ASIDE = 0.02  # metres along the skin that Gaussians may well move


@dataclass(frozen=True)
class SmplxErrors(TensorGroup):
    """Errors of SMPL-X parameters; leading axes as the parameters'."""

    pose: Tensor  # [..., 55] geodesic angle of each joint to its parent, radians, order of `full_pose`
    betas: Tensor  # [..., 10] absolute
    expression: Tensor  # [..., 10] absolute
    transl: Tensor  # [...] distance, metres


def l1_map(predicted: Tensor, target: Tensor) -> Tensor:  # [..., H, W, C] twice → the same
    return (predicted - target).abs()


def ssim_map(predicted: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of pictures [..., H, W, C] in 0..1 → [..., H, W, C], 1 where equal.

    Gaussian window 11, σ 1.5; the border is padded by reflection, so the map has the pictures' size.
    """
    with full_precision(predicted):
        lead, (height, width, channels) = predicted.shape[:-3], predicted.shape[-3:]
        flat = lambda t: t.float().movedim(-1, -3).reshape(-1, height, width)  # noqa: E731
        x, y = flat(predicted), flat(target)
        mx, xx, xy = _blurred(x, x * x, x * y)
        my, yy = _blurred(y, y * y)  # apart: a target asks for no gradient
        cross, squares = mx * my, mx * mx + my * my
        top = (2 * cross + SSIM_C1) * (2 * (xy - cross) + SSIM_C2)
        bottom = (squares + SSIM_C1) * (xx + yy - squares + SSIM_C2)
        return (top / bottom).view(*lead, channels, height, width).movedim(-3, -1)


def mask_l1(alpha: Tensor, mask: Tensor) -> Tensor:  # [..., H, W, 1] twice → the same
    return (alpha - mask).abs()


def smplx_errors(predicted: SmplxParams, target: SmplxParams) -> SmplxErrors:
    """Both with the same leading axes and in the same space."""
    with full_precision(predicted.transl):
        turns = roma.rotvec_to_rotmat(torch.stack([p.full_pose.float() for p in (predicted, target)]))
        return SmplxErrors(
            geodesic_angle(*turns),
            (predicted.betas - target.betas).abs(),
            (predicted.expression - target.expression).abs(),
            _length(predicted.transl - target.transl),
        )


def joint_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Distances of joints or vertices [..., J, 3] → [..., J], metres."""
    return _length(predicted - target)


def velocity_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Distances between frame-to-frame moves of joints [..., T, J, 3] → [..., T - 1, J], metres per frame."""
    return _length(predicted.diff(dim=-3) - target.diff(dim=-3))


def token_errors(predicted: Tensor, target: Tensor) -> Tensor:  # [..., K, d] twice → [..., K] mean squares
    return (predicted - target).square().mean(-1)


def offset_penalty(offsets: Tensor, free: float = 0.1) -> Tensor:
    """How far Gaussians [B, N, 3] left their anchors, in units of `free` metres: a tenth of the square, and the
    squared excess over 1 → [B, N]."""
    length = _length(offsets) / free
    return 0.1 * length.square() + F.relu(length - 1).square()


def scale_penalty(scales: Tensor, spacing: Tensor) -> Tensor:
    """Squared excess of Gaussians [B, N, 3] over twice the anchors' spacing [N], and over 4 in slenderness → [B, N]."""
    excess = F.relu(scales / spacing[:, None] - 2).square().sum(-1)
    first, second, third = scales.unbind(-1)
    median = torch.maximum(torch.minimum(first, second), torch.minimum(torch.maximum(first, second), third))
    longest = scales.amax(-1) / median.clamp(min=1e-6)
    return excess + F.relu(longest - 4).square()


def coherence_penalty(
    offsets: Tensor,  # [B, N, 3] of Gaussians from their anchors, metres
    normals: Tensor,  # [N, 3] of the skin there
    beside: FixedSums,  # means of the anchors beside each
    spacing: Tensor,  # [N] metres
) -> Tensor:  # [B, N]
    """How far Gaussians went another way than their neighbours, in spacings, and a tenth of how far they went along the
    skin, in units of `ASIDE`; beyond one unit both grow as the length does, so that hems and skirts may.

    Without it Gaussians wander over the skin and widen to close the holes, which blurs clothes.
    """
    apart = (offsets - beside(offsets)).square().sum(-1) / spacing.square()
    aside = (offsets - (offsets * normals).sum(-1, keepdim=True) * normals).square().sum(-1) / ASIDE**2
    return (torch.sqrt(1 + apart) - 1) + 0.1 * (torch.sqrt(1 + aside) - 1)


def chamfer(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of each point of [B, P, 3] and of [B, Q, 3] to the nearest of the other: [B, P], [B, Q]."""
    with full_precision(first):
        return _nearest(first.float(), second.float()), _nearest(second.float(), first.float())


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    with torch.no_grad():
        index = torch.cat([torch.cdist(part, others).argmin(-1) for part in points.split(CHAMFER_CHUNK, 1)], 1)
    return (points - others.gather(1, index[..., None].expand(-1, -1, 3))).square().sum(-1)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length whose gradient at zero is zero."""
    return torch.linalg.vector_norm(vectors.float(), dim=-1)


def _blurred(*pictures: Tensor) -> tuple[Tensor, ...]:  # [M, H, W] each
    every: Tensor = _Blur.apply(torch.cat(pictures))
    return every.chunk(len(pictures))


class _Blur(torch.autograd.Function):
    """The Gaussian window along both axes of pictures [M, H, W], as products with banded matrices: faster than depthwise
    convolutions."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor) -> Tensor:
        return _banded(pictures, back=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _banded(gradient.contiguous(), back=True)


def _banded(pictures: Tensor, back: bool) -> Tensor:  # [M, H, W] → the same
    (count, height, width), device = pictures.shape, pictures.device
    rows, out = torch.empty_like(pictures), torch.empty_like(pictures)
    for made, used, part in _band(height, device, back):
        torch.bmm(part.expand(count, -1, -1), pictures[:, used], out=rows[:, made])
    for made, used, part in _band(width, device, back):
        torch.mm(rows.view(-1, width)[:, used], part.T, out=out.view(-1, width)[:, made])
    return out


@cache
def _band(side: int, device: torch.device, back: bool) -> list[tuple[slice, slice, Tensor]]:
    """Parts of [side, side] whose row i holds the window round pixel i, folded back at the borders (reflection), or of its
    transpose: rows, the columns in which they are not zero, and what is there."""
    half = SSIM_WINDOW // 2
    kernel = torch.softmax(-0.5 * ((torch.arange(SSIM_WINDOW) - half) / SSIM_SIGMA) ** 2, 0)
    padded = F.pad(torch.eye(side)[:, None], (half, half), mode="reflect")
    band = F.conv1d(padded, kernel[None, None])[:, 0]
    parts = []
    for start in range(0, side, BAND_ROWS):
        rows = (band if back else band.T)[start : start + BAND_ROWS]
        columns = rows.any(0).nonzero()
        used = slice(int(columns[0]), int(columns[-1]) + 1)
        parts.append((slice(start, start + len(rows)), used, rows[:, used].contiguous().to(device)))
    return parts
