"""Errors of a moving face: squared, absolute, and of velocities. Lengths are metres; vertices [T, V, 3], T frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model.metrics_arrays import Values, as_array, lengths

BLOCK = 16  # frames that are compared at once: what fits a processor's cache


@dataclass(frozen=True)
class FaceErrors:
    """See the function of each name."""

    face_mse: float
    lvd_emage: float
    lvd_evaltools: float
    lvd_talkshow: float


def face_errors(predicted: Values, truth: Values) -> FaceErrors:
    """All figures of vertices [T, V, 3] in one pass over them."""
    p, t = np.asarray(predicted), np.asarray(truth)
    if p.shape != t.shape or p.ndim != 3 or p.shape[-1] != 3:
        raise ValueError(f"expected vertices [T, V, 3] of one shape, got {p.shape} and {t.shape}")
    squares = distances = changes = speeds = 0.0
    for k in range(0, len(p), BLOCK):
        a, b = (as_array(x[k : k + BLOCK + 1]) for x in (p, t))  # the next block's first frame ends this one's last step
        apart = a - b
        inside = apart[:BLOCK].ravel()
        squares += float(inside @ inside)
        distances += float(np.abs(inside).sum())
        changes += float(np.abs(apart[1:] - apart[:-1]).sum())
        speeds += float(np.abs(lengths(a[1:] - a[:-1]) - lengths(b[1:] - b[:-1])).sum())
    steps = len(p) - 1
    return FaceErrors(squares / p.size, distances / p.size, changes / p.size, speeds / steps if steps else math.nan)


def face_mse(predicted: Values, truth: Values) -> float:
    """Mean squared difference of coordinates of face vertices, m²; papers print it ×1e8."""
    return face_errors(predicted, truth).face_mse


def lvd_emage(predicted: Values, truth: Values) -> float:
    """Mean |predicted − truth| of coordinates of face vertices, metres; papers print it ×1e5.

    What EMAGE's trainer prints as LVD: its formula reduces to this, which is no velocity. See `lvd_talkshow`.
    """
    return face_errors(predicted, truth).lvd_emage


def lvd_talkshow(predicted: Values, truth: Values) -> float:
    """Mean over frames of Σ over vertices |‖Δpredicted‖ − ‖Δtruth‖|, metres a frame; papers print it ×1e5.

    TalkSHOW's landmark velocity difference. It sums over vertices, so only equal vertex sets compare.
    """
    return face_errors(predicted, truth).lvd_talkshow


def lvd_evaltools(predicted: Values, truth: Values) -> float:
    """Mean |Δpredicted − Δtruth| of coordinates of face vertices, metres a frame; papers print it ×1e5.

    What EMAGE's released `emage_evaltools` computes: a velocity difference that, unlike TalkSHOW's, sees directions. Its
    mean is over T·V·3 numbers although there are T − 1 differences, and so it is here.
    """
    return face_errors(predicted, truth).lvd_evaltools
