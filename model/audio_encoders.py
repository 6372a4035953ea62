"""Speech → one feature vector a video frame. Two encoders behind one interface, each named as what it is.

Audio is mono float32 at 16000 Hz. Features are placed by time: row i belongs to the centre of frame i,
t = (i + 0.5) / fps, whatever the encoder's own rate. Axis legend: T frames, S samples, A feature channels.
For sound that is still arriving: `model.audio_stream`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.schema import AudioConfig
from model.audio_offline import offline_features
from model.audio_wav2vec2 import SAMPLE_RATE, Wav2Vec2Encoder, Windows, checked

__all__ = ["SAMPLE_RATE", "AudioEncoder", "OfflineEncoder", "Wav2Vec2Encoder", "Windows", "make_audio_encoder"]

Sound = NDArray[np.float32]  # [S]
Features = NDArray[np.float32]  # [T, A]


class AudioEncoder(Protocol):
    dim: int
    name: str  # says what the features are; features of different names do not mix

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        """`audio` [S] 16000 Hz mono → features [frames, dim] at the frames' centres."""
        ...


def make_audio_encoder(config: AudioConfig) -> AudioEncoder:
    """The configured encoder. Errors: ValueError, one line, where wav2vec2's files cannot be had."""
    if config.encoder == "offline":
        return OfflineEncoder()
    return Wav2Vec2Encoder(config.model, config.local_files_only, Windows(config.window_seconds, *config.context_seconds))


class OfflineEncoder:
    """64 log-mel bands, log-energy, pitch, voicing, onset: no weights, no download; see `model.audio_offline`."""

    dim = 68
    name = "offline-logmel"

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        return offline_features(checked(audio, frames), Fraction(fps), frames)
