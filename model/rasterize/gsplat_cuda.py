"""The CUDA backend: gsplat (Apache-2.0), whose conventions the others follow."""

from __future__ import annotations

from torch import Tensor

from model.rasterize.reference import BLUR, NEAR, PIXEL
from model.types import GaussianCloud


def render(
    cloud: GaussianCloud,  # [B, N]
    w2c: Tensor,  # [B, C, 4, 4]
    intrinsics: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    antialiased: bool,
    background: Tensor | None,  # [B, C, D]; none: black
    depth: bool,  # a channel more to blend
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [B, C, H, W, D], alpha [B, C, H, W, 1], alpha-weighted depth [B, C, H, W, 1], or no channel of it."""
    from gsplat import rasterization  # compiles its kernels when first imported

    picture, alpha, _ = rasterization(
        cloud.means.contiguous(),
        cloud.rotations.contiguous(),
        cloud.scales.contiguous(),
        cloud.opacities.contiguous(),
        cloud.colors.contiguous(),
        w2c.contiguous(),
        intrinsics.contiguous(),
        width,
        height,
        near_plane=NEAR,
        eps2d=PIXEL if antialiased else BLUR,
        backgrounds=None if background is None else background.contiguous(),
        packed=False,  # packed costs a synchronisation and has no batches of scenes
        render_mode="RGB+D" if depth else "RGB",
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    channels = cloud.colors.shape[-1]
    return picture[..., :channels], alpha, picture[..., channels:]
