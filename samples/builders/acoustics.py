"""The room that a voice is heard in: reverberation and noise at stated levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

from samples.builders.plan import Room
from samples.builders.speech import SAMPLE_RATE, SILENCE, Phone

Audio = NDArray[np.float32]
PRE_DELAY = 0.004  # seconds from the voice to its first reflection
PEAK = 0.8


def heard_in(room: Room, audio: Audio, phones: tuple[Phone, ...], rng: np.random.Generator) -> Audio:
    """`audio` [N] as a microphone in the room hears it; [N], in time with it, at most PEAK loud."""
    out = audio.astype(np.float64)
    if room.direct_db is not None:
        out = out + _reverberation(audio, room.reverberation, room.direct_db, rng)
    if room.noise_db is not None:
        noise = _room_noise(len(audio), rng)
        out = out + noise * _level(audio, phones) * 10 ** (-room.noise_db / 20)
    return (out * min(1.0, PEAK / max(float(np.abs(out).max()), 1e-9))).astype(np.float32)


def _level(audio: Audio, phones: tuple[Phone, ...]) -> float:
    """Root mean square while somebody speaks."""
    spoken = [audio[int(p.start * SAMPLE_RATE) : int(p.end * SAMPLE_RATE)] for p in phones if p.name != SILENCE]
    return float(np.sqrt(np.mean(np.concatenate(spoken) ** 2)))


def _reverberation(audio: Audio, seconds: float, direct_db: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise that decays by 60 dB in `seconds`, its high tones sooner; its energy is `direct_db` under the voice's."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(0, 1, len(time)) * 10 ** (-3 * time / seconds)
    tail = lfilter([0.6], [1, -0.4], tail)
    tail *= 10 ** (-direct_db / 20) / np.linalg.norm(tail)
    response = np.concatenate([np.zeros(int(PRE_DELAY * SAMPLE_RATE)), tail])
    return fftconvolve(audio, response)[: len(audio)]


def _room_noise(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Air (louder towards the low tones) and a mains hum, root mean square 1."""
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.normal(0, 1, count)) / np.sqrt(np.maximum(frequency, 40))
    air = np.fft.irfft(spectrum, count)
    hum = np.sin(2 * np.pi * 100 * np.arange(count) / SAMPLE_RATE + rng.uniform(0, 6))
    noise = air / air.std() + rng.uniform(0, 0.3) * hum
    return noise / noise.std()
