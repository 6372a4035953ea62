"""Where the square crop of a clip lies: round all boxes in which the person was seen, which are followed over time.

Boxes are x0 y0 x1 y1 in pixels of the talk's picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.person import Box

WANDER = 1.8  # a crop round all boxes of a clip may be this much larger than the person; beyond, the clip is split
SNAP = 0.05  # a crop this close to the picture's shorter side takes that side
RARE = 16  # while the union of boxes does not grow, only every so many boxes are compared with it
OVERHANG = 0.1  # a crop larger than the shorter side by at most this share is shrunk to it, not padded


@dataclass(frozen=True)
class Crop:
    """A square of the talk's picture; may reach over its edge, where it is filled with the edge's colour."""

    x: int
    y: int
    side: int


def crop_box(boxes: Sequence[Box], width: int, height: int, margin: float) -> Crop:
    """The square round a person seen in `boxes`, in order: all of them but lone outliers, plus `margin` of the longer side.

    Margins never reach over the picture's edge, the person's box may: then the square is padded, away from the person.
    """
    edges = steady(boxes)
    if not len(edges):
        raise ValueError("crop_box: expected at least one box, got none")
    (x0, y0), (x1, y1) = edges[:, :2].min(0), edges[:, 2:].max(0)
    longer, shorter_side = max(x1 - x0, y1 - y0), min(width, height)
    side = min(longer * (1 + 2 * margin), max(longer, shorter_side))
    if (1 - SNAP) * shorter_side <= side <= (1 + OVERHANG) * shorter_side:
        side = shorter_side
    side = max(round(side), 2)
    return Crop(_place(x0, x1, side, width), _place(y0, y1, side, height), side)


def steady(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Boxes [N, 4] in order without lone outliers: of each edge the median of three in a row."""
    edges = np.array(boxes, np.float64).reshape(-1, 4)
    if len(edges) < 3:
        return edges
    middle = np.median(np.stack([edges[:-2], edges[1:-1], edges[2:]]), axis=0)
    return np.concatenate([middle[:1], middle, middle[-1:]])


def wander(boxes: Sequence[Box]) -> list[int]:
    """Indices of the boxes, in order, from which on another crop is needed.

    That is where the square round them all would become much larger than the person, or someone else is in their place.
    """
    edges = steady(boxes)
    starts, start = [], 0
    low, high = edges[:1, :2].copy(), edges[:1, 2:].copy()
    for index in range(1, len(edges)):
        inside = (edges[index, :2] >= low).all() and (edges[index, 2:] <= high).all()
        low, high = np.minimum(low, edges[index, :2]), np.maximum(high, edges[index, 2:])
        together = (inside and index % RARE) or _together(edges[start : index + 1])
        if not together or _apart(edges[index - 1], edges[index]):
            starts.append(index)
            start, low, high = index, edges[index : index + 1, :2], edges[index : index + 1, 2:]
    return starts


def fit_one_crop(boxes: Sequence[Box]) -> bool:
    """Whether one crop holds all of them without making the person small."""
    edges = steady(boxes)
    return _together(edges) and not any(_apart(a, b) for a, b in pairwise(edges))


def _together(edges: NDArray[np.float64]) -> bool:
    low, high = edges[:, :2].min(0), edges[:, 2:].max(0)
    return bool((high - low).max() <= WANDER * np.median((edges[:, 2:] - edges[:, :2]).max(1)))


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((np.minimum(a[2:], b[2:]) <= np.maximum(a[:2], b[:2])).any())


def _place(low: float, high: float, side: int, size: int) -> int:
    """Where a span of `side` round low..high begins: inside 0..size if it fits, else padded away from the person."""
    centred = round((low + high - side) / 2)
    if side <= size:
        return int(np.clip(centred, 0, size - side))
    at_start, at_end = low <= 2, high >= size - 2
    if at_start != at_end:
        return 0 if at_start else size - side
    return int(np.clip(centred, size - side, 0))
