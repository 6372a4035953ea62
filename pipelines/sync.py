"""Whether a clip's sound and pictures run together: their lengths, and where the video's sound track lies.

`clip.mp4` carries the sound that `audio.wav` holds; features are made from the latter and pictures are shown with the
former, so both must start at the same instant and last as long as the pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import correlate

from pipelines import media
from pipelines.media import SAMPLE_RATE, Sound

MAX_OFFSET_MS = 10.0
REACH = SAMPLE_RATE // 2  # samples; shifts are looked for up to half a second each way
SILENT = 1e-3  # root mean square, full scale 1; below it nothing can be compared


@dataclass(frozen=True)
class Sync:
    """Milliseconds; `shift` is positive where the video's sound comes late, None where the clip is silent."""

    shift: float | None
    audio_excess: float  # length of audio.wav less that of the pictures
    video_excess: float  # length of the pictures in the file less that of those that clip.json counts

    @property
    def worst(self) -> float:
        return max(abs(value) for value in (self.shift or 0.0, self.audio_excess, self.video_excess))


def clip_sync(folder: Path) -> Sync:
    """Measure a clip's folder. Errors: MediaError where a file cannot be read."""
    about = json.loads((folder / "clip.json").read_text())
    seconds = float(about["frames"] / Fraction(about["fps"]))
    video_seconds, _ = media.measure(folder / "clip.mp4")
    sound, track = media.read_audio(folder / "audio.wav"), media.read_audio(folder / "clip.mp4")
    shift = sound_shift(sound, track)
    return Sync(
        None if shift is None else round(1e3 * shift / SAMPLE_RATE, 2),
        round(1e3 * (len(sound) / SAMPLE_RATE - seconds), 2),
        round(1e3 * (video_seconds - seconds), 2),
    )


def sound_shift(sound: Sound, other: Sound) -> int | None:
    """Samples by which `other` comes later than `sound`: the peak of their correlation; None for silence."""
    count = min(len(sound), len(other))
    if not count or min(np.sqrt(np.mean(np.square(s[:count]))) for s in (sound, other)) < SILENT:
        return None
    found = correlate(other[:count], sound[:count], mode="full", method="fft")
    lags = np.arange(1 - count, count)
    near = np.abs(lags) <= REACH
    return int(lags[near][np.argmax(found[near])])
