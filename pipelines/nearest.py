"""The stretch of other people's clips that sounds most like a given one: what `nearest clip` rows move to.

One search for all who have such a row: sounds are series [T, A] of any features at one rate, likeness is the mean squared
difference frame by frame, and a candidate shorter than what is looked for is played forth and back.
Axes: T frames, A features, W windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

STRIDE = 10  # frames between the windows of a longer candidate
AT_ONCE = 256  # windows compared at once
Series = NDArray[np.floating]


@dataclass(frozen=True)
class Stretch:
    """Where a clip's likeness begins."""

    clip: str
    start: int  # frame

    def frames(self, count: int, length: int) -> NDArray[np.int64]:
        """Indices [count] into the candidate of so many frames, from `start` on, forth and back."""
        return forth_and_back(self.start, count, length)


def forth_and_back(start: int, count: int, length: int) -> NDArray[np.int64]:
    """`count` indices below `length` from `start` on; at an end it turns round."""
    if length < 2:
        return np.zeros(count, np.int64)
    at = np.arange(start, start + count) % (2 * length - 2)
    return np.where(at < length, at, 2 * length - 2 - at)


def nearest_stretches(
    wanted: Mapping[str, Series],  # [T, A] of the clips that look for another
    candidates: Mapping[str, Series],  # [T', A]
    who: Mapping[str, str] | None = None,  # clip → speaker, of both: one's own clips are left out; none: nobody is the same
) -> dict[str, Stretch]:
    """Clip → the most alike stretch, for the clips that have a candidate. ValueError where series have other features."""
    found: dict[str, Stretch] = {}
    widths = {x.shape[1] for side in (wanted, candidates) for x in side.values()}
    if len(widths) > 1:
        raise ValueError(f"nearest: expected series of one kind of features, got {sorted(widths)} numbers a frame")
    by_length: dict[int, list[str]] = {}
    for name, series in wanted.items():
        by_length.setdefault(len(series), []).append(name)
    for frames, names in by_length.items():
        if frames:
            found |= _search(np.stack([wanted[n] for n in names]), names, candidates, who)
    return found


def _search(wanted: Series, names: list[str], candidates: Mapping[str, Series], who: Mapping[str, str] | None) -> dict[str, Stretch]:
    """`wanted` [G, T, A] of clips of one length."""
    flat = wanted.reshape(len(wanted), -1)
    least = np.full(len(names), np.inf)
    places: list[Stretch | None] = [None] * len(names)
    speakers = np.array([who[n] for n in names]) if who else None
    for windows, where in _windows(candidates, wanted.shape[1]):
        gaps = np.square(windows).sum(1)[:, None] - 2 * (windows @ flat.T)  # less |wanted|², the same for all: [W, G]
        if who is not None and speakers is not None:
            gaps[np.array([who[w.clip] for w in where])[:, None] == speakers] = np.inf
        best = gaps.argmin(0)
        for column, row in enumerate(best):
            if gaps[row, column] < least[column]:
                least[column], places[column] = gaps[row, column], where[row]
    return {name: place for name, place in zip(names, places, strict=True) if place is not None}


def _windows(candidates: Mapping[str, Series], frames: int) -> Iterator[tuple[Series, list[Stretch]]]:
    """Windows [W, T A] of all candidates, `AT_ONCE` or a few more at a time, and where each begins."""
    kept: list[Series] = []
    where: list[Stretch] = []
    for name, series in candidates.items():
        if not len(series):
            continue
        if len(series) < frames:
            kept.append(series[forth_and_back(0, frames, len(series))].reshape(1, -1))
        else:
            kept.append(sliding_window_view(series, frames, 0)[::STRIDE].swapaxes(1, 2).reshape(-1, frames * series.shape[1]))
        where += [Stretch(name, STRIDE * i) for i in range(len(kept[-1]))]
        if len(where) >= AT_ONCE:
            yield np.concatenate(kept), where
            kept, where = [], []
    if kept:
        yield np.concatenate(kept), where
