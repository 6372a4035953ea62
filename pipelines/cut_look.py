"""Going through a talk once: where its shots begin, whom samples of its pictures show, and what stands still.

What is kept of an hour is small: a few numbers and a small JPEG for each sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import CutConfig
from pipelines import media
from pipelines.ahead import ahead
from pipelines.cut_motion import Frozen, Jumps, Stalls, blocks, in_blocks, moved
from pipelines.cut_plan import Evidence, Stretch
from pipelines.media import Picture
from pipelines.person import Finder, Sighting
from pipelines.progress import progress
from pipelines.rejected import shrink

SHOT_WIDTH = 256  # pixels; shots, and what stands still, are found in pictures of this width
FROZEN_SECONDS = 1.0  # pictures that stand for longer are no motion of anybody's
STALL_SECONDS = 0.4  # pictures that stand for longer while a voice is heard are no motion of the speaker's
JPEG_QUALITY = 70


@dataclass
class Thumbnails:
    """Small pictures of a talk by frame, packed as JPEG."""

    packed: dict[int, bytes] = field(default_factory=dict)

    def keep(self, frame: int, picture: Picture) -> None:
        done, jpeg = cv2.imencode(".jpg", shrink(picture)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done, "a small picture could not be packed"
        self.packed[frame] = jpeg.tobytes()

    def of(self, stretch: Stretch) -> Picture | None:
        """The picture nearest to the middle of a stretch, of those inside it."""
        inside = [f for f in self.packed if stretch.start <= f < stretch.end]
        if not inside:
            return None
        nearest = min(inside, key=lambda f: abs(2 * f - stretch.start - stretch.end))
        jpeg = np.frombuffer(self.packed[nearest], np.uint8)
        return np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]).astype(np.uint8)


def look(
    video: Path, speech: list[tuple[float, float]], config: CutConfig, finder: Finder, thumbnails: Thumbnails | None = None
) -> Evidence:
    """Shot boundaries and repeated pictures at every frame; people `probe_fps` times a second where somebody speaks."""
    from scenedetect import ContentDetector, FrameTimecode

    rate = float(config.fps)
    detector = ContentDetector(threshold=config.shot_threshold)
    step = max(round(config.fps / Fraction(config.probe_fps)), 1)
    spoken = _Spoken(speech, config.fps, config.speech_gap / 2 + 1 / float(config.probe_fps))
    shots: set[int] = set()
    sightings: dict[int, Sighting] = {}
    before: tuple[NDArray[np.float32], Sighting] | None = None
    jumps, frozen = Jumps(), Frozen(least=round(FROZEN_SECONDS * config.fps))
    stalls, voiced = Stalls(least=round(STALL_SECONDS * config.fps)), _Spoken(speech, config.fps, 0.0)
    count = height = width = 0
    damage = media.Damage()
    for picture in progress(ahead(media.frames(video, config.fps, damage=damage)), f"looking through {video.name}"):
        height, width = picture.shape[:2]
        small_size = SHOT_WIDTH, max(round(SHOT_WIDTH * height / width), 1)
        small = np.ascontiguousarray(cv2.resize(picture, small_size, interpolation=cv2.INTER_AREA)[..., ::-1])
        frozen.see(count, small, picture)
        jumps.see(count, small)
        grey = blocks(picture) if spoken(count) else None
        if grey is not None and voiced(count):
            stalls.see(count, grey)
        cuts = detector.process_frame(FrameTimecode(count, rate), small)
        shots.update(c.frame_num for c in cuts)
        if cuts or count % step == step // 2:
            if thumbnails is not None:
                thumbnails.keep(count, picture)
            if grey is not None:
                sightings[count] = _sight(finder, picture, grey, before)
                before = grey, sightings[count]
        count += 1
    shots.update(c.frame_num for c in detector.post_process(FrameTimecode(count, rate)))
    spans = [
        Stretch(max(math.floor(a * config.fps), 0), min(math.ceil(b * config.fps), count)) for a, b in damage.all(float(count / config.fps))
    ]
    boundaries = sorted({*shots, *jumps.found})
    return Evidence(
        count, width, height, boundaries, speech, sightings, damaged=spans, frozen=frozen.end(count), stalls=stalls.end()
    )  # fmt: skip


@dataclass
class _Spoken:
    """Whether a frame lies in speech or within `reach` seconds of it; asked in order."""

    speech: list[tuple[float, float]]
    fps: Fraction
    reach: float
    index: int = 0

    def __call__(self, frame: int) -> bool:
        time, reach = frame / float(self.fps), self.reach
        while self.index < len(self.speech) and self.speech[self.index][1] + reach < time:
            self.index += 1
        return self.index < len(self.speech) and self.speech[self.index][0] - reach <= time


def _sight(finder: Finder, picture: Picture, grey: NDArray[np.float32], before: tuple[NDArray[np.float32], Sighting] | None) -> Sighting:
    if before is None or before[0].shape != grey.shape:
        return finder(picture)
    if before[1].box is None and not moved(before[0], grey):  # the same slide: nobody has come
        return replace(before[1], still=True)
    sighting = finder(picture)
    where = None if sighting.box is None else in_blocks(sighting.box, picture.shape[1], grey.shape)
    return replace(sighting, still=not moved(before[0], grey, where))
