"""What one talk is before a sound of it is made: who speaks, what they say, how they move, where, and how it is filmed.

A plan is plain data: `plan_to_text` writes it as JSON and `plan_from_text` reads it back equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from samples.builders.espeak import Voice
from samples.builders.face import FaceStyle
from samples.builders.gesture import GestureStyle
from samples.builders.visemes import MouthStyle

Framing = Literal["half", "full"]
Backdrop = Literal["wall", "plain", "gradient", "room", "shelves"]
RATES = tuple(Fraction(*r) for r in ((24, 1), (25, 1), (30000, 1001), (30, 1)))  # frames a second


@dataclass(frozen=True)
class Style:
    """All that makes a speaker move like themselves."""

    mouth: MouthStyle = field(default_factory=MouthStyle)
    face: FaceStyle = field(default_factory=FaceStyle)
    gesture: GestureStyle = field(default_factory=GestureStyle)
    sway: float = 1.0  # gain of the body's slow movement
    lean: float = 0.04  # radians forward
    turn: float = 0.0  # resting yaw of the body, radians
    stance: float = 0.02  # radians that each leg stands further out than in the template


@dataclass(frozen=True)
class Light:
    """One lamp in front of the speaker and what comes from all round."""

    side: float = 0.45  # of the lamp, left (+) or right (-) of the speaker, metres a metre away
    height: float = 0.70
    contrast: float = 1.0  # strength of the lamp against the light all round; 0 is flat
    warmth: float = 0.0  # -1 bluish .. 1 orange
    exposure: float = 1.0  # factor on all light that falls on the speaker


@dataclass(frozen=True)
class Shot:
    """Where the camera stands and what is behind the speaker."""

    focal: float  # fraction of the picture's side
    height: float  # metres that the picture shows of a person of average size (scene.TRUNK, scene.STATURE)
    yaw: float  # radians that the camera stands to the speaker's left of straight ahead
    rise: float  # metres that the camera is above the picture's middle
    wall: tuple[float, float, float]  # colour 0..1
    framing: Framing = "half"
    backdrop: Backdrop = "wall"
    light: Light = field(default_factory=Light)


@dataclass(frozen=True)
class Room:
    """How the room sounds; `dry` and `quiet` where a level is None."""

    reverberation: float = 0.4  # seconds until it fell by 60 dB
    direct_db: float | None = None  # the voice against its reverberation, dB
    noise_db: float | None = None  # the voice (root mean square while it speaks) against the room's noise, dB


@dataclass(frozen=True)
class TalkPlan:
    """One talk; `look` makes the person, `seed` the chance in pauses, room and picture, `take` the motion."""

    speaker: str
    topic: str
    seed: int
    look: int  # seed of samples.builders.people.make_person
    take: int  # which draw of the motion is shown
    voice: Voice
    pause: float  # seconds between lines, about
    lines: tuple[str, ...]
    style: Style
    shot: Shot
    fps: Fraction = Fraction(25)
    room: Room = Room()

    @property
    def id(self) -> str:
        return f"{self.speaker}_{self.topic}"


_PLAN = TypeAdapter(TalkPlan)


def plan_to_text(plan: TalkPlan) -> str:
    return _PLAN.dump_json(plan).decode()


def plan_from_text(text: str) -> TalkPlan:
    """ValueError says what is wrong with it in one line."""
    try:
        return _PLAN.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"])
        raise ValueError(f"not a talk's plan: {where or 'the text'}: {first['msg']}; make the score again") from None
