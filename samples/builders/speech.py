"""Lines of text → one stretch of speech with timed phones and how prominent each vowel is.

Times are seconds from the first sample. espeak-ng reports a voiceless stop at its release; here it begins where its
closure does, because the lips are shut by then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import resample_poly

from samples.builders.espeak import Spoken, Voice, synthesise
from samples.builders.words import is_content

SAMPLE_RATE = 16_000  # Hz, of Speech.audio
SILENCE = "sil"
VOWELS = frozenset("aeiouyæɑɒɔəɛɜɪʊʌɐɚɝɨᵻʉøœɵʏɯɤ")
VOICELESS_STOPS = ("p", "t", "k", "ʔ")
STEP = 0.005  # seconds between measurements of loudness


@dataclass(frozen=True)
class Phone:
    """A stretch of one sound; `prominence` is about standard-normal for vowels and -9 elsewhere."""

    start: float
    end: float
    name: str
    prominence: float = -9.0

    @property
    def is_vowel(self) -> bool:
        return self.name[0] in VOWELS


@dataclass(frozen=True)
class Word:
    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Speech:
    audio: NDArray[np.float32]  # [N] at SAMPLE_RATE
    phones: tuple[Phone, ...]  # cover it without gaps
    words: tuple[Word, ...]

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE


def samples_of(frames: int, fps: Fraction) -> int:
    """Samples at SAMPLE_RATE that last as long as `frames` pictures."""
    return round(frames * SAMPLE_RATE / fps)


def speak(lines: tuple[str, ...], voice: Voice, pause: float, seed: int, fps: Fraction = Fraction(25)) -> Speech:
    """Say `lines` with pauses of about `pause` seconds between them; the length is a whole number of frames."""
    rng = np.random.default_rng(seed)
    audio = [np.zeros(int(rng.uniform(0.25, 0.4) * SAMPLE_RATE), np.float32)]
    phones: list[tuple[float, float, str, int, bool]] = []  # start, end, name, word, content word
    words: list[str] = []
    for spoken in synthesise(lines, voice):
        offset = sum(map(len, audio)) / SAMPLE_RATE
        word_starts = np.array([t for t, _ in spoken.words])
        content = [is_content(w, voice.language) for _, w in spoken.words]
        for start, end, name in _intervals(spoken):
            word = max(int(np.searchsorted(word_starts, start + 0.02)) - 1, 0)
            phones.append((offset + start, offset + end, name, len(words) + word, content[word]))
        words += [w for _, w in spoken.words]
        tail = int((phones[-1][1] - offset + 0.05) * SAMPLE_RATE)  # espeak-ng ends a sentence with a pause of its own
        audio.append(_resampled(spoken)[:tail])
        audio.append(np.zeros(int(pause * rng.uniform(0.6, 1.4) * SAMPLE_RATE), np.float32))
    wave = np.concatenate(audio[:-1])
    frames = int(np.ceil((len(wave) / SAMPLE_RATE + 0.3) * fps))
    wave = np.pad(wave, (0, samples_of(frames, fps) - len(wave)))
    wave *= 0.6 / np.abs(wave).max()
    prominence = _prominence(wave, phones)
    named = [Phone(p[0], p[1], p[2], float(z)) for p, z in zip(phones, prominence, strict=True)]
    return Speech(wave, _without_gaps(named, len(wave) / SAMPLE_RATE), _timed(words, phones))


def _timed(words: list[str], phones: list[tuple[float, float, str, int, bool]]) -> tuple[Word, ...]:
    """Words from their first phone to their last; those without a phone of their own are left out."""
    spans: dict[int, tuple[float, float]] = {}
    for start, end, _, word, _ in phones:
        spans[word] = (spans.get(word, (start, end))[0], end)
    return tuple(Word(*spans[i], text) for i, text in enumerate(words) if i in spans)


def _resampled(spoken: Spoken) -> NDArray[np.float32]:
    common = math.gcd(SAMPLE_RATE, spoken.sample_rate)
    return resample_poly(spoken.audio, SAMPLE_RATE // common, spoken.sample_rate // common).astype(np.float32)


def _intervals(spoken: Spoken) -> list[tuple[float, float, str]]:
    """Phones with both ends, voiceless stops from their closure on, pauses dropped."""
    hop = int(STEP * spoken.sample_rate)
    loud = np.sqrt((spoken.audio[: len(spoken.audio) // hop * hop].reshape(-1, hop) ** 2).mean(1))
    quiet = 0.02 * np.quantile(loud, 0.98)
    starts = [t for t, _ in spoken.phones]
    for i, (start, name) in enumerate(spoken.phones):
        if name.startswith(VOICELESS_STOPS):
            k = round(start / STEP)
            k -= next((n for n in (1, 2, 3) if k - n >= 0 and loud[min(k - n, len(loud) - 1)] < quiet), 0)  # skip the burst
            while k > 0 and start - k * STEP < 0.12 and loud[min(k - 1, len(loud) - 1)] < quiet:
                k -= 1
            earliest = starts[i - 1] + 0.02 if i else 0.0
            starts[i] = min(start, max(k * STEP, earliest))
    ends = [*starts[1:], len(spoken.audio) / spoken.sample_rate]
    return [(s, e, n) for s, e, (_, n) in zip(starts, ends, spoken.phones, strict=True) if n and e > s]


def _without_gaps(phones: list[Phone], seconds: float) -> tuple[Phone, ...]:
    out: list[Phone] = []
    cursor = 0.0
    for phone in phones:
        gap = phone.start - cursor
        if out and 0 < gap < 0.06:  # espeak-ng's joint between two words, not a pause
            out[-1] = replace(out[-1], end=phone.start)
        elif gap > 0:
            out.append(Phone(cursor, phone.start, SILENCE))
        out.append(phone)
        cursor = phone.end
    if seconds > cursor + 1e-6:
        out.append(Phone(cursor, seconds, SILENCE))
    return tuple(out)


def _prominence(wave: NDArray[np.float32], phones: list[tuple[float, float, str, int, bool]]) -> NDArray[np.float64]:
    """How much a vowel stands out: louder, higher, longer than the speaker's mean, in a content word, its word's best."""
    energy, pitch = _loudness_and_pitch(wave)
    vowels = [i for i, p in enumerate(phones) if p[2][0] in VOWELS]
    out = np.full(len(phones), -9.0)
    rows = []
    for i in vowels:
        a = min(int(phones[i][0] / 0.02), len(energy) - 1)
        b = max(a + 1, int(phones[i][1] / 0.02))
        rows.append((energy[a:b].max(), pitch[a:b].max(), phones[i][1] - phones[i][0]))
    z = np.clip((np.array(rows) - np.mean(rows, 0)) / (np.std(rows, 0) + 1e-3), -2, 2)
    score = z @ np.array([0.45, 0.7, 0.45])
    for i, s in zip(vowels, score, strict=True):
        rivals = [score[k] for k, j in enumerate(vowels) if phones[j][3] == phones[i][3]]
        out[i] = s + (0.6 if phones[i][4] else -0.6) + (0.3 if s >= max(rivals) else -1.2)
    return out


def _loudness_and_pitch(wave: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log energy and log pitch against its median (0 where unvoiced), each 20 ms."""
    low = resample_poly(wave, 1, SAMPLE_RATE // 4000)
    hop, length = 80, 200
    count = len(low) // hop
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(low, (60, length)), length)[: count * hop : hop]
    energy = np.log(np.sqrt((frames**2).mean(1)) + 1e-4)
    frames = frames - frames.mean(1, keepdims=True)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 512)) ** 2)[:, :length]
    correlation /= (correlation[:, :1] + 1e-8) * (1 - 0.9 * np.arange(length) / length)
    lags = slice(4000 // 420, 4000 // 65)
    lag = lags.start + correlation[:, lags].argmax(1)
    voiced = (correlation[np.arange(count), lag] > 0.45) & (energy > -6.5)
    pitch = np.where(voiced, np.log(4000 / lag), np.nan)
    relative = np.nan_to_num(np.clip(pitch - np.nanmedian(pitch), -1, 1))
    return energy, median_filter(relative, 3) * voiced
