"""Speech from libespeak-ng by ctypes: samples with the exact time of every phone and word.

Needs the Debian packages `espeak-ng` (its data) and `libespeak-ng1` (the library); only the builder uses them. This file
is also the program that `synthesise` runs, so it imports nothing of the project.
"""

from __future__ import annotations

import base64
import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

    def __init__(self, library: str) -> None:
        try:
            self.library = ctypes.CDLL(library)
        except OSError:
            raise RuntimeError(f"{library} not found: install it with `apt-get install espeak-ng libespeak-ng1`") from None
        self.sample_rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS | PHONEME_IPA)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng has no voice data: install it with `apt-get install espeak-ng`")
        data = ctypes.c_char_p()
        self.library.espeak_Info.restype = ctypes.c_char_p
        self.library.espeak_Info(ctypes.byref(data))
        self.data = Path((data.value or b"").decode())
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

    def speak(self, text: str, voice: Voice) -> dict[str, Any]:
        self.blocks, self.events = [], []
        variant = voice.name.partition("+")[2]  # espeak-ng leaves out a variant that it does not know
        unknown = variant and not (self.data / "voices" / "!v" / variant).is_file()
        if unknown or self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng knows no voice {voice.name!r}; `espeak-ng --voices` and `--voices=variant` list them")
        for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch), (PITCH_RANGE, voice.pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 0, 0, CHARACTERS_UTF8, None, None)
        self.library.espeak_Synchronize()
        phones = [(e[1], e[4]) for e in self.events if e[0] == EVENT_PHONEME]
        words = [(e[1], text[e[2] - 1 : e[2] - 1 + e[3]]) for e in self.events if e[0] == EVENT_WORD]
        return {"audio": base64.b64encode(b"".join(self.blocks)).decode(), "phones": phones, "words": words}


def synthesise(lines: Sequence[str], voice: Voice) -> list[Spoken]:
    """Speak `lines` one after the other. RuntimeError names the package to install; ValueError an unknown voice.

    The library keeps state from what it said before, so every call has a process of its own: same lines, same samples.
    """
    task = json.dumps({"library": LIBRARY, "voice": asdict(voice), "lines": list(lines)})
    done = subprocess.run([sys.executable, "-I", __file__], input=task, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"espeak-ng failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[answer["error"]](answer["text"])
    spoken = []
    for line in answer["lines"]:
        audio = np.frombuffer(base64.b64decode(line["audio"]), np.int16).astype(np.float32) / 32768
        phones, words = (tuple((float(time), str(text)) for time, text in line[k]) for k in ("phones", "words"))
        spoken.append(Spoken(audio, answer["sample_rate"], phones, words))
    return spoken


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    try:
        engine = _Engine(task["library"])
        lines = [engine.speak(text, Voice(**task["voice"])) for text in task["lines"]]
    except (RuntimeError, ValueError) as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {"sample_rate": engine.sample_rate, "lines": lines}


if __name__ == "__main__":
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
