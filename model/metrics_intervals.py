"""How far a mean can be trusted: bootstrap intervals over speakers.

Clips of one speaker are alike, so speakers are drawn, with all their clips: the cluster bootstrap (Davison & Hinkley 1997,
section 3.8), percentile intervals. Axes: N clips, S speakers, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from model.metrics_arrays import Floats, Values, as_array


@dataclass(frozen=True)
class Interval:
    """A mean over clips, and where it lies with 95 % confidence; no bounds with fewer than two speakers."""

    value: float
    low: float | None
    high: float | None


def speaker_bootstrap(values: Values, speakers: Sequence[str], resamples: int = 1000, seed: int = 0) -> Interval:
    """Mean of clips' values [N] and its interval; clips without a value (NaN) do not count."""
    x = as_array(values)
    if x.ndim != 1 or len(x) != len(speakers):
        raise ValueError(f"speaker_bootstrap: expected a value and a speaker for each clip, got {x.shape} and {len(speakers)}")
    names = sorted({s for s, v in zip(speakers, x, strict=True) if np.isfinite(v)})
    if not names:
        raise ValueError("speaker_bootstrap: expected at least one finite value, got none")
    finite = np.isfinite(x)
    which = np.array([names.index(s) if ok else -1 for s, ok in zip(speakers, finite, strict=True)])[finite]
    sums = np.bincount(which, x[finite], len(names))
    counts = np.bincount(which, minlength=len(names))
    value = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Interval(value, None, None)
    drawn = speaker_draws(len(names), resamples, seed)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return Interval(value, float(low), float(high))


@lru_cache(maxsize=8)  # every figure of every row draws alike
def speaker_draws(speakers: int, resamples: int = 1000, seed: int = 0) -> Floats:
    """How often each speaker is drawn in each resample, [R, S]."""
    drawn = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), resamples).astype(np.float64)
    drawn.flags.writeable = False
    return drawn
