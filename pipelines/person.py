"""Who is in a picture: the speaker's box, what is seen of them, and who else is there.

An interface, `Finder`, so that another detector can take mediapipe's place. It looks at single pictures, to choose
stretches and crops; masks are made by pipelines/masks.py. Pictures are uint8 RGB [H, W, 3], boxes x0 y0 x1 y1 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.landmarks import PersonFinder
from pipelines.masks import Mask, Masker, MediapipeMasker, smooth_masks
from pipelines.media import Picture

__all__ = ["Box", "Finder", "Mask", "Masker", "MediapipeFinder", "MediapipeMasker", "Sighting", "smooth_masks"]

Box = tuple[float, float, float, float]
FINDER_SIDE = 640  # pixels; people are looked for in pictures of at most this side
VISIBLE = 0.5  # a landmark of less visibility does not widen the box
SAME_SIZE = 0.6  # a second face of at least this share of the speaker's height is a second person
OVERLAP = 0.1  # someone smaller counts if they cover this share of the speaker's box
LEAST_FACE = 0.25  # of the speaker's height; smaller faces are far behind (or no faces)
BODY = (1.2, 5.0)  # half the width and the height of a body round its face, in faces
CLOSE_LOOK = 0.6  # of the picture's height; smaller people are looked at again in a crop
NEAR = 0.7  # of the picture's longer side; round people who take less, faces are looked for once more
ROOM = 0.25  # of the person's longer side, left round that crop
TILES = (1.0, 0.6)  # sides of the tiles that small people are looked for in, of the picture's shorter side
HANDS = ((15, 17, 19, 21), (16, 18, 20, 22))  # mediapipe's pose landmarks of wrist and fingers
EDGE = 0.01  # of the picture's side; a landmark nearer to the edge is as good as beyond it
NOSE, HEAD, SHOULDERS = 0, slice(0, 9), slice(11, 13)


@dataclass(frozen=True)
class Sighting:
    """What one picture shows. A finder that can not tell a thing leaves it at what does no harm."""

    box: Box | None  # of the main person, inside the picture; None: nobody
    people: int = 0  # the speaker, and whoever is about as large or in front of or right behind them
    score: float = 0.0  # 0..1, mean visibility of the upper body's landmarks
    face: bool = True  # the speaker's face is seen
    hands: int = 2  # of the speaker, in the picture
    whole: bool = True  # the head, and at least one shoulder beside it, do not reach over the picture's edge
    crowd: int = 0  # faces of whatever size
    still: bool = False  # nothing has moved since the sample before


class Finder(Protocol):
    def __call__(self, picture: Picture) -> Sighting: ...


class MediapipeFinder:
    """mediapipe's pose (with its segmentation) for the main person's box, its face detector to count people.

    The whole picture is looked at first; where nobody is found in it, tiles of it, where a person far away is large
    enough to be found; a small person is looked at again in a crop of the full resolution.
    """

    def __init__(self) -> None:
        self.detector = PersonFinder(segment=True)

    def close(self) -> None:
        self.detector.close()

    def __call__(self, picture: Picture) -> Sighting:
        height, width = picture.shape[:2]
        whole = (0.0, 0.0, float(width), float(height))
        faces = self._faces(picture, whole)
        body = next((b for window in (whole, *tiles(width, height)) if (b := self._body(picture, window)) is not None), None)
        if body is None:
            return Sighting(None, min(len(faces), 1), face=len(faces) > 0, hands=0, crowd=len(faces))
        box = body.box(whole)
        near = _round(box, width, height)
        if max(near[2] - near[0], near[3] - near[1]) < NEAR * max(width, height):
            faces = _merge(faces, self._faces(picture, near))
        if box[3] - box[1] < CLOSE_LOOK * height and max(height, width) > FINDER_SIDE / 2:
            body = self._body(picture, near) or body
        return describe(body, faces, whole)

    def _faces(self, picture: Picture, window: Box) -> NDArray[np.float32]:
        """Boxes [N, 4] of the faces in a window, in the picture's pixels."""
        part, scale, corner = _part(picture, window)
        return np.asarray(self.detector.faces(part) * scale + [*corner, *corner], np.float32).reshape(-1, 4)

    def _body(self, picture: Picture, window: Box) -> Body | None:
        """The most prominent person in a window, in the picture's pixels; None: nobody to speak of."""
        part, scale, corner = _part(picture, window)
        found = self.detector.person(part)
        if found is None or float(found[0][:13, 2].mean()) < VISIBLE or not (found[0][:, 2] > VISIBLE).any():
            return None
        points, mask = found
        rows, columns = np.nonzero(mask > 0.5) if mask is not None else (np.zeros(0), np.zeros(0))
        outline: NDArray[np.float64] | None = None
        if len(rows):
            outline = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale + [*corner, *corner]
        return Body(np.asarray(points * [scale, scale, 1] + [*corner, 0], np.float32), outline)


@dataclass(frozen=True)
class Body:
    """A person that was found."""

    points: NDArray[np.float32]  # [33, 3] x, y, visibility: mediapipe's pose
    outline: NDArray[np.float64] | None = None  # [4] box of their mask

    def box(self, frame: Box) -> Box:
        """Round what is seen of them, inside the picture."""
        seen = self.points[self.points[:, 2] > VISIBLE, :2]
        corners = seen if self.outline is None else np.concatenate([seen, self.outline.reshape(2, 2)])
        (x0, y0), (x1, y1) = (np.clip(edge, frame[:2], frame[2:]) for edge in (corners.min(0), corners.max(0)))
        return float(x0), float(y0), float(x1), float(y1)


def describe(body: Body, faces: NDArray[np.floating], frame: Box) -> Sighting:
    """Put together what was found in the picture `frame`; `faces` [N, 4]: boxes."""
    low, high = np.array(frame[:2]), np.array(frame[2:])
    points, box, own = body.points, body.box(frame), _own_face(body.points, faces)
    inside = lambda p, margin: ((p >= low + margin) & (p <= high - margin)).all(-1)  # noqa: E731
    hands = sum(bool((inside(points[list(h), :2], 0.0) & (points[list(h), 2] > VISIBLE)).any()) for h in HANDS)
    beside = inside(points[SHOULDERS, :2] * [1, 0] + low * [0, 1], 0.0)  # a shoulder may lie under the lower edge
    return Sighting(
        box,
        1 + others(faces, own, box, points),
        float(points[:13, 2].mean()),  # face and shoulders
        face=own is not None,
        hands=hands,
        whole=bool(inside(points[HEAD, :2], EDGE * (high - low)).all() and beside.any()),
        crowd=len(faces),
    )


def others(faces: NDArray[np.floating], own: int | None, box: Box, points: NDArray[np.floating]) -> int:
    """How many people besides the speaker are about as large, or overlap with them."""
    head = float(np.linalg.norm(points[7, :2] - points[8, :2])) * 1.2  # from ear to ear; turned away, less
    size = float(faces[own, 3] - faces[own, 1]) if own is not None else max(head, (box[3] - box[1]) / 8)
    count = 0
    for index, (x0, y0, x1, y1) in enumerate(faces.tolist()):
        tall = y1 - y0
        if index == own or tall < LEAST_FACE * size:
            continue
        middle, half = (x0 + x1) / 2, BODY[0] * tall
        body = (middle - half, y0, middle + half, y0 + BODY[1] * tall)
        count += tall >= SAME_SIZE * size or _shared(body, box) > OVERLAP
    return count


def tiles(width: int, height: int) -> Iterator[Box]:
    """Squares that cover the picture with overlap, large ones first, from the middle outwards."""
    for share in TILES:
        side = share * min(width, height)
        if side >= max(width, height):
            continue
        spread = lambda size, side=side: np.linspace(0, size - side, math.ceil((size / side - 1) / 0.7) + 1)  # noqa: E731
        corners = [(x, y) for y in spread(height) for x in spread(width)]
        corners.sort(key=lambda c, side=side: abs(c[0] + side / 2 - width / 2) + abs(c[1] + side / 2 - height / 2))  # type: ignore[misc]
        yield from ((float(x), float(y), float(x + side), float(y + side)) for x, y in corners)


def _part(picture: Picture, window: Box) -> tuple[Picture, float, tuple[int, int]]:
    """A window of the picture, made small; its pixels times the scale, plus the corner, are the picture's."""
    x0, y0, x1, y1 = (round(value) for value in window)
    part = picture[y0:y1, x0:x1]
    scale = max(part.shape[:2]) / FINDER_SIDE
    if scale <= 1:
        return np.ascontiguousarray(part), 1.0, (x0, y0)
    size = max(round(part.shape[1] / scale), 1), max(round(part.shape[0] / scale), 1)
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8), scale, (x0, y0)


def _merge(faces: NDArray[np.float32], more: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes [N, 4] of both, without those of `more` whose middle lies in one of `faces`."""
    middles = (more[:, :2] + more[:, 2:]) / 2
    known = ((middles[:, None] >= faces[None, :, :2]) & (middles[:, None] <= faces[None, :, 2:])).all(-1).any(-1)
    return np.concatenate([faces, more[~known]])


def _own_face(points: NDArray[np.floating], faces: NDArray[np.floating]) -> int | None:
    """Which of the faces is the main person's."""
    nose = points[NOSE, :2]
    for index, (x0, y0, x1, y1) in enumerate(faces.tolist()):
        if x0 <= nose[0] <= x1 and y0 <= nose[1] <= y1:
            return index
    return None


def _shared(other: Box, box: Box) -> float:
    """Share of `box` that `other` covers."""
    width = min(other[2], box[2]) - max(other[0], box[0])
    height = min(other[3], box[3]) - max(other[1], box[1])
    return max(width, 0.0) * max(height, 0.0) / max((box[2] - box[0]) * (box[3] - box[1]), 1e-6)


def _round(box: Box, width: int, height: int) -> Box:
    room = ROOM * max(box[2] - box[0], box[3] - box[1])
    return max(box[0] - room, 0.0), max(box[1] - room, 0.0), min(box[2] + room, width), min(box[3] + room, height)
