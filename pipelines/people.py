"""Decoded samples of the shards: `PersonFrames`, kept in memory where the corpus is small, streamed where it is not."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import webdataset
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from model.types import Camera, SmplxParams
from pipelines.clip_reading import PackedMasks, clip_pictures
from pipelines.crops import crop, crop_camera, cut_square, person_box, square_round
from pipelines.formats import load_fit
from pipelines.progress import progress
from pipelines.shard_folder import ShardFolder
from pipelines.view_sets import parse_cameras, parse_params

FRONT = 60.0  # degrees: pictures from further round are not shown to the encoder
STREAM_EPOCH = 1 << 20
DECODING_THREADS = os.cpu_count() or 1
CACHED_SHARE = 0.15  # of a process's part of the memory that one split of one kind may fill: there are six


@dataclass(frozen=True)
class PersonFrames:
    """Cropped pictures of one person: the views of a scan or the frames of a talk (one camera)."""

    id: str
    group: str  # speaker or subject
    images: Tensor  # [F, S, S, 4] uint8, colours on white, then alpha
    cameras: Camera  # [F] of the crops, S × S
    params: SmplxParams  # [F] world
    confidence: Tensor  # [F] 0..1 of the parameters
    inputs: Tensor  # [I] indices of pictures fit for the encoder
    features: Tensor | None  # [F, A] audio features of talks
    points: Tensor | None  # [P, 3] world, surface of scans

    @property
    def bytes(self) -> int:
        return self.images.numel()


def decode(sample: dict[str, bytes], size: int) -> PersonFrames:
    """Any sample of any shard → cropped pictures of `size` pixels a side."""
    about = json.loads(sample["sample.json"])
    return _talk(sample, about, size) if "clip.mp4" in sample else _views(sample, about, size)


def _views(sample: dict[str, bytes], about: dict[str, str], size: int) -> PersonFrames:
    views, params = parse_cameras(sample["cameras.json"]), parse_params(sample["smplx.npz"])
    images, squares = [], []
    for view in views:
        picture = np.asarray(Image.open(io.BytesIO(sample[view.file])).convert("RGBA"))
        squares.append(square_round(person_box(picture[..., 3]), picture.shape[1], picture.shape[0]))
        images.append(crop(picture, squares[-1], size))
    cameras = crop_camera(Camera.cat([view.camera[None] for view in views]), torch.tensor(squares), size)
    count = len(views)
    azimuth = torch.tensor([abs(view.azimuth) for view in views])
    # a set without any front view still has its most frontal one
    inputs = torch.nonzero(azimuth <= max(FRONT, float(azimuth.min())))[:, 0]
    every = params if params.transl.dim() == 2 else params.map(lambda x: x.expand(count, *x.shape))
    return PersonFrames(
        about["id"], about["group"], torch.stack(images), cameras, every, torch.ones(count), inputs, None, _points(sample)
    )


def _points(sample: dict[str, bytes]) -> Tensor | None:
    if "points.npz" not in sample:
        return None
    with np.load(io.BytesIO(sample["points.npz"]), allow_pickle=False) as npz:
        return torch.from_numpy(npz["points"]).float()


def _talk(sample: dict[str, bytes], about: dict[str, str], size: int) -> PersonFrames:
    fit = load_fit(io.BytesIO(sample["fit.npz"]))
    masks = PackedMasks(sample["mask.npz"])
    with np.load(io.BytesIO(sample["features.npz"]), allow_pickle=False) as npz:
        features = torch.from_numpy(npz["features"]).float()
    square = square_round(person_box(masks.union), masks.width, masks.height)
    frames = min(len(masks), len(fit.confidence), len(features))
    images, read = torch.empty(frames, size, size, 4, dtype=torch.uint8), 0
    for index, picture in zip(range(frames), clip_pictures(sample["clip.mp4"])):
        images[index] = cut_square(cut_out(picture, masks[index]), square, size)
        read = index + 1
    frames = read
    cameras = crop_camera(fit.camera, square, size)
    return PersonFrames(
        about["id"], about["group"], images[:frames], cameras.map(lambda x: x.expand(frames, *x.shape)),
        fit.params[:frames], fit.confidence[:frames], torch.arange(frames), features[:frames], None,
    )  # fmt: skip


def cut_out(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] and a mask [H, W] of 0 and 255 → RGBA [H, W, 4], white and empty outside the mask."""
    out = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    np.copyto(out.view("<u4")[..., 0], np.uint32(0x00FFFFFF), where=mask == 0)
    return out


def iterate_people(source: str | Path, split: str, size: int) -> Iterator[PersonFrames]:
    """Each sample of a split once; shards are shared out between the processes and workers that ask."""
    folder = ShardFolder(source)
    for name in webdataset.split_by_worker(webdataset.split_by_node(iter(folder.names(split)))):
        for sample in folder.samples(name):
            yield decode(sample, size)


class People:
    """Where training draws its samples from: `pick(rng)` gives a decoded sample.

    Read once into memory where the decoded pictures stay under `limit_mb` (none: a share of the memory), `shared` out by
    shard between the processes of a training run if that is asked for; otherwise an endless resampled stream of shards
    decoded by `workers` processes, whose order follows from `start`'s words.
    """

    def __init__(self, source: str | Path, split: str, size: int, limit_mb: float | None = None, workers: int = 4, shared: bool = False):
        self.folder = ShardFolder(source)
        self.shards = self.folder.names(split)
        self.size, self.workers, self.seed = size, workers, 0
        self.cache: list[PersonFrames] | None = []
        self._stream: Iterator[PersonFrames] | None = None
        limit = _memory_share() if limit_mb is None else limit_mb * 1e6
        used = 0
        kept = _own_part(self.shards) if shared else self.shards
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            for name in progress(kept, f"reading {self.folder.place.rsplit('/', 1)[-1]}", len(kept)):
                for person in pool.map(partial(decode, size=size), self.folder.samples(name)):
                    used += person.bytes
                    if used > limit:
                        self.cache = None
                        return
                    self.cache.append(person)

    def __bool__(self) -> bool:
        return bool(self.shards) and self.cache != []

    def start(self, *words: int) -> None:
        """Begin a new stream that depends on these numbers: seed, process, step at which a run goes on."""
        self.seed, self._stream = int(np.random.default_rng(words).integers(1 << 31)), None

    def keep(self, fits: object) -> People:
        """Drop cached samples for which `fits(person)` is false; a stream skips them when it meets them."""
        assert callable(fits)
        self.fits = fits
        if self.cache is not None:
            self.cache = [p for p in self.cache if fits(p)]
        return self

    def pick(self, rng: np.random.Generator) -> PersonFrames:
        if self.cache is not None:
            return self.cache[int(rng.integers(len(self.cache)))]
        self._stream = self._stream or self._open()
        fits = getattr(self, "fits", lambda person: True)
        return next(person for person in self._stream if fits(person))

    def _open(self) -> Iterator[PersonFrames]:
        shards = webdataset.ResampledShards(self.shards, seed=self.seed, worker_seed=partial(_worker_seed, self.seed), deterministic=True)
        pipeline = webdataset.DataPipeline(
            shards, partial(_opened, self.folder), webdataset.map(partial(decode, size=self.size)),
            webdataset.shuffle(32, initial=8, rng=random.Random(self.seed)),
        ).with_epoch(STREAM_EPOCH)  # fmt: skip
        loader = webdataset.WebLoader(pipeline, batch_size=None, num_workers=self.workers)
        while True:
            yield from loader


def _own_part(shards: list[str]) -> list[str]:
    """Every n-th shard of n processes, so that each process has its own; all of them where there are fewer than processes."""
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    return shards[rank::world] if len(shards) >= world else shards


def _memory_share() -> float:
    """Bytes; every process of a machine keeps its own."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return CACHED_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / processes


def _opened(folder: ShardFolder, shards: Iterable[dict[str, str]]) -> Iterator[dict[str, bytes]]:
    for shard in shards:
        yield from folder.samples(shard["url"])


def _worker_seed(seed: int) -> int:
    worker = get_worker_info()
    return seed * 1009 + (worker.id if worker else 0)
