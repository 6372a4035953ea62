"""Timed phones → jaw angle and lip coefficients, with coarticulation by dominance functions (Cohen & Massaro 1993).

Each phone pulls every articulator towards its target with a weight that peaks in its middle and fades over its
neighbours; the mouth is the weighted mean. Lips closing for p, b, m pull hard and briefly, so they close whatever the
vowels beside them want.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samples.builders.curves import Curve, smooth, times, wander
from samples.builders.speech import SILENCE, VOWELS, Phone

# expression coefficients of the embedded body, in order; 2 is fully on
EXPRESSIONS = ("smile", "lips_open", "pucker", "funnel", "stretch", "press", "brow_up", "brow_down", "blink", "frown")
LIPS = EXPRESSIONS[1:6]  # what visemes drive beside the jaw
JAW_OPEN = 0.23  # radians of jaw rotation at target 1

# targets: jaw, then lips_open, pucker, funnel, stretch, press; 0..1
_VOWELS = {
    "ɑ": (1.0, 0.45, 0.0, 0.10, 0.05, 0.0), "a": (0.95, 0.50, 0.0, 0.0, 0.25, 0.0), "æ": (0.85, 0.55, 0.0, 0.0, 0.40, 0.0),
    "ɒ": (0.85, 0.40, 0.10, 0.35, 0.0, 0.0), "ɔ": (0.75, 0.35, 0.20, 0.55, 0.0, 0.0), "ʌ": (0.70, 0.40, 0.0, 0.05, 0.15, 0.0),
    "ɐ": (0.60, 0.40, 0.0, 0.05, 0.15, 0.0), "ɜ": (0.50, 0.35, 0.10, 0.25, 0.05, 0.0), "ɚ": (0.45, 0.30, 0.15, 0.35, 0.0, 0.0),
    "ɝ": (0.50, 0.30, 0.15, 0.35, 0.0, 0.0), "ə": (0.40, 0.30, 0.0, 0.05, 0.15, 0.0), "ɛ": (0.65, 0.45, 0.0, 0.0, 0.45, 0.0),
    "e": (0.50, 0.45, 0.0, 0.0, 0.55, 0.0), "ɪ": (0.35, 0.40, 0.0, 0.0, 0.50, 0.0), "ᵻ": (0.35, 0.35, 0.0, 0.0, 0.45, 0.0),
    "ɨ": (0.35, 0.35, 0.0, 0.0, 0.40, 0.0), "i": (0.25, 0.45, 0.0, 0.0, 0.85, 0.0), "o": (0.60, 0.25, 0.40, 0.70, 0.0, 0.0),
    "y": (0.25, 0.20, 0.75, 0.50, 0.0, 0.0), "ʏ": (0.30, 0.20, 0.60, 0.50, 0.0, 0.0), "ø": (0.45, 0.25, 0.50, 0.60, 0.0, 0.0),
    "œ": (0.60, 0.30, 0.35, 0.60, 0.0, 0.0), "ɵ": (0.40, 0.25, 0.45, 0.50, 0.0, 0.0), "ɯ": (0.30, 0.35, 0.0, 0.0, 0.45, 0.0),
    "ɤ": (0.50, 0.35, 0.0, 0.05, 0.25, 0.0),
    "ʊ": (0.40, 0.25, 0.40, 0.55, 0.0, 0.0), "ʉ": (0.30, 0.20, 0.60, 0.50, 0.0, 0.0), "u": (0.30, 0.15, 0.85, 0.45, 0.0, 0.0),
}  # fmt: skip
_CONSONANTS = {
    "p": (0.03, 0.0, 0.05, 0.0, 0.0, 0.75), "b": (0.03, 0.0, 0.05, 0.0, 0.0, 0.65), "m": (0.03, 0.0, 0.05, 0.0, 0.0, 0.60),
    "f": (0.07, 0.15, 0.0, 0.0, 0.10, 0.50), "v": (0.07, 0.15, 0.0, 0.0, 0.10, 0.45), "w": (0.18, 0.10, 0.90, 0.40, 0.0, 0.0),
    "ʍ": (0.18, 0.10, 0.90, 0.40, 0.0, 0.0), "ɹ": (0.25, 0.30, 0.30, 0.40, 0.0, 0.0), "r": (0.25, 0.30, 0.20, 0.30, 0.0, 0.0),
    "l": (0.35, 0.35, 0.0, 0.0, 0.15, 0.0), "ɫ": (0.35, 0.35, 0.0, 0.0, 0.10, 0.0), "t": (0.16, 0.30, 0.0, 0.0, 0.20, 0.0),
    "d": (0.18, 0.30, 0.0, 0.0, 0.20, 0.0), "n": (0.20, 0.30, 0.0, 0.0, 0.20, 0.0), "ɾ": (0.25, 0.30, 0.0, 0.0, 0.20, 0.0),
    "s": (0.08, 0.45, 0.0, 0.0, 0.45, 0.0), "z": (0.08, 0.45, 0.0, 0.0, 0.45, 0.0), "ʃ": (0.12, 0.50, 0.25, 0.75, 0.0, 0.0),
    "ʒ": (0.12, 0.50, 0.25, 0.75, 0.0, 0.0), "θ": (0.22, 0.40, 0.0, 0.0, 0.20, 0.0), "ð": (0.22, 0.40, 0.0, 0.0, 0.20, 0.0),
    "k": (0.28, 0.30, 0.0, 0.0, 0.20, 0.0), "ɡ": (0.28, 0.30, 0.0, 0.0, 0.20, 0.0), "ŋ": (0.28, 0.30, 0.0, 0.0, 0.20, 0.0),
    "h": (0.40, 0.30, 0.0, 0.0, 0.15, 0.0), "j": (0.20, 0.35, 0.0, 0.0, 0.60, 0.0), "x": (0.30, 0.30, 0.0, 0.0, 0.15, 0.0),
    "ʔ": (0.30, 0.25, 0.0, 0.0, 0.10, 0.0), "β": (0.10, 0.15, 0.05, 0.10, 0.0, 0.20), "ʋ": (0.12, 0.20, 0.0, 0.0, 0.10, 0.30),
    "ʝ": (0.22, 0.35, 0.0, 0.0, 0.50, 0.0),
    "ɲ": (0.20, 0.35, 0.0, 0.0, 0.50, 0.0), "ʎ": (0.25, 0.35, 0.0, 0.0, 0.50, 0.0), "c": (0.22, 0.35, 0.0, 0.0, 0.40, 0.0),
    "ç": (0.20, 0.40, 0.0, 0.0, 0.50, 0.0), "ɕ": (0.12, 0.45, 0.15, 0.45, 0.15, 0.0), "ʑ": (0.12, 0.45, 0.15, 0.45, 0.15, 0.0),
    "ʁ": (0.32, 0.30, 0.0, 0.05, 0.10, 0.0), "ɣ": (0.30, 0.30, 0.0, 0.0, 0.15, 0.0), "g": (0.28, 0.30, 0.0, 0.0, 0.20, 0.0),
    "ɥ": (0.20, 0.15, 0.80, 0.45, 0.0, 0.0), "ɭ": (0.35, 0.35, 0.0, 0.0, 0.10, 0.0), "ʲ": (0.20, 0.35, 0.0, 0.0, 0.50, 0.0),
}  # fmt: skip
_REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.12)
_BILABIAL = frozenset("pbm")
_LIP_TO_TEETH = frozenset("fv")
_LIP_CONSONANTS = frozenset("pbmfvwʍβʋɥ")


@dataclass(frozen=True)
class MouthStyle:
    jaw: float = 1.0  # gain of the jaw
    lips: float = 1.0  # gain of the lips
    smile: float = 0.2  # resting smile, 0..1


@dataclass(frozen=True)
class _Target:
    start: float
    end: float
    shape: tuple[float, ...]
    weight: float
    closes: bool


def mouth(phones: Sequence[Phone], count: int, style: MouthStyle, rng: np.random.Generator) -> tuple[Curve, Curve]:
    """Jaw angle [N] in radians and the coefficients LIPS [N, 5] in 0..2, at curves.RATE."""
    targets = [t for p in phones for t in _targets(p)]
    start, end = np.array([t.start for t in targets]), np.array([t.end for t in targets])
    closes = np.array([t.closes for t in targets])
    shapes = np.array([t.shape for t in targets])
    # articulation varies from phone to phone, closures least
    shapes[:, 0] *= np.where(closes, 1, np.exp(rng.normal(0, 0.18, len(targets))))
    shapes[:, 1:] *= np.exp(rng.normal(0, 0.15, (len(targets), 1)))
    weight = np.array([t.weight for t in targets]) * np.exp(rng.normal(0, 0.10, len(targets)))
    # the mouth runs slightly ahead of the sound
    middle = (start + end) / 2 - 0.02 + rng.normal(0, 0.008, len(targets))
    length = np.clip(end - start, 0.05, 0.4)
    distance = np.abs(times(count)[:, None] - middle)
    out = np.zeros((count, 6))
    for articulators, part, least in (((0,), 0.55, 0.025), ((5,), 0.45, 0.02), ((1, 2, 3, 4), 0.6, 0.035)):
        reach = np.where(closes, 0.45 * length + 0.02, part * length + least)
        pull = weight * np.exp(-(np.minimum(distance / reach, 30) ** 1.5))
        whole = pull.sum(1) + 0.02
        for k in articulators:
            out[:, k] = pull @ shapes[:, k] / whole
    out = smooth(out, 0.015)
    effort = np.exp(wander(rng, count, 0.12, 2.0, 0.1))
    jaw = np.clip(out[:, 0] * effort * style.jaw * JAW_OPEN + wander(rng, count, 0.003, 0.4, 0.05), 0, 0.4)
    lips = np.clip(2 * out[:, 1:] * style.lips + wander(rng, count, np.full(5, 0.02), 0.4, 0.05), 0, 2)
    return jaw, lips


def _targets(phone: Phone) -> list[_Target]:
    start, end, name = phone.start, phone.end, phone.name
    if name == SILENCE:  # the lips meet some time after the last sound and part before the next
        inset = min(0.12, (end - start) / 3)
        return [_Target(start + inset, end - inset / 2, _REST, 0.6, False)]
    if name in ("tʃ", "dʒ"):
        half = (start + end) / 2
        return [_Target(start, half, _CONSONANTS["t"], 0.6, False), _Target(half, end, _CONSONANTS["ʃ"], 1.0, False)]
    letters = [c for c in name if c in _VOWELS or c in _CONSONANTS] or ["ə"]
    share = np.array([1.6, *[1.0] * (len(letters) - 1)]) if len(letters) > 1 else np.ones(1)  # diphthongs dwell on the first
    edges = start + (end - start) * np.concatenate([[0], np.cumsum(share) / share.sum()])
    out = []
    for letter, a, b in zip(letters, edges, edges[1:], strict=False):
        weight = 0.9 if letter in VOWELS else 0.65
        if letter in _LIP_CONSONANTS:
            weight = 5.0 if letter in _BILABIAL else 3.0 if letter in _LIP_TO_TEETH else 1.4
        closes = letter in _BILABIAL or letter in _LIP_TO_TEETH
        out.append(_Target(a, b, _VOWELS.get(letter) or _CONSONANTS[letter], weight, closes))
    return out
