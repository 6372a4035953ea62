"""How the pictures of a talk follow each other: what stands still (slides and photos, streams that froze), and what jumps.

Pictures are small ones, uint8 or float [H, W, 3] levels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.cut_plan import Stretch
from pipelines.media import Picture
from pipelines.person import Box

BLOCK = 8  # pixels at `FINE`; motion is the mean change of a block
STILL = 3.0  # grey levels that some block must change by more than most do
SAME = 4  # grey levels that no pixel of a repeated picture changes by: what encoders still mend in it
JUMP, SHARP, AROUND = 2.5, 2.5, 2  # a cut changes by so many levels, and so much more than so many pictures either side
FINE = 640  # pixels, width at which a mouth still moves whose speaker is a third as high as the picture
REPEATED = 0.05  # levels, mean change below which a picture is the one before it
CODED = 4.0  # grey levels; where no block changes by so much, only an encoder was at work, even a coarse one
GROUP = 3  # encoders code every second or third picture more coarsely; alike are those of the same quality
PULSE = 12  # or by this much in a single picture: a key picture, coded anew. Someone who speaks changes by 20 and more


@dataclass(frozen=True)
class _Shown:
    """A picture in two sizes; the larger one, where a mouth far away can be seen to move, is made when it is asked for."""

    small: Picture
    whole: Picture

    @cached_property
    def fine(self) -> Picture:
        return fine(self.whole)

    def within(self, levels: int, other: _Shown) -> bool:
        """Whether no pixel differs by more."""
        if self.whole.shape != other.whole.shape or _largest(self.small, other.small) > levels:
            return False
        return _largest(self.fine, other.fine) <= 2 * levels  # grain that encoders mend


@dataclass
class Frozen:
    """Finds pictures that repeat the one before: a stream that stalls, a webcam that hangs. Give it every picture, in order."""

    stretches: list[Stretch] = field(default_factory=list)  # of repeats, longer than a moment
    least: int = 25  # repeats
    first: _Shown | None = None  # the picture that stands
    last: deque[_Shown] = field(default_factory=lambda: deque(maxlen=GROUP))  # newest first
    repeats: int = 0
    steady: bool = False  # whether the last picture was the same as one shortly before it

    def see(self, frame: int, small: Picture, whole: Picture) -> None:
        """The same picture twice: small, and as large as it is."""
        shown = _Shown(small, whole)
        steady = any(shown.within(SAME, before) for before in self.last)
        if (steady or self.steady) and self.first is not None and shown.within(PULSE, self.first):
            self.repeats += 1
        else:
            self._end(frame)
            self.first = shown
        self.steady = steady
        self.last.appendleft(shown)

    def end(self, frame: int) -> list[Stretch]:
        """All stretches; `frame` is one past the last."""
        self._end(frame)
        return self.stretches

    def _end(self, frame: int) -> None:
        if self.repeats > self.least:
            self.stretches.append(Stretch(frame - self.repeats, frame))
        self.repeats = 0


@dataclass
class Stalls:
    """Finds pictures that stand for a moment while somebody speaks, whatever an encoder adds to them.

    Without a voice people stand still, too: in two real talks, the person .3 to 1 times as high as the picture, for up to
    13 pictures; while they spoke, no block stayed within `CODED` levels for more than 4. So only pictures with speech are
    to be given. Of 18 pictures that stood, H.264 left 16 to 18 within it, MPEG-1 and -4 with a key picture every half
    second or a low rate (1 Mbit/s at 1280 x 720) 3 to 11: these mend all along, and their short stalls may be missed.
    """

    least: int  # repeats
    stretches: list[Stretch] = field(default_factory=list)
    first: NDArray[np.float32] | None = None  # the picture that stands, at blocks' size
    start: int = 0  # its frame
    last: int = -1  # frame seen last

    def see(self, frame: int, picture: NDArray[np.float32]) -> None:
        """Pictures at blocks' size, in order; where frames are left out nothing stands."""
        first = self.first if frame == self.last + 1 else None
        if first is None or picture.shape != first.shape or np.abs(picture - first).max() >= CODED:
            self._end()
            self.first, self.start = picture, frame
        self.last = frame

    def end(self) -> list[Stretch]:
        self._end()
        return self.stretches

    def _end(self) -> None:
        """Repeats are counted without the picture that they repeat."""
        if self.last - self.start >= self.least:
            self.stretches.append(Stretch(self.start + 1, self.last + 1))


@dataclass
class Jumps:
    """Finds cuts between pictures that are much alike: before the same wall, or of one person with seconds left out.

    There a picture differs from the one before it by far more than its neighbours do. Give it every picture, in order;
    repeated ones do not count.
    """

    found: list[int] = field(default_factory=list)  # first frames after a cut
    last: Picture | None = None
    changes: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=2 * AROUND + 1))  # frame, levels

    def see(self, frame: int, picture: Picture) -> None:
        if self.last is not None and picture.shape == self.last.shape:
            change = float(np.mean(cv2.mean(cv2.absdiff(picture, self.last))[:3]))
            if change > REPEATED:
                self.changes.append((frame, change))
                self._judge()
        self.last = picture

    def _judge(self) -> None:
        """The middle one of the changes kept."""
        if len(self.changes) < 2 * AROUND + 1:
            return
        frame, change = self.changes[AROUND]
        others = max(value for other, value in self.changes if other != frame)
        if change > max(JUMP, SHARP * others):
            self.found.append(frame)


def fine(picture: Picture) -> Picture:
    """At most `FINE` wide."""
    height, width = picture.shape[:2]
    if width <= FINE:
        return picture
    return np.asarray(cv2.resize(picture, (FINE, max(round(FINE * height / width), 1)), interpolation=cv2.INTER_AREA), np.uint8)


def blocks(picture: Picture) -> NDArray[np.float32]:
    """The picture at blocks' size."""
    picture = fine(picture)
    height, width = picture.shape[:2]
    size = max(width // BLOCK, 1), max(height // BLOCK, 1)
    return np.asarray(cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def in_blocks(box: Box, width: int, shape: Sequence[int]) -> tuple[slice, slice]:
    """Where a box of a picture of that width lies in its blocks."""
    scale = shape[1] / width
    x0, y0, x1, y1 = (value * scale for value in box)
    return slice(int(y0), int(np.ceil(y1))), slice(int(x0), int(np.ceil(x1)))


def moved(before: NDArray[np.float32], after: NDArray[np.float32], where: tuple[slice, slice] | None = None) -> bool:
    """Whether something moves between two pictures [H, W, 3] at blocks' size, in the part `where` of them.

    Noise and a fade change all blocks alike, a person some of them.
    """
    change = np.abs(after - before).max(-1)
    change = change if where is None else change[where]
    return bool(change.size and change.max() - np.median(change) > STILL)


def _largest(a: Picture, b: Picture) -> int:
    return int(cv2.absdiff(a, b).max())
