"""Posed Gaussians → pictures on white: what speak, evaluate and baseline share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.rasterize import rasterize
from model.stage1 import Encoding
from model.stage2 import FrameTokens, Identity, Stage2
from model.types import Camera, GaussianCloud

if TYPE_CHECKING:
    from pipelines.media import Picture

CHUNK = 8  # frames posed and rendered at once


def draw(cloud_at: Callable[[Tensor], GaussianCloud], camera: Camera, frames: int | Sequence[int]) -> Iterator[Picture]:
    """Pictures uint8 [H, W, 3] of the clouds that `cloud_at(index [I])` gives in the camera's frame, `CHUNK` at a time."""
    wanted = list(range(frames)) if isinstance(frames, int) else list(frames)
    for start in range(0, len(wanted), CHUNK):
        index = torch.tensor(wanted[start : start + CHUNK], device=camera.w2c.device)
        with torch.no_grad():
            pictures = paint(cloud_at(index), camera)
        yield from (pictures.clamp(0, 1) * 255).round().byte().cpu().numpy()


def paint(cloud: GaussianCloud, camera: Camera) -> Tensor:
    """Gaussians [B, N] in the camera's frame, seen by one camera, over white: [B, H, W, 3]."""
    views = camera.at_origin().map(lambda t: t.expand(len(cloud.means), 1, *t.shape))
    white = torch.ones(3, device=cloud.means.device)
    return rasterize(cloud, views, white, antialiased=True, depth=False).color[:, 0]


def generated(
    stage2: Stage2, encoding: Encoding, tokens: FrameTokens, identity: Identity | None = None
) -> Callable[[Tensor], GaussianCloud]:
    """`cloud_at` for generated frames [1, T] of one person [1]; the identity is worked out once, or given."""
    with torch.no_grad():
        features, changes = identity or stage2.identity(encoding)

    def cloud_at(index: Tensor) -> GaussianCloud:
        count = len(index)
        identity = Identity(features.expand(count, *features.shape[1:]), changes)
        return stage2.render_cloud(encoding, tokens.map(lambda t: t.expand(count, *t.shape[1:])), index, identity)

    return cloud_at


def sheet(pictures: Sequence[Picture], columns: int = 6, height: int = 256) -> Picture:
    """`columns` of the pictures, evenly spaced, side by side."""
    import cv2

    chosen = [pictures[i] for i in np.linspace(0, len(pictures) - 1, min(columns, len(pictures))).round().astype(int)]
    resize = lambda p: cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height), interpolation=cv2.INTER_AREA)  # noqa: E731
    return np.concatenate([resize(p) for p in chosen], 1)
