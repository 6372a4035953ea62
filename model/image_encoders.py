"""Picture → image tokens and a pixel-aligned feature map: a compact ViT trained with stage 1, or frozen Sapiens.

Pictures are square [B, 3, S, S], 0..1, one person on a white background.
Axes: B batch, S picture side, P tokens, d width, C map channels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import ImageEncoderConfig
from model.geometry import full_precision
from model.layers import Block, ConvBlock, RMSNorm
from model.types import Camera

SAPIENS_SIDE = 1024
SAPIENS_MEAN = (123.5, 116.5, 103.5)  # of RGB 0..255, as in Sapiens-Lite's feature extraction
SAPIENS_STD = (58.5, 57.0, 57.5)


class ImageFeatures(NamedTuple):
    """What an encoder sees in a picture."""

    tokens: Tensor  # [B, P, d]
    map: Tensor  # [B, C, S/4, S/4]


def make_image_encoder(
    config: ImageEncoderConfig, width: int, heads: int, channels: int
) -> ViTEncoder | SapiensEncoder:
    """The encoder that the configuration names; `channels` is the feature map's C."""
    if config.kind == "vit":
        return ViTEncoder(config, width, heads, channels)
    if config.path is None:
        raise ValueError("image encoder 'sapiens' needs `path`: its TorchScript file, sapiens_1b_..._torchscript.pt2")
    return SapiensEncoder(config.path, config.image_size, width, channels)


def square_picture(image: Tensor, camera: Camera, size: int) -> tuple[Tensor, Camera]:
    """Pad pictures [B, 3, H, W] with white to a square, resample to `size`, and move the cameras along."""
    height, width = image.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    padded = F.pad(image, (left, side - width - left, top, side - height - top), value=1.0)
    if side != size:
        padded = F.interpolate(padded, size=(size, size), mode="bilinear", antialias=side > size, align_corners=False)
    camera = camera.resized(width, height)
    shifted = camera.intrinsics.clone()
    shifted[..., 0, 2] += left
    shifted[..., 1, 2] += top
    return padded, Camera(camera.w2c, shifted, torch.full_like(camera.size, side)).resized(size, size)


class PixelMap(nn.Module):
    """Joins coarse tokens with finer convolution features, level by level, to the feature map."""

    def __init__(self, coarse: int, finer: list[int], channels: int):
        super().__init__()
        widths = [max(channels, c) for c in finer]
        self.joins = nn.ModuleList(
            ConvBlock(before + skip, after)
            for before, skip, after in zip([coarse, *widths], finer, widths, strict=False)
        )
        self.out = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, coarse: Tensor, finer: list[Tensor]) -> Tensor:  # [B, d, g, g], maps coarse → fine
        x = coarse
        for join, skip in zip(self.joins, finer, strict=True):
            with full_precision(x):  # and with channels last, for which there is a fast kernel
                last = x.contiguous(memory_format=torch.channels_last)
                x = F.interpolate(last, size=skip.shape[-2:], mode="bilinear", align_corners=False).contiguous()
            x = join(torch.cat([x, skip.to(x.dtype)], 1))
        return self.out(x)


class ViTEncoder(nn.Module):
    """Convolution stem down to one token per `patch` pixels, a transformer, and a decoder up to the map at S/4."""

    def __init__(self, config: ImageEncoderConfig, width: int, heads: int, channels: int):
        super().__init__()
        levels = int(math.log2(config.patch))
        if 2**levels != config.patch or levels < 2 or config.image_size % config.patch:
            raise ValueError(
                f"image encoder: patch must be a power of two ≥ 4 that divides image_size {config.image_size}, "
                f"got {config.patch}"
            )
        self.image_size = config.image_size
        grid = config.image_size // config.patch
        stem = [width // 2 ** (levels - 1 - k) for k in range(levels)]
        self.stem = nn.ModuleList(ConvBlock(a, b, stride=2) for a, b in zip([5, *stem], stem, strict=False))
        self.position = nn.Parameter(torch.randn(1, grid * grid, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(config.depth))
        self.norm = RMSNorm(width)
        self.map = PixelMap(width, stem[-2:0:-1] or [stem[-1]], channels)

    def forward(self, image: Tensor) -> ImageFeatures:
        _expect_side(image, self.image_size)
        x = torch.cat([image * 2 - 1, _pixel_coordinates(image)], 1).to(self.position.dtype)
        maps = []
        for layer in self.stem:
            x = layer(x)
            maps.append(x)
        tokens = x.flatten(2).mT + self.position
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        coarse = tokens.mT.unflatten(-1, x.shape[-2:])
        return ImageFeatures(tokens, self.map(coarse, maps[-2:0:-1] or [maps[-1]]))


class SapiensEncoder(nn.Module):
    """Frozen Sapiens TorchScript: 1024² → [B, 1536, 64, 64]; its tokens are projected, a light stem adds detail.

    The frozen weights (1.2 G parameters) are no part of this module's state and so of no checkpoint.
    """

    mean: Tensor  # [3, 1, 1] of RGB 0..1
    std: Tensor  # [3, 1, 1]

    def __init__(self, path: str | Path, image_size: int, width: int, channels: int):
        super().__init__()
        self.image_size = image_size
        self._frozen = (load_torchscript(path),)  # in a tuple: neither trained, saved nor cast with this module
        inputs = _sapiens_channels(self._frozen[0])
        self.project = nn.Linear(inputs, width)
        self.norm = RMSNorm(width)
        self.stem = nn.Sequential(ConvBlock(3, 32, stride=2), ConvBlock(32, 64, stride=2))
        self.map = PixelMap(width, [64], channels)
        self.register_buffer("mean", torch.tensor(SAPIENS_MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(SAPIENS_STD).view(3, 1, 1) / 255, persistent=False)

    @torch.no_grad()
    def frozen_features(self, image: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] 0..1 → float32 [B, 1536, 64, 64]; on a GPU worked out in bfloat16, ten times as fast as float32."""
        dtype = torch.bfloat16 if image.is_cuda else torch.float32
        network = self._frozen[0].to(image.device, dtype)
        # without the executor's optimisation: its fuser would compile kernels for every layer
        with torch.autocast(image.device.type, enabled=False), torch.jit.optimized_execution(False):
            x = image.float()
            if x.shape[-1] != SAPIENS_SIDE:
                x = F.interpolate(x, size=(SAPIENS_SIDE, SAPIENS_SIDE), mode="bilinear", align_corners=False)
            x = ((x - self.mean.float()) / self.std.float()).to(dtype)
            # with channels last the tokens that the patch convolution makes are contiguous, and stay so through all layers
            out = network(x.contiguous(memory_format=torch.channels_last))
        return _feature_grid(out).float()

    def forward(self, image: Tensor) -> ImageFeatures:
        _expect_side(image, self.image_size)
        grid = self.frozen_features(image)
        dtype = self.project.weight.dtype
        tokens = self.norm(self.project(grid.flatten(2).mT.to(dtype)))
        detail = self.stem((image * 2 - 1).to(dtype))
        return ImageFeatures(tokens, self.map(tokens.mT.unflatten(-1, grid.shape[-2:]), [detail]))


def load_torchscript(path: str | Path) -> torch.jit.ScriptModule:
    """Read a TorchScript archive for inference. ValueError says which file is missing or unreadable."""
    if not Path(path).is_file():
        raise ValueError(f"image encoder: expected a TorchScript file, got {path} which does not exist")
    try:
        module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise ValueError(f"image encoder: {path} is no TorchScript archive: {str(error).splitlines()[0]}") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _sapiens_channels(module: torch.jit.ScriptModule) -> int:
    """Channels of the output: read off the position embedding, else found by running one blank picture."""
    for name, tensor in module.state_dict().items():
        if name.endswith("pos_embed"):
            return tensor.shape[-1]
    with torch.no_grad():
        return _feature_grid(module(torch.zeros(1, 3, SAPIENS_SIDE, SAPIENS_SIDE))).shape[1]


def _feature_grid(output: Tensor | tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    grid = output if isinstance(output, Tensor) else output[-1]
    if grid.dim() != 4 or grid.shape[-1] != grid.shape[-2]:
        raise ValueError(f"image encoder: TorchScript must give a square map [B, C, h, h], got {tuple(grid.shape)}")
    return grid


def _pixel_coordinates(image: Tensor) -> Tensor:  # [B, 2, S, S] in -1..1 at pixel centres
    side = image.shape[-1]
    line = (torch.arange(side, device=image.device, dtype=image.dtype) + 0.5) / side * 2 - 1
    return torch.stack([line.expand(side, side), line[:, None].expand(side, side)]).expand(len(image), -1, -1, -1)


def _expect_side(image: Tensor, side: int) -> None:
    if image.dim() != 4 or tuple(image.shape[1:]) != (3, side, side):
        raise ValueError(
            f"image encoder: expected pictures [B, 3, {side}, {side}], got {tuple(image.shape)}; use square_picture"
        )
