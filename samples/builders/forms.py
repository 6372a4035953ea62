"""The forms of hand gestures: where a stroke begins and ends, as controls of arms.py for the left hand.

Beats of several shapes, iconic forms that picture a word (samples.builders.words), pointing, and touching oneself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pose = NDArray[np.float64]  # [arms.CONTROLS]
RELAXED = (0.7, 0.85, 0.95, 1.0, 0.15, 0.35, 0.3)  # fingers: four curls, spread, thumb across, thumb curl
FLAT = (0.12, 0.08, 0.12, 0.2, 0.35, 0.1, 0.1)
OPEN = (0.3, 0.25, 0.35, 0.45, 0.8, 0.05, 0.1)
PINCH = (1.35, 1.0, 0.8, 0.7, 0.4, 0.9, 0.45)
GAP = (0.75, 1.5, 1.8, 1.9, 0.2, 0.55, 0.15)
POINT = (0.05, 1.9, 2.1, 2.1, 0.1, 0.8, 0.7)
CUP = (0.9, 0.85, 0.9, 0.95, 0.5, 0.4, 0.25)
THINKING = (1.2, 1.5, 1.6, 1.7, 0.1, 0.2, 0.1)
FIST = (2.0, 2.1, 2.2, 2.2, 0.0, 0.9, 0.7)


def pose(wrist: tuple[float, float, float], swivel: float, turn: tuple[float, float, float], fingers: tuple[float, ...]) -> Pose:
    return np.array([*wrist, swivel, *turn, *fingers])


@dataclass(frozen=True)
class Form:
    start: Pose
    end: Pose
    hands: tuple[int, ...] = (1, 2)  # with how many hands it is made
    circle: tuple[float, float, float] = (0.0, 0.0, 0.0)  # outward, up, forward: radii of a turn on the way, arm lengths
    turns: float = 1.0
    opposed: bool = False  # the other hand is half a turn behind
    seesaw: float = 0.0  # the right hand ends this much higher and the left lower, arm lengths
    anchored: bool = False  # its place does not change with the speaker's size of gestures

    @property
    def crosses(self) -> bool:
        """Whether it reaches across the body."""
        return min(self.start[0], self.end[0]) < -0.25


FORMS = {
    "present": Form(
        pose((-0.12, -0.42, 0.60), 0.3, (-0.3, 0.1, 0), CUP),
        pose((0.12, -0.48, 0.66), 0.35, (-1.1, -0.2, 0), OPEN),
    ),
    "chop": Form(
        pose((-0.06, -0.24, 0.62), 0.3, (0.1, -0.1, 0), FLAT),
        pose((-0.05, -0.46, 0.70), 0.3, (0.1, 0.1, 0.2), FLAT),
    ),
    "precise": Form(
        pose((-0.08, -0.14, 0.62), 0.35, (0.3, -0.2, 0), PINCH),
        pose((-0.06, -0.32, 0.70), 0.35, (0.4, 0.1, 0.1), PINCH),
    ),
    "frame": Form(
        pose((-0.15, -0.42, 0.60), 0.4, (0.1, 0, 0), RELAXED),
        pose((0.08, -0.38, 0.68), 0.5, (0.0, -0.1, 0), CUP),
        hands=(2,),
    ),
    "sweep": Form(
        pose((-0.34, -0.30, 0.60), 0.4, (0.5, 0.1, 0), RELAXED),
        pose((0.24, -0.30, 0.62), 0.5, (0.5, -0.2, 0.1), FLAT),
        hands=(1,),  # it starts across the body, where two arms would meet
    ),
    "raise": Form(
        pose((-0.02, -0.42, 0.52), 0.3, (0.2, 0, 0), RELAXED),
        pose((0.16, -0.06, 0.56), 0.4, (0.5, -0.5, 0), OPEN),
    ),
    "count": Form(
        pose((-0.04, -0.34, 0.54), 0.3, (0.2, 0, 0), FIST),
        pose((0.02, -0.04, 0.58), 0.3, (0.3, -0.2, 0), POINT),
        hands=(1,),
    ),
    "grip": Form(
        pose((-0.08, -0.26, 0.60), 0.35, (0.3, -0.1, 0), CUP),
        pose((-0.06, -0.44, 0.66), 0.35, (0.3, 0.1, 0), FIST),
    ),
    "self": Form(
        pose((-0.12, -0.42, 0.56), 0.4, (0.2, 0, 0), RELAXED),
        pose((-0.34, -0.30, 0.44), 0.5, (0.3, 0.2, 0), FLAT),
        hands=(1,),
    ),
    "offer": Form(
        pose((-0.14, -0.46, 0.54), 0.3, (-0.4, 0.1, 0), RELAXED),
        pose((0.05, -0.44, 0.74), 0.3, (-1.2, -0.1, 0), OPEN),
        hands=(2,),
    ),
    "point": Form(
        pose((-0.04, -0.40, 0.54), 0.35, (0.3, 0.1, 0), FIST),
        pose((0.10, -0.20, 0.88), 0.35, (0.8, 0.1, -0.2), POINT),
        hands=(1,),
    ),
    "big": Form(
        pose((-0.20, -0.32, 0.60), 0.45, (0.1, 0, 0), CUP),
        pose((0.20, -0.24, 0.58), 0.6, (0.1, -0.15, 0), OPEN),
        hands=(2,),
    ),
    "small": Form(
        pose((-0.08, -0.34, 0.56), 0.35, (0.3, 0, 0), RELAXED),
        pose((-0.04, -0.14, 0.60), 0.35, (0.2, -0.2, 0), GAP),
        hands=(1,),
    ),
    "rise": Form(
        pose((0.02, -0.54, 0.56), 0.35, (1.0, 0.1, 0), FLAT),
        pose((0.05, -0.10, 0.60), 0.45, (1.1, 0.0, 0), FLAT),
    ),
    "round": Form(
        pose((-0.12, -0.18, 0.62), 0.4, (0.5, 0, 0), CUP),
        pose((-0.12, -0.46, 0.62), 0.4, (-0.2, 0, 0), CUP),
        hands=(2,),
        circle=(0.20, 0.0, 0.0),
        turns=0.5,
    ),
    "rolling": Form(
        pose((-0.14, -0.30, 0.56), 0.6, (0.5, 0.2, 0), RELAXED),
        pose((-0.12, -0.32, 0.62), 0.6, (0.4, 0.1, 0), CUP),
        hands=(1, 2),
        circle=(0.0, 0.09, 0.09),
        turns=1.5,
        opposed=True,
    ),
    "weigh": Form(
        pose((0.04, -0.42, 0.60), 0.3, (-0.9, 0, 0), CUP),
        pose((0.06, -0.38, 0.64), 0.35, (-1.2, -0.1, 0), CUP),
        hands=(2,),
        seesaw=0.09,
    ),
}

TOUCHES = {
    "chin": Form(
        pose((-0.20, -0.14, 0.46), 0.6, (0.1, 0.0, -0.2), CUP),
        pose((-0.26, 0.02, 0.40), 0.75, (0.1, 0.1, -0.2), THINKING),
        hands=(1,),
        anchored=True,
    ),
    "chest": Form(
        pose((-0.14, -0.30, 0.48), 0.45, (0.4, 0, 0), RELAXED),
        pose((-0.20, -0.20, 0.20), 0.55, (0.5, 0.2, -0.1), FLAT),
        hands=(1,),
        anchored=True,
    ),
    "together": Form(
        pose((-0.16, -0.42, 0.56), 0.4, (0.1, 0, 0), RELAXED),
        pose((-0.27, -0.42, 0.54), 0.45, (0.1, 0.2, 0), RELAXED),
        hands=(2,),
        anchored=True,
    ),
}

RESTS = {
    "front": pose((-0.10, -0.60, 0.50), 0.3, (0.45, 0.05, 0), RELAXED),
    "apart": pose((0.02, -0.60, 0.52), 0.3, (0.6, 0.0, 0), RELAXED),
    "high": pose((-0.11, -0.50, 0.56), 0.35, (0.2, 0.0, 0), RELAXED),
    "open": pose((-0.02, -0.56, 0.56), 0.3, (0.0, 0.0, 0), CUP),
    "folded": pose((-0.24, -0.62, 0.46), 0.45, (0.5, 0.15, 0), RELAXED),
    "hanging": pose((0.14, -0.94, 0.14), 0.3, (0.5, 0.1, 0), RELAXED),
}
ALL_FORMS = FORMS | TOUCHES
