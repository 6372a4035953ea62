"""Curves over time, sampled RATE times a second: chance that wanders, pulses, and paths through key poses.

N samples, C channels; times and durations in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

RATE = 100  # samples a second
Curve = NDArray[np.float64]


def times(count: int) -> Curve:
    return (np.arange(count) + 0.5) / RATE


def smooth(curve: Curve, seconds: float) -> Curve:
    """Gaussian of standard deviation `seconds` along the first axis."""
    return gaussian_filter1d(curve, seconds * RATE, axis=0, mode="nearest")


def wander(rng: np.random.Generator, count: int, amount: ArrayLike, persistence: float, smoothing: float) -> Curve:
    """Ornstein-Uhlenbeck noise [N] or, where `amount` is [C], [N, C]: standard deviation, correlation time, smoothing."""
    amount = np.asarray(amount, float)
    keep = np.exp(-1 / RATE / persistence)
    noise = rng.normal(0, 1, (count, *amount.shape)) * np.sqrt(1 - keep**2)
    noise[0] = rng.normal(0, 1, amount.shape)
    return smooth(lfilter([1], [1, -keep], noise, axis=0), smoothing) * amount


def min_jerk(u: ArrayLike) -> Curve:
    """0 → 1 with velocity and acceleration zero at both ends."""
    x: Curve = np.clip(np.asarray(u, float), 0.0, 1.0)
    return x * x * x * (10.0 - 15.0 * x + 6.0 * x * x)


def pulse(count: int, peak: float, rise: float, hold: float, fall: float) -> Curve:
    """0 → 1 → 0, at the top from `peak` to `peak + hold`."""
    t = times(count)
    return min_jerk((t - peak + rise) / rise) * (1 - min_jerk((t - peak - hold) / fall))


def through(keys: Sequence[tuple[float, NDArray[np.float64]]], count: int) -> Curve:
    """Minimum-jerk path [N, C] through (time, pose [C]) keys in order of time; constant before and after."""
    when = np.array([k[0] for k in keys])
    poses = np.array([k[1] for k in keys])
    if np.any(np.diff(when) <= 0):
        raise ValueError(f"keys must be in order of time, got {when.round(3).tolist()}")
    if len(keys) == 1:
        return np.repeat(poses, count, 0)
    t = times(count)
    i = np.clip(np.searchsorted(when, t, side="right") - 1, 0, len(when) - 2)
    weight = min_jerk((t - when[i]) / (when[i + 1] - when[i]))[:, None]
    return poses[i] * (1 - weight) + poses[i + 1] * weight
