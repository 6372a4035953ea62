"""The embedded talks: who speaks, what they say, and how each speaker sounds and moves."""

from __future__ import annotations

from dataclasses import dataclass

from samples.builders.espeak import Voice
from samples.builders.face import FaceStyle
from samples.builders.gesture import GestureStyle
from samples.builders.performance import Style
from samples.builders.visemes import MouthStyle
from samples.ids import SPEAKERS

LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class Shot:
    """Where the camera stands and what is behind the speaker."""

    focal: float  # fraction of the picture's side
    height: float  # metres that the picture shows of a person of average size (scene.TRUNK)
    yaw: float  # radians that the camera stands to the speaker's left of straight ahead
    rise: float  # metres that the camera is above the picture's middle
    wall: tuple[float, float, float]  # colour 0..1
    exposure: float = 1.0  # factor on the light that falls on the speaker


@dataclass(frozen=True)
class Talk:
    speaker: str
    topic: str
    seed: int  # of the person's looks (samples.builders.people) and of the pauses
    take: int  # which draw of the motion is shown
    voice: Voice
    pause: float  # seconds between lines, about
    lines: tuple[str, ...]
    style: Style
    shot: Shot

    @property
    def id(self) -> str:
        return f"{self.speaker}_{self.topic}"

    @property
    def motion_seed(self) -> int:
        return 1000 * self.take + self.seed


TALKS = (
    Talk(
        SPEAKERS[0],
        "radio",
        seed=100,
        take=7,
        voice=Voice("en-us+m3", "en-US", rate=165, pitch=42, pitch_range=62),
        pause=0.4,
        lines=(
            "When I was nine, I took my father's radio apart.",
            "I wanted to find the tiny people inside.",
            "Of course, there were none. But I found my job.",
        ),
        style=Style(
            MouthStyle(jaw=1.0, lips=1.0, smile=0.25),
            FaceStyle(nod=0.098, nod_rate=0.7, brow=0.5, blinks=0.35, glance=0.14),
            GestureStyle(
                rest="front",
                rate=0.85,
                size=1.0,
                speed=1.0,
                right=0.75,
                both=0.5,
                beat=0.06,
                likes={"present": 1, "count": 0.8, "offer": 0.6, "self": 0.6},
            ),
            sway=1.0,
            lean=0.04,
            turn=0.0,
        ),
        shot=Shot(focal=1.75, height=1.11, yaw=0.10, rise=0.05, wall=(0.62, 0.66, 0.70)),
    ),
    Talk(
        SPEAKERS[1],
        "bread",
        seed=101,
        take=4,
        voice=Voice("en+f3", "en-GB", rate=178, pitch=62, pitch_range=70),
        pause=0.3,
        lines=(
            "Good bread needs four things: flour, water, salt, and time.",
            "Most of us forget the last one.",
            "So put the dough away, and simply let it work.",
        ),
        style=Style(
            MouthStyle(jaw=1.1, lips=1.05, smile=0.35),
            FaceStyle(nod=0.084, nod_rate=0.8, brow=0.7, blinks=0.45, glance=0.16, tilt=0.02),
            GestureStyle(
                rest="high",
                rate=0.95,
                size=0.9,
                speed=1.1,
                right=0.5,
                both=0.55,
                beat=0.05,
                likes={"frame": 1, "precise": 1, "count": 0.7, "sweep": 0.4},
            ),
            sway=1.2,
            lean=0.05,
            turn=-0.08,
        ),
        shot=Shot(focal=1.65, height=1.07, yaw=-0.08, rise=0.0, wall=(0.72, 0.66, 0.56)),
    ),
    Talk(
        SPEAKERS[2],
        "bridge",
        seed=102,
        take=4,
        voice=Voice("en-gb-scotland+m1", "en-GB", rate=158, pitch=35, pitch_range=55),
        pause=0.45,
        lines=(
            "How can a bridge carry a thousand trucks?",
            "The answer is almost boring. It never works alone.",
            "Every beam passes the weight to a neighbour.",
        ),
        style=Style(
            MouthStyle(jaw=0.9, lips=0.95, smile=0.1),
            FaceStyle(nod=0.126, nod_rate=0.65, brow=0.35, blinks=0.3, glance=0.10),
            GestureStyle(
                rest="apart",
                rate=0.85,
                size=1.15,
                speed=0.95,
                right=0.6,
                both=0.5,
                beat=0.07,
                likes={"chop": 1, "frame": 0.9, "sweep": 0.8, "grip": 0.5},
            ),
            sway=0.8,
            lean=0.03,
            turn=0.10,
        ),
        shot=Shot(focal=1.9, height=1.13, yaw=0.0, rise=0.08, wall=(0.46, 0.52, 0.56)),
    ),
    Talk(
        SPEAKERS[3],
        "maps",
        seed=103,
        take=6,
        voice=Voice("en-us+f2", "en-US", rate=178, pitch=58, pitch_range=75),
        pause=0.3,
        lines=(
            "Every map is a small lie. It has to be!",
            "A map that shows everything would be as big as the world.",
            "The art is to choose what we may safely leave out.",
        ),
        style=Style(
            MouthStyle(jaw=1.05, lips=1.1, smile=0.3),
            FaceStyle(nod=0.112, nod_rate=0.75, brow=0.6, blinks=0.4, glance=0.18, tilt=-0.02),
            GestureStyle(
                rest="apart",
                rate=0.9,
                size=1.05,
                speed=1.15,
                right=0.65,
                both=0.45,
                beat=0.06,
                likes={"sweep": 1, "present": 0.9, "frame": 0.7, "raise": 0.5},
            ),
            sway=1.1,
            lean=0.04,
            turn=-0.05,
        ),
        shot=Shot(focal=1.7, height=1.09, yaw=0.12, rise=0.03, wall=(0.58, 0.68, 0.60), exposure=1.6),
    ),
    Talk(
        SPEAKERS[4],
        "noise",
        seed=104,
        take=2,
        voice=Voice("en-us-nyc+m7", "en-US", rate=170, pitch=48, pitch_range=66),
        pause=0.4,
        lines=(
            "Listen for a moment. What do you hear?",
            "A fan, maybe. Somebody's phone.",
            "We stopped noticing all of that noise. Our bodies never did.",
        ),
        style=Style(
            MouthStyle(jaw=0.95, lips=1.0, smile=0.15),
            FaceStyle(nod=0.105, nod_rate=0.6, brow=0.55, blinks=0.35, glance=0.15),
            GestureStyle(
                rest="front",
                rate=0.8,
                size=1.1,
                speed=1.0,
                right=0.35,
                both=0.3,
                beat=0.06,
                likes={"raise": 0.9, "precise": 0.8, "count": 0.7, "chop": 0.6},
            ),
            sway=1.0,
            lean=0.05,
            turn=0.06,
        ),
        shot=Shot(focal=1.8, height=1.11, yaw=-0.12, rise=0.04, wall=(0.56, 0.52, 0.60)),
    ),
    Talk(
        SPEAKERS[5],
        "bees",
        seed=105,
        take=6,
        voice=Voice("en-gb-x-rp+f4", "en-GB", rate=174, pitch=66, pitch_range=72),
        pause=0.32,
        lines=(
            "A bumble bee weighs less than a paper clip.",
            "And yet, before breakfast, she visits five hundred flowers.",
            "I think of her when I complain about my morning.",
        ),
        style=Style(
            MouthStyle(jaw=1.0, lips=1.1, smile=0.4),
            FaceStyle(nod=0.084, nod_rate=0.75, brow=0.65, blinks=0.5, glance=0.16, tilt=0.03),
            GestureStyle(
                rest="high",
                rate=0.9,
                size=0.95,
                speed=1.05,
                right=0.55,
                both=0.5,
                beat=0.055,
                likes={"precise": 0.9, "offer": 0.8, "present": 0.8, "self": 0.7},
            ),
            sway=1.15,
            lean=0.04,
            turn=-0.1,
        ),
        shot=Shot(focal=1.65, height=1.07, yaw=0.06, rise=0.02, wall=(0.70, 0.62, 0.62)),
    ),
)
