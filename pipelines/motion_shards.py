"""Motion with the audio features it goes with and no pictures: the small kind of shard that stage 2 learns motion from.

`shards/motions`: one sample a talk {motion.npz, features.npz, sample.json}; `motion.npz` holds `pose` [T, 165],
`expression` [T, 10] and `transl` [T, 3] as int16 in units of `STEP` (0.1 mrad, 0.1 mm), `betas` [10] float32 and
`confidence` [T] uint8 (255: certain). Talk shards are read the same way, by their fits. Axes: T frames, A audio features.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.types import SmplxParams
from pipelines.formats import load_fit
from pipelines.shard_folder import ShardFolder

STEP = 2.0**-13  # radians, metres or units of a coefficient; int16 then reaches ±4
THREADS = 8
UPRIGHT = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # world, y up → a camera's frame, y down


@dataclass(frozen=True)
class MotionClip:
    """One stretch of somebody's motion and sound."""

    id: str
    group: str  # speaker
    params: SmplxParams  # [T] world
    confidence: Tensor  # [T] 0..1
    features: Tensor  # [T, A]
    fps: Fraction
    w2c: Tensor = UPRIGHT  # [4, 4] of the camera that filmed it; motion without pictures: one that looks straight at it


def motion_npz(params: SmplxParams, confidence: Tensor | None = None) -> bytes:
    """Motion [T] of one person as the member `motion.npz`."""
    whole = lambda x: np.round(x.numpy() / STEP).clip(-32767, 32767).astype(np.int16)  # noqa: E731
    certain = torch.ones(len(params.transl)) if confidence is None else confidence
    stream = io.BytesIO()
    np.savez_compressed(
        stream, pose=whole(params.full_pose.flatten(1)), expression=whole(params.expression), transl=whole(params.transl),
        betas=params.betas[0].numpy().astype(np.float32), confidence=(certain.numpy() * 255).round().astype(np.uint8),
    )  # fmt: skip
    return stream.getvalue()


def features_npz(features: np.ndarray, fps: Fraction, encoder: str) -> bytes:
    """Audio features [T, A] as the member `features.npz`, in half precision."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream, features=features.astype(np.float16), fps=np.array([fps.numerator, fps.denominator]),
        encoder=np.array(encoder), dim=np.array(features.shape[1]),
    )  # fmt: skip
    return stream.getvalue()


def read_motion_clip(sample: dict[str, bytes]) -> MotionClip:
    """Of a sample of the motion or the talk shards; pictures are not decoded."""
    about = json.loads(sample["sample.json"])
    with np.load(io.BytesIO(sample["features.npz"]), allow_pickle=False) as npz:
        features, fps = torch.from_numpy(npz["features"]).float(), Fraction(*npz["fps"].tolist())
    if "motion.npz" in sample:
        (params, confidence), w2c = _read_motion(sample["motion.npz"]), UPRIGHT
    else:
        fit = load_fit(io.BytesIO(sample["fit.npz"]))
        params, confidence, w2c = fit.params, fit.confidence, fit.camera.w2c
    count = min(len(features), len(confidence))
    return MotionClip(about["id"], about["group"], params[:count], confidence[:count], features[:count], fps, w2c)


def _read_motion(npz: bytes) -> tuple[SmplxParams, Tensor]:
    with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
        pose, expression, transl = (torch.from_numpy(arrays[n]).float() * STEP for n in ("pose", "expression", "transl"))
        betas = torch.from_numpy(arrays["betas"]).expand(len(pose), -1)
        confidence = torch.from_numpy(arrays["confidence"]).float() / 255
    return SmplxParams.from_pose(pose.unflatten(1, (-1, 3)), betas, expression, transl), confidence


def motion_clips(source: str | Path, split: str) -> Iterator[MotionClip]:
    """Every sample of a split; nothing where there are no such shards."""
    folder = ShardFolder(source)
    if folder.manifest() is None:
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for shard in folder.names(split):
            yield from pool.map(read_motion_clip, folder.samples(shard))
