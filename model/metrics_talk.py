"""Figures of generated talk beside the truth of the same speech: each a number of one clip that is later set in ratio.

All take motion of a person as arrays at `fps`; times are seconds. What a figure should be is said by the same figure of
the truth and of another draw of the truth, never by 0 or 1. Axes: T frames, J joints, D numbers, N moments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.metrics_arrays import Floats, Values, as_array, lengths, same_shape
from model.metrics_speech import pearson

CHUNK = 8  # frames that are generated at once
LIPS_MEET = ("p", "b", "m")
LIPS_APART = frozenset("ktdnszaɑæɡ")  # first letters of phones that no closed mouth can say
AROUND = 0.03  # seconds before and after a phone that its closure may lie in
MET = 90.0  # percentile of the truth's least openings at p, b, m that counts as met
RISE = 0.24  # seconds before an accent in which a stroke moves
LAG = 6  # frames


def jitter(rotations: Values) -> float:
    """Mean |Δ²x| of 6D rotations [T, J, 6] a frame²: what is left of motion that is not smooth."""
    return float(np.abs(np.diff(as_array(rotations), 2, axis=0)).mean())


def seam(rotations: Values, chunk: int = CHUNK) -> float:
    """Mean |Δ²x| over the borders of chunks against that within them; 1 without seams. Rotations [T, J, 6]."""
    x = np.abs(np.diff(as_array(rotations), 2, axis=0)).mean((1, 2))
    phase = np.arange(len(x)) % chunk
    across = phase >= chunk - 2
    return float(x[across].mean() / max(x[~across].mean(), 1e-12))


def series_correlation(predicted: Values, truth: Values) -> float:
    """Mean Pearson r of D series [T, D]; series that the truth does not move are left out, those not moved count 0."""
    p, t = same_shape(predicted, truth)
    moved = [d for d in range(t.shape[1]) if t[:, d].std() > 1e-4]
    return float(np.mean([pearson(p[:, d], t[:, d]) for d in moved])) if moved else float("nan")


def lag_profile(predicted: Values, truth: Values) -> Floats:
    """Pearson r of series [T] at lags -6 … 6 frames: positive where the prediction is late."""
    p, t = same_shape(predicted, truth)
    inner = slice(LAG, len(p) - LAG)
    return np.array([pearson(p[LAG + lag : len(p) - LAG + lag], t[inner]) for lag in range(-LAG, LAG + 1)])


def lag_of(profile: Values, fps: float) -> float:
    """Seconds of the peak of a mean profile, by a parabola through its three highest neighbours."""
    r = as_array(profile)
    k = int(r.argmax())
    if k in (0, len(r) - 1):
        return (k - LAG) / fps
    bend = r[k - 1] - 2 * r[k] + r[k + 1]
    return (k - LAG + 0.5 * (r[k - 1] - r[k + 1]) / min(bend, -1e-9)) / fps


def least_openings(opening: Values, spans: Sequence[tuple[float, float]], fps: float, around: float = AROUND) -> Floats:
    """The least mouth opening [N] during each span (seconds) of a clip; spans that reach beyond it are NaN."""
    x = as_array(opening)
    out = np.full(len(spans), np.nan)
    for index, (start, end) in enumerate(spans):
        first, last = int((start - around) * fps), int((end + around) * fps) + 1
        if first >= 0 and last <= len(x):
            out[index] = x[first : max(last, first + 1)].min()
    return out


def closures(
    opening: Values,  # [T]
    truth: Values,  # [T] of the same clip
    phones: Sequence[tuple[float, float, str]],  # start, end, IPA
    fps: float,
) -> tuple[int, int, int, int]:
    """(p, b, m met, of how many; phones that need open lips but met, of how many); `truth` says what counts as met."""
    meet = [(a, b) for a, b, n in phones if n in LIPS_MEET]
    apart = [(a, b) for a, b, n in phones if n[:1] in LIPS_APART]
    true = least_openings(truth, meet, fps)
    if not np.isfinite(true).any():
        return 0, 0, 0, 0
    limit = np.nanpercentile(true, MET)
    met, wrong = least_openings(opening, meet, fps), least_openings(opening, apart, fps, 0.0)
    count = lambda x: int(np.isfinite(x).sum())  # noqa: E731
    return int((met <= limit).sum()), count(met), int((wrong <= limit).sum()), count(wrong)


def blink_rate(lids: Values, fps: float, closed: float) -> float:
    """Blinks a second: how often lids [T] pass `closed` on their way shut."""
    shut = as_array(lids) > closed
    return float((shut[1:] & ~shut[:-1]).sum() / (len(shut) / fps))


def wrist_speed(joints: Values, fps: float) -> Floats:
    """Mean speed of both wrists of joints [T, 55, 3], [T - 1] m/s."""
    return lengths(np.diff(as_array(joints)[:, [20, 21]], axis=0)).mean(1) * fps


def stroke_response(speed: Values, accents: Sequence[float], fps: float) -> Floats:
    """Rise of the wrists' speed [T - 1] over the clip's mean in the 240 ms before each accent, [N] m/s."""
    v = as_array(speed)
    width = round(RISE * fps)
    at = [int(a * fps) for a in accents]
    return np.array([v[i - width : i].mean() - v.mean() for i in at if width <= i <= len(v)])
