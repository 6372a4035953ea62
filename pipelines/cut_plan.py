"""Which stretches of a talk become clips, and where the square crop lies. Pure: no file is opened here.

Time is counted in frames of the clips' constant rate, so that clips and rejected stretches add up to the talk exactly.
Boxes are x0 y0 x1 y1 in pixels of the talk's picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import CutConfig
from pipelines.person import Sighting

Box = tuple[float, float, float, float]
NO_SPEECH, NO_PERSON, SEVERAL, SMALL = "no speech", "no person", "several people", "person too small"
SHORT = "usable stretch too short"
WANDER = 1.8  # a crop round all boxes of a clip may be this much larger than the person; beyond, the clip is split
SNAP = 0.05  # a crop this close to the picture's shorter side takes that side
OVERHANG = 0.1  # a crop larger than the shorter side by at most this share is shrunk to it, not padded


@dataclass(frozen=True)
class Stretch:
    """Frames start..end (exclusive)."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Rejected(Stretch):
    reason: str


@dataclass(frozen=True)
class Crop:
    """A square of the talk's picture; may reach over its edge, where it is filled with the edge's colour."""

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class PlannedClip(Stretch):
    crop: Crop


@dataclass(frozen=True)
class Evidence:
    """What was seen and heard in a talk of `frames` frames at the clips' rate."""

    frames: int
    width: int
    height: int
    shots: Sequence[int]  # first frame of every shot but the first
    speech: Sequence[tuple[float, float]]  # seconds, ordered, apart
    sightings: Mapping[int, Sighting]  # by frame


def plan_clips(evidence: Evidence, config: CutConfig) -> tuple[list[PlannedClip], list[Rejected]]:
    """Clips and rejected stretches, each in order; together they cover every frame once."""
    shot = np.zeros(evidence.frames, np.int64)
    shot[[s for s in evidence.shots if s < evidence.frames]] = 1
    shot = shot.cumsum()
    reasons = _reasons(evidence, shot, config)
    shortest = math.ceil(config.min_seconds * config.fps)
    longest = max(math.floor(config.max_seconds * config.fps), shortest)
    clips: list[PlannedClip] = []
    for run in _runs(reasons, shot):
        for part in _split_wandering(run, evidence, config):
            for piece in _split_long(part, shortest, longest, pauses(evidence.speech, config.fps)):
                if len(piece) < shortest:
                    reasons[piece.start : piece.end] = f"{SHORT}: below {config.min_seconds:g} s"
                else:
                    crop = crop_box(_boxes(evidence, piece), evidence.width, evidence.height, config.box_margin)
                    clips.append(PlannedClip(piece.start, piece.end, crop))
    for clip in clips:
        reasons[clip.start : clip.end] = ""
    return clips, rejected_stretches(reasons)


def rejected_stretches(reasons: NDArray[Any]) -> list[Rejected]:
    """Stretches of equal reason; '' is not rejected."""
    edges = [0, *(np.flatnonzero(reasons[1:] != reasons[:-1]) + 1).tolist(), len(reasons)]
    return [Rejected(a, b, reasons[a]) for a, b in pairwise(edges) if a < b and reasons[a]]


def crop_box(boxes: Sequence[Box], width: int, height: int, margin: float) -> Crop:
    """The square round a person seen in `boxes`: nine tenths of their edges, plus `margin` of the longer side each way.

    Margins never reach over the picture's edge, the person's box may: then the square is padded, away from the person.
    """
    edges = np.array(boxes, np.float64).reshape(-1, 4)
    if not len(edges):
        raise ValueError("crop_box: expected at least one box, got none")
    x0, y0 = np.percentile(edges[:, :2], 10, axis=0)
    x1, y1 = np.percentile(edges[:, 2:], 90, axis=0)
    longer, shorter_side = max(x1 - x0, y1 - y0), min(width, height)
    side = min(longer * (1 + 2 * margin), max(longer, shorter_side))
    if (1 - SNAP) * shorter_side <= side <= (1 + OVERHANG) * shorter_side:
        side = shorter_side
    side = max(round(side), 2)
    return Crop(_place(x0, x1, side, width), _place(y0, y1, side, height), side)


def pauses(speech: Sequence[tuple[float, float]], fps: Fraction) -> list[int]:
    """Frames in the middle of the silences between speech segments."""
    return [round((a[1] + b[0]) / 2 * fps) for a, b in pairwise(speech)]


def _reasons(evidence: Evidence, shot: NDArray[np.int64], config: CutConfig) -> NDArray[Any]:
    """Why each frame cannot be used, '' where it can. [frames] of str."""
    heard = np.zeros(evidence.frames, bool)
    for start, end in evidence.speech:  # widened by half a gap each way: shorter gaps close
        begin = max(math.floor((start - config.speech_gap / 2) * config.fps), 0)
        heard[begin : math.ceil((end + config.speech_gap / 2) * config.fps)] = True
    seen, sample = _seen(evidence, shot, config)
    reasons = np.where(heard, seen, NO_SPEECH).astype(object)
    for run in _runs(np.where(heard, "", NO_SPEECH), shot):
        _forgive(reasons, sample, run, config.min_person_share)
    return reasons


def _seen(evidence: Evidence, shot: NDArray[np.int64], config: CutConfig) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Each frame's reason by its nearest sample in the same shot, and that sample's frame (-1: none). Both [frames]."""
    nearest = np.full(evidence.frames, -1)
    sampled = np.array(sorted(s for s in evidence.sightings if s < evidence.frames), np.int64)
    for index in np.unique(shot[sampled]):
        frames = np.flatnonzero(shot == index)
        nearest[frames] = _closest(sampled[shot[sampled] == index], frames)
    verdicts = {int(s): _verdict(evidence.sightings[int(s)], evidence.height, config) for s in sampled}
    return np.array([verdicts.get(n, NO_PERSON) for n in nearest.tolist()], dtype=object), nearest


def _closest(points: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    right = np.searchsorted(points, frames).clip(0, len(points) - 1)
    left = (right - 1).clip(0)
    return np.where(np.abs(points[left] - frames) <= np.abs(points[right] - frames), points[left], points[right])


def _verdict(sighting: Sighting, height: int, config: CutConfig) -> str:
    if sighting.people > 1:
        return SEVERAL
    if sighting.box is None:
        return NO_PERSON
    return SMALL if sighting.box[3] - sighting.box[1] < config.min_person_height * height else ""


def _forgive(reasons: NDArray[Any], sample: NDArray[np.int64], run: Stretch, min_share: float) -> None:
    """Overlook single samples that missed the person between samples that did not, if those are `min_share` of all.

    Two misses in a row part the run: the person was away.
    """
    inside, inside_samples = reasons[run.start : run.end], sample[run.start : run.end]
    frames_of = {int(s): inside_samples == s for s in np.unique(inside_samples)}
    good = [not inside[where].any() for where in frames_of.values()]
    wheres = list(frames_of.values())
    for first, last in _without_gaps(good):
        if sum(good[first:last]) >= min_share * (last - first):
            for where in wheres[first:last]:
                inside[where] = ""


def _without_gaps(good: list[bool]) -> list[tuple[int, int]]:
    """Index ranges that begin and end with True and hold no two False in a row."""
    ranges: list[tuple[int, int]] = []
    for i in (i for i, g in enumerate(good) if g):
        if ranges and i - ranges[-1][1] <= 1:
            ranges[-1] = (ranges[-1][0], i + 1)
        else:
            ranges.append((i, i + 1))
    return ranges


def _runs(reasons: NDArray[Any], shot: NDArray[np.int64]) -> list[Stretch]:
    """Longest stretches without a reason inside one shot."""
    key = np.where(reasons == "", shot, -1)
    edges = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(key)]
    return [Stretch(a, b) for a, b in pairwise(edges) if a < b and key[a] >= 0]


def _boxes(evidence: Evidence, stretch: Stretch) -> list[Box]:
    """Boxes of the person in a stretch, from the nearest sample where none lies inside."""
    found = {f: s.box for f, s in sorted(evidence.sightings.items()) if s.box is not None and s.people <= 1}
    inside = [box for frame, box in found.items() if stretch.start <= frame < stretch.end]
    middle = (stretch.start + stretch.end) / 2
    return inside or [found[min(found, key=lambda f: abs(f - middle))]]


def _split_wandering(run: Stretch, evidence: Evidence, config: CutConfig) -> list[Stretch]:
    """Parts in which one crop holds the person without making it small."""
    parts, start = [], run.start
    boxes: list[Box] = []
    for frame in sorted(f for f in evidence.sightings if run.start <= f < run.end):
        box = evidence.sightings[frame].box
        if box is None or evidence.sightings[frame].people > 1:
            continue
        edges = np.array([*boxes, box])
        sides = np.maximum(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1])
        union = max(edges[:, 2].max() - edges[:, 0].min(), edges[:, 3].max() - edges[:, 1].min())
        if boxes and union > WANDER * np.median(sides):
            parts.append(Stretch(start, frame))
            start, boxes = frame, []
        boxes.append(box)
    return [*parts, Stretch(start, run.end)]


def _split_long(part: Stretch, shortest: int, longest: int, breaks: Sequence[int]) -> list[Stretch]:
    """Pieces of at most `longest` frames, of about equal length, parted in pauses where there are some nearby."""
    pieces, start = [], part.start
    while (left := part.end - start) > longest:
        count = math.ceil(left / longest)
        target = start + round(left / count)
        # neither this piece nor the rest, in one piece less, may be too long or too short
        low = max(start + shortest, target - longest // 4, part.end - (count - 1) * longest)
        high = min(start + longest, part.end - shortest)
        nearby = [b for b in breaks if low <= b <= high]
        if nearby:
            cut = min(nearby, key=lambda b: abs(b - target))
        else:  # where two pieces can not both be long enough, the rest is given up
            cut = min(max(target, low), high) if low <= high else start + longest
        pieces.append(Stretch(start, cut))
        start = cut
    return [*pieces, Stretch(start, part.end)]


def _place(low: float, high: float, side: int, size: int) -> int:
    """Where a span of `side` round low..high begins: inside 0..size if it fits, else padded away from the person."""
    centred = round((low + high - side) / 2)
    if side <= size:
        return int(np.clip(centred, 0, size - side))
    at_start, at_end = low <= 2, high >= size - 2
    if at_start != at_end:
        return 0 if at_start else size - side
    return int(np.clip(centred, size - side, 0))
