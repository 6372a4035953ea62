"""A talk that has been spoken but not yet filmed: sound, timed phones and words, and the strokes of the hands.

`make_score` needs espeak-ng; what `Score.save` writes can be filmed by any machine (samples.builders.talks), and holds
no pictures, so it is small.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.store import InputRejected, writing
from samples.builders.acoustics import heard_in
from samples.builders.curves import RATE, Curve
from samples.builders.gesture import Stroke, draw_gestures
from samples.builders.plan import TalkPlan, plan_from_text, plan_to_text
from samples.builders.speech import SAMPLE_RATE, Phone, Word, speak

PHONES, WORDS, STROKES = ("phones", Phone), ("words", Word), ("strokes", Stroke)
GESTURE_CHANCE, MOUTH_CHANCE, FACE_CHANCE, BODY_CHANCE = range(4)  # streams of chance of one take


@dataclass(frozen=True)
class Score:
    plan: TalkPlan
    wav: NDArray[np.int16]  # [N] at SAMPLE_RATE; lasts as long as `frames` pictures
    phones: tuple[Phone, ...]  # cover the sound without gaps
    words: tuple[Word, ...]
    strokes: tuple[Stroke, ...]  # of the plan's take

    @property
    def audio(self) -> NDArray[np.float32]:  # [N] -1..1 at SAMPLE_RATE
        return self.wav.astype(np.float32) / 32767

    @property
    def fps(self) -> Fraction:
        return self.plan.fps

    @property
    def frames(self) -> int:
        return round(len(self.wav) * self.fps / SAMPLE_RATE)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.fps)

    def save(self, path: str | Path) -> None:
        """Write `path`, an npz without pickles; same score, same bytes."""
        arrays: dict[str, Any] = {"plan": np.array(plan_to_text(self.plan)), "wav": self.wav}
        for (key, kind), rows in ((PHONES, self.phones), (WORDS, self.words), (STROKES, self.strokes)):
            arrays |= columns(key, kind, rows)
        with writing(Path(path)) as temporary:
            np.savez_compressed(temporary, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Score:
        """Read what `save` wrote. InputRejected says in one line what is wrong with the file."""
        try:
            with np.load(path, allow_pickle=False) as npz:
                rows = [rows_of(npz, *kind) for kind in (PHONES, WORDS, STROKES)]
                return cls(plan_from_text(str(npz["plan"])), npz["wav"], *rows)
        except FileNotFoundError:
            raise
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputRejected(f"{path}: not a talk's score ({error}); make it again with make_score") from None


def make_score(plan: TalkPlan) -> Score:
    """Speak the plan. RuntimeError names the package to install; ValueError an unknown voice."""
    speech = speak(plan.lines, plan.voice, plan.pause, plan.seed, plan.fps)
    heard = heard_in(plan.room, speech.audio, speech.phones, np.random.default_rng([plan.seed, 51]))
    wav = np.round(np.clip(heard, -1, 1) * 32767).astype(np.int16)
    score = Score(plan, wav, speech.phones, speech.words, ())
    return Score(plan, wav, speech.phones, speech.words, hands_of(score, plan.take)[1])


def samples_at_rate(score: Score) -> int:
    """Length of the motion's curves (curves.RATE): just longer than the talk."""
    return int(np.ceil(score.seconds * RATE)) + 1


def hands_of(score: Score, take: int) -> tuple[dict[str, Curve], tuple[Stroke, ...]]:
    """Controls of both arms and the strokes of one take of the motion (gesture.draw_gestures)."""
    rng = chance(score.plan, take, GESTURE_CHANCE)
    return draw_gestures(score.phones, score.words, samples_at_rate(score), score.plan.style.gesture, rng)


def chance(plan: TalkPlan, take: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([plan.seed, take, stream])


def columns(key: str, kind: type, rows: tuple[Any, ...]) -> dict[str, NDArray[Any]]:
    """Rows of a dataclass of numbers and texts as arrays: `<key>_<field>` for each, a text field called `name` as `<key>`."""
    out = {}
    for f in fields(kind):
        values = [getattr(row, f.name) for row in rows]
        out[_column(key, f.name)] = np.array(values, dtype=str if f.type == "str" else np.float64)
    return out


def rows_of(npz: Any, key: str, kind: type) -> tuple[Any, ...]:
    """The rows that `columns` wrote."""
    names = [f.name for f in fields(kind)]
    values = [npz[_column(key, name)].tolist() for name in names]
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True))


def _column(key: str, field: str) -> str:
    return key if field == "name" else f"{key}_{field}"
