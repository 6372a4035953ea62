"""Figures of pictures where both sides have a video beside their motion: PSNR and SSIM of whole frames, flicker."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch

from model import metrics
from pipelines.media import frames
from pipelines.store import InputRejected

STEP, MOST = 15, 120  # every 15th of the first 120 frames is compared; flicker looks at all of them


def picture_figures(truth: Path | None, got: Path | None) -> dict[str, float]:
    """Nothing where either video is absent. InputRejected where they differ in size."""
    if truth is None or got is None or truth == got:
        return {}
    first, second = (np.stack(list(itertools.islice(frames(path), MOST))) for path in (truth, got))
    if first.shape[1:] != second.shape[1:]:
        raise InputRejected(
            f"{got}: expected pictures of {first.shape[2]}×{first.shape[1]} as in {truth.name}, got {second.shape[2]}×{second.shape[1]}"
        )
    count = min(len(first), len(second))
    a, b = (torch.from_numpy(x[:count]).float() / 255 for x in (first, second))
    found = {"psnr": metrics.psnr(b[::STEP], a[::STEP]), "ssim": metrics.ssim(b[::STEP], a[::STEP])}
    if count >= 3:
        found["flicker"] = metrics.flicker(b)
    return {name: value for name, value in found.items() if math.isfinite(value)}
