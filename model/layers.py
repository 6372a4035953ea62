"""Transformer pieces: attention with normalised queries and keys, rotary time, SwiGLU blocks; a residual convolution.

Axes: B batch, L tokens, M context tokens, H heads, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.geometry import full_precision


def rotary(x: Tensor, positions: Tensor, base: float = 1000.0) -> Tensor:
    """Turn pairs of channels of x [B, H, L, D] by angles proportional to positions [L] (RoPE; D even)."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions.float()[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last axis; under autocast its weight follows the input, which keeps it fused."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Multi-head attention of x [B, L, d] to itself or to a context [B, M, d]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise ValueError(f"attention: width {width} must be a multiple of 2 × heads ({heads})")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.query_norm = RMSNorm(width // heads)
        self.key_norm = RMSNorm(width // heads)

    def forward(
        self,
        x: Tensor,  # [B, L, d]
        context: Tensor | None = None,  # [B, M, d]; none: x itself
        positions: tuple[Tensor, Tensor] | None = None,  # [L], [M] times of queries and keys
        mask: Tensor | None = None,  # [L, M] true where attention is allowed
    ) -> Tensor:  # [B, L, d]
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        query = self.query_norm(split(self.query(x)))
        key, value = map(split, self.key_value(x if context is None else context).chunk(2, -1))
        key = self.key_norm(key)
        if positions is not None:
            query, key = rotary(query, positions[0]), rotary(key, positions[1])
        mixed = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """Gated feed-forward layer, [..., d] → [..., d]."""

    def __init__(self, width: int, expansion: float = 8 / 3):
        super().__init__()
        hidden = int(width * expansion + 7) // 8 * 8
        self.inner = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.inner(x).chunk(2, -1)
        return self.out(F.silu(gate) * value)


class Block(nn.Module):
    """Pre-norm transformer block: self-attention, optionally cross-attention, feed-forward."""

    def __init__(self, width: int, heads: int, cross: bool = False):
        super().__init__()
        self.self_norm, self.self_attention = RMSNorm(width), Attention(width, heads)
        self.cross_norm = RMSNorm(width) if cross else None
        self.cross_attention = Attention(width, heads) if cross else None
        self.feed_norm, self.feed = RMSNorm(width), SwiGLU(width)

    def forward(
        self,
        x: Tensor,  # [B, L, d]
        context: Tensor | None = None,  # [B, M, d] for the cross-attention
        positions: tuple[Tensor, Tensor] | None = None,  # [L], [M]
        mask: Tensor | None = None,  # [L, M] of the cross-attention
    ) -> Tensor:  # [B, L, d]
        own = None if positions is None else (positions[0], positions[0])
        x = x + self.self_attention(self.self_norm(x), positions=own)
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x), context, positions, mask)
        return x + self.feed(self.feed_norm(x))


class ConvBlock(nn.Module):
    """3×3 convolution, group norm, GELU; `stride` 2 halves the picture."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(next(g for g in (8, 4, 2, 1) if outputs % g == 0), outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        with full_precision(y):  # autocast would write the normalised map in float32; its statistics are so in any case
            return F.gelu(F.group_norm(y, self.norm.num_groups, self.norm.weight.to(y), self.norm.bias.to(y), self.norm.eps))
