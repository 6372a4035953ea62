"""diff_gaussian_rasterization, for comparison with work built on it (non-commercial licence, chosen by name only).

It renders one camera and three channels at a time and gives neither alpha nor depth, so both are rendered as further
channels. It differs from the others: near plane .2 m, alpha capped at .99, splats cut at 3σ, 0.3 px² added where
antialiased too, no camera gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.rasterize.background import over
from model.types import GaussianCloud

FAR, NEAR = 100.0, 0.01  # of the projection matrix; its z decides nothing


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
            pictures.append(
                _render_view(cloud[b], w2c[b, c].detach(), intrinsics[b, c].detach(), width, height, antialiased)
            )
    picture = torch.stack(pictures).reshape(scenes, views, height, width, -1)
    alpha = picture[..., -2:-1]
    return over(picture[..., :-2], alpha, background), alpha, picture[..., -1:]


def _render_view(
    cloud: GaussianCloud, w2c: Tensor, intrinsics: Tensor, width: int, height: int, antialiased: bool
) -> Tensor:
    """[H, W, D + 2]: colour, alpha, alpha-weighted depth."""
    from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer

    options = {"antialiasing": antialiased} if "antialiasing" in GaussianRasterizationSettings._fields else {}
    if antialiased and not options:
        raise ValueError(
            "rasterize: this diff_gaussian_rasterization has no `antialiasing`; install a newer one or choose gsplat"
        )
    focal = intrinsics.diagonal()[:2]
    settings = GaussianRasterizationSettings(
        image_height=height,
        image_width=width,
        tanfovx=float(width / (2 * focal[0])),
        tanfovy=float(height / (2 * focal[1])),
        bg=torch.zeros(3, device=w2c.device),
        scale_modifier=1.0,
        viewmatrix=w2c.T.contiguous(),  # it multiplies row vectors
        projmatrix=(_clip_matrix(intrinsics, width, height) @ w2c).T.contiguous(),
        sh_degree=0,
        campos=torch.linalg.inv(w2c)[:3, 3].contiguous(),
        prefiltered=False,
        debug=False,
        **options,
    )
    depth = cloud.means @ w2c[2, :3] + w2c[2, 3]
    features = torch.cat([cloud.colors, torch.ones_like(depth)[:, None], depth[:, None]], -1)
    channels = features.shape[-1]
    features = torch.nn.functional.pad(features, (0, -channels % 3))
    planes = []
    for group in features.split(3, -1):
        planes.append(
            GaussianRasterizer(settings)(
                means3D=cloud.means,
                means2D=torch.zeros_like(cloud.means),
                opacities=cloud.opacities[:, None],
                colors_precomp=group.contiguous(),
                scales=cloud.scales,
                rotations=torch.nn.functional.normalize(cloud.rotations, dim=-1),  # it does not do so itself
            )[0]
        )
    return torch.cat(planes)[:channels].permute(1, 2, 0)


def _clip_matrix(intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Camera → clip space, column vectors. It puts ndc -1..1 on 0..size with pixel centres at +0.5."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
    rows = [
        [2 * fx / width, 0, 2 * cx / width - 1, 0],
        [0, 2 * fy / height, 2 * cy / height - 1, 0],
        [0, 0, FAR / (FAR - NEAR), -FAR * NEAR / (FAR - NEAR)],
        [0, 0, 1, 0],
    ]
    return torch.tensor(rows, dtype=intrinsics.dtype, device=intrinsics.device)
