"""Colours over a background, for backends that draw on black."""

from __future__ import annotations

from torch import Tensor


def over(color: Tensor, alpha: Tensor, background: Tensor | None) -> Tensor:
    """Colour [B, C, H, W, D] on black with alpha [B, C, H, W, 1], over a background [B, C, D]; none: black."""
    return color if background is None else color + (1 - alpha) * background[..., None, None, :]
