"""Where the person is: presence, box and mask of the speaker in a picture.

Two interfaces, so that another detector can take mediapipe's place: a `Finder` looks at single pictures (to choose
stretches and crops), a `Masker` at every picture of a clip. Pictures are uint8 RGB [H, W, 3], boxes x0 y0 x1 y1 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.landmarks import PersonFinder, _solutions
from pipelines.media import Picture

Mask = NDArray[np.bool_]  # [H, W]
VISIBLE = 0.5  # a landmark of less visibility does not widen the box
SAME_SIZE = 0.6  # a second face of at least this share of the largest one's height is a second person
SPECK = 0.02  # a piece of mask smaller than this share of the largest piece is dropped


@dataclass(frozen=True)
class Sighting:
    """What one picture shows."""

    box: tuple[float, float, float, float] | None  # of the main person, inside the picture; None: nobody
    people: int = 0
    score: float = 0.0  # 0..1, mean visibility of the upper body's landmarks


class Finder(Protocol):
    def __call__(self, picture: Picture) -> Sighting: ...


class Masker(Protocol):
    name: str

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """Probability [H, W] that a pixel belongs to the person."""
        ...


class MediapipeFinder:
    """mediapipe's pose (with its segmentation) for the main person's box, its face detector to count people."""

    def __init__(self) -> None:
        self.detector = PersonFinder(segment=True)

    def __call__(self, picture: Picture) -> Sighting:
        height, width = picture.shape[:2]
        faces = self.detector.faces(picture)
        heights = faces[:, 3] - faces[:, 1]
        people = int((heights >= SAME_SIZE * heights.max()).sum()) if len(faces) else 0
        found = self.detector.person(picture)
        if found is None:
            return Sighting(None, people)
        points, mask = found
        score = float(points[:13, 2].mean())  # face and shoulders
        seen = points[points[:, 2] > VISIBLE, :2]
        rows, columns = np.nonzero(mask > 0.5) if mask is not None else (np.zeros(0), np.zeros(0))
        xs, ys = np.concatenate([seen[:, 0], columns]), np.concatenate([seen[:, 1], rows])
        if score < VISIBLE or not len(xs):
            return Sighting(None, people, score)
        x0, x1 = np.clip([xs.min(), xs.max() + 1], 0, width)
        y0, y1 = np.clip([ys.min(), ys.max() + 1], 0, height)
        return Sighting((float(x0), float(y0), float(x1), float(y1)), max(people, 1), score)


class MediapipeMasker:
    """mediapipe's selfie segmentation (general model, 256² inside)."""

    name = "mediapipe-selfie-segmentation"

    def __init__(self) -> None:
        self.model = _solutions().selfie_segmentation.SelfieSegmentation(model_selection=0)

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        return np.asarray(self.model.process(picture).segmentation_mask, np.float32)


def smooth_masks(probabilities: Iterable[NDArray[np.float32]]) -> Iterator[Mask]:
    """Masks [H, W] of consecutive pictures, one each: weighted 1 2 1 over time, cut at one half, specks dropped."""
    before: NDArray[np.float32] | None = None
    now: NDArray[np.float32] | None = None
    for after in probabilities:
        if now is not None:
            yield _clean((now if before is None else before) / 4 + now / 2 + after / 4 > 0.5)
        before, now = now, after
    if now is not None:
        yield _clean((now if before is None else before) / 4 + now * 0.75 > 0.5)


def _clean(mask: Mask) -> Mask:
    """Without the pieces that are small beside the largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= SPECK * areas.max())[labels] & mask
