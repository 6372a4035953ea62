"""What `model.flow` is made of: ears, a causal transformer block, the way to an end pose, and the network that says where noise flows.

Axes: B batch, T frames, A audio features, w width, D numbers that flow.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import Attention, RMSNorm, SwiGLU

HEARING = ((5, 1), (5, 1), (5, 1), (3, 2), (3, 4), (3, 8), (3, 16))  # kernel and dilation of its layers
FREQUENCIES = 32
SOON = 17  # chunks to an end pose that are told apart


class Hearing(nn.Module):
    """Sound [B, before + T + look_ahead, A] → what is heard at each frame [B, T, w]: convolutions that pad nothing."""

    def __init__(self, audio_dim: int, width: int, look_ahead: int):
        super().__init__()
        self.read = nn.Linear(audio_dim, width)
        self.norms, self.mixes, ahead = nn.ModuleList(), nn.ModuleList(), look_ahead
        self.crops: list[tuple[int, int, int]] = []
        for kernel, dilation in HEARING:
            reach = (kernel - 1) * dilation
            after = min(ahead, reach // 2)
            ahead -= after
            self.crops.append((kernel, dilation, reach - after))
            self.norms.append(RMSNorm(width))
            self.mixes.append(nn.Linear(kernel * width, width))
        if ahead:
            raise ValueError(f"stage 2: look_ahead must be {look_ahead - ahead} frames or less, got {look_ahead}")
        self.last_norm = RMSNorm(width)
        self.before = sum((k - 1) * d for k, d in HEARING) - look_ahead

    def forward(self, audio: Tensor) -> Tensor:
        x = self.read(audio.to(self.read.weight.dtype))
        for (kernel, dilation, before), norm, mix in zip(self.crops, self.norms, self.mixes, strict=True):
            length = x.shape[1] - (kernel - 1) * dilation
            seen = norm(x)
            near = torch.cat([seen[:, i * dilation : i * dilation + length] for i in range(kernel)], -1)
            x = x[:, before : before + length] + F.gelu(mix(near))
        return self.last_norm(x)


class CausalBlock(nn.Module):
    """Transformer block whose queries are some tokens and whose keys are theirs and older ones."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention = RMSNorm(width), Attention(width, heads)
        self.feed_norm, self.feed = RMSNorm(width), SwiGLU(width)

    def forward(self, x: Tensor, seen: Tensor, times: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm(x), self.norm(seen), times, mask)
        return x + self.feed(self.feed_norm(x))


class Ending(nn.Module):
    """How far it is still to the end pose, and for how long: gaps [B, K, C] and chunks left [B, K] → [B, K, w]; below 0: nothing."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.way = nn.Linear(2 * channels, width)
        self.when = nn.Embedding(SOON, width)

    def forward(self, gap: Tensor, left: Tensor) -> Tensor:
        pace = gap / (1 + left.clamp(min=0)[..., None]).to(gap.dtype)
        told = self.way(torch.cat([gap, pace], -1)) + self.when(left.clamp(0, SOON - 1))
        return told * (left >= 0)[..., None]


class Flow(nn.Module):
    """The flow's speed at points [..., D] and times [..., 1], given a chunk's context [..., w]."""

    def __init__(self, size: int, context: int, width: int, layers: int):
        super().__init__()
        self.read, self.context = nn.Linear(size, width), nn.Linear(context, width)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"turn": nn.Linear(width, 2 * width), "up": nn.Linear(width, 2 * width), "down": nn.Linear(2 * width, width)})
            for _ in range(layers)
        )
        self.out = nn.Linear(width, size)
        for layer in [self.out, *(block["turn"] for block in self.blocks)]:  # type: ignore[index]
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        dtype, width = self.read.weight.dtype, (self.read.out_features,)
        waves = time * 100 * torch.exp(-math.log(1000) * torch.arange(FREQUENCIES, device=x.device) / FREQUENCIES)
        given = F.silu(self.time(torch.cat([waves.cos(), waves.sin()], -1).to(dtype)) + self.context(context.to(dtype)))
        x = self.read(x.to(dtype))
        for block in self.blocks:
            scale, shift = block["turn"](given).chunk(2, -1)  # type: ignore[index]
            y = F.layer_norm(x, width) * (1 + scale) + shift
            x = x + block["down"](F.silu(block["up"](y)))  # type: ignore[index]
        return self.out(F.layer_norm(x, width))
