"""What a person looks like, drawn from a seed: even seeds are men, odd ones women. Colours are sRGB 0..1, lengths metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samples.builders.fabric import Fabric
from samples.builders.garments import FOOTWEAR, LOWERS, OVERS, UPPERS, Lower, Neckline, Range, Upper
from samples.builders.glasses import FRAMES
from samples.builders.hairstyles import BEARD_STYLES, HAIR_STYLES
from samples.builders.palette import Color, cloth_color, contrasting, hair_color, iris_color, lip_color, skin_tone

GREY_FROM = 0.35  # of age 0..1


@dataclass(frozen=True)
class Worn:
    """One garment of one person: its row and what was drawn from the row's ranges."""

    kind: str
    fabric: Fabric
    hem: float
    loose: float
    wide: float = 0.0  # skirts and trouser legs, further off at the hem
    sleeve: float = 0.0
    tucked: bool = False


@dataclass(frozen=True)
class Glasses:
    frame: str
    color: Color


@dataclass(frozen=True)
class Look:
    woman: bool
    age: float  # 0 young .. 1 old; grey hair and lines of the face
    skin: Color
    hair: Color
    iris: Color
    lips: Color
    brows: float  # thickness, 1 is usual
    brow_arch: float  # 1 is usual
    freckles: float  # 0..1
    shadow: Color | None  # on the eyelids
    hair_style: str
    hair_volume: float  # 1 is usual
    hair_side: float  # +1 or -1: which side the parting is on
    beard_style: str
    beard: float  # how dense, 0 none .. 1
    top: Worn
    neckline: Neckline
    jacket: Worn | None
    lower: Worn | None  # none under a dress
    skirt: Worn | None  # a skirt, or the lower half of a dress
    feet: Worn
    scarf: Fabric | None
    tie: Fabric | None
    glasses: Glasses | None


def random_look(seed: int) -> Look:
    rng = np.random.default_rng([seed, 17])
    woman = bool(seed % 2)
    age = float(rng.beta(1.2, 1.6))
    melanin, undertone = float(rng.uniform()), float(rng.uniform(-1, 1))
    skin, hair = skin_tone(melanin, undertone), hair_color(rng, melanin, age, woman)
    style = _pick(rng, HAIR_STYLES, {n: s.worn_by[woman] * _suits(n, melanin, age) for n, s in HAIR_STYLES.items()})
    beard = "none" if woman else _pick(rng, BEARD_STYLES, {n: b.worn_by for n, b in BEARD_STYLES.items()})
    frame = rng.uniform() < 0.22 + 0.25 * age
    dark_frame = tuple(float(c) for c in rng.uniform(0.03, 0.16, 3)) if rng.uniform() < 0.6 else cloth_color(rng)
    return Look(
        woman=woman,
        age=age,
        skin=skin,
        hair=hair,
        iris=iris_color(rng, melanin),
        lips=lip_color(rng, skin, woman),
        brows=float(rng.uniform(0.65, 1.0) if woman else rng.uniform(0.9, 1.45)),
        brow_arch=float(rng.uniform(0.5, 1.6) if woman else rng.uniform(0.2, 1.2)),
        freckles=float(rng.uniform(0.3, 1)) if rng.uniform() < (0.3 if melanin < 0.4 else 0.06) else 0.0,
        shadow=_darker(cloth_color(rng), 0.55) if woman and rng.uniform() < 0.35 else None,
        hair_style=style,
        hair_volume=float(rng.uniform(0.8, 1.25)),
        hair_side=float(rng.choice((-1.0, 1.0))),
        beard_style=beard,
        beard=0.0 if beard == "none" else float(rng.uniform(*BEARD_STYLES[beard].dense)),
        glasses=Glasses(str(rng.choice(list(FRAMES))), dark_frame) if frame else None,  # type: ignore[arg-type]
        **_clothes(rng, woman),
    )


def _clothes(rng: np.random.Generator, woman: bool) -> dict[str, Any]:
    kind = _pick(rng, UPPERS, {n: u.worn_by[woman] for n, u in UPPERS.items()})
    row = UPPERS[kind]
    neckline: Neckline = row.necklines[rng.integers(len(row.necklines))]
    over = kind not in ("hoodie", "sweater") and rng.uniform() < 0.36
    over_kind = _pick(rng, OVERS, {n: u.worn_by[woman] for n, u in OVERS.items()}) if over else None
    sleeve = row.sleeves[rng.integers(len(row.sleeves))]
    top = _worn(rng, kind, row, sleeve, fabric_of(rng, row.weaves, row.patterns))
    dress = kind == "dress"
    lower_kind = _pick(rng, LOWERS, {n: u.worn_by[woman] for n, u in LOWERS.items()})
    low = LOWERS["skirt" if rng.uniform() < 0.65 else "long_skirt"] if dress else LOWERS[lower_kind]
    below = Worn(
        "dress" if dress else lower_kind,
        top.fabric if dress else _trouser_fabric(rng, lower_kind, low),
        _within(rng, low.hem),
        _within(rng, low.loose),
        _within(rng, low.wide),
    )
    jacket = None
    if over_kind:
        outer = OVERS[over_kind]
        sleeves = outer.sleeves[rng.integers(len(outer.sleeves))]
        jacket = _worn(rng, over_kind, outer, sleeves, fabric_of(rng, outer.weaves, outer.patterns, avoid=top.fabric.main))
    feet = _pick(rng, FOOTWEAR, {n: f.worn_by[woman] for n, f in FOOTWEAR.items()})
    wears_tie = neckline == "collar" and kind == "shirt" and not woman and rng.uniform() < (0.6 if over_kind in ("blazer", "vest") else 0.2)
    wears_scarf = not wears_tie and kind != "hoodie" and neckline != "roll" and rng.uniform() < 0.10
    shoe = fabric_of(rng, ("leather", "plain"), ("plain",))
    return {
        "top": top,
        "neckline": neckline,
        "jacket": jacket,
        "lower": None if low.skirt else below,
        "skirt": below if low.skirt else None,
        "feet": Worn(feet, shoe, FOOTWEAR[feet].top, FOOTWEAR[feet].loose),
        "scarf": fabric_of(rng, ("knit", "wool"), ("plain", "plain", "stripes", "plaid")) if wears_scarf else None,
        "tie": fabric_of(rng, ("satin",), ("plain", "chevron", "dots", "stripes"), avoid=top.fabric.main) if wears_tie else None,
    }


def fabric_of(rng: np.random.Generator, weaves: tuple[str, ...], patterns: tuple[str, ...], avoid: Color | None = None) -> Fabric:
    weave = str(rng.choice(weaves))
    main = cloth_color(rng) if avoid is None else contrasting(rng, avoid)
    if weave == "denim":
        main = _denim(rng)
    if weave == "leather":
        main = _darker(main, float(rng.uniform(0.3, 0.8)))
    pattern = "plain" if weave in ("denim", "leather", "cable") else str(rng.choice(patterns))
    size = float(rng.uniform(0.65, 1.5))
    return Fabric(weave, pattern, main, contrasting(rng, main), cloth_color(rng), size, int(rng.integers(1000)))  # type: ignore[arg-type]


def _worn(rng: np.random.Generator, kind: str, row: Upper, sleeve: Range, fabric: Fabric) -> Worn:
    return Worn(
        kind, fabric, _within(rng, row.hem), _within(rng, row.loose), row.flare, _within(rng, sleeve), bool(rng.uniform() < row.tucks)
    )


def _trouser_fabric(rng: np.random.Generator, kind: str, row: Lower) -> Fabric:
    fabric = fabric_of(rng, row.weaves, row.patterns)
    if row.skirt or fabric.weave == "denim" or kind == "shorts" or rng.uniform() < 0.25:
        return fabric
    brightness = rng.uniform(0.08, 0.6)  # legs are mostly dark, grey or earthen
    tint = np.array([1.0 + rng.uniform(-0.02, 0.22), 1.0, 1.0 - rng.uniform(-0.12, 0.25)])
    return Fabric(fabric.weave, fabric.pattern, tuple(np.clip(brightness * tint, 0, 0.95).tolist()), *_rest(fabric))


def _rest(f: Fabric) -> tuple[Any, ...]:
    return f.accent, f.third, f.size, f.seed


def _denim(rng: np.random.Generator) -> Color:
    washed = rng.uniform()
    return tuple((np.array([0.12, 0.17, 0.29]) * (1 - washed) + np.array([0.48, 0.58, 0.70]) * washed).tolist())


def _darker(color: Color, share: float) -> Color:
    return tuple((np.array(color) * share).tolist())


def _suits(style: str, melanin: float, age: float) -> float:
    """How much likelier a hair style is at a skin tone and an age."""
    if style in ("bald", "receding"):
        return 0.2 + 1.6 * age
    if style == "afro":
        return 2.5 if melanin > 0.6 else 0.1
    return 1.0


def _within(rng: np.random.Generator, span: Range) -> float:
    return float(rng.uniform(*span))


def _pick(rng: np.random.Generator, table: dict[str, Any], chances: dict[str, float]) -> str:
    p = np.array([chances[name] for name in table])
    return str(list(table)[int(rng.choice(len(table), p=p / p.sum()))])
