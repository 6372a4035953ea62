"""What a person looks like, drawn from a seed: even seeds are men, odd ones women. Colours are sRGB 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Color = tuple[float, float, float]

SKINS: tuple[Color, ...] = (
    (0.94, 0.79, 0.71), (0.89, 0.71, 0.61), (0.83, 0.64, 0.52), (0.75, 0.55, 0.42), (0.64, 0.45, 0.33), (0.52, 0.35, 0.25),
    (0.42, 0.28, 0.20),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (0.09, 0.07, 0.06), (0.17, 0.11, 0.08), (0.28, 0.18, 0.11), (0.42, 0.27, 0.15), (0.62, 0.45, 0.25), (0.50, 0.24, 0.12),
    (0.52, 0.50, 0.48),
)  # fmt: skip
IRISES: tuple[Color, ...] = ((0.28, 0.17, 0.09), (0.40, 0.28, 0.14), (0.33, 0.42, 0.28), (0.32, 0.46, 0.58))
CLOTHS: tuple[Color, ...] = (
    (0.20, 0.34, 0.58), (0.62, 0.20, 0.22), (0.90, 0.89, 0.86), (0.24, 0.42, 0.34), (0.85, 0.66, 0.30), (0.45, 0.32, 0.52),
    (0.22, 0.24, 0.28), (0.76, 0.45, 0.40), (0.47, 0.62, 0.72), (0.55, 0.52, 0.44), (0.12, 0.13, 0.15), (0.30, 0.55, 0.55),
)  # fmt: skip
TROUSERS: tuple[Color, ...] = (
    (0.16, 0.17, 0.21), (0.21, 0.28, 0.42), (0.46, 0.41, 0.34), (0.30, 0.30, 0.31), (0.33, 0.25, 0.20), (0.55, 0.53, 0.50),
)  # fmt: skip
SHOES: tuple[Color, ...] = ((0.10, 0.09, 0.09), (0.33, 0.21, 0.13), (0.80, 0.80, 0.79), (0.25, 0.27, 0.35))

Pattern = Literal["plain", "stripes", "checks", "dots", "block"]
Neckline = Literal["crew", "v", "collar", "high"]
HairStyle = Literal["crop", "short", "bob", "long"]


@dataclass(frozen=True)
class Look:
    woman: bool
    skin: Color
    hair: Color
    iris: Color
    lips: Color
    beard: float  # 0 none .. 1 full
    brows: float  # thickness, 1 is usual
    hair_style: HairStyle
    shirt: Color
    accent: Color  # of the shirt's pattern
    pattern: Pattern
    neckline: Neckline
    sleeve: float  # metres from the middle of the body in the T-pose
    tucked: bool
    jacket: Color | None
    trousers: Color
    shoes: Color


def random_look(seed: int) -> Look:
    rng = np.random.default_rng([seed, 17])
    woman = bool(seed % 2)

    def pick(options, chances=None):
        return options[int(rng.choice(len(options), p=chances))]

    tone = int(rng.integers(len(SKINS)))
    skin = SKINS[tone]
    # dark skin rarely comes with light hair or eyes
    hair = pick(HAIRS) if tone < 3 else pick(HAIRS[:3])
    iris = pick(IRISES) if tone < 3 else pick(IRISES[:2])
    red = rng.uniform(0.35, 0.6) if woman else rng.uniform(0.15, 0.35)
    lips = tuple(float(c) for c in np.array(skin) * (1 - red) + np.array([0.66, 0.25, 0.27]) * red)
    cloth = rng.permutation(len(CLOTHS))
    neckline: Neckline = pick(("crew", "v", "collar", "high"), (0.3, 0.25, 0.3, 0.15))
    jacket = CLOTHS[int(cloth[2])] if rng.uniform() < 0.35 else None
    long_sleeves = jacket is not None or rng.uniform() < 0.6
    return Look(
        woman=woman,
        skin=skin,
        hair=hair,
        iris=iris,
        lips=lips,  # type: ignore[arg-type]
        beard=0.0 if woman else float(pick((0.12, 0.3, 0.75), (0.45, 0.3, 0.25))),
        brows=float(rng.uniform(0.7, 0.95) if woman else rng.uniform(1.0, 1.4)),
        hair_style=pick(("bob", "long", "short"), (0.4, 0.4, 0.2)) if woman else pick(("short", "crop"), (0.65, 0.35)),
        shirt=CLOTHS[int(cloth[0])],
        accent=CLOTHS[int(cloth[1])],
        pattern=pick(("plain", "stripes", "checks", "dots", "block"), (0.4, 0.2, 0.15, 0.1, 0.15)),
        neckline=neckline,
        sleeve=float(rng.uniform(0.62, 0.645) if long_sleeves else rng.uniform(0.29, 0.36)),
        tucked=bool(rng.uniform() < 0.35),
        jacket=jacket,
        trousers=pick(TROUSERS),
        shoes=pick(SHOES),
    )
