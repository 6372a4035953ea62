"""What a clip's landmarks say of trunk and arms, as numbers that a network reads: features of each frame and of the clip.

Everything is given as of a left arm: the right arm is read as the left arm of a mirrored person, so that each clip is two
examples. World axes (x to the person's left when they face the camera, y up, z towards the camera); lengths in the picture
are in units of the face's size, which hardly changes from person to person.

Axis legend: `T` frames, `F` features, `P` proportions, `S` sides (0 left, 1 right).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

Array = NDArray[Any]
UP = np.array([1.0, -1.0, -1.0])  # camera axes → world axes
MIRROR = np.array([-1.0, 1.0, 1.0])
NEAR = 0.2  # seconds before and after a frame that its neighbourhood reaches
POSE = (11, 12, 13, 14, 15, 16, 23, 24, 0, 7, 8, 19, 20, 2, 5)  # shoulders, elbows, wrists, hips, nose, ears, fingers, eyes
BONES = ((11, 13), (13, 15), (12, 14), (14, 16), (12, 11), (23, 11), (24, 12), (24, 23))
SEEN = (13, 14, 15, 16, 23, 24)
_OTHER = {2: 5, 5: 2, 0: 0}  # pose landmarks whose mirror image is not the neighbour of the other parity
_FACE_OTHER = {33: 263, 263: 33, 234: 454, 454: 234, 10: 10, 152: 152}
LEFT_EYE, RIGHT_EYE, LEFT_CHEEK, RIGHT_CHEEK, FOREHEAD, CHIN = 263, 33, 454, 234, 10, 152
SPANS = ((11, 13), (13, 15), (12, 14), (14, 16), (11, 15), (12, 16))  # upper arms, forearms, whole arms in the picture
LONGEST = 90  # percentile over the clip that counts as a span's full length
FACE_SHAPE = (*range(0, 468, 4), 468, 473)  # face points that tell its shape
FORESHORTENED = 0.75  # bones that point nearer to the camera than this say nothing of their length
LIKELY = 0.5  # visibility from which hips count


class Detected(Protocol):
    """Landmarks of a clip, as `pipelines.landmarks.Landmarks` holds them: pixels, camera axes, NaN where not found."""

    @property
    def pose(self) -> Array: ...  # [T, 33, 3]
    @property
    def visibility(self) -> Array: ...  # [T, 33]
    @property
    def pose_world(self) -> Array: ...  # [T, 33, 3] metres
    @property
    def face(self) -> Array: ...  # [T, 478, 3]
    @property
    def left_hand(self) -> Array: ...  # [T, 21, 3]
    @property
    def right_hand(self) -> Array: ...  # [T, 21, 3]
    @property
    def size(self) -> Array: ...  # [2]
    @property
    def fps(self) -> Array: ...  # [2]


def clip_features(found: Detected) -> Array:  # [S, T, 3 F]
    """Of each side: the frame's features, how their neighbourhood differs from it, and how the clip's mean does."""
    rate = float(found.fps[0]) / float(found.fps[1])
    window = 2 * max(1, round(rate * NEAR)) + 1
    sides = []
    for side in (0, 1):
        x = _filled(_frame_features(found, side))
        near, mean = uniform_filter1d(x, window, axis=0, mode="nearest"), _column_means(x)
        sides.append(np.concatenate([x, near - x, mean - x], 1))
    return np.stack(sides).astype(np.float32)


def unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def proportions(found: Detected, directions: Array) -> Array:  # [T, S, D, 3] of `fit_lift.BONES` → [P]
    """Logarithms of lengths in the picture over the distance of the eyes, percentiles over the clip; NaN: never seen."""
    pose, face = found.pose[..., :2].astype(np.float64), found.face.astype(np.float64)
    hands = np.concatenate([found.left_hand, found.right_hand]).astype(np.float64)
    across = lambda i, j: np.linalg.norm(pose[:, i] - pose[:, j], axis=-1)  # noqa: E731
    on_face = lambda i, j: np.linalg.norm(face[:, i] - face[:, j], axis=-1)  # noqa: E731
    of_hand = lambda i, j, axes: np.linalg.norm((hands[:, i] - hands[:, j])[:, :axes], axis=-1)  # noqa: E731
    shoulders, hips = (pose[:, 11] + pose[:, 12]) / 2, (pose[:, 23] + pose[:, 24]) / 2
    seen = (found.visibility[:, [23, 24]].mean(1) > LIKELY) & (hips[:, 1] < found.size[1])
    only = lambda x: np.where(seen, x, np.nan)  # noqa: E731
    there = (found.visibility > LIKELY) & ((pose > 0) & (pose < found.size)).all(-1)
    arms = {  # joint that the bone starts at, of the left arm → lengths of both sides where the bone is seen, frames one after the other
        a: np.concatenate([np.where(there[:, a + s] & there[:, a + s + 2], across(a + s, a + s + 2), np.nan) for s in (0, 1)])
        for a in (11, 13)
    }  # fmt: skip
    both = directions.transpose(1, 0, 2, 3).reshape(-1, *directions.shape[2:])
    upper, lower = _stretched(arms[11], both[:, 0]), _stretched(arms[13], both[:, 1])
    width = _stretched(across(11, 12), directions[:, 0, 2])
    elbows = np.where(there[:, 13] & there[:, 14], across(13, 14), np.nan)
    lengths = [
        (on_face(33, 263), 50), (on_face(234, 454), 50), (on_face(10, 152), 50), (on_face(168, 152), 50), (on_face(1, 152), 50),
        (on_face(133, 362), 50), (on_face(61, 291), 50), (on_face(468, 473), 50), (width, 50), (upper, 50), (lower, 50),
        (only(np.linalg.norm(hips - shoulders, axis=-1)), 50), (np.abs((face[:, 152, :2] - shoulders)[:, 1]), 50),
        (np.abs((face[:, 168, :2] - shoulders)[:, 1]), 50), (across(7, 8), 50), (of_hand(5, 17, 3), 75), (of_hand(0, 9, 3), 75),
        (of_hand(0, 9, 2), 90), (only(across(23, 24)), 50), (elbows, 50),
        *((arms[a], q) for a in (11, 13) for q in (90, 98)),
    ]  # fmt: skip
    logs = np.log([max(_percentile(values, q), 1e-3) for values, q in lengths])
    return logs[1:] - logs[0]


def face_shape(found: Detected, like: Array) -> Array:  # [K, 3] about its middle → [3 K]
    """How the points `FACE_SHAPE` differ from `like`, over which each frame is laid by a similarity; median over the clip."""
    points = found.face[:, FACE_SHAPE].astype(np.float64)
    points = points[np.isfinite(points).all((1, 2))]
    if not len(points):
        return np.full(like.size, np.nan)
    points = points - points.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(points.transpose(0, 2, 1) @ like)
    mirror = np.ones_like(s)
    mirror[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (s * mirror).sum(1) / np.square(points).sum((1, 2))
    laid = scale[:, None, None] * points @ ((u * mirror[:, None]) @ vt)
    return (np.median(laid, 0) - like).ravel()


def _stretched(length: Array, direction: Array) -> Array:
    """Lengths in the picture → as if the bone lay in the picture's plane; NaN where it points at the camera."""
    away = direction[:, 2]
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(away) < FORESHORTENED, length / np.sqrt(np.maximum(1 - away**2, 0.3)), np.nan)


def _percentile(values: Array, q: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, q)) if len(known) else float("nan")


def _frame_features(found: Detected, side: int) -> Array:  # [T, F]
    to_left = UP * (MIRROR if side else np.ones(3))
    pose, world, face = (x.astype(np.float64) * to_left for x in (found.pose, found.pose_world, found.face))
    own, other = ((found.left_hand, found.right_hand) if side == 0 else (found.right_hand, found.left_hand))  # fmt: skip
    at = lambda i: pose[:, _mirrored(i) if side else i]  # noqa: E731
    metres = lambda i: world[:, _mirrored(i) if side else i]  # noqa: E731
    on_face = lambda i: face[:, _FACE_OTHER[i] if side else i]  # noqa: E731
    between = lambda i, j: np.linalg.norm(on_face(i) - on_face(j), axis=-1)  # noqa: E731
    face_size = np.cbrt(between(LEFT_CHEEK, RIGHT_CHEEK) * between(FOREHEAD, CHIN) * between(LEFT_EYE, RIGHT_EYE))
    width = np.linalg.norm((at(11) - at(12))[:, :2], axis=-1)
    typical = np.nanmedian(face_size) if np.isfinite(face_size).any() else _percentile(width, 50) / 2.2
    middle, centre = (at(11) + at(12)) / 2, (metres(11) + metres(12)) / 2
    out = [(at(i) - middle) / typical for i in POSE]
    out += [metres(i) - centre for i in POSE]
    out += [unit(metres(b) - metres(a)) for a, b in BONES]
    out.append(np.stack([found.visibility[:, _mirrored(i) if side else i] for i in SEEN], 1))
    out += [unit(on_face(LEFT_EYE) - on_face(RIGHT_EYE)), unit(on_face(FOREHEAD) - on_face(CHIN))]
    with np.errstate(divide="ignore"):
        out.append(np.log(np.stack([face_size, width], 1) / typical))
    spans = np.stack([np.linalg.norm((at(i) - at(j))[:, :2], axis=-1) for i, j in SPANS], 1)
    longest = np.array([_percentile(span, LONGEST) for span in spans.T])
    out += [np.log(np.maximum(spans / typical, 0.05)), spans / np.maximum(longest, 1e-3), spans / max(_percentile(width, 50), 1e-3)]
    for hand in (own, other):
        out += _hand_features(hand.astype(np.float64) * to_left, middle, typical)
    return np.concatenate(out, 1)


def _hand_features(hand: Array, middle: Array, typical: float) -> list[Array]:
    """Where a hand [T, 21, 3] is, how large, and which way palm and fingers face."""
    seen = np.isfinite(hand[:, :1, 0])
    flat = lambda i, j: np.linalg.norm((hand[:, i] - hand[:, j])[:, :2], axis=-1, keepdims=True)  # noqa: E731
    deep = lambda i, j: np.linalg.norm(hand[:, i] - hand[:, j], axis=-1, keepdims=True)  # noqa: E731
    largest = np.concatenate([deep(0, 9), deep(5, 17), deep(0, 5), deep(0, 17)], 1).max(1, keepdims=True)
    palm = unit(np.cross(hand[:, 5] - hand[:, 0], hand[:, 17] - hand[:, 0]))
    place = (hand[:, 0] - middle)[:, :2]
    size = np.log(np.maximum(largest / typical, 1e-3))
    return [place / typical, flat(9, 0) / typical, flat(5, 17) / typical, palm, unit(hand[:, 9] - hand[:, 0]), size, seen * 1.0]


def _mirrored(landmark: int) -> int:
    return _OTHER.get(landmark, landmark + (1 if landmark % 2 else -1))


def _filled(x: Array) -> Array:
    """Gaps in time [T, F] bridged by straight lines; columns without any value stay NaN."""
    x, frames = x.copy(), np.arange(len(x))
    for column in x.T:
        known = np.isfinite(column)
        if known.any() and not known.all():
            column[:] = np.interp(frames, frames[known], column[known])
    return x


def _column_means(x: Array) -> Array:
    return np.where(np.isnan(x).all(0), np.nan, np.nan_to_num(x).mean(0))
