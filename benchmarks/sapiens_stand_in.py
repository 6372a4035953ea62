"""A vision transformer of Sapiens' shape with random weights: for speed where the real TorchScript file is not at hand.

Time and memory of a dense transformer do not depend on the values of its weights. Axes: B pictures, P tokens, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Of the transformer; pictures are 1024² and so is the position embedding's grid."""

    width: int
    layers: int
    heads: int
    patch: int = 16
    side: int = 1024


SAPIENS_1B = Shape(1536, 40, 24)  # 1.14 G parameters, 9.6 TFLOP a picture in products and 4.1 in attention
TINY = Shape(48, 2, 3, patch=64)


class Layer(nn.Module):
    """Pre-norm transformer layer with a feed-forward part four times as wide."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # [B, P, d]
        batch, count, width = x.shape
        qkv = self.qkv(self.ln1(x)).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x))))


class StandIn(nn.Module):
    """Pictures [B, 3, S, S], normalised → [B, d, S / patch, S / patch]."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.grid = shape.side // shape.patch
        self.patch_embed = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.pos_embed = nn.Parameter(torch.randn(1, self.grid**2, shape.width) * 0.02)
        self.layers = nn.ModuleList(Layer(shape.width, shape.heads) for _ in range(shape.layers))
        self.ln1 = nn.LayerNorm(shape.width, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image).flatten(2).transpose(1, 2) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return self.ln1(x).transpose(1, 2).reshape(image.shape[0], -1, self.grid, self.grid)


def write_stand_in(path: Path, shape: Shape, device: str) -> float:
    """Write it as TorchScript, in bfloat16 on a GPU (half the bytes); how many parameters it has, in 1e9."""
    with torch.device(device):
        network = StandIn(shape).to(torch.bfloat16 if device == "cuda" else torch.float32)
    torch.jit.save(torch.jit.script(network.eval()), str(path))
    return sum(p.numel() for p in network.parameters()) / 1e9
