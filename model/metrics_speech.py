"""Figures of motion beside speech: beats, the mouth and the voice, visemes. Each states its formula, unit and source.

Alignment can come about by chance: read each beside the same figure with another clip's speech.
Axes: T frames, J joints, S audio samples, N moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from model.metrics_arrays import Floats, Values, as_array, lengths, same_shape

# the 13 joints of the body whose beats EMAGE counts: spine, neck, head, collars, shoulders, elbows, wrists
BEAT_JOINTS = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
BEAT_SIGMA = 0.3  # seconds
BEAT_ORDER = 7  # frames each side within which a minimum of speed is the least
BEAT_SPEED = 0.3  # of the joint's mean speed: slower minima are rests
BEAT_MARGIN = 2.0  # seconds dropped at both ends
SPECTRA = 64  # that are worked on at once: what fits a processor's cache
VISEMES = {
    letter: kind
    for kind, letters in {
        "closed": "pbm", "lip-teeth": "fvɱ", "round": "wuʊoɔɒʉɹɥʍʃʒ", "open": "aæɑʌɐ", "spread": "iɪeɛjɨ", "mid": "əɜɚɝɘø",
        "tongue": "tdszθðnlɾrkɡgŋhçxʔ",
    }.items()
    for letter in letters
}  # fmt: skip


def beat_consistency(
    joints: Values,  # [T, 55, 3] metres
    audio: Values,  # [S] mono
    fps: float,
    sample_rate: int = 16000,
    mean_speed: Values | None = None,  # [55] m/s of the corpus; none: of this clip
) -> float:
    """BC (EMAGE's): mean over 13 joints of (1/|A|) Σ_a exp(−minₘ (a − m)² / 2σ²), σ = 0.3 s; 0..1.

    A: onsets of the speech; m: times of the joint's beats, the local minima of its speed within ±7 frames whose speed
    is over 0.3 of its mean. The first and the last 2 s are dropped. A joint without beats counts 0. NaN where nothing,
    or no onset, is left in between. It cannot tell right from wrong speech: never read it alone.
    """
    beats = motion_beats(joints, fps, mean_speed)
    return beat_alignment(beats, onset_times(audio, sample_rate), len(as_array(joints)) / fps)


def motion_beats(joints: Values, fps: float, mean_speed: Values | None = None) -> list[Floats]:
    """Seconds of the beats of each of the 13 joints; see `beat_consistency`."""
    x = as_array(joints)[:, list(BEAT_JOINTS)]
    # central differences
    speed = lengths(np.gradient(x, 1 / fps, axis=0))  # [T, 13]
    usual = speed.mean(0) if mean_speed is None else as_array(mean_speed)[list(BEAT_JOINTS)]
    first, last = math.ceil(BEAT_MARGIN * fps), math.floor((len(x) / fps - BEAT_MARGIN) * fps)
    if last <= first:
        return [np.zeros(0) for _ in BEAT_JOINTS]
    beats = _minima(speed[first:last], BEAT_ORDER) & (speed[first:last] > BEAT_SPEED * usual)
    return [(first + np.flatnonzero(beats[:, j]) + 0.5) / fps for j in range(len(BEAT_JOINTS))]


def beat_alignment(beats: list[Floats], onsets: Floats, seconds: float) -> float:
    """The score of `beat_consistency` for beats and onsets (seconds) of a clip that long."""
    onsets = onsets[(onsets >= BEAT_MARGIN) & (onsets < seconds - BEAT_MARGIN)]
    if len(onsets) == 0:
        return math.nan
    scores = []
    for times in beats:
        gaps = np.abs(onsets[:, None] - times).min(1) if len(times) else np.full(len(onsets), np.inf)
        scores.append(np.exp(-np.square(gaps) / (2 * BEAT_SIGMA**2)).mean())
    return float(np.mean(scores))


def onset_times(audio: Values, sample_rate: int = 16000) -> Floats:
    """Times at which a sound begins, seconds: peaks of the spectral flux (Böck et al. 2012), 32 ms windows every 10 ms.

    Flux: mean rise of the log power of 40 bands, relative to the clip's largest. A peak is the largest within ±30 ms,
    exceeds the mean over ±100 ms by 0.07, and comes 30 ms after the last: the constants of librosa's onset_detect.
    """
    sound = as_array(audio)
    if sound.ndim != 1:
        raise ValueError(f"onset_times: expected mono audio [S], got shape {sound.shape}")
    size, hop = round(0.032 * sample_rate), round(0.010 * sample_rate)
    padded = np.pad(sound, size // 2)
    if len(sound) < size or not np.any(sound):
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, half = np.hanning(size), size // 2 + 1
    edges = np.unique(np.round(np.geomspace(2, half, 41)).astype(int))
    which = np.arange(half)[:, None]
    member = ((which >= edges[:-1]) & (which < edges[1:])).astype(np.float64)  # as a product half the time of np.add.reduceat
    bands = np.empty((len(frames), len(edges) - 1))
    for k in range(0, len(frames), SPECTRA):
        spectrum = fft.rfft(frames[k : k + SPECTRA] * window)
        bands[k : k + SPECTRA] = (np.square(spectrum.real) + np.square(spectrum.imag)) @ member
    bands = 10 * np.log10(np.maximum(bands, bands.max() * 1e-8))
    flux = np.maximum(np.diff(bands, axis=0, prepend=bands[:1]), 0).mean(1)
    flux /= max(flux.max(), 1e-12)
    around = lambda radius: np.lib.stride_tricks.sliding_window_view(np.pad(flux, radius), 2 * radius + 1)  # noqa: E731
    peaks = np.flatnonzero((flux == around(3).max(1)) & (flux >= around(10).mean(1) + 0.07))
    kept: list[int] = []
    for peak in peaks:
        if not kept or peak - kept[-1] > 3:
            kept.append(int(peak))
    return np.array(kept, np.float64) * hop / sample_rate


@dataclass(frozen=True)
class LaggedCorrelation:
    """Pearson's r of two series, as they are and at the lag where it is largest."""

    r: float
    best_r: float
    lag: float  # seconds by which the mouth comes after the speech (negative: before)


def mouth_audio_correlation(
    opening: Values,  # [T] of the mouth, any unit
    energy: Values,  # [T] of the speech at the same frames
    fps: float,
    max_lag: float = 0.4,
) -> LaggedCorrelation:
    """Pearson correlation of mouth opening and speech energy at lag 0, and the largest within ±`max_lag` seconds.

    Each lag is judged on the frames that both series have then. A mouth that never moves correlates 0 with anything.
    """
    mouth, speech = same_shape(opening, energy)
    reach = round(max_lag * fps)
    if mouth.ndim != 1 or len(mouth) < 2 * reach + 3:
        raise ValueError(f"mouth_audio_correlation: expected [T ≥ {2 * reach + 3}], got shape {mouth.shape}")
    # nearest lags first, so that a tie (a frozen mouth) goes to lag 0
    lags = sorted(range(-reach, reach + 1), key=abs)
    rs = _lagged(mouth, speech, lags)
    best = int(np.argmax(rs))
    return LaggedCorrelation(r=rs[0], best_r=rs[best], lag=lags[best] / fps)


def pearson(first: Values, second: Values) -> float:
    """Pearson's r of two series [T], −1..1; 0 where one of them is constant."""
    return _pearson(*same_shape(first, second))


class Visemes:
    """What mouth shape goes with which kind of sound, learned from the truth; and how often another mouth has the right one.

    Every kind has the mean of its mouth features; a mouth shape is taken for the kind with the nearest mean, distances in
    units of the features' spread within a kind. Accuracy is the mean over kinds of the share that is recognised, so that
    silence and open vowels do not decide it. The truth's own accuracy is what can be reached; chance is 1 / kinds.
    """

    def __init__(self, features: Values, kinds: Sequence[str]):  # [N, D]
        x, self.names = as_array(features), sorted(set(kinds))
        which = np.array([self.names.index(k) for k in kinds])
        if x.ndim != 2 or len(x) != len(which) or len(self.names) < 2:
            raise ValueError(f"Visemes: expected features [N, D] of two kinds of sound or more, got {x.shape} and {self.names}")
        self.centres = np.stack([x[which == k].mean(0) for k in range(len(self.names))])
        self.spread = np.maximum((x - self.centres[which]).std(0), 1e-9)

    def accuracy(self, features: Values, kinds: Sequence[str]) -> float:
        """Of mouth features [N, D] where sounds of these kinds are spoken, 0..1; kinds that were not learned do not count."""
        known = [i for i, k in enumerate(kinds) if k in self.names]
        if not known:
            return math.nan
        x, which = as_array(features)[known], np.array([self.names.index(kinds[i]) for i in known])
        nearest = np.square((x[:, None] - self.centres) / self.spread).sum(-1).argmin(1)
        return float(np.mean([(nearest[which == k] == k).mean() for k in np.unique(which)]))


def viseme_of(phone: str) -> str:
    """The kind of mouth that an IPA phone (or 'sil') is spoken with, by its first letter that has one."""
    if phone in ("", "sil", "sp", "spn"):
        return "silence"
    return next((VISEMES[letter] for letter in phone if letter in VISEMES), "tongue")


# --- helpers


def _lagged(mouth: Floats, speech: Floats, lags: Sequence[int]) -> list[float]:
    """`_pearson` at every lag, over the moments that both series have then."""
    count, reach = len(mouth), max(lags)
    later = np.array(lags)[:, None] + np.arange(count)  # [L, T] the mouth's moment for each of the speech's
    both = (later >= 0) & (later < count)
    a, b = np.where(both, np.pad(mouth, reach)[later + reach], 0.0), np.where(both, speech, 0.0)
    number = both.sum(1)
    peaks = np.abs(a).max(1) * np.abs(b).max(1)
    a, b = (np.where(both, x - (x.sum(1) / number)[:, None], 0.0) for x in (a, b))
    scale = np.sqrt(np.einsum("lt,lt->l", a, a) * np.einsum("lt,lt->l", b, b))
    noise = 1e-12 * number * (1 + peaks)
    products = np.einsum("lt,lt->l", a, b)
    return np.where(scale > noise, products / np.maximum(scale, noise), 0.0).tolist()


def _pearson(first: Floats, second: Floats) -> float:
    a, b = first - first.sum() / len(first), second - second.sum() / len(second)
    scale = math.sqrt(float(a @ a) * float(b @ b))
    noise = 1e-12 * len(a) * (1 + float(np.abs(first).max()) * float(np.abs(second).max()))
    return float(a @ b) / scale if scale > noise else 0.0


def _minima(series: Floats, order: int) -> NDArray[np.bool_]:
    """[T, J]: whether a value is strictly under all others within `order` frames; never so at the ends."""
    result = np.ones(series.shape, bool)
    for shift in range(1, order + 1):
        later = np.concatenate([series[shift:], np.repeat(series[-1:], min(shift, len(series)), 0)])
        earlier = np.concatenate([np.repeat(series[:1], min(shift, len(series)), 0), series[:-shift]])
        result &= (series < later[: len(series)]) & (series < earlier[: len(series)])
    return result
