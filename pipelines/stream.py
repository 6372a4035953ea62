"""A speaking avatar as a stream: sound in as it comes, pictures out as soon as what they depend on has been heard.

    avatar = pipelines.speak.make_avatar(config, stage2, picture)   # the picture is encoded once
    for frame in avatar.live(microphone(), seed=1):                 # chunks of mono float32 [any] at 16000 Hz
        show(frame)                                                 # uint8 [H, W, 3]

The generator asks for sound only when it needs some and makes frames only when they are asked for, so a slow viewer holds
the speaker back (`SoundQueue` blocks who puts), and memory does not grow. Frames come in groups of 8, each once the sound
`look_ahead` frames after it is there. Whole speeches take the same way, with the level of all of the sound.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from configs.schema import Config
from model.audio_encoders import SAMPLE_RATE, make_audio_encoder
from model.audio_stream import open_stream
from model.stage1 import Encoding
from model.stage2 import Identity, Stage2
from model.talking import Motion
from model.types import Camera
from pipelines.drawing import draw, generated
from pipelines.store import InputRejected

if TYPE_CHECKING:
    from pipelines.media import Picture, Sound

BLOCK = 32  # frames of a whole speech that are generated before they are drawn
WAITING, PATIENCE = 2.0, 10.0  # seconds of sound that a queue holds; without sound before a stream counts as stalled


@dataclass(frozen=True)
class Avatar:
    """One person, ready to speak."""

    config: Config
    stage2: Stage2
    encoding: Encoding  # [1]
    identity: Identity  # [1]
    camera: Camera  # of the pictures

    @property
    def fps(self) -> Fraction:
        return self.config.cut.fps

    def speaking(self, sound: Sound, frames: int, seed: int = 0) -> Iterator[Picture]:
        """Pictures of a whole speech [samples] at 16000 Hz."""
        features = make_audio_encoder(self.config.audio)(sound, self.fps, frames)
        return self._pictures((features[i : i + BLOCK] for i in range(0, frames, BLOCK)), seed)

    def live(self, chunks: Iterable[Sound], seed: int = 0, level: float | None = None) -> Iterator[Picture]:
        """Pictures of sound that is still coming. `level`: fixed factor on it (offline encoder); none: adapted.

        ValueError in one line for sound that is not finite mono; what was spoken before it has been shown.
        """

        def features() -> Iterator[np.ndarray]:
            stream = open_stream(self.config.audio, self.fps, level)
            for chunk in chunks:
                yield stream.push(chunk)
            yield stream.finish()

        return self._pictures(features(), seed)

    def motion(self, features: Iterable[np.ndarray], seed: int = 0) -> Iterator[Motion]:
        """Motion [1, n] for features [n, A] as they come."""
        talk = self.stage2.begin(self.encoding, seed, pictured=True)
        device = self.identity.features.device
        for part in features:
            made = talk.push(torch.from_numpy(np.ascontiguousarray(part)).float()[None].to(device))
            if made is not None:
                yield made
        made = talk.finish()
        if made is not None:
            yield made

    def _pictures(self, features: Iterable[np.ndarray], seed: int) -> Iterator[Picture]:
        for motion in self.motion(features, seed):
            with torch.no_grad():
                frames = self.stage2.frames(motion)
            yield from draw(generated(self.stage2, self.encoding, frames, self.identity), self.camera, motion.heard.shape[1])


class SoundQueue:
    """Sound handed from one thread to another: `put` waits while enough is there, iteration while there is none."""

    def __init__(self, seconds: float = WAITING, patience: float = PATIENCE):
        self.room, self.patience = round(seconds * SAMPLE_RATE), patience
        self._chunks: queue.Queue[Sound | None] = queue.Queue(64)

    def put(self, chunk: Sound, timeout: float | None = None) -> None:
        """Queue a chunk; blocks while the viewer is behind. TimeoutError after `timeout` seconds."""
        pieces = [chunk[i : i + self.room // 32] for i in range(0, len(chunk), self.room // 32)]
        try:
            for piece in pieces:
                self._chunks.put(piece, timeout=timeout)
        except queue.Full:
            raise TimeoutError(f"stream: expected its sound to be used within {timeout:g} s; is anybody reading frames?") from None

    def close(self) -> None:
        self._chunks.put(None)

    def __iter__(self) -> Iterator[Sound]:
        while True:
            try:
                chunk = self._chunks.get(timeout=self.patience)
            except queue.Empty:
                advice = "close() it when the speech is over"
                raise InputRejected(f"stream: expected sound within {self.patience:g} s, got none; {advice}") from None
            if chunk is None:
                return
            yield chunk


def sound_chunks(path: Path, seconds: float = 0.2) -> Iterator[Sound]:
    """A file's sound, mono at 16000 Hz, piece by piece: it is never in memory whole. MediaError where there is none."""
    import av

    from pipelines.media_open import MediaError, audio_stream, decode, name_of, opened

    size, waiting, count = round(seconds * SAMPLE_RATE), np.zeros(0, np.float32), 0
    with opened(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{name_of(path)}: expected audio, the file has none")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        frames = iter(decode(container, stream))
        while True:
            frame = next(frames, None)
            if frame is not None:
                frame.pts = None
            heard = [f.to_ndarray()[0] for f in resampler.resample(frame)]
            waiting = np.concatenate([waiting, *heard])
            while len(waiting) >= size:
                yield waiting[:size]
                waiting, count = waiting[size:], count + size
            if frame is None:
                break
    if len(waiting):
        yield waiting
    if not count and not len(waiting):
        raise MediaError(f"{name_of(path)}: no sound of its audio track can be decoded")
