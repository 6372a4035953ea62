"""Windows of talks for a training loop of one's own: pictures, masks, fits and audio features of T consecutive frames.

    windows = ClipWindows("s3://bucket/talks", "train", frames=64, size=256, seed=0)
    for batch in DataLoader(windows, 8, num_workers=2, collate_fn=collate_windows):
        batch.frames        # [8, 64, 256, 256, 3] uint8

Shards may lie in a folder or at any fsspec URL. Clips are shared out between processes (`rank` of `world`) and data
loader workers, each is decoded once an epoch, and the order follows from (seed, epoch, rank, worker). The project's own
stages draw from pipelines/datasets.py, which crops round the person and lays it on white.
Axes: B windows, T frames, S pixels a side, A audio features.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from model.types import Camera, SmplxParams
from pipelines.clip_reading import PackedMasks, clip_pictures
from pipelines.formats import load_fit
from pipelines.shard_folder import ShardFolder


@dataclass(frozen=True)
class Window:
    """T frames of one clip, or with a leading axis B of several (`collate_windows`)."""

    id: tuple[str, ...]  # talk/clip, one or B
    group: tuple[str, ...]  # speaker
    start: Tensor  # [] int64, frame of the clip
    fps: Tensor  # [] frames per second
    frames: Tensor  # [T, S, S, 3] uint8 RGB, the clip's square
    masks: Tensor  # [T, S, S] uint8, share of the pixel that the person covers, 255 all
    params: SmplxParams  # [T] world
    confidence: Tensor  # [T]
    camera: Camera  # [] at S × S
    features: Tensor  # [T, A] at the frames' centres


TENSORS = ("start", "fps", "frames", "masks", "confidence", "features")


def collate_windows(windows: list[Window]) -> Window:
    """Stack windows along a new first axis B."""
    stacked = {name: torch.stack([getattr(w, name) for w in windows]) for name in TENSORS}
    params = SmplxParams.cat([w.params.map(lambda x: x[None]) for w in windows])
    camera = Camera.cat([w.camera.map(lambda x: x[None]) for w in windows])
    ids, groups = (tuple(x for w in windows for x in getattr(w, name)) for name in ("id", "group"))
    return Window(id=ids, group=groups, params=params, camera=camera, **stacked)


class ClipWindows(IterableDataset[Window]):
    """Every window of a split once an epoch.

    Windows of `frames` frames begin every `stride` frames (none: they follow each other), and one more ends with the
    clip, so that every frame of every clip of `frames` or more is seen; shorter clips are named in `too_short`.
    `seed` none: in the shards' order; else shards in random order, and windows within `mixed` clips.
    """

    def __init__(
        self, source: str | Path, split: str, frames: int, stride: int | None = None, size: int = 256,
        seed: int | None = None, mixed: int = 4, rank: int = 0, world: int = 1,
    ):  # fmt: skip
        if frames < 1 or (stride is not None and stride < 1) or size < 1 or not 0 <= rank < world:
            got = f"{frames}, {stride}, {size}, {rank} of {world}"
            raise ValueError(f"windows: expected frames, stride and size of 1 or more and rank below world, got {got}")
        self.folder = ShardFolder(source)
        manifest = self.folder.manifest()
        if manifest is None:
            raise ValueError(f"windows: expected shards with a manifest at {self.folder.place}, found none; write them with talk_shards")
        clips = {id: item["frames"] for id, item in manifest["items"].items() if item["split"] == split and "frames" in item}
        self.too_short = sorted(id for id, count in clips.items() if count < frames)
        self.count = sum(len(starts(count, frames, stride)) for count in clips.values())
        if not self.count:
            raise ValueError(f"windows: expected a clip of {frames} frames or more in split {split!r} of {self.folder.place}, got none")
        if self.too_short:
            warnings.warn(f"windows: {len(self.too_short)} of {len(clips)} clips are shorter than {frames} frames", stacklevel=2)
        self.names = manifest["shards"][split]
        self.frames, self.stride, self.size = frames, stride, size
        self.seed, self.mixed, self.rank, self.world = seed, mixed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another order; before the data loader is asked for its iterator."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Windows of all processes together."""
        return self.count

    def __iter__(self) -> Iterator[Window]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.rank * workers + own, self.world * workers
        rng = None if self.seed is None else np.random.default_rng([self.seed, self.epoch, part])
        waiting: list[Window] = []
        for index, sample in enumerate(self._samples(part, parts)):
            cut = self._windows(sample)
            if rng is None:
                yield from cut
                continue
            waiting.extend(cut)
            if (index + 1) % self.mixed == 0:
                rng.shuffle(waiting)  # type: ignore[arg-type]
                yield from waiting
                waiting = []
        if rng is not None:
            rng.shuffle(waiting)  # type: ignore[arg-type]
        yield from waiting

    def _samples(self, part: int, parts: int) -> Iterator[dict[str, bytes]]:
        """This part's share: whole shards where there are enough for all, else every so-many-th clip of each."""
        names = list(self.names)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(names)
        whole = len(names) % parts == 0 or len(names) >= 8 * parts
        index = 0
        for name in names[part::parts] if whole else names:
            for sample in self.folder.samples(name):
                if whole or index % parts == part:
                    yield sample
                index += 1

    def _windows(self, sample: dict[str, bytes]) -> list[Window]:
        about = json.loads(sample["sample.json"])
        fit = load_fit(io.BytesIO(sample["fit.npz"]))
        with np.load(io.BytesIO(sample["features.npz"]), allow_pickle=False) as npz:
            features = torch.from_numpy(npz["features"]).float()
        masks = PackedMasks(sample["mask.npz"])
        count = min(len(masks), len(fit.confidence), len(features))
        begins = starts(count, self.frames, self.stride)
        if not begins:
            return []
        frames, covered = read_pictures(sample["clip.mp4"], masks, count, self.size)
        if len(frames) < count:
            raise ValueError(f"{about['id']}: expected {count} frames in clip.mp4, got {len(frames)}; write the shards again")
        camera = fit.camera.resized(self.size, self.size)
        spans = [(begin, slice(begin, begin + self.frames)) for begin in begins]
        return [
            Window(
                (about["id"],), (about["group"],), torch.tensor(begin), torch.tensor(float(Fraction(fit.fps))),
                frames[span].clone(), covered[span].clone(), fit.params[span], fit.confidence[span], camera, features[span],
            )
            for begin, span in spans
        ]  # fmt: skip


def starts(count: int, frames: int, stride: int | None) -> list[int]:
    """First frames of the windows of a clip of `count` frames; the last window ends with the clip."""
    if count < frames:
        return []
    begins = list(range(0, count - frames + 1, stride or frames))
    return begins if begins[-1] == count - frames else [*begins, count - frames]


def read_pictures(mp4: bytes, masks: PackedMasks, count: int, size: int) -> tuple[Tensor, Tensor]:
    """The first `count` pictures [T, S, S, 3] and masks [T, S, S], uint8, resized by area."""
    pictures, covered = torch.empty(count, size, size, 3, dtype=torch.uint8), torch.empty(count, size, size, dtype=torch.uint8)
    into, over, read = pictures.numpy(), covered.numpy(), 0
    how = cv2.INTER_AREA if size <= masks.width else cv2.INTER_LINEAR
    for index, picture in zip(range(count), clip_pictures(mp4)):
        cv2.resize(picture, (size, size), dst=into[index], interpolation=how)
        cv2.resize(masks[index], (size, size), dst=over[index], interpolation=how)
        read = index + 1
    return pictures[:read], covered[:read]
