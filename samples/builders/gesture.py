"""Hand gestures that follow the speech with chance in it: which accents get a stroke, which form, when it holds and rests.

A stroke (Kendon's phases): preparation to its start, the stroke itself that ends on a prominent syllable, a hold, and
retraction to rest unless another stroke follows soon. A form that pictures a word falls on that word. While a hand is
up, smaller accents give it a small beat. Poses are controls of arms.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from samples.builders.arms import CONTROLS
from samples.builders.curves import RATE, Curve, min_jerk, pulse, smooth, through, times, wander
from samples.builders.forms import ALL_FORMS, FORMS, RESTS, TOUCHES, Pose
from samples.builders.speech import SILENCE, Phone, Word
from samples.builders.words import PICTURED, bare

OUTERMOST = 0.23  # arm lengths outward from the shoulder; beyond, the fingers leave the picture
SIDES = "lr"


@dataclass(frozen=True)
class GestureStyle:
    """How one speaker gestures."""

    rest: str = "front"  # of forms.RESTS
    rate: float = 0.8  # chance that a strong accent gets a stroke
    size: float = 1.0
    speed: float = 1.0
    right: float = 0.6  # chance of the right hand in one-handed strokes
    both: float = 0.4  # chance of both hands
    beat: float = 0.06  # depth of small beats, arm lengths
    touch: float = 0.0  # chance that a stroke touches the speaker instead
    pictured: float = 0.5  # chance that a word that a form pictures gets that form
    likes: dict[str, float] = field(default_factory=dict)  # weights over forms.FORMS; those not named get 0.2


@dataclass(frozen=True)
class Planned:
    """A stroke whose end falls at `apex` seconds and is held for `hold`."""

    apex: float
    hold: float
    form: str
    hands: str  # 'l', 'r' or 'lr'
    size: float
    jitter: Pose  # added to both its poses


@dataclass(frozen=True)
class Stroke:
    """A stroke as it was carried out, seconds: start ≤ begin < apex ≤ hold ≤ end."""

    start: float  # preparation begins
    begin: float  # the stroke itself begins
    apex: float  # it ends, on an accent
    hold: float  # until here it is held
    end: float  # the hand is back at rest, or leaves for the next stroke
    form: str  # of forms.ALL_FORMS
    hands: str  # 'l', 'r' or 'lr'


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


def draw_gestures(
    phones: Sequence[Phone], words: Sequence[Word], count: int, style: GestureStyle, rng: np.random.Generator
) -> tuple[dict[str, Curve], tuple[Stroke, ...]]:
    """Controls [N, CONTROLS] of both arms ('l', 'r'), N = `count` samples at curves.RATE, and the strokes in them."""
    planned = plan_strokes(phones, style, rng, words)
    paths, done = {}, {}
    for side in SIDES:
        paths[side], done[side] = hand_path(planned, side, phones, count, style, rng)
    strokes = []
    for i, plan in enumerate(planned):
        hands = "".join(side for side in SIDES if i in done[side])
        if hands:
            leading = "r" if "r" in hands and (style.right > 0.5 or hands == "r") else hands[0]
            strokes.append(Stroke(*done[leading][i], form=plan.form, hands=hands))
    return paths, tuple(strokes)


def plan_strokes(phones: Sequence[Phone], style: GestureStyle, rng: np.random.Generator, words: Sequence[Word] = ()) -> list[Planned]:
    """Choose strokes for one stretch of speech, in order of time."""
    names = list(FORMS)
    weights = np.array([style.likes.get(n, 0.2) for n in names])
    pauses = [p.start for p in phones if p.name == SILENCE and p.end - p.start > 0.2]
    strokes: list[Planned] = []
    free = 0.35  # earliest apex of the next stroke
    form, hands = "", ""
    for time, prominence in accents(phones):
        picture = _pictured(words, time) if rng.random() < style.pictured else None
        chance = style.rate * (0.25 + 0.75 / (1 + np.exp(-2.5 * (prominence - 0.9))))
        if time < free or rng.random() > max(chance, 0.8 * (picture is not None)):
            continue
        touching = picture is None and rng.random() < style.touch
        again = strokes and form not in TOUCHES and [s.form for s in strokes[-2:]] != [form, form]
        if touching or picture or not again or rng.random() < 0.7:  # else the form is repeated, as speakers do
            drawn = str(rng.choice(names, p=weights / weights.sum()))
            form = str(rng.choice(list(TOUCHES))) if touching else picture or drawn
            options = ALL_FORMS[form].hands
            both = options == (2,) or (2 in options and rng.random() < style.both)
            hands = "lr" if both else ("r" if rng.random() < style.right else "l")
            if strokes and ALL_FORMS[form].crosses and ALL_FORMS[strokes[-1].form].crosses and not both:
                hands = strokes[-1].hands if len(strokes[-1].hands) == 1 else hands  # two arms that cross the body would meet
        until_pause = min((p - time for p in pauses if p > time), default=1.0)
        hold = float(np.clip(rng.gamma(2.0, 0.16), 0.05, max(0.1, until_pause)))
        if form in TOUCHES:
            hold = max(hold, float(rng.uniform(0.5, 1.3)))
        jitter = np.zeros(CONTROLS)
        jitter[:3] = rng.normal(0, 0.03, 3) * (0.4 if form in TOUCHES else 1)
        jitter[4:6] = rng.normal(0, 0.12, 2)
        size = style.size * np.exp(rng.normal(0, 0.2)) * (0.8 + 0.2 * min(prominence, 2))
        strokes.append(Planned(time - 0.02 + rng.normal(0, 0.03), hold, form, hands, float(size), jitter))
        free = time + max(0.55 / style.speed, hold + 0.35 / style.speed)
    return strokes


def hand_path(
    strokes: Sequence[Planned], side: str, phones: Sequence[Phone], count: int, style: GestureStyle, rng: np.random.Generator
) -> tuple[Curve, dict[int, tuple[float, float, float, float, float]]]:
    """Controls [N, CONTROLS] of one arm, and (start, begin, apex, hold, end) of the strokes it carries out, by their index."""
    rest = RESTS[style.rest] + np.concatenate([rng.normal(0, 0.015, 3), rng.normal(0, 0.05, 4), rng.normal(0, 0.06, 7)])
    weaker = (side == "r") != (style.right > 0.5)
    keys: list[tuple[float, Pose]] = [(-1.0, rest)]
    done: dict[int, tuple[float, float, float, float, float]] = {}
    turning = np.zeros((count, CONTROLS))
    last, apex = -1, -1.0  # the stroke before
    for index, planned in enumerate(strokes):
        if side not in planned.hands:
            continue
        stroke = _followed(planned, rng) if weaker and planned.hands == "lr" else planned
        start, end = _poses(stroke, side)
        form = ALL_FORMS[stroke.form]
        turning_time = 0.45 * form.turns if any(form.circle) else 0.0
        begin = stroke.apex - (min(0.14 + 0.45 * _distance(start, end), 0.5) + turning_time) / style.speed
        leave = begin - min(0.22 + 0.45 * _distance(start, keys[-1][1]), 0.6) / style.speed
        # where the hold or the retraction before is not finished, go on from where the hand was held
        kept = [k for k in keys if k[0] <= max(leave - 0.02, apex)]
        leave = max(leave, kept[-1][0] + 0.02)
        if begin < leave + 0.12 + 0.30 * _distance(start, kept[-1][1]):
            continue  # too late for this hand to get there unhurried
        if last >= 0:
            done[last] = (*done[last][:3], min(done[last][3], leave), min(done[last][4], leave))
        apex, held_until, last = stroke.apex, stroke.apex + stroke.hold, index
        held = end.copy()
        held[1] -= 0.015
        rested = held_until + (0.40 + 0.40 * _distance(held, rest)) / style.speed
        turning += _circle(stroke, side, begin, count)
        keys = [*kept, (leave, kept[-1][1]), (begin, start), (apex, end), (held_until, held), (rested, _refreshed(rest, rng))]
        done[index] = (leave, begin, apex, held_until, rested)
    path = smooth(through(keys, count) + turning, 0.03)
    _add_beats(path, rest, [strokes[i] for i in done], phones, style, rng)
    drift = np.array([0.010, 0.010, 0.008, 0.02, 0.05, 0.04, 0.03, *[0.05] * 7])
    path += wander(rng, count, drift, 1.2, 0.15)
    path[:, 7:11] = np.clip(path[:, 7:11], 0, 2.4)
    path[:, 11:] = np.clip(path[:, 11:], 0, 1)
    seconds = count / RATE
    return path, {i: tuple(min(max(t, 0.0), seconds) for t in d) for i, d in done.items()}  # type: ignore[misc]


def _pictured(words: Sequence[Word], time: float) -> str | None:
    """The form for the word spoken at `time`, if there is one."""
    return next((PICTURED.get(bare(w.text)) for w in words if w.start <= time < w.end), None)


def _add_beats(
    path: Curve, rest: Pose, strokes: Sequence[Planned], phones: Sequence[Phone], style: GestureStyle, rng: np.random.Generator
) -> None:
    """Small movements down on the accents that have no stroke, the larger the further the hand is from rest."""
    raised = np.clip(np.linalg.norm(path[:, :3] - rest[:3], axis=1) / 0.25, 0.15, 1)
    for time, prominence in accents(phones, 0.0):
        if all(abs(time - s.apex) > 0.15 for s in strokes) and rng.random() < 0.75:
            touching = any(s.form in TOUCHES and s.apex - 0.5 < time < s.apex + s.hold + 0.5 for s in strokes)
            beat = style.beat * min(0.5 + 0.4 * prominence, 1.2) * pulse(len(path), time - 0.02, 0.13, 0.0, 0.22)
            path[:, 1] -= beat * raised * (0.2 if touching else 1)
            path[:, 5] += 1.5 * beat * raised * (0.2 if touching else 1)


def _circle(stroke: Planned, side: str, begin: float, count: int) -> Curve:
    """What a form's turn adds to the straight way, [N, CONTROLS]; nothing at both ends."""
    form = ALL_FORMS[stroke.form]
    out = np.zeros((count, CONTROLS))
    if any(form.circle):
        u = np.clip((times(count) - begin) / (stroke.apex - begin), 0, 1)
        angle = 2 * np.pi * form.turns * u
        fade = min_jerk(np.minimum(u, 1 - u) * 2.5) * stroke.size
        if form.opposed and side == "l":
            angle = angle + np.pi
        outward, up, forward = form.circle
        out[:, :3] = fade[:, None] * np.stack([outward * np.sin(angle), up * np.sin(angle), forward * np.cos(angle)], 1)
    return out


def _poses(stroke: Planned, side: str) -> tuple[Pose, Pose]:
    form = ALL_FORMS[stroke.form]
    centre = (form.start[:3] + form.end[:3]) / 2
    size = 1.0 if form.anchored else stroke.size
    out = []
    for p in (form.start, form.end):
        p = p + stroke.jitter
        p[:3] = centre + stroke.jitter[:3] + size * (p[:3] - centre - stroke.jitter[:3])
        p[0] = min(p[0], OUTERMOST)
        out.append(p)
    out[1][1] += form.seesaw * size * (1 if side == "r" else -1) * (1 if stroke.jitter[0] > 0 else -1)
    return out[0], out[1]


def _followed(stroke: Planned, rng: np.random.Generator) -> Planned:
    """The part of the weaker hand in a two-handed stroke: a little late, smaller, not quite the mirror image."""
    jitter = stroke.jitter + np.concatenate([rng.normal(0, 0.03, 3), rng.normal(0, 0.1, 4), rng.normal(0, 0.1, 7)])
    jitter[0] = np.copysign(jitter[0], stroke.jitter[0])
    return replace(stroke, apex=stroke.apex + rng.normal(0.025, 0.02), size=stroke.size * rng.uniform(0.7, 1.0), jitter=jitter)


def _distance(a: Pose, b: Pose) -> float:
    """Between two wrists, arm lengths."""
    return float(np.linalg.norm(a[:3] - b[:3]))


def _refreshed(rest: Pose, rng: np.random.Generator) -> Pose:
    """The rest pose, not quite as before."""
    return rest + np.concatenate([rng.normal(0, 0.02, 3), rng.normal(0, 0.05, 4), rng.normal(0, 0.06, 7)])
