"""Plain torch rasteriser: what the fast backends are tested against. Any device, any float type, slow.

Method: EWA splatting (Zwicker et al. 2001) as 3D Gaussian Splatting uses it (Kerbl et al. 2023), gsplat's constants.
Axes: N Gaussians, K those that touch one tile, P its pixels, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.rasterize.background import over
from model.types import GaussianCloud

# the numba kernels compile these in and are cached by their own files' times: after a change here, save those anew
NEAR = 0.01  # metres
BLUR = 0.3  # px², added to both variances (Kerbl et al. 2023)
PIXEL = 0.1  # the same where antialiased: about a pixel's square (Yu et al., Mip-Splatting, 2024), so that outlines stay sharp
ALPHA_MIN = 1 / 255
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
EXTENT_MAX = 3.33  # standard deviations
COMPENSATION_MIN = 2.5e-5  # of the squared ratio
MARGIN = 0.15  # of the picture's size, round it, where the projection is still linearised truly
TILE = 16  # px, pixels that are composited at once


@dataclass(frozen=True)
class Splats:
    """Gaussians on one image plane; what cannot be seen has radius 0."""

    center: Tensor  # [N, 2] px
    conic: Tensor  # [N, 3] inverse covariance: xx, xy, yy, 1/px²
    opacity: Tensor  # [N]
    depth: Tensor  # [N] camera z, metres
    radius: Tensor  # [N, 2] px, beyond which alpha is under 1/255


def render(
    cloud: GaussianCloud,  # [B, N]
    w2c: Tensor,  # [B, C, 4, 4]
    intrinsics: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    antialiased: bool,
    background: Tensor | None,  # [B, C, D]; none: black
    depth: bool,  # comes at no cost here
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [B, C, H, W, D], alpha [B, C, H, W, 1], alpha-weighted depth [B, C, H, W, 1]."""
    scenes, views = w2c.shape[:2]
    pictures = []
    for b in range(scenes):
        for c in range(views):
            splats = project(cloud[b], w2c[b, c], intrinsics[b, c], width, height, antialiased)
            pictures.append(_composite(splats, cloud.colors[b], width, height))
    picture = torch.stack(pictures).reshape(scenes, views, height, width, -1)
    alpha = picture[..., -2:-1]
    return over(picture[..., :-2], alpha, background), alpha, picture[..., -1:]


def project(
    cloud: GaussianCloud, w2c: Tensor, intrinsics: Tensor, width: int, height: int, antialiased: bool
) -> Splats:
    """Splats of one cloud [N] in one camera ([4, 4], [3, 3])."""
    points = cloud.means @ w2c[:3, :3].T + w2c[:3, 3]
    z = points[:, 2]
    front = z > NEAR
    ray = points[:, :2] / torch.where(front, z, 1)[:, None]
    focal = torch.stack([intrinsics[0, 0], intrinsics[1, 1]])
    principal = intrinsics[:2, 2]
    # the Jacobian is taken at the nearest place in the picture and its margin: far outside it would blow up
    size = torch.tensor([width, height], dtype=focal.dtype, device=focal.device)
    margin = MARGIN * size
    inside = torch.minimum(torch.maximum(ray, -(principal + margin) / focal), (size - principal + margin) / focal)
    scale = focal / torch.where(front, z, 1)[:, None]
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([scale[:, 0], zero, -scale[:, 0] * inside[:, 0]], -1),
            torch.stack([zero, scale[:, 1], -scale[:, 1] * inside[:, 1]], -1),
        ],
        1,
    )
    half = jacobian @ w2c[:3, :3] @ (_rotation(cloud.rotations) * cloud.scales[:, None, :])  # [N, 2, 3]
    sharp = half @ half.mT
    covariance = sharp + (PIXEL if antialiased else BLUR) * torch.eye(2, dtype=sharp.dtype, device=sharp.device)
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    area = xx * yy - xy * xy
    opacity = cloud.opacities
    if antialiased:
        sharp_area = sharp[:, 0, 0] * sharp[:, 1, 1] - xy * xy
        opacity = opacity * torch.sqrt((sharp_area / area).clamp(min=COMPENSATION_MIN))
    center = focal * ray + principal
    conic = torch.stack([yy, -xy, xx], -1) / area[:, None]
    with torch.no_grad():
        behind = z <= NEAR
        if not torch.isfinite(torch.cat([center, conic, opacity[:, None]], -1)[~behind]).all():
            raise FloatingPointError("rasterize: some Gaussians are not finite")
        extent = torch.sqrt(2 * torch.log((opacity / ALPHA_MIN).clamp(min=1))).clamp(max=EXTENT_MAX)
        radius = torch.ceil(extent[:, None] * torch.stack([xx, yy], -1).sqrt())
        radius = torch.where((front & (opacity >= ALPHA_MIN))[:, None], radius, 0)
    return Splats(center, conic, opacity, z, radius)


def _rotation(quaternion: Tensor) -> Tensor:  # [N, 4] wxyz → [N, 3, 3]
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, 1)


def _composite(splats: Splats, colors: Tensor, width: int, height: int) -> Tensor:
    """Front to back over tiles: [H, W, D + 2], colour, alpha, alpha-weighted depth."""
    seen = torch.nonzero((splats.radius > 0).all(-1))[:, 0]
    seen = seen[torch.argsort(splats.depth[seen].detach(), stable=True)]
    features = torch.cat([colors, torch.ones_like(colors[:, :1]), splats.depth[:, None]], -1)
    low, high = splats.center.detach() - splats.radius, splats.center.detach() + splats.radius
    rows = []
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        row = []
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            touches = (low[seen, 0] < right) & (high[seen, 0] > left) & (low[seen, 1] < bottom) & (high[seen, 1] > top)
            ids = seen[touches]
            y = torch.arange(top, bottom, dtype=colors.dtype, device=colors.device) + 0.5
            x = torch.arange(left, right, dtype=colors.dtype, device=colors.device) + 0.5
            pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
            weights = _weights(splats, ids, pixels)
            row.append((weights @ features[ids]).reshape(bottom - top, right - left, -1))
        rows.append(torch.cat(row, 1))
    return torch.cat(rows, 0)


def _weights(splats: Splats, ids: Tensor, pixels: Tensor) -> Tensor:  # [K], [P, 2] → [P, K]
    """Share of each Gaussian in each pixel: alpha times what those in front let through."""
    dx, dy = (pixels[:, None] - splats.center[ids]).unbind(-1)
    xx, xy, yy = splats.conic[ids].unbind(-1)
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    alpha = (splats.opacity[ids] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    after = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
    return torch.where(after.detach() > TRANSMITTANCE_MIN, alpha * before, 0)
