"""Colours of people and of cloth, drawn from continuous ranges. sRGB 0..1."""

from __future__ import annotations

import colorsys

import numpy as np

Color = tuple[float, float, float]

# along these curves from light to dark; every tone between the stops occurs
SKIN_CURVE = np.array(
    [(0.96, 0.82, 0.75), (0.91, 0.73, 0.63), (0.83, 0.63, 0.51), (0.73, 0.53, 0.41), (0.59, 0.41, 0.30), (0.45, 0.30, 0.22),
     (0.34, 0.225, 0.17), (0.25, 0.165, 0.13)]
)  # fmt: skip
HAIR_CURVE = np.array(
    [(0.82, 0.69, 0.47), (0.62, 0.46, 0.27), (0.43, 0.29, 0.17), (0.27, 0.17, 0.105), (0.15, 0.10, 0.075), (0.065, 0.055, 0.05)]
)
IRIS_CURVE = np.array(
    [(0.36, 0.50, 0.62), (0.40, 0.50, 0.50), (0.38, 0.44, 0.28), (0.45, 0.34, 0.17), (0.33, 0.20, 0.10), (0.19, 0.11, 0.06)]
)
RED_HAIR, GREY_HAIR = np.array([0.60, 0.27, 0.11]), np.array([0.70, 0.69, 0.68])
DYES = np.array([(0.62, 0.14, 0.20), (0.20, 0.32, 0.62), (0.86, 0.48, 0.62), (0.34, 0.16, 0.36)])
# of dyed cloth: red, orange, yellow, olive, green, teal, sky, blue, violet, pink
HUES = np.array([0.99, 0.06, 0.12, 0.19, 0.38, 0.49, 0.56, 0.62, 0.76, 0.93])
HUE_SHARES = (0.16, 0.08, 0.08, 0.06, 0.09, 0.10, 0.10, 0.18, 0.07, 0.08)


def along(curve: np.ndarray, share: float) -> np.ndarray:
    """Colour [3] at a share 0..1 of a curve's stops [K, 3]."""
    at = np.clip(share, 0, 1) * (len(curve) - 1)
    return np.array([np.interp(at, np.arange(len(curve)), curve[:, k]) for k in range(3)])


def skin_tone(melanin: float, undertone: float) -> Color:
    """Melanin 0 light .. 1 dark; undertone −1 rosy .. 1 olive."""
    return _color(along(SKIN_CURVE, melanin) * (1 + undertone * np.array([-0.025, 0.018, -0.055])))


def hair_color(rng: np.random.Generator, melanin: float, age: float, woman: bool) -> Color:
    """Dark skin rarely comes with light hair; grey comes with age (0 young .. 1 old)."""
    darkness = rng.beta(1.3, 1.0) if melanin < 0.35 else rng.uniform(0.62, 1.0) if melanin < 0.55 else rng.uniform(0.85, 1.0)
    color = along(HAIR_CURVE, float(darkness))
    if melanin < 0.35 and rng.uniform() < 0.12:
        color = color * 0.35 + RED_HAIR * 0.65
    if woman and rng.uniform() < 0.05:
        color = color * 0.3 + 0.7 * DYES[rng.integers(len(DYES))]
    grey = np.clip(rng.normal(1.7 * (age - 0.45), 0.18), 0, 1) * (age > 0.35)
    return _color(color * (1 - 0.92 * grey) + GREY_HAIR * (0.92 * grey))


def iris_color(rng: np.random.Generator, melanin: float) -> Color:
    darkness = rng.uniform(0, 1) if melanin < 0.35 else rng.uniform(0.55, 1.0) if melanin < 0.55 else rng.uniform(0.8, 1.0)
    return _color(along(IRIS_CURVE, float(darkness)) * rng.uniform(0.85, 1.15))


def lip_color(rng: np.random.Generator, skin: Color, woman: bool) -> Color:
    """The skin's tone with more red; some women wear lipstick."""
    tone = np.array(skin)
    red = rng.uniform(0.3, 0.5) if woman else rng.uniform(0.15, 0.35)
    color = tone * (1 - red) + np.array([0.66, 0.25, 0.27]) * red
    if woman and rng.uniform() < 0.4:
        stick = np.array(colorsys.hsv_to_rgb(rng.uniform(-0.06, 0.05) % 1, rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.8)))
        color = color * 0.3 + stick * 0.7
    return _color(color)


def cloth_color(rng: np.random.Generator) -> Color:
    """Neutrals, muted, strong and pale colours, about as often as in a street."""
    kind = rng.choice(4, p=(0.34, 0.32, 0.20, 0.14))
    hue = (HUES[rng.choice(len(HUES), p=HUE_SHARES)] + rng.normal(0, 0.025)) % 1
    if kind == 0:
        saturation, value = rng.uniform(0, 0.14), rng.choice((rng.uniform(0.08, 0.3), rng.uniform(0.35, 0.65), rng.uniform(0.78, 0.96)))
    elif kind == 1:
        saturation, value = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.65)
    elif kind == 2:
        saturation, value = rng.uniform(0.65, 0.9), rng.uniform(0.45, 0.85)
    else:
        saturation, value = rng.uniform(0.15, 0.35), rng.uniform(0.78, 0.95)
    return _color(np.array(colorsys.hsv_to_rgb(hue, saturation, value)))


def contrasting(rng: np.random.Generator, color: Color) -> Color:
    """A second colour that can be told from the first."""
    tries = [cloth_color(rng) for _ in range(6)]
    return max(tries, key=lambda c: min(abs(_grey(c) - _grey(color)), 0.35) + 0.2 * rng.uniform())


def _grey(color: Color) -> float:
    return float(np.dot(color, (0.3, 0.59, 0.11)))


def _color(values: np.ndarray) -> Color:
    r, g, b = (float(v) for v in np.clip(values, 0.02, 0.98))
    return r, g, b
