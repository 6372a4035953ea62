"""Speech from libespeak-ng by ctypes: samples with the exact time of every phone and word.

Needs the Debian packages `espeak-ng` (its data) and `libespeak-ng1` (the library); only the builder uses them.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIBRARY = "libespeak-ng.so.1"
SYNCHRONOUS, PHONEME_EVENTS, PHONEME_IPA = 2, 1, 2
EVENT_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
RATE, PITCH, PITCH_RANGE = 1, 3, 4  # espeak_PARAMETER
CHARACTERS_UTF8 = 1


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker."""

    name: str  # espeak-ng voice, with a variant after '+'
    language: str  # BCP 47 tag for the talk's table
    rate: int  # words a minute
    pitch: int  # 0..99
    pitch_range: int  # 0 monotone .. 99


@dataclass(frozen=True)
class Spoken:
    """One synthesised text. Times are seconds from its first sample."""

    audio: NDArray[np.float32]  # [N] mono, -1..1
    sample_rate: int
    phones: tuple[tuple[float, str], ...]  # start, IPA ('' for a pause)
    words: tuple[tuple[float, str], ...]  # start, text


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Engine:
    """The library holds one global state, so there is one engine a process."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise RuntimeError(f"{LIBRARY} not found: install it with `apt-get install espeak-ng libespeak-ng1`") from None
        self.sample_rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS | PHONEME_IPA)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng has no voice data: install it with `apt-get install espeak-ng`")
        self.blocks: list[bytes] = []
        self.events: list[tuple[int, float, int, int, str]] = []
        self.callback = _Callback(self._collect)  # kept: the library holds only a pointer
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, samples: object, count: int, events: object) -> int:
        if samples and count > 0:
            self.blocks.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        index = 0
        while (event := events[index]).type != EVENT_END:  # type: ignore[index]
            name = bytes(event.id.string).split(b"\0")[0].decode() if event.type == EVENT_PHONEME else ""
            self.events.append((event.type, event.audio_position / 1000, event.text_position, event.length, name))
            index += 1
        return 0

    def speak(self, text: str, voice: Voice) -> Spoken:
        self.blocks, self.events = [], []
        if self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng knows no voice {voice.name!r}; `espeak-ng --voices` lists them")
        for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch), (PITCH_RANGE, voice.pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 0, 0, CHARACTERS_UTF8, None, None)
        self.library.espeak_Synchronize()
        audio = np.frombuffer(b"".join(self.blocks), np.int16).astype(np.float32) / 32768
        phones = tuple((e[1], e[4]) for e in self.events if e[0] == EVENT_PHONEME)
        words = tuple((e[1], text[e[2] - 1 : e[2] - 1 + e[3]]) for e in self.events if e[0] == EVENT_WORD)
        return Spoken(audio, self.sample_rate, phones, words)


@functools.cache
def _engine() -> _Engine:
    return _Engine()


def synthesise(text: str, voice: Voice) -> Spoken:
    """Speak ASCII `text`. RuntimeError names the package to install; ValueError an unknown voice."""
    if not text.isascii():
        raise ValueError(f"text must be ASCII, so that word positions are characters, got {text!r}")
    return _engine().speak(text, voice)
