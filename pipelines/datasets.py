"""Training batches drawn from shards, the same for the same (seed, step, process): a resumed run goes on where it was.

`ScanViews` (stage 1): one input picture and several target pictures of a person, from scans, HuGe100K and frames of talks.
`TalkWindows` (stage 2): T frames of a talk with audio, a reference picture and a few frames to render; motion without
pictures is drawn by pipelines/motion_corpus.py.
Axes: B batch, C target pictures, T frames of a window, P rendered frames, S input side, R rendered side, A audio features.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from model.motion_spline import SEED, TAIL
from model.stage2 import audio_window
from model.types import Camera, SmplxParams, TensorGroup
from pipelines.crops import shrink
from pipelines.people import People, PersonFrames
from pipelines.view_table import Views, ViewTable, surface_of, views_of

FROM_REFERENCE = 0.3  # share of windows that begin with the reference picture
INPUTS = 2  # pictures of a stage-1 sample that the network may be given, from the first on
VALIDATION_STEP = 1 << 40  # stands for the step in the seed of validation batches


@dataclass(frozen=True)
class ViewBatch:
    """Stage 1: an input picture a person and target pictures, each with its camera and pose."""

    images: Tensor  # [B, I, 3, S, S] 0..1 on white: the input picture, and more that may be given beside it
    input_cameras: Camera  # [B, I]
    views: Tensor  # [B, C, R, R, 3] 0..1 on white; the first I are the inputs
    alpha: Tensor  # [B, C, R, R, 1]
    cameras: Camera  # [B, C]
    view_params: SmplxParams  # [B, C] world, of each picture
    confidence: Tensor  # [B] of the first picture's parameters
    points: Tensor  # [B, SURFACE, 3] world, on the scanned surface in the first picture's pose; NaN where there is no scan


@dataclass(frozen=True)
class DrawnViews:
    """A `ViewBatch` before it is on its device."""

    views: Views  # [B, C]
    points: Tensor  # [B, SURFACE, 3]
    image_size: int
    render_size: int

    def to(self, device: Any) -> ViewBatch:
        views, points = self.views.to(device, non_blocking=True), self.points.to(device, non_blocking=True)
        inputs, cameras = views.pictures[:, :INPUTS, ..., :3], views.cameras
        images = _shrunk(inputs.flatten(0, 1), self.image_size).movedim(-1, 1).unflatten(0, inputs.shape[:2]).contiguous()
        shown = _shrunk(views.pictures.flatten(0, 1), self.render_size).unflatten(0, views.pictures.shape[:2])
        return ViewBatch(
            images, cameras[:, :INPUTS].resized(self.image_size, self.image_size),
            shown[..., :3].contiguous(), shown[..., 3:].contiguous(), cameras.resized(self.render_size, self.render_size),
            views.params, views.confidence[:, 0], points,
        )  # fmt: skip


@dataclass(frozen=True)
class ViewRows:
    """`DrawnViews` as rows of a table."""

    table: ViewTable
    rows: Tensor  # [B, C]
    image_size: int
    render_size: int

    def to(self, device: Any) -> ViewBatch:
        return DrawnViews(*self.table.take(self.rows, device), self.image_size, self.render_size).to(device)


@dataclass(frozen=True)
class WindowBatch:
    """Stage 2: a reference picture and a window of the same talk. One camera a talk, in all frames."""

    image: Tensor  # [B, 3, S, S] the reference picture, 0..1 on white
    camera: Camera  # [B]
    reference: SmplxParams  # [B] world, of the reference picture
    params: SmplxParams  # [B, SEED + T + TAIL] world; frames before and after the clip are its ends
    confidence: Tensor  # [B, T]
    audio: Tensor  # [B, before + T + after, A] the ends repeated beyond the clip
    frames: Tensor  # [B, P] int64, frames of the window that are shown below
    frame_images: Tensor  # [B, P, 3, S, S]
    views: Tensor  # [B, P, R, R, 3]
    alpha: Tensor  # [B, P, R, R, 1]
    view_camera: Camera  # [B] at R × R

    def to(self, device: Any) -> WindowBatch:
        return WindowBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)})


def collate(batches: list[WindowBatch]) -> WindowBatch:
    """Join batches along B."""

    def join(values: list[Any]) -> Any:
        return type(values[0]).cat(values) if isinstance(values[0], TensorGroup) else torch.cat(values)

    names = [f.name for f in dataclasses.fields(batches[0])]
    return type(batches[0])(**{n: join([getattr(b, n) for b in batches]) for n in names})


@dataclass(frozen=True)
class Draw:
    """Who draws: the run's seed, this process of how many, and samples a process and step."""

    seed: int
    batch: int
    rank: int = 0
    start: int = 0  # first step
    end: int | None = None  # one past the last step; none: endless

    @property
    def words(self) -> tuple[int, int, int]:
        return self.seed, self.rank, self.start

    def steps(self) -> Iterator[int]:
        return iter(itertools.count(self.start) if self.end is None else range(self.start, self.end))

    def rng(self, step: int, sample: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, step, self.rank, sample])


class ScanViews:
    """Batches of stage 1. `sources` are drawn from in equal shares; empty ones are left out."""

    def __init__(self, sources: list[People], draw: Draw, views: int, image_size: int, render_size: int):
        self.sources = [s for s in sources if s]
        if not self.sources:
            raise ValueError("stage 1: expected at least one training sample in scan, idol or talk shards, got none")
        self.draw, self.views, self.sizes = draw, views, (image_size, render_size)
        in_memory = all(source.cache is not None for source in self.sources)
        self.table = ViewTable(self.sources) if in_memory and torch.cuda.is_available() else None

    def __iter__(self) -> Iterator[DrawnViews | ViewRows]:
        for source in self.sources:
            source.start(*self.draw.words)
        yield from map(self.at, self.draw.steps())

    def at(self, step: int) -> DrawnViews | ViewRows:
        samples = [self._sample(self.draw.rng(step, i)) for i in range(self.draw.batch)]
        if self.table is not None:
            return ViewRows(self.table, torch.stack([self.table.rows(*sample) for sample in samples]), *self.sizes)
        views = Views.cat([views_of(person)[torch.tensor(rows)][None] for person, rows in samples])
        return DrawnViews(views, torch.stack([surface_of(person) for person, _ in samples]), *self.sizes)

    def _sample(self, rng: np.random.Generator) -> tuple[PersonFrames, list[int]]:
        """A person and the pictures to show, the first as input; repeated where there are too few."""
        person = self.sources[int(rng.integers(len(self.sources)))].pick(rng)
        first = int(rng.choice(person.inputs.numpy()))
        others = [i for i in rng.permutation(len(person.images)).tolist() if i != first]
        return person, ([first, *others] * self.views)[: self.views]


@dataclass(frozen=True)
class WindowShape:
    """What a sample of stage 2 holds, in frames and pixels."""

    frames: int  # of a window
    before: int  # frames of audio before it
    after: int  # and after it
    pixel_frames: int  # frames that are shown
    image_size: int
    render_size: int


class TalkWindows(IterableDataset[WindowBatch]):
    """Windows of talks with pictures, for stage 2."""

    def __init__(self, talks: People, draw: Draw, shape: WindowShape):
        self.talks = talks.keep(lambda person: len(person.images) >= shape.frames)
        if not self.talks:
            raise ValueError(f"stage 2: expected at least one clip of {shape.frames} frames or more in talk shards, got none")
        self.draw, self.shape = draw, shape

    def __iter__(self) -> Iterator[WindowBatch]:
        self.talks.start(*self.draw.words)
        yield from map(self.at, self.draw.steps())

    def at(self, step: int) -> WindowBatch:
        return collate([self.sample(self.draw.rng(step, i)) for i in range(self.draw.batch)])

    def sample(self, rng: np.random.Generator) -> WindowBatch:
        shape, person = self.shape, self.talks.pick(rng)
        count = len(person.images)
        reference = int(rng.integers(count))
        start = int(rng.integers(count - shape.frames + 1))
        if rng.random() < FROM_REFERENCE:  # some windows begin at the reference, as generated speech does
            start = min(reference, count - shape.frames)
        frames = rng.choice(np.arange(shape.frames), shape.pixel_frames, replace=False)
        return window_batch(person, reference, start, torch.from_numpy(np.sort(frames)), shape)


def window_batch(person: PersonFrames, reference: int, start: int, frames: Tensor, shape: WindowShape) -> WindowBatch:
    """The window of a talk from frame `start`; `frames` [P] are counted from it."""
    first, shown = torch.tensor([reference]), start + frames
    own = torch.arange(start, start + shape.frames)
    span = torch.arange(start - SEED, start + shape.frames + TAIL).clamp(0, len(person.images) - 1)
    rgb, alpha = _pictures(person, shown, shape.render_size)
    camera = person.cameras[first]
    assert person.features is not None
    return WindowBatch(
        _inputs(person, first, shape.image_size), camera.resized(shape.image_size, shape.image_size), person.params[first],
        person.params[span].map(lambda x: x[None]), person.confidence[None, own],
        audio_window(person.features, start, shape.frames, shape.before, shape.after)[None], frames[None],
        _inputs(person, shown, shape.image_size)[None], rgb[None], alpha[None],
        camera.resized(shape.render_size, shape.render_size),
    )  # fmt: skip


def _inputs(person: PersonFrames, index: Tensor, size: int) -> Tensor:  # [I, 3, size, size]
    return _shrunk(person.images[index][..., :3], size).movedim(-1, 1).contiguous()


def _shrunk(pictures: Tensor, size: int) -> Tensor:  # [I, S, S, C] uint8 → [I, size, size, C] 0..1, I may be 0
    return shrink(pictures.float() / 255, size) if len(pictures) else torch.zeros(0, size, size, pictures.shape[-1])


def _pictures(person: PersonFrames, index: Tensor, size: int) -> tuple[Tensor, Tensor]:  # [I, size, size, 3] and 1
    pictures = _shrunk(person.images[index], size)
    return pictures[..., :3].contiguous(), pictures[..., 3:].contiguous()
