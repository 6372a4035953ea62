"""wav2vec2 as an audio encoder: its last hidden states, placed by time at the frames' centres.

State k of a model is centred at k · stride + field / 2 samples, where stride and field follow from its convolutions:
320 and 400 samples for all published ones, so 12.5 ms + 20 ms · k. Frame i is centred at (i + 0.5) / fps; it gets the
two states round that time, mixed linearly, and the nearest state beyond the first and the last.

Long sound goes through the network in windows that see true context on either side (`Windows`), each brought to zero
mean and unit variance by itself where the model asks for that. So a window's states follow from its own samples alone,
and a stream that cuts the same windows gives the same values (`model.audio_stream`).
Axis legend: T frames, S samples, K states, A feature channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.audio_hub import load_wav2vec2

SAMPLE_RATE = 16000  # Hz
Sound = NDArray[np.float32]  # [S]
Features = NDArray[np.float32]  # [T, A] or [K, A]


@dataclass(frozen=True)
class Windows:
    """How long sound is cut: each window gives `kept` seconds of states and sees `before` and `after` them too.

    A window that sees the end of the sound gives all states up to it, so shorter sound is one window.
    """

    kept: float = 20.0
    before: float = 2.0
    after: float = 2.0

    def __post_init__(self) -> None:
        if not (self.kept > 0 and self.before >= 0 and self.after >= 0):
            raise ValueError(f"audio windows: expected kept > 0, before >= 0, after >= 0 seconds, got {self}")


LIVE = Windows(1.0, 5.0, 0.5)  # for streams: 1.5 s late, 6.5 times the work


@dataclass(frozen=True)
class Span:
    """One window, in states: it sees first … last - 1 and gives start … end - 1."""

    first: int
    start: int
    end: int
    last: int


class Wav2Vec2Encoder:
    """The last hidden states of a transformers `Wav2Vec2Model`, interpolated at the frames' centres."""

    def __init__(self, model_id_or_path: str, local_files_only: bool = False, windows: Windows | None = None):
        """`model_id_or_path`: hub id, or folder of config.json and weights. Errors: ValueError where they lack."""
        self._model, self._normalize = load_wav2vec2(model_id_or_path, local_files_only)
        config = self._model.config
        self.dim = int(config.hidden_size)
        folder = Path(model_id_or_path).expanduser()
        self.name = f"wav2vec2:{folder.resolve().name if folder.is_dir() else model_id_or_path}"
        self.windows = windows or Windows()
        self.stride, self.field = _geometry(config.conv_kernel, config.conv_stride)  # samples
        self._kept, self._before, self._after = (
            round(seconds * SAMPLE_RATE / self.stride) for seconds in (self.windows.kept, self.windows.before, self.windows.after)
        )
        self._kept = max(self._kept, 1)

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        audio = checked(audio, frames)
        states = np.concatenate([self.run(audio[self.seen(span, len(audio))])[span.start - span.first :][: span.end - span.start]
                                 for span in self.spans(0, self.count(len(audio)), True)])  # fmt: skip
        return self.at_centres(states, 0, np.arange(frames), fps)

    def count(self, samples: int) -> int:
        """States of so many samples; sound too short for one is padded to it."""
        return max((samples - self.field) // self.stride + 1, 1)

    def spans(self, start: int, count: int, ended: bool) -> Iterator[Span]:
        """The windows from state `start` on that can be run with `count` states heard, to the last if the sound `ended`."""
        while start < count:
            end = start + self._kept
            if end + self._after >= count:  # sees the end, or what may become the end
                if ended:
                    yield Span(max(start - self._before, 0), start, count, count)
                return
            yield Span(max(start - self._before, 0), start, end, end + self._after)
            start = end

    def seen(self, span: Span, samples: int) -> slice:
        """The samples of a window, of sound [samples]; the last window takes the odd samples at the end too."""
        last = None if span.last == self.count(samples) else (span.last - 1) * self.stride + self.field
        return slice(span.first * self.stride, last)

    def oldest(self, start: int) -> int:
        """First sample that windows from state `start` on can still see."""
        return max(start - self._before, 0) * self.stride

    def run(self, piece: Sound) -> Features:
        """Hidden states [K, dim] of one window's samples."""
        import torch

        if self._normalize:  # as the model's feature extractor does
            piece = (piece - piece.mean()) / np.sqrt(piece.var() + 1e-7)
        piece = np.pad(piece, (0, max(self.field - len(piece), 0))).astype(np.float32)
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            states: Any = self._model(torch.from_numpy(piece)[None].to(device)).last_hidden_state[0]
        if len(states) != self.count(len(piece)):
            raise ValueError(
                f"audio.model: expected {self.count(len(piece))} states of {len(piece)} samples, {self.name} gave {len(states)}; "
                "models with an adapter are not supported"
            )
        return np.asarray(states.float().cpu().numpy(), np.float32)

    def position(self, frames: NDArray[np.int64], fps: Fraction) -> NDArray[np.float64]:
        """Where the frames' centres lie, in states."""
        return ((frames + 0.5) / float(fps) * SAMPLE_RATE - self.field / 2) / self.stride

    def at_centres(self, states: Features, first: int, frames: NDArray[np.int64], fps: Fraction) -> Features:
        """States [K, dim], of which the first is number `first`, at the centres of `frames` [T] → [T, dim]."""
        position = (self.position(frames, fps) - first).clip(0, len(states) - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(states) - 1)
        share = (position - low)[:, None]
        return np.asarray(states[low] * (1 - share) + states[high] * share, np.float32)


def checked(audio: Sound, frames: int) -> Sound:
    """`audio` as float32. Errors: ValueError where it is not finite mono sound, or nothing is asked for."""
    audio = checked_sound(audio)
    if frames < 1 or not len(audio):
        raise ValueError(f"expected sound and at least one frame, got {len(audio)} samples and {frames} frames")
    return audio


def checked_sound(audio: Sound) -> Sound:
    audio = np.asarray(audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio must be mono float [samples] at 16000 Hz, got {audio.dtype} {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return audio.astype(np.float32)


def _geometry(kernels: Any, strides: Any) -> tuple[int, int]:
    """Samples between the outputs of stacked convolutions, and seen by each."""
    stride, field = 1, 1
    for kernel, step in zip(kernels, strides, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return stride, math.ceil(field)
