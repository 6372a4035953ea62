"""The offline audio features: numpy and scipy only, the same on every machine.

Every constant is fixed, so that a stream gives the features of the file; the one number taken from the clip is its
level (pass `level` to fix that too). Axis legend: T frames, Q sub-frames a frame, S samples, M mel bands.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

SAMPLE_RATE = 16000
BANDS = 64
CHANNELS = BANDS + 4  # log-mel bands, log-energy, pitch, voicing, onset
WINDOW = 400  # samples: 25 ms of spectrum
TRANSFORM = 512
HOP_SECONDS = 0.010  # sub-frames lie at most this far apart; a frame's spectrum is the mean over its sub-frames
LOWEST, HIGHEST = 60.0, 7600.0  # Hz, of the mel bands
PITCH_WINDOW = 640  # samples: 40 ms, two periods of the lowest pitch
PITCH_RANGE = (60.0, 420.0)  # Hz
PITCH_CENTRE = 150.0  # Hz that reads as pitch 0; one octave up reads as 1
PREEMPHASIS = 0.97
FLOOR = 1e-8  # power below which a band counts as silent
TARGET_RMS = 0.08  # of a clip's loud parts
BLOCK = 1500  # frames worked on at once
LOUD = 95  # percentile of the sub-frames' energies that counts as loud
# fixed scaling to about zero mean and unit variance on read speech
MEL_MEAN, MEL_SCALE = -13.6, 2.9
ENERGY_MEAN, ENERGY_SCALE = -8.4, 2.9
ONSET_SCALE = 0.35

Array = NDArray[np.float64]


def offline_features(audio: NDArray[np.float32], fps: Fraction, frames: int, level: float | None = None) -> NDArray[np.float32]:
    """`audio` [S] at 16000 Hz → features [frames, 68] at the frames' centres; what lies outside `audio` is silence.

    Channels: 0..63 log-mel (60..7600 Hz), 64 log-energy, 65 pitch in octaves from 150 Hz (0 where unvoiced),
    66 voicing 0..1, 67 onset (mean rise of the log-mel bands from one sub-frame to the next).
    `level`: factor on the audio; None takes the one that brings the loud parts to a fixed RMS.
    """
    level = loudness_factor(audio) if level is None else level
    starts = range(0, frames, BLOCK)  # in blocks: an hour's windows at once would fill the memory
    return np.concatenate([frames_of(audio, 0, fps, start, min(BLOCK, frames - start), level) for start in starts])


def frames_of(audio: NDArray[np.float32], offset: int, fps: Fraction, first: int, count: int, level: float) -> NDArray[np.float32]:
    """Features [count, 68] of frames `first` … of a sound of which `audio` [S] is the part from sample `offset` on.

    They are those of the whole sound where the part holds the samples of `reach` of the first and the last frame.
    """
    begin, end = reach(fps, first)[0], reach(fps, first + count - 1)[1]
    begin = max(begin, offset)
    sound = np.asarray(audio[begin - offset : max(end - offset, 0)], np.float64) * level
    if not len(sound):
        sound = np.zeros(1)
    subframes = _subframes(fps)
    step = 1 / (float(fps) * subframes)
    # one sub-frame before the first frame, for its onset
    times = (np.arange(first * subframes - 1, (first + count) * subframes) + 0.5) * step
    power = _mel_power(_windows(_preemphasised(sound), times, WINDOW, begin))
    mel = (np.log(power + FLOOR) - MEL_MEAN) / MEL_SCALE
    rise = np.maximum(np.diff(mel, axis=0), 0).mean(1)
    centres = (np.arange(first, first + count) + 0.5) / float(fps)
    near = _windows(sound, centres, PITCH_WINDOW, begin)
    energy = np.log((near**2).mean(1) + FLOOR)
    pitch, voicing = _pitch(near)
    per_frame = mel[1:].reshape(count, subframes, BANDS).mean(1)
    onset = rise.reshape(count, subframes).max(1) / ONSET_SCALE
    single = np.stack([(energy - ENERGY_MEAN) / ENERGY_SCALE, pitch, voicing, onset], 1)
    return np.concatenate([per_frame, single], 1).astype(np.float32)


def reach(fps: Fraction, frame: int) -> tuple[int, int]:
    """First sample that a frame's features depend on (not below 0), and one past the last; their sub-frames included."""
    step = 1 / (float(fps) * _subframes(fps))
    begin, end = frame / float(fps), (frame + 1) / float(fps)
    centre, half = (begin + end) / 2, PITCH_WINDOW / 2 / SAMPLE_RATE
    spectrum = WINDOW / 2 / SAMPLE_RATE
    first = min(begin - step / 2 - spectrum, centre - half) * SAMPLE_RATE
    last = max(end - step / 2 + spectrum, centre + half) * SAMPLE_RATE
    return max(math.floor(first) - 2, 0), math.ceil(last) + 2  # a sample more for the pre-emphasis, one for rounding


def loudness_factor(audio: NDArray[np.float32]) -> float:
    """The factor that brings the loud parts of `audio` [S] to TARGET_RMS; at most 40 dB."""
    return level_of(powers(audio))


def powers(audio: NDArray[np.float32]) -> Array:
    """Mean power of each whole 25 ms of `audio` [S]; of all of it where it is shorter."""
    count, size = max(len(audio) // WINDOW, 1), min(WINDOW, max(len(audio), 1))
    blocks = np.resize(audio, (count, size))
    return np.concatenate([(blocks[i : i + 4096].astype(np.float64) ** 2).mean(1) for i in range(0, count, 4096)])


def level_of(power: Array) -> float:
    """The factor on sound whose 25 ms have these powers."""
    rms = math.sqrt(float(np.percentile(power, LOUD)))
    return min(TARGET_RMS / max(rms, 1e-9), 100.0)


def _subframes(fps: Fraction) -> int:
    return max(math.ceil(1 / (float(fps) * HOP_SECONDS) - 1e-9), 1)


def _windows(sound: Array, times: Array, size: int, offset: int) -> Array:
    """Windows [len(times), size] centred at `times` (seconds) of sound that begins at sample `offset`; zeros outside."""
    starts = np.round(times * SAMPLE_RATE).astype(np.int64) - size // 2 - offset
    before, after = max(-int(starts.min()), 0), max(int(starts.max()) + size - len(sound), 0)
    padded = np.pad(sound, (before, after))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[starts + before]


def _preemphasised(sound: Array) -> Array:
    return np.concatenate([sound[:1], sound[1:] - PREEMPHASIS * sound[:-1]])


def _mel_power(windows: Array) -> Array:
    """Windows [K, WINDOW] → mean power [K, M] in each band."""
    spectrum = fft.rfft(windows * np.hanning(WINDOW + 1)[:-1], TRANSFORM)
    return (np.abs(spectrum) ** 2 / WINDOW) @ _filters()


@lru_cache
def _filters() -> Array:
    """Triangular mel filters [TRANSFORM // 2 + 1, M] of unit sum; narrow ones are widened to the bins' spacing."""
    edges = 700 * (10 ** (np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2) / 2595) - 1)
    bins = np.arange(TRANSFORM // 2 + 1) * SAMPLE_RATE / TRANSFORM
    spacing = SAMPLE_RATE / TRANSFORM
    centre = edges[1:-1]
    rise, fall = np.maximum(centre - edges[:-2], spacing), np.maximum(edges[2:] - centre, spacing)
    up, down = (bins[:, None] - centre) / rise + 1, (centre - bins[:, None]) / fall + 1
    weights = np.maximum(np.minimum(up, down), 0)
    return weights / weights.sum(0)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _pitch(windows: Array) -> tuple[Array, Array]:
    """Windows [T, PITCH_WINDOW] → pitch in octaves from PITCH_CENTRE (0 where unvoiced) and voicing 0..1, both [T].

    By the normalised autocorrelation r(l) = Σ x(n) x(n+l) / √(Σ x(n)² Σ x(n+l)²), over the n that lie in the window.
    """
    x = windows - windows.mean(1, keepdims=True)
    size = x.shape[1]
    shortest, longest = int(SAMPLE_RATE / PITCH_RANGE[1]), int(SAMPLE_RATE / PITCH_RANGE[0])
    lags = np.arange(shortest - 1, longest + 2)
    products = fft.irfft(np.abs(fft.rfft(x, 2 * size)) ** 2, 2 * size)[:, lags]
    sums = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x**2, 1)], 1)
    left, right = sums[:, size - lags], sums[:, -1:] - sums[:, lags]
    correlation = products / np.sqrt(left * right + (FLOOR * size) ** 2)
    inner = correlation[:, 1:-1]
    peaks = (inner >= correlation[:, :-2]) & (inner > correlation[:, 2:])
    heights = np.where(peaks, inner, 0.0)
    best = heights.max(1)
    # the shortest period that explains the sound nearly as well as the best: against octaves too low
    chosen = (heights >= 0.9 * best[:, None]).argmax(1)
    rows = np.arange(len(x))
    before, at, after = correlation[rows, chosen], correlation[rows, chosen + 1], correlation[rows, chosen + 2]
    bend = before - 2 * at + after
    shift = np.where(np.abs(bend) > 1e-12, 0.5 * (before - after) / np.where(bend == 0, 1, bend), 0.0).clip(-0.5, 0.5)
    octaves = np.log2(SAMPLE_RATE / (lags[chosen + 1] + shift) / PITCH_CENTRE)
    voicing = ((best - 0.4) / 0.4).clip(0, 1)
    return octaves * voicing, voicing
