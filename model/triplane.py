"""Canonical triplane: scatter features at anchors onto three planes, turn planes to tokens and back, read them out.

Planes are xy, xz, zy of the template; anchors lie at fixed coordinates, so texels and weights are worked out once.
Planes lie in memory with their channels last, which is how scattering makes and convolutions want them.
Axes: B batch, N anchors, C channels, R texels per side, U texels that hold an anchor, G tokens per side, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fixed_sums import FixedSums

PLANES = ((0, 1), (0, 2), (2, 1))


class PlaneSampler(nn.Module):
    """Bilinear values of planes at the anchors."""

    def __init__(self, coordinates: Tensor, resolution: int):  # [N, 3] -1..1; texels per side
        super().__init__()
        count, last = len(coordinates), resolution - 1
        places = torch.stack([coordinates[:, axes] for axes in PLANES], 1).double()  # [N, 3, 2]
        places = ((places + 1) * resolution / 2 - 0.5).clamp(0, last)
        corner = places.floor().clamp(max=last - 1).long()
        share = places - corner
        shares = torch.stack([1 - share, share], -1)  # [N, 3, 2, 2] of the lower and the upper texel, along u and v
        weights = shares[..., 1, :, None] * shares[..., 0, None, :]  # [N, 3, 2, 2] v, u
        step = torch.arange(2, device=coordinates.device)
        plane = torch.arange(3, device=coordinates.device)[:, None, None] * resolution
        rows = plane + corner[..., 1, None, None] + step[:, None]
        texels = rows * resolution + corner[..., 0, None, None] + step  # [N, 3, 2, 2]
        values = torch.arange(3 * count, device=coordinates.device).repeat_interleave(4)
        self.values = FixedSums(values, texels.flatten(), weights.flatten(), (3 * count, 3 * resolution**2))

    def forward(self, planes: Tensor) -> Tensor:  # [B, 3, C, R, R] → float32 [B, N, 3, C]
        texels = planes.float().permute(0, 1, 3, 4, 2).flatten(1, 3)
        return self.values(texels).unflatten(1, (-1, 3))


class Triplane(nn.Module):
    """Texel addresses of the anchors, the patch embedding, and the decoder of tokens to planes."""

    occupied: Tensor  # [U] indices into the 3·R·R texels

    def __init__(self, coordinates: Tensor, inputs: int, width: int, channels: int, resolution: int, tokens: int):
        super().__init__()
        if resolution % tokens:
            raise ValueError(f"triplane: resolution {resolution} must be a multiple of its tokens per side {tokens}")
        self.resolution, self.tokens, self.patch = resolution, tokens, resolution // tokens
        cell = ((coordinates + 1) / 2 * resolution).long().clamp(0, resolution - 1)  # [N, 3]
        texels = torch.stack([(k * resolution + cell[:, v]) * resolution + cell[:, u] for k, (u, v) in enumerate(PLANES)])
        occupied, slots = texels.unique(return_inverse=True)
        self.register_buffer("occupied", occupied, persistent=False)
        anchors = torch.arange(len(coordinates), device=coordinates.device).repeat(len(PLANES))
        self.gather = FixedSums(slots.flatten(), anchors, 1.0, (len(occupied), len(coordinates)))
        self.embed = nn.Conv2d(inputs, width, self.patch, self.patch)
        self.position = nn.Parameter(torch.randn(3, tokens * tokens, width) * 0.02)
        self.expand = nn.Linear(width, self.patch**2 * channels)
        self.refine = nn.Sequential(
            nn.Conv2d(channels + inputs, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def scatter(self, features: Tensor, weights: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Weighted means of anchor features [B, N, C] with weights [B, N] in each texel → [B, 3, C', R, R].

        C' is C filled up with zeros to a multiple of 8, as matrix units want it.
        """
        channels = features.shape[-1]
        total = self.gather(torch.cat([features * weights[..., None], weights[..., None]], -1).float())  # [B, U, C + 1]
        mean = (total[..., :-1] / (total[..., -1:] + 1e-3)).to(dtype)
        empty = mean.new_zeros(len(mean), 3 * self.resolution**2, _padded(channels))
        planes = empty.index_copy(1, self.occupied, F.pad(mean, (0, _padded(channels) - channels)))
        return planes.unflatten(1, (3, self.resolution, self.resolution)).permute(0, 1, 4, 2, 3)

    def to_tokens(self, planes: Tensor) -> Tensor:  # [B, 3, C', R, R] → [B, 3·G·G, d]
        grid, patch = self.tokens, self.patch
        # a convolution whose steps are as long as its window is one product of matrices, and libraries are slow at the former
        weight = _with_inputs(self.embed.weight, planes.shape[2]).permute(0, 2, 3, 1).flatten(1)
        texels = planes.permute(0, 1, 3, 4, 2).unflatten(3, (grid, patch)).unflatten(2, (grid, patch))  # [B, 3, G, p, G, p, C']
        patches = texels.transpose(3, 4).reshape(len(planes), 3, grid * grid, -1)
        return (F.linear(patches.to(weight.dtype), weight, self.embed.bias) + self.position).flatten(1, 2)

    def to_planes(self, tokens: Tensor, scattered: Tensor) -> Tensor:
        """Tokens [B, 3·G·G, d] and scattered features [B, 3, C', R, R] → planes [B, 3, C, R, R]."""
        batch, grid, patch = len(tokens), self.tokens, self.patch
        fine = self.expand(tokens).view(batch * 3, grid, grid, -1, patch, patch)  # [3 B, G, G, C, patch, patch]
        fine = fine.permute(0, 1, 4, 2, 5, 3).reshape(batch * 3, self.resolution, self.resolution, -1).permute(0, 3, 1, 2)
        first, *rest = self.refine
        assert isinstance(first, nn.Conv2d)
        channels = fine.shape[1]
        own, given = first.weight[:, :channels], _with_inputs(first.weight[:, channels:], scattered.shape[2])
        # two convolutions instead of one of the joined planes, which would be copied for it
        hidden = F.conv2d(fine, own, first.bias, padding=1) + F.conv2d(scattered.flatten(0, 1).to(fine.dtype), given, padding=1)
        for layer in rest:
            hidden = layer(hidden)
        return (fine + hidden).unflatten(0, (batch, 3))


def _padded(channels: int) -> int:
    return -(-channels // 8) * 8


def _with_inputs(weight: Tensor, channels: int) -> Tensor:  # [O, I, k, k] → [O, channels, k, k]
    """A convolution's weight with zeros for input channels that are there to fill up."""
    return F.pad(weight, (0, 0, 0, 0, 0, channels - weight.shape[1]))
