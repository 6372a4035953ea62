"""Any number of talks: `plan_talk(seed)` draws text, place and picture; the speaker has a seed of their own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from samples.builders.plan import RATES, Backdrop, Framing, Light, Room, Shot, TalkPlan
from samples.builders.speakers import make_speaker
from samples.builders.texts import write_lines

BACKDROPS: tuple[Backdrop, ...] = ("wall", "plain", "gradient", "room", "shelves")
FULL_BODY = 0.2  # share of talks that show the whole person
DRY = 0.25  # share of talks without any room in the sound


def plan_talk(
    seed: int,
    speaker: int | None = None,
    seconds: float = 10.0,
    *,
    fps: Fraction | None = None,
    framing: Framing | None = None,
) -> TalkPlan:
    """The talk of a non-negative seed, about `seconds` long: same arguments, same plan.

    `speaker` is the seed of who speaks (none: the talk's own), who sounds, moves and looks alike in all their talks.
    What is given as `fps` or `framing` is taken, what is not is drawn; the rest of the plan does not change with it.
    """
    if seed < 0:
        raise ValueError(f"a talk's seed must be 0 or more, got {seed}")
    who = make_speaker(seed if speaker is None else speaker)
    lines = write_lines(who.language, seconds, who.voice.rate, who.pause, np.random.default_rng([seed, 41]))
    rng = np.random.default_rng([seed, 42])
    rate = RATES[rng.integers(len(RATES))]
    drawn: Framing = "full" if rng.random() < FULL_BODY else "half"
    return TalkPlan(
        speaker=f"speaker{who.seed:05d}",
        topic=f"talk{seed:05d}",
        seed=seed,
        look=who.seed,
        take=0,
        voice=who.voice,
        pause=who.pause,
        lines=lines,
        style=who.style,
        shot=_shot(framing or drawn, rng),
        fps=Fraction(fps or rate),
        room=_room(rng),
    )


def _shot(framing: Framing, rng: np.random.Generator) -> Shot:
    draw = lambda low, high: round(float(rng.uniform(low, high)), 3)  # noqa: E731
    close = draw(1.0, 1.16), draw(1.5, 2.2)
    light = Light(side=draw(-0.8, 0.8), height=draw(0.3, 0.9), contrast=draw(0.5, 1.4), warmth=draw(-0.6, 0.8), exposure=draw(0.95, 1.2))
    grey, tint = draw(0.3, 0.75), rng.uniform(-0.08, 0.08, 3)
    wall = tuple(round(float(np.clip(grey + t, 0.1, 0.9)), 3) for t in tint)
    height, focal = close if framing == "half" else (close[0] + 0.90, close[1])
    return Shot(
        focal=focal, height=height, yaw=draw(-0.22, 0.22), rise=draw(-0.05, 0.12), wall=(wall[0], wall[1], wall[2]),
        framing=framing, backdrop=BACKDROPS[rng.integers(len(BACKDROPS))], light=light,
    )  # fmt: skip


def _room(rng: np.random.Generator) -> Room:
    seconds, direct, noise = rng.uniform(0.2, 0.7), rng.uniform(6, 18), rng.uniform(22, 45)
    if rng.random() < DRY:
        return Room()
    return Room(round(float(seconds), 2), round(float(direct), 1), round(float(noise), 1))
