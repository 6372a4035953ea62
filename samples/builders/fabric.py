"""Procedural cloth: a weave seen close up and a pattern seen from afar, as functions of the place in template space.

N points; positions in metres (T-pose, y up, z forward), colours sRGB 0..1 without lighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samples.builders.fields import band, bump, fold, mix, noise, smoothstep, speckle
from samples.builders.palette import Color

Weave = Literal["plain", "knit", "cable", "denim", "wool", "satin", "leather"]
Pattern = Literal[
    "plain", "stripes", "pinstripes", "checks", "plaid", "dots", "floral", "block", "graphic", "melange", "argyle", "chevron", "fade"
]
SLEEVE_AXIS = (0.088, 0.02)  # y, z of the arm in the T-pose


@dataclass(frozen=True)
class Fabric:
    weave: Weave
    pattern: Pattern
    main: Color
    accent: Color
    third: Color
    size: float = 1.0  # of the pattern, 1 is usual
    seed: int = 0  # of prints


def cloth(p: np.ndarray, fabric: Fabric, skirt: bool = False) -> np.ndarray:
    """Colours [N, 3] of a garment's places [N, 3]; sleeves and legs take the pattern along their own axes."""
    down, across = (-p[:, 1], np.arctan2(p[:, 0], p[:, 2] - 0.02) * 0.20) if skirt else unrolled(p)
    color = PATTERNS[fabric.pattern](p, down / fabric.size, across / fabric.size, fabric)
    return color * _weave(p, down, across, fabric.weave)[:, None]


def unrolled(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres down a trunk, a sleeve or a leg, and round it."""
    x, y, z = p.T
    sleeve, leg = (np.abs(x) > 0.19) & (y > -0.05), y < -0.47
    around = np.where(leg, np.arctan2(np.abs(x) - 0.13, z - 0.01) * 0.075, np.arctan2(x, z - 0.02) * 0.15)
    around = np.where(sleeve, np.arctan2(y - SLEEVE_AXIS[0], z - SLEEVE_AXIS[1]) * 0.055, around)
    return np.where(sleeve, np.abs(x), -y), around


def _weave(p: np.ndarray, down: np.ndarray, across: np.ndarray, weave: Weave) -> np.ndarray:
    """Brightness [N], about 1: threads, and soft folds that lie across sleeves and legs."""
    depth = {"leather": 0.09, "satin": 0.13, "denim": 0.07, "cable": 0.04, "knit": 0.05}.get(weave, 0.06)
    q = np.stack([p[:, 0] * 22, p[:, 1] * 9 + np.abs(p[:, 0]) * 18, p[:, 2] * 16], 1)
    out = 1 + depth * noise(q) + 0.3 * depth * noise(q * 2.3 + 7)
    if weave == "knit":
        ribs = np.cos(across * (2 * np.pi / 0.010))
        return out * (1 + 0.10 * ribs + 0.05 * noise(p * 500) + 0.05 * np.cos(down * (2 * np.pi / 0.008)))
    if weave == "cable":
        twist = np.abs(fold(across, 0.075)) - 0.010 * np.abs(np.sin(down * 45))
        cable = bump(twist, 0.005) - bump(np.abs(fold(across, 0.075)) - 0.020, 0.003)
        return out * (1 + 0.20 * cable + 0.06 * np.cos(across * (2 * np.pi / 0.012)) * (np.abs(fold(across, 0.075)) > 0.022))
    if weave == "denim":
        worn = smoothstep(-0.2, 0.9, noise(p * 9)) * bump(p[:, 0] * 0 + down - 0.62, 0.20) * (p[:, 2] > 0)
        return out * (1 + 0.07 * np.sin((down + across) * 2600) + 0.08 * noise(p * [500, 60, 500]) + 0.30 * worn)
    if weave == "wool":
        return out * (1 + 0.08 * noise(p * 420) + 0.04 * noise(p * 150))
    if weave == "leather":
        return out * (1 + 0.07 * noise(p * 260))
    return out * (1 + 0.03 * noise(p * 900))


# ---- patterns: (place, metres down, metres across, fabric) → colours


def _flat(color: Color, count: int) -> np.ndarray:
    return np.tile(np.array(color), (count, 1))


def _plain(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    return _flat(f.main, len(p))


def _stripes(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    out = mix(_flat(f.main, len(p)), np.array(f.accent), band(down / 0.055, 0.42))
    return mix(out, np.array(f.third), band(down / 0.11, 0.10)) if f.seed % 3 == 0 else out


def _pinstripes(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    return mix(_flat(f.main, len(p)), np.array(f.accent), 0.75 * band(across / 0.026, 0.16))


def _checks(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    share = 0.45 * band(down / 0.036, 0.5) + 0.45 * band(across / 0.036, 0.5)
    return mix(_flat(f.main, len(p)), np.array(f.accent), share)


def _plaid(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    broad = 0.42 * band(down / 0.085, 0.45) + 0.42 * band(across / 0.085, 0.45)
    fine = 0.55 * np.maximum(band(down / 0.085 + 0.36, 0.06), band(across / 0.085 + 0.36, 0.06))
    return mix(mix(_flat(f.main, len(p)), np.array(f.accent), broad), np.array(f.third), fine)


def _dots(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    row = np.round(down / 0.032)
    shifted = across + 0.016 * (row % 2)
    spot = smoothstep(0.0085, 0.0065, np.hypot(down - row * 0.032, fold(shifted, 0.032)))
    return mix(_flat(f.main, len(p)), np.array(f.accent), spot)


def _floral(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    """Five-petalled flowers at jittered places, and leaves."""
    out = _flat(f.main, len(p))
    leaves = smoothstep(0.35, 0.5, noise(np.stack([down * 55, across * 90, down * 0 + f.seed], 1)))
    out = mix(out, 0.5 * np.array(f.third) + 0.5 * np.array((0.25, 0.42, 0.25)), 0.8 * leaves)
    for layer, period in enumerate((0.062, 0.045)):
        cell = np.stack([np.round(down / period), np.round(across / period)], 1)
        chance = speckle(cell + 17 * (layer + f.seed % 50))
        turn = speckle(cell + 31 + 7 * layer) * 2 * np.pi
        dy = down - cell[:, 0] * period + 0.25 * period * np.cos(turn)
        dx = across - cell[:, 1] * period + 0.25 * period * np.sin(turn)
        radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + turn
        petals = period * (0.22 + 0.13 * np.abs(np.cos(2.5 * angle)))
        flower = smoothstep(0.002, -0.002, radius - petals) * (chance > 0.35)
        color = np.array(f.accent) if layer == 0 else 0.5 * np.array(f.accent) + 0.5 * np.array(f.third)
        out = mix(out, color, flower)
        out = mix(out, np.array((0.93, 0.78, 0.30)), smoothstep(0.001, -0.001, radius - 0.07 * period) * (chance > 0.35))
    return out


def _block(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    line = p[:, 1] + 0.04 if f.seed % 2 else np.where(np.abs(p[:, 0]) > 0.19, 1.0, -1.0)
    out = mix(_flat(f.main, len(p)), np.array(f.accent), smoothstep(-0.002, 0.002, line))
    return mix(out, np.array(f.third), bump(line + 0.03, 0.012) > 0.5) if f.seed % 2 else out


def _graphic(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    """A print on the chest: a badge, bars, a mountain or a block of invented letters."""
    x, y = p[:, 0] / f.size, (p[:, 1] - 0.0) / f.size
    front = (p[:, 2] > 0.03) * (np.abs(p[:, 0]) < 0.13)
    out = _flat(f.main, len(p))
    kind = f.seed % 4
    if kind == 0:
        out = mix(out, np.array(f.accent), front * smoothstep(0.062, 0.059, np.hypot(x, y)))
        return mix(out, np.array(f.third), front * smoothstep(0.036, 0.033, np.hypot(x + 0.012, y - 0.012)))
    if kind == 1:
        bars = (np.abs(x) < 0.085) * (np.abs(y) < 0.05) * band(y / 0.028, 0.55)
        return mix(out, np.array(f.accent), front * bars)
    if kind == 2:
        peak = np.minimum(0.055 - np.abs(x - 0.015) * 1.1, 0.035 - np.abs(x + 0.035) * 1.1 + 0.0)
        peak = np.maximum(0.055 - np.abs(x - 0.015) * 1.1, 0.030 - np.abs(x + 0.035))
        hill = (y < peak) * (y > -0.045)
        out = mix(out, np.array(f.accent), front * hill)
        return mix(out, np.array(f.third), front * hill * (y > peak - 0.022) * (y > 0.005))
    cell = np.stack([np.floor((y + 0.03) / 0.011), np.floor(x / 0.011)], 1)
    stroke = (speckle(cell + f.seed % 40) > 0.45) * (np.abs(x) < 0.088) * ((cell[:, 0] % 6) < 5) * (np.abs(y) < 0.033)
    gap = fold(x, 0.044)
    return mix(out, np.array(f.accent), front * stroke * (np.abs(gap) > 0.004))


def _melange(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    flecks = smoothstep(0.05, 0.5, noise(np.stack([down * 700, across * 260, across * 0], 1)))
    return mix(_flat(f.main, len(p)), np.array(f.accent), 0.45 * flecks)


def _argyle(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    u, v = down / 0.10, across / 0.07
    diamonds = smoothstep(0.27, 0.24, np.abs(fold(u, 1)) + np.abs(fold(v, 1)))
    lines = bump(np.abs(np.abs(fold(u, 1)) - np.abs(fold(v + 0.5, 1))), 0.022)
    return mix(mix(_flat(f.main, len(p)), np.array(f.accent), diamonds), np.array(f.third), 0.7 * lines)


def _chevron(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    zigzag = down + 0.5 * np.abs(fold(across, 0.06))
    return mix(_flat(f.main, len(p)), np.array(f.accent), band(zigzag / 0.05, 0.4))


def _fade(p: np.ndarray, down: np.ndarray, across: np.ndarray, f: Fabric) -> np.ndarray:
    share = smoothstep(-0.10, 0.36, -p[:, 1] + 0.04 * noise(p * 12))
    return mix(_flat(f.main, len(p)), np.array(f.accent), share)


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Fabric], np.ndarray]] = {
    "plain": _plain, "stripes": _stripes, "pinstripes": _pinstripes, "checks": _checks, "plaid": _plaid, "dots": _dots,
    "floral": _floral, "block": _block, "graphic": _graphic, "melange": _melange, "argyle": _argyle, "chevron": _chevron,
    "fade": _fade,
}  # fmt: skip
