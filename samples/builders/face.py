"""Head, gaze, brows and blinks of a speaker: nods and brows on accents, glances between phrases. Radians; N samples at curves.RATE."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samples.builders.curves import Curve, pulse, smooth, through, wander
from samples.builders.gesture import accents
from samples.builders.speech import SILENCE, Phone


@dataclass(frozen=True)
class FaceStyle:
    nod: float = 0.07  # depth of a nod, radians
    nod_rate: float = 0.7  # chance that a strong accent is nodded
    brow: float = 0.5  # chance that a strong accent raises the brows
    blinks: float = 0.35  # a second
    glance: float = 0.14  # standard deviation of where the speaker looks, radians of yaw
    tilt: float = 0.0  # resting roll of the head


def head_and_eyes(
    phones: Sequence[Phone], count: int, style: FaceStyle, rng: np.random.Generator, towards: float = 0.0
) -> tuple[Curve, Curve]:
    """Head rotation angles (pitch x, yaw y, roll z) [N, 3] and eye angles (pitch, yaw) against the head [N, 2].

    `towards`: yaw of who is spoken to, against the speaker's chest.
    """
    ends = [p.start for p in phones if p.name == SILENCE and p.start > 0]
    centre = np.array([0.0, towards])
    look = [(-1.0, centre)]
    time = rng.uniform(0.6, 1.6)
    while time < phones[-1].end:
        time = min(ends, key=lambda e: abs(e - time)) if ends and min(abs(e - time) for e in ends) < 0.3 else time
        if time > look[-1][0] + 0.5:
            away = rng.random() < 0.65
            target = rng.normal(0, 1, 2) * (0.04, style.glance) if away else rng.normal(0, 0.03, 2)
            look.append((time, centre + np.clip(target, (-0.1, -0.24), (0.1, 0.24))))
        time += rng.uniform(0.8, 2.2)
    gaze = through(_moves(look, 0.05), count)
    follow = through(_moves([(t + 0.06, centre + 0.7 * (g - centre)) for t, g in look], rng.uniform(0.3, 0.45)), count)
    head = np.zeros((count, 3))
    head[:, :2] = smooth(follow, 0.04)
    head[:, 2] = style.tilt - 0.25 * head[:, 1]
    head += wander(rng, count, np.array([0.025, 0.035, 0.025]), 1.0, 0.15)
    for when, prominence in accents(phones):
        if rng.random() < style.nod_rate * (0.3 + 0.7 / (1 + np.exp(-2 * (prominence - 0.6)))):
            depth = style.nod * np.exp(rng.normal(0, 0.3)) * (0.7 + 0.3 * min(prominence, 2))
            head[:, 0] += depth * pulse(count, when + rng.normal(0, 0.025), 0.15, 0.0, 0.26)
            if rng.random() < 0.4:  # many nods lean to a side
                head[:, 2] += rng.normal(0, 0.03) * pulse(count, when, 0.18, 0.1, 0.4)
    eyes = np.clip(gaze - head[:, :2], -0.35, 0.35) * (0.8, 1.0)
    return head, eyes


def brows_and_lids(phones: Sequence[Phone], count: int, style: FaceStyle, rng: np.random.Generator) -> Curve:
    """Coefficients brow_up, brow_down, blink [N, 3] in 0..2."""
    out = np.zeros((count, 3))
    for when, prominence in accents(phones, 0.6):
        if rng.random() < style.brow:
            rise = pulse(count, when - 0.04 + rng.normal(0, 0.04), 0.16, rng.uniform(0.05, 0.35), 0.3)
            column, top = (0, 1.6) if rng.random() < 0.8 else (1, 1.2)
            out[:, column] = np.maximum(out[:, column], rise * top * rng.uniform(0.4, 1) * min(0.6 + 0.3 * prominence, 1.1))
    out[:, 0] += 0.12 + wander(rng, count, 0.08, 2.0, 0.2)
    ends = [p.start + 0.1 for p in phones if p.name == SILENCE and p.start > 0 and p.end - p.start > 0.15]
    blinks = [e for e in ends if rng.random() < 0.5]
    time = rng.exponential(1 / style.blinks)
    while time < phones[-1].end:
        if all(abs(time - b) > 0.5 for b in blinks):
            blinks.append(time)
        time += 0.4 + rng.exponential(1 / style.blinks)
    for when in blinks:
        out[:, 2] = np.maximum(out[:, 2], 2 * pulse(count, when, 0.09, 0.04, 0.16))
    return np.clip(out, 0, 2)


def _moves(targets: Sequence[tuple[float, np.ndarray]], duration: float) -> list[tuple[float, np.ndarray]]:
    """Keys that stay at each target and take `duration` to reach the next."""
    keys = [targets[0]]
    for (_, before), (time, after) in itertools.pairwise(targets):
        keys += [(max(time, keys[-1][0] + 0.01), before), (max(time, keys[-1][0] + 0.01) + duration, after)]
    return keys
