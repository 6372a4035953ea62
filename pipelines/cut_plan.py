"""Which stretches of a talk become clips, and why the others do not. Pure: no file is opened here.

Time is counted in frames of the clips' constant rate, so that clips and rejected stretches add up to the talk exactly.
Boxes are x0 y0 x1 y1 in pixels of the talk's picture; where the clips' crops lie is said in pipelines/cut_crops.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import CutConfig
from pipelines.cut_crops import Crop, crop_box, fit_one_crop, wander
from pipelines.person import Box, Sighting

NO_SPEECH, NO_PERSON, SEVERAL, SMALL = "no speech", "no person", "several people", "person too small"
AUDIENCE, STILL, PARTLY = "audience", "static picture", "head beyond the picture's edge"
FROZEN, DAMAGED = "frozen picture", "damaged pictures"
SHORT, NO_FACE, NO_HAND = "usable stretch too short", "face not seen", "no hand seen"
UNDECODED = "no picture decodes"
CROWD = 4  # faces; from this many on, it is the audience that is shown
WHOLE_SHOT = 0.9  # share of a shot; pictures that stand for longer are a slide or a photo, not a stream that stalled
STILL_SECONDS = 2.0  # nobody who speaks keeps still for so long; a slide or a photo does


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
    sightings: Mapping[int, Sighting]  # by frame, in order
    decoded: int | None = None  # frames that have a picture, where some at the end have none
    damaged: Sequence[Stretch] = ()  # in order: pictures that the decoder had to guess
    frozen: Sequence[Stretch] = ()  # in order: pictures that repeat the one before them, for longer than a moment
    stalls: Sequence[Stretch] = ()  # in order: pictures that stand for a moment while a voice is heard


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
        for part in _split_wandering(run, evidence, shortest):
            for piece in _split_long(part, shortest, longest, pauses(evidence.speech, config.fps)):
                good, reason = _judge(evidence, piece, shortest, config)
                reasons[piece.start : piece.end] = reason
                for kept in good:
                    crop = crop_box(_boxes(evidence, kept), evidence.width, evidence.height, config.box_margin)
                    clips.append(PlannedClip(kept.start, kept.end, crop))
    for clip in clips:
        reasons[clip.start : clip.end] = ""
    return clips, rejected_stretches(reasons, shot)


def rejected_stretches(reasons: NDArray[Any], shot: NDArray[np.int64]) -> list[Rejected]:
    """Stretches of equal reason, those that are too short each by itself; '' is not rejected."""
    short = np.array([reason.startswith(SHORT) for reason in reasons[1:]], bool)
    ends = (reasons[1:] != reasons[:-1]) | ((shot[1:] != shot[:-1]) & short)
    edges = [0, *(np.flatnonzero(ends) + 1).tolist(), len(reasons)]
    return [Rejected(a, b, reasons[a]) for a, b in pairwise(edges) if a < b and reasons[a]]


def heard(speech: Sequence[tuple[float, float]], frames: int, config: CutConfig) -> NDArray[np.bool_]:
    """Whether each of `frames` frames lies in speech or in one of its short gaps. [frames]"""
    out = np.zeros(frames, bool)
    for start, end in speech:  # widened by half a gap each way: shorter gaps close
        begin = max(math.floor((start - config.speech_gap / 2) * config.fps), 0)
        out[begin : math.ceil((end + config.speech_gap / 2) * config.fps)] = True
    return out


def pauses(speech: Sequence[tuple[float, float]], fps: Fraction) -> list[int]:
    """Frames in the middle of the silences between speech segments."""
    return [round((a[1] + b[0]) / 2 * fps) for a, b in pairwise(speech)]


def _reasons(evidence: Evidence, shot: NDArray[np.int64], config: CutConfig) -> NDArray[Any]:
    """Why each frame cannot be used, '' where it can. [frames] of str."""
    spoken = heard(evidence.speech, evidence.frames, config)
    seen, sample = _seen(evidence, shot, config)
    reasons = np.where(spoken, seen, NO_SPEECH).astype(object)
    for run in _runs(np.where(spoken, "", NO_SPEECH), shot):
        _forgive(reasons, sample, run, config.min_person_share)
    for stretch, reason in _frozen(evidence, shot):
        inside = reasons[stretch.start : stretch.end]
        inside[(inside == "") | (inside == STILL)] = reason
    for stretch in evidence.stalls:  # of slides and photos it is said that they are such
        inside = reasons[stretch.start : stretch.end]
        inside[inside == ""] = FROZEN
    for stretch in evidence.damaged:
        inside = reasons[stretch.start : stretch.end]
        inside[inside != NO_SPEECH] = DAMAGED
    if evidence.decoded is not None:
        reasons[evidence.decoded :] = UNDECODED
    return reasons


def _seen(evidence: Evidence, shot: NDArray[np.int64], config: CutConfig) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Each frame's reason by its nearest sample in the same shot, and that sample's frame (-1: none). Both [frames]."""
    nearest = np.full(evidence.frames, -1)
    sampled = np.array(sorted(s for s in evidence.sightings if s < evidence.frames), np.int64)
    for index in np.unique(shot[sampled]):
        frames = np.flatnonzero(shot == index)
        nearest[frames] = _closest(sampled[shot[sampled] == index], frames)
    verdicts = {int(s): _verdict(evidence.sightings[int(s)], evidence.height, config) for s in sampled}
    frozen = [stretch for stretch, reason in _frozen(evidence, shot) if reason == FROZEN]  # told to the frame, not by samples
    still = [s for s in _still(evidence, shot, config) if not any(f.start <= s < f.end for f in frozen)]
    verdicts |= dict.fromkeys(still, STILL)
    return np.array([verdicts.get(n, NO_PERSON) for n in nearest.tolist()], dtype=object), nearest


def _closest(points: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    right = np.searchsorted(points, frames).clip(0, len(points) - 1)
    left = (right - 1).clip(0)
    return np.where(np.abs(points[left] - frames) <= np.abs(points[right] - frames), points[left], points[right])


def _verdict(sighting: Sighting, height: int, config: CutConfig) -> str:
    small = sighting.box is None or sighting.box[3] - sighting.box[1] < config.min_person_height * height
    if sighting.crowd >= CROWD and (small or sighting.people > 1):
        return AUDIENCE
    if sighting.people > 1:
        return SEVERAL
    if sighting.box is None:
        return NO_PERSON
    if small:
        return SMALL
    return "" if sighting.whole else PARTLY


def _still(evidence: Evidence, shot: NDArray[np.int64], config: CutConfig) -> list[int]:
    """Samples of stretches in which nothing moves for `STILL_SECONDS` or longer."""
    found: list[int] = []
    row: list[int] = []  # the sample that the others are the same as, and they
    before = None
    for frame, sighting in [*evidence.sightings.items(), (evidence.frames, Sighting(None))]:
        if sighting.still and before is not None and frame < evidence.frames and shot[frame] == shot[before]:
            row = [*(row or [before]), frame]
        else:
            if row and row[-1] - row[0] >= STILL_SECONDS * config.fps:
                found += row
            row = []
        before = frame
    return found


def _frozen(evidence: Evidence, shot: NDArray[np.int64]) -> list[tuple[Stretch, str]]:
    """Repeated pictures with what to call them: a shot that stands from its beginning to its end was never moving."""
    found = []
    for stretch in evidence.frozen:
        end = min(stretch.end, evidence.frames)
        if stretch.start < end:
            whole = end - stretch.start >= WHOLE_SHOT * int((shot == shot[stretch.start]).sum())
            # the picture that is repeated may end a clip; of a photo it is no better than the rest
            found.append((Stretch(max(stretch.start - 1, 0), end), STILL) if whole else (Stretch(stretch.start, end), FROZEN))
    return found


def _judge(evidence: Evidence, piece: Stretch, shortest: int, config: CutConfig) -> tuple[list[Stretch], str]:
    """What of a piece becomes clips, and why the rest does not."""
    if len(piece) < shortest:
        return [], f"{SHORT}: below {config.min_seconds:g} s"
    reason = _hidden(evidence, piece, config)
    if not reason:
        return [piece], ""
    parts = _with_face(evidence, piece) if reason.startswith(NO_FACE) else []
    return [p for p in parts if len(p) >= shortest and not _hidden(evidence, p, config)], reason


def _with_face(evidence: Evidence, piece: Stretch) -> list[Stretch]:
    """Parts of a piece in which no two samples in a row miss the face: who turns away may have been seen before."""
    seen = _inside(evidence, piece)
    middles = [(a + b) // 2 for (a, _), (b, _) in pairwise(seen)]
    edges = [piece.start, *middles, piece.end]  # of what each sample speaks for
    ranges = _without_gaps([s.box is not None and s.face for _, s in seen])
    return [Stretch(edges[first], edges[last]) for first, last in ranges]


def _hidden(evidence: Evidence, piece: Stretch, config: CutConfig) -> str:
    """Why a stretch shows too little of the person, '' where it shows enough."""
    seen = [s for _, s in _inside(evidence, piece) if s.box is not None]
    if not seen:
        return ""
    faces, hands = (sum(found) / len(seen) for found in ([s.face for s in seen], [s.hands > 0 for s in seen]))
    if faces < config.min_face_share:
        return f"{NO_FACE} in {config.min_face_share:g} of the time"
    if hands < config.min_hand_share:
        return f"{NO_HAND} in {config.min_hand_share:g} of the time"
    return ""


def _forgive(reasons: NDArray[Any], sample: NDArray[np.int64], run: Stretch, min_share: float) -> None:
    """Overlook single samples that missed the person between samples that did not, if those are `min_share` of all.

    Two misses in a row part the run: the person was away.
    """
    inside, nearest = reasons[run.start : run.end], sample[run.start : run.end]
    edges = [0, *(np.flatnonzero(np.diff(nearest)) + 1).tolist(), len(nearest)]
    spans = [slice(a, b) for a, b in pairwise(edges)]  # the frames that each sample speaks for
    good = [not inside[span].any() for span in spans]
    for first, last in _without_gaps(good):
        if sum(good[first:last]) >= min_share * (last - first):
            inside[spans[first].start : spans[last - 1].stop] = ""


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


def _inside(evidence: Evidence, stretch: Stretch) -> list[tuple[int, Sighting]]:
    """The samples of a stretch, with their frames."""
    frames = list(evidence.sightings)
    return [(f, evidence.sightings[f]) for f in frames[bisect_left(frames, stretch.start) : bisect_left(frames, stretch.end)]]


def _boxes(evidence: Evidence, stretch: Stretch) -> list[Box]:
    """Boxes of the person in a stretch, from the nearest sample where none lies inside."""
    inside = [s.box for _, s in _inside(evidence, stretch) if s.box is not None and s.people <= 1]
    if inside:
        return inside
    middle = (stretch.start + stretch.end) / 2
    found = {f: s.box for f, s in evidence.sightings.items() if s.box is not None and s.people <= 1}
    return [found[min(found, key=lambda f: abs(f - middle))]]


def _split_wandering(run: Stretch, evidence: Evidence, shortest: int) -> list[Stretch]:
    """Parts in which one crop holds the person without making it small, and no one else takes the person's place.

    A part that would be too short begins earlier where that is possible.
    """
    seen = [(f, s.box) for f, s in _inside(evidence, run) if s.box is not None and s.people <= 1]
    edges = [run.start, *(seen[i][0] for i in wander([box for _, box in seen])), run.end]
    for index in range(len(edges) - 2, 0, -1):
        earlier = edges[index + 1] - shortest
        if edges[index - 1] + shortest <= earlier < edges[index]:
            boxes = [box for frame, box in seen if earlier <= frame < edges[index + 1]]
            edges[index] = earlier if fit_one_crop(boxes) else edges[index]
    return [Stretch(a, b) for a, b in pairwise(edges)]


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
