"""Features of sound that is still arriving: push chunks of any length, get the frames that are settled by then.

    stream = open_stream(config.audio, Fraction(25))
    for chunk in microphone:            # float32 [any], 16000 Hz mono
        features = stream.push(chunk)   # [new frames, A], frame after frame, none twice
    rest = stream.finish()              # the frames that waited for what comes after them

What the frames are is what the encoder on the whole sound gives, to float rounding (1e-4; tests and benchmarks hold
this), on two conditions. `offline`: the same `level`; the whole file's level is not known while it is being spoken, so
without one the stream adapts to what it has heard (`RunningLevel`), which moves the log bands alike by
2 ln(ratio of the levels) / 2.9. wav2vec2: the same windows (`audio.window_seconds`, `audio.context_seconds`); the
default ones are 22 s late, those of `model.audio_wav2vec2.LIVE` 1.5 s, and features for training can be made with them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Protocol

import numpy as np

from configs.schema import AudioConfig
from model import audio_offline
from model.audio_encoders import OfflineEncoder, make_audio_encoder
from model.audio_wav2vec2 import SAMPLE_RATE, Features, Sound, Wav2Vec2Encoder, checked_sound

QUIETEST, LOUDEST, LEVEL_STEP = -50.0, 20.0, 0.01  # natural log of power: those that are told apart

__all__ = ["AudioStream", "OfflineStream", "RunningLevel", "Wav2Vec2Stream", "open_stream"]


class AudioStream(Protocol):
    dim: int
    name: str  # the encoder's
    latency: float  # seconds from a frame's centre to the sound that settles it, at most

    def push(self, chunk: Sound) -> Features:
        """`chunk` [any] 16000 Hz mono → the frames [K, dim] settled by it, K may be 0."""
        ...

    def finish(self, frames: int | None = None) -> Features:
        """The remaining frames [K, dim], to `frames` of the whole sound; none: as many as cover it."""
        ...


def open_stream(config: AudioConfig, fps: Fraction, level: float | None = None) -> AudioStream:
    """A stream of the configured encoder. `level`: fixed factor on the sound (offline encoder), none: adapted."""
    encoder = make_audio_encoder(config)
    return Wav2Vec2Stream(encoder, fps) if isinstance(encoder, Wav2Vec2Encoder) else OfflineStream(fps, level)


class RunningLevel:
    """The level of what has been heard: `loudness_factor` of it and of a quarter second at the target loudness.

    That quarter second keeps a room's noise from being raised to speech before anyone speaks. Powers are counted in steps of
    1 %, so that an hour costs what a second does.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(round((LOUDEST - QUIETEST) / LEVEL_STEP) + 1, np.int64)
        self._rest = np.zeros(0, np.float32)
        self._count(np.full(10, audio_offline.TARGET_RMS**2))

    def hear(self, chunk: Sound) -> None:
        sound = np.concatenate([self._rest, chunk])
        whole = len(sound) // audio_offline.WINDOW * audio_offline.WINDOW
        self._rest = sound[whole:]
        if whole:
            self._count(audio_offline.powers(sound[:whole]))

    def _count(self, powers: np.ndarray) -> None:
        steps = (np.log(np.maximum(powers, 1e-30)).clip(QUIETEST, LOUDEST) - QUIETEST) / LEVEL_STEP
        self._counts += np.bincount(np.round(steps).astype(np.int64), minlength=len(self._counts))

    @property
    def factor(self) -> float:
        heard = self._counts.cumsum()
        step = int(np.searchsorted(heard, audio_offline.LOUD / 100 * (heard[-1] - 1), "right"))
        return audio_offline.level_of(np.exp([QUIETEST + LEVEL_STEP * step]))


class _Buffer:
    """The sound that is still needed; `start` is the number of its first sample."""

    def __init__(self) -> None:
        self.sound, self.start, self.finished = np.zeros(0, np.float32), 0, False

    @property
    def end(self) -> int:
        return self.start + len(self.sound)

    def add(self, chunk: Sound) -> Sound:
        if self.finished:
            raise ValueError("audio stream: expected no sound after finish(); open another stream")
        chunk = checked_sound(chunk)
        self.sound = np.concatenate([self.sound, chunk])
        return chunk

    def finish(self, fps: Fraction, frames: int | None) -> int:
        self.finished = True
        return math.ceil(self.end * fps / SAMPLE_RATE) if frames is None else frames

    def forget(self, before: int) -> None:
        drop = min(max(before - self.start, 0), len(self.sound))
        self.sound, self.start = self.sound[drop:], self.start + drop


class OfflineStream:
    """Frames of `OfflineEncoder`, settled as soon as the sound round them has been heard."""

    dim, name = OfflineEncoder.dim, OfflineEncoder.name

    def __init__(self, fps: Fraction, level: float | None = None):
        self.fps, self._buffer, self._done = Fraction(fps), _Buffer(), 0
        self._level, self._running = level, RunningLevel()
        ends = audio_offline.reach(self.fps, 1000)[1] / SAMPLE_RATE
        self.latency = ends - 1000.5 / float(self.fps) + 1 / SAMPLE_RATE

    @property
    def level(self) -> float:
        """Factor on the sound that the next frames get; hand it to the next stream of the same speaker and room."""
        return self._running.factor if self._level is None else self._level

    def push(self, chunk: Sound) -> Features:
        chunk = self._buffer.add(chunk)
        if self._level is None:
            self._running.hear(chunk)
        last = max(int(self._buffer.end * self.fps / SAMPLE_RATE), self._done)  # no frame beyond this one has begun
        while last > self._done and audio_offline.reach(self.fps, last - 1)[1] > self._buffer.end:
            last -= 1
        return self._emit(last)

    def finish(self, frames: int | None = None) -> Features:
        return self._emit(self._buffer.finish(self.fps, frames))

    def _emit(self, end: int) -> Features:
        if end <= self._done:
            return np.zeros((0, self.dim), np.float32)
        blocks = range(self._done, end, audio_offline.BLOCK)
        level, buffer = self.level, self._buffer
        features = [
            audio_offline.frames_of(buffer.sound, buffer.start, self.fps, start, min(audio_offline.BLOCK, end - start), level)
            for start in blocks
        ]
        self._done = end
        buffer.forget(audio_offline.reach(self.fps, end)[0])
        return np.concatenate(features)


class Wav2Vec2Stream:
    """Frames of a `Wav2Vec2Encoder`, settled when the window that holds their states has been run."""

    def __init__(self, encoder: Wav2Vec2Encoder, fps: Fraction):
        self.encoder, self.fps = encoder, Fraction(fps)
        self.dim, self.name = encoder.dim, encoder.name
        windows = encoder.windows
        self.latency = windows.kept + windows.after + (encoder.field + 2 * encoder.stride) / SAMPLE_RATE
        self._buffer, self._done = _Buffer(), 0
        self._states, self._first = np.zeros((0, self.dim), np.float32), 0  # those that frames still need

    def push(self, chunk: Sound) -> Features:
        self._buffer.add(chunk)
        if self._buffer.end < self.encoder.field:
            return np.zeros((0, self.dim), np.float32)
        self._run(ended=False)
        heard = np.arange(self._done, math.ceil(self._buffer.end * self.fps / SAMPLE_RATE))
        last = self._first + len(self._states) - 1  # frames before this state have both that they lie between
        return self._emit(self._done + int((self.encoder.position(heard, self.fps) < last).sum()))

    def finish(self, frames: int | None = None) -> Features:
        count = self._buffer.finish(self.fps, frames)
        if not self._buffer.end:
            return np.zeros((0, self.dim), np.float32)
        self._run(ended=True)
        return self._emit(count)

    def _run(self, ended: bool) -> None:
        encoder, buffer = self.encoder, self._buffer
        for span in encoder.spans(self._first + len(self._states), encoder.count(buffer.end), ended):
            seen = encoder.seen(span, buffer.end)
            piece = buffer.sound[seen.start - buffer.start : None if seen.stop is None else seen.stop - buffer.start]
            states = encoder.run(piece)[span.start - span.first :][: span.end - span.start]
            self._states = np.concatenate([self._states, states])
        buffer.forget(encoder.oldest(self._first + len(self._states)))

    def _emit(self, end: int) -> Features:
        if end <= self._done:
            return np.zeros((0, self.dim), np.float32)
        features = self.encoder.at_centres(self._states, self._first, np.arange(self._done, end), self.fps)
        self._done = end
        keep = max(math.floor(float(self.encoder.position(np.array(end), self.fps))), 0)
        drop = min(max(keep - self._first, 0), max(len(self._states) - 1, 0))
        self._states, self._first = self._states[drop:], self._first + drop
        return features
