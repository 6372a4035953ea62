"""The person's mask in every picture of a clip: two segmentations fused, fitted to the picture's edges, steady over time.

Pictures are uint8 RGB [H, W, 3]; probabilities float32 [H, W], masks bool [H, W].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.landmarks import PersonFinder, _solutions
from pipelines.media import Picture

Mask = NDArray[np.bool_]  # [H, W]
Probability = NDArray[np.float32]  # [H, W] that a pixel belongs to the person
SIDE = 256  # pixels of the shorter side that the models see: their own resolution
POSE_EVERY = 10  # pictures from one look of the pose model to the next; between them its mask is interpolated
EDGE_RADIUS, EDGE_CONTRAST = 3, (0.017 * 255) ** 2  # of the guided filter: pixels at `SIDE`, variance of grey levels
SPECK = 0.02  # a piece of mask smaller than this share of the largest piece is dropped


class Masker(Protocol):
    name: str

    def __call__(self, picture: Picture) -> Probability:
        """Of a single picture."""
        ...

    def follow(self, pictures: Iterable[Picture]) -> Iterator[Probability]:
        """Of consecutive pictures of one shot, in order; it may read some pictures ahead."""
        ...


class MediapipeMasker:
    """mediapipe's selfie segmentation of every picture, and the pose model's of every tenth.

    The one is sharp at hands but takes furniture for a person, the other the reverse. Where they differ, the geometric
    mean that is mixed in asks for both. IoU on the ten embedded talks that the constants were chosen on 0.949 (selfie
    alone) → 0.973, worst talk 0.78 → 0.92; on ten others (benchmarks/talks_cut.py) 0.978, worst 0.968.
    """

    name = "mediapipe-selfie+pose"

    def __init__(self) -> None:
        self.model = _solutions().selfie_segmentation.SelfieSegmentation(model_selection=0)  # the general one, 256²

    def close(self) -> None:
        self.model.close()

    def __call__(self, picture: Picture) -> Probability:
        return next(self.follow([picture]))

    def follow(self, pictures: Iterable[Picture]) -> Iterator[Probability]:
        with PersonFinder(segment=True, video=True) as finder:  # one for each shot: it follows the person
            waiting: deque[tuple[Picture, tuple[int, int], Probability]] = deque()
            before: Probability | None = None
            for index, picture in enumerate(pictures):
                small = _shrink(picture)
                selfie = np.asarray(self.model.process(small).segmentation_mask, np.float32)
                waiting.append((small, (picture.shape[1], picture.shape[0]), selfie))
                if index % POSE_EVERY == 0:
                    now = _pose_mask(finder, small)
                    yield from _between(waiting, before, now, index if before is None else POSE_EVERY)
                    before = now
            yield from _between(waiting, before, _pose_mask(finder, waiting[-1][0]) if waiting else None, len(waiting))


def smooth_masks(probabilities: Iterable[Probability]) -> Iterator[Mask]:
    """Masks [H, W] of consecutive pictures, one each: weighted 1 6 1 over time, cut at one half, specks dropped."""
    before: Probability | None = None
    now: Probability | None = None
    for after in probabilities:
        if now is not None:
            yield _clean((now if before is None else before) / 8 + now * 0.75 + after / 8 > 0.5)
        before, now = now, after
    if now is not None:
        yield _clean((now if before is None else before) / 8 + now * 0.875 > 0.5)


def _between(
    waiting: deque[tuple[Picture, tuple[int, int], Probability]],
    before: Probability | None,
    after: Probability | None,
    span: int,
) -> Iterator[Probability]:
    """Empty `waiting`: the pictures after the one that `before` is of, `span` pictures long, to the one of `after`."""
    for step in range(1, len(waiting) + 1):
        small, size, selfie = waiting.popleft()
        ends = [(p, w) for p, w in ((before, 1 - step / max(span, 1)), (after, step / max(span, 1))) if p is not None]
        total = sum(w for _, w in ends)
        pose = sum((p * np.float32(w / total) for p, w in ends), np.float32(0)) if total > 0 else selfie
        yield _fuse(small, size, selfie, np.asarray(pose, np.float32))


def _fuse(small: Picture, size: tuple[int, int], selfie: Probability, pose: Probability) -> Probability:
    mixed = (selfie + pose) / 4 + np.sqrt(np.clip(selfie * pose, 0, 1)) / 2
    fitted = cv2.ximgproc.guidedFilter(small, np.asarray(mixed, np.float32), EDGE_RADIUS, EDGE_CONTRAST)
    if fitted.shape[::-1] != size:
        fitted = cv2.resize(fitted, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(fitted, 0, 1), np.float32)  # the filter overshoots a little


def _pose_mask(finder: PersonFinder, small: Picture) -> Probability | None:
    found = finder.person(small)
    return None if found is None or found[1] is None else np.asarray(found[1], np.float32)


def _shrink(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = SIDE / min(height, width)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    size = round(width * scale), round(height * scale)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _clean(mask: Mask) -> Mask:
    """Without the pieces that are small beside the largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= SPECK * areas.max())[labels] & mask
