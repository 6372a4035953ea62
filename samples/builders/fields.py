"""Scalar fields over template space from which cuts and colours are made: steps, bumps, repeats, noise."""

from __future__ import annotations

import numpy as np
from numba import njit

_LATTICE = np.random.default_rng(7).uniform(-1, 1, (64, 64, 64))


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours a and b [N, 3] (or [3]) blended by a share of b [N]."""
    return a * (1 - share[:, None]) + b * share[:, None]


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2))


def fold(x: np.ndarray, period: float) -> np.ndarray:
    """Distance from the nearest multiple of the period, signed."""
    return x - np.round(x / period) * period


def band(x: np.ndarray, share: float) -> np.ndarray:
    """1 on a share of each unit, soft edges."""
    return smoothstep(share / 2 + 0.02, share / 2 - 0.02, np.abs(fold(x, 1.0)))


def noise(q: np.ndarray) -> np.ndarray:
    """Smooth value noise of [N, 3] in −1..1, one unit a cell."""
    return _noise(np.ascontiguousarray(q, np.float64), _LATTICE)


def speckle(cells: np.ndarray) -> np.ndarray:
    """One random number 0..1 for each integer cell [N, 2]."""
    i = np.floor(cells).astype(np.int64)
    return (_LATTICE[i[:, 0] % 64, i[:, 1] % 64, (i[:, 0] // 64 + i[:, 1] // 64) % 64] + 1) / 2


@njit(cache=True)
def _noise(q, lattice):
    out = np.zeros(len(q))
    for i in range(len(q)):
        x, y, z = np.floor(q[i, 0]), np.floor(q[i, 1]), np.floor(q[i, 2])
        u, v, w = q[i, 0] - x, q[i, 1] - y, q[i, 2] - z
        u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
            out[i] += weight * lattice[(int(x) + a) % 64, (int(y) + b) % 64, (int(z) + c) % 64]
    return out
