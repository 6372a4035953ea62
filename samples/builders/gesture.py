"""Hand gestures that follow the speech with chance in it: which accents get a stroke, which form, when it holds and rests.

A stroke (Kendon's phases): preparation to its start, the stroke itself that ends on a prominent syllable, a hold, and
retraction to rest unless another stroke follows soon. While a hand is up, smaller accents give it a small beat.
Poses are controls of arms.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from samples.builders.arms import CONTROLS
from samples.builders.curves import Curve, pulse, smooth, through, wander
from samples.builders.speech import SILENCE, Phone

Pose = NDArray[np.float64]  # [CONTROLS]
RELAXED = (0.7, 0.85, 0.95, 1.0, 0.15, 0.35, 0.3)  # fingers: four curls, spread, thumb across, thumb curl
FLAT = (0.12, 0.08, 0.12, 0.2, 0.35, 0.1, 0.1)
OPEN = (0.3, 0.25, 0.35, 0.45, 0.8, 0.05, 0.1)
PINCH = (1.35, 1.0, 0.8, 0.7, 0.4, 0.9, 0.45)
POINT = (0.05, 1.9, 2.1, 2.1, 0.1, 0.8, 0.7)
CUP = (0.9, 0.85, 0.9, 0.95, 0.5, 0.4, 0.25)
FIST = (2.0, 2.1, 2.2, 2.2, 0.0, 0.9, 0.7)


def pose(wrist: tuple[float, float, float], swivel: float, turn: tuple[float, float, float], fingers: tuple[float, ...]) -> Pose:
    return np.array([*wrist, swivel, *turn, *fingers])


@dataclass(frozen=True)
class Gesture:
    start: Pose
    end: Pose
    hands: tuple[int, ...] = (1, 2)  # with how many hands it is made


GESTURES = {
    "present": Gesture(
        pose((-0.12, -0.42, 0.60), 0.3, (-0.3, 0.1, 0), CUP),
        pose((0.12, -0.48, 0.66), 0.35, (-1.1, -0.2, 0), OPEN),
    ),
    "chop": Gesture(
        pose((-0.06, -0.24, 0.62), 0.3, (0.1, -0.1, 0), FLAT),
        pose((-0.05, -0.46, 0.70), 0.3, (0.1, 0.1, 0.2), FLAT),
    ),
    "precise": Gesture(
        pose((-0.08, -0.14, 0.62), 0.35, (0.3, -0.2, 0), PINCH),
        pose((-0.06, -0.32, 0.70), 0.35, (0.4, 0.1, 0.1), PINCH),
    ),
    "frame": Gesture(
        pose((-0.15, -0.42, 0.60), 0.4, (0.1, 0, 0), RELAXED),
        pose((0.08, -0.38, 0.68), 0.5, (0.0, -0.1, 0), CUP),
        hands=(2,),
    ),
    "sweep": Gesture(
        pose((-0.34, -0.30, 0.60), 0.4, (0.5, 0.1, 0), RELAXED),
        pose((0.24, -0.30, 0.62), 0.5, (0.5, -0.2, 0.1), FLAT),
    ),
    "raise": Gesture(
        pose((-0.02, -0.42, 0.52), 0.3, (0.2, 0, 0), RELAXED),
        pose((0.16, -0.06, 0.56), 0.4, (0.5, -0.5, 0), OPEN),
    ),
    "count": Gesture(
        pose((-0.04, -0.34, 0.54), 0.3, (0.2, 0, 0), FIST),
        pose((0.02, -0.04, 0.58), 0.3, (0.3, -0.2, 0), POINT),
        hands=(1,),
    ),
    "grip": Gesture(
        pose((-0.08, -0.26, 0.60), 0.35, (0.3, -0.1, 0), CUP),
        pose((-0.06, -0.44, 0.66), 0.35, (0.3, 0.1, 0), FIST),
    ),
    "self": Gesture(
        pose((-0.12, -0.42, 0.56), 0.4, (0.2, 0, 0), RELAXED),
        pose((-0.34, -0.30, 0.44), 0.5, (0.3, 0.2, 0), FLAT),
        hands=(1,),
    ),
    "offer": Gesture(
        pose((-0.14, -0.46, 0.54), 0.3, (-0.4, 0.1, 0), RELAXED),
        pose((0.05, -0.44, 0.74), 0.3, (-1.2, -0.1, 0), OPEN),
        hands=(2,),
    ),
}

RESTS = {
    "front": pose((-0.10, -0.60, 0.50), 0.3, (0.45, 0.05, 0), RELAXED),
    "apart": pose((0.02, -0.60, 0.52), 0.3, (0.6, 0.0, 0), RELAXED),
    "high": pose((-0.11, -0.50, 0.56), 0.35, (0.2, 0.0, 0), RELAXED),
    "open": pose((-0.02, -0.56, 0.56), 0.3, (0.0, 0.0, 0), CUP),
}


@dataclass(frozen=True)
class GestureStyle:
    """How one speaker gestures."""

    rest: str = "front"  # of RESTS
    rate: float = 0.8  # chance that a strong accent gets a stroke
    size: float = 1.0
    speed: float = 1.0
    right: float = 0.6  # chance of the right hand in one-handed strokes
    both: float = 0.4  # chance of both hands
    beat: float = 0.06  # depth of small beats, arm lengths
    likes: dict[str, float] = field(default_factory=dict)  # weights over GESTURES; those not named get 0.2


@dataclass(frozen=True)
class Stroke:
    """A stroke whose end falls at `apex` seconds and is held for `hold`."""

    apex: float
    hold: float
    form: str
    hands: str  # 'l', 'r' or 'lr'
    size: float
    jitter: Pose  # added to both its poses


def accents(phones: Sequence[Phone], least: float = 0.3, apart: float = 0.22) -> list[tuple[float, float]]:
    """(time, prominence) of vowels that stand out, the stronger where two are close."""
    out: list[tuple[float, float]] = []
    for phone in phones:
        if phone.prominence <= least:
            continue
        time = phone.start + 0.35 * (phone.end - phone.start)
        if out and time - out[-1][0] < apart:
            if phone.prominence <= out[-1][1]:
                continue
            out.pop()
        out.append((time, phone.prominence))
    return out


def plan_strokes(phones: Sequence[Phone], style: GestureStyle, rng: np.random.Generator) -> list[Stroke]:
    """Choose strokes for one stretch of speech, in order of time."""
    names = list(GESTURES)
    weights = np.array([style.likes.get(n, 0.2) for n in names])
    pauses = [p.start for p in phones if p.name == SILENCE and p.end - p.start > 0.2]
    strokes: list[Stroke] = []
    free = 0.35  # earliest apex of the next stroke
    form, hands = "", ""
    for time, prominence in accents(phones):
        chance = style.rate * (0.25 + 0.75 / (1 + np.exp(-2.5 * (prominence - 0.9))))
        if time < free or rng.random() > chance:
            continue
        if not strokes or rng.random() < 0.7:  # else the form is repeated, as speakers do
            form = str(rng.choice(names, p=weights / weights.sum()))
            options = GESTURES[form].hands
            both = options == (2,) or (2 in options and rng.random() < style.both)
            hands = "lr" if both else ("r" if rng.random() < style.right else "l")
        until_pause = min((p - time for p in pauses if p > time), default=1.0)
        hold = float(np.clip(rng.gamma(2.0, 0.16), 0.05, max(0.1, until_pause)))
        jitter = np.zeros(CONTROLS)
        jitter[:3] = rng.normal(0, 0.03, 3)
        jitter[4:6] = rng.normal(0, 0.12, 2)
        size = style.size * np.exp(rng.normal(0, 0.2)) * (0.8 + 0.2 * min(prominence, 2))
        strokes.append(Stroke(time - 0.02 + rng.normal(0, 0.03), hold, form, hands, float(size), jitter))
        free = time + max(0.55 / style.speed, hold + 0.35 / style.speed)
    return strokes


def hand_path(
    strokes: Sequence[Stroke], side: str, phones: Sequence[Phone], count: int, style: GestureStyle, rng: np.random.Generator
) -> Curve:
    """Controls [N, CONTROLS] of one arm, N = `count` samples at curves.RATE."""
    rest = RESTS[style.rest] + np.concatenate([rng.normal(0, 0.015, 3), rng.normal(0, 0.05, 4), rng.normal(0, 0.06, 7)])
    weaker = (side == "r") != (style.right > 0.5)
    mine = [_followed(s, rng) if weaker and s.hands == "lr" else s for s in strokes if side in s.hands]
    keys: list[tuple[float, Pose]] = [(-1.0, rest)]
    for stroke in mine:
        start, end = _poses(stroke)
        swing = 0.14 + 0.45 * float(np.linalg.norm(end[:3] - start[:3]))
        begin = stroke.apex - min(swing, 0.5) / style.speed
        way = float(np.linalg.norm(start[:3] - keys[-1][1][:3]))
        leave = begin - min(0.22 + 0.45 * way, 0.6) / style.speed
        if leave < keys[-1][0] + 0.02:  # the retraction is not finished: go on from where the hand was held
            while len(keys) > 1 and keys[-1][0] > leave - 0.02:
                keys.pop()
        leave = max(leave, keys[-1][0] + 0.02)
        way = float(np.linalg.norm(start[:3] - keys[-1][1][:3]))
        if begin < leave + 0.12 + 0.30 * way:  # too late for this hand to get there unhurried
            continue
        keys += [(leave, keys[-1][1]), (begin, start), (stroke.apex, end)]
        held = end.copy()
        held[1] -= 0.015
        done = stroke.apex + stroke.hold
        back = 0.40 + 0.40 * float(np.linalg.norm(held[:3] - rest[:3]))
        keys += [(done, held), (done + back / style.speed, _refreshed(rest, rng))]
    path = smooth(through(keys, count), 0.03)
    away = np.linalg.norm(path[:, :3] - rest[:3], axis=1)
    raised = np.clip(away / 0.25, 0.15, 1)
    for time, prominence in accents(phones, 0.0):
        if all(abs(time - s.apex) > 0.15 for s in mine) and rng.random() < 0.75:
            beat = style.beat * min(0.5 + 0.4 * prominence, 1.2) * pulse(count, time - 0.02, 0.13, 0.0, 0.22)
            path[:, 1] -= beat * raised
            path[:, 5] += 1.5 * beat * raised
    drift = np.array([0.010, 0.010, 0.008, 0.02, 0.05, 0.04, 0.03, *[0.05] * 7])
    path += wander(rng, count, drift, 1.2, 0.15)
    path[:, 2] = np.maximum(path[:, 2], 0.34)
    path[:, 7:11] = np.clip(path[:, 7:11], 0, 2.4)
    path[:, 11:] = np.clip(path[:, 11:], 0, 1)
    return path


def _poses(stroke: Stroke) -> tuple[Pose, Pose]:
    gesture = GESTURES[stroke.form]
    centre = (gesture.start[:3] + gesture.end[:3]) / 2
    out = []
    for p in (gesture.start, gesture.end):
        p = p + stroke.jitter
        p[:3] = centre + stroke.jitter[:3] + stroke.size * (p[:3] - centre - stroke.jitter[:3])
        p[0] = min(p[0], 0.26)  # further out, the fingers leave the picture
        out.append(p)
    return out[0], out[1]


def _followed(stroke: Stroke, rng: np.random.Generator) -> Stroke:
    """The part of the weaker hand in a two-handed stroke: a little late, smaller, not quite the mirror image."""
    jitter = stroke.jitter + np.concatenate([rng.normal(0, 0.03, 3), rng.normal(0, 0.1, 4), rng.normal(0, 0.1, 7)])
    return replace(stroke, apex=stroke.apex + rng.normal(0.025, 0.02), size=stroke.size * rng.uniform(0.7, 1.0), jitter=jitter)


def _refreshed(rest: Pose, rng: np.random.Generator) -> Pose:
    """The rest pose, not quite as before."""
    return rest + np.concatenate([rng.normal(0, 0.02, 3), rng.normal(0, 0.05, 4), rng.normal(0, 0.06, 7)])
