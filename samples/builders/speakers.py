"""Who speaks, from a seed: voice, pace and a way of moving that stay the same in every talk of one speaker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samples.builders.espeak import Voice
from samples.builders.face import FaceStyle
from samples.builders.forms import FORMS
from samples.builders.gesture import GestureStyle
from samples.builders.plan import Style
from samples.builders.visemes import MouthStyle

# espeak-ng voice and BCP 47 tag by language
ACCENTS = {
    "en": (("en-us", "en-US"), ("en", "en-GB"), ("en-gb-x-rp", "en-GB"), ("en-gb-scotland", "en-GB"), ("en-us-nyc", "en-US")),
    "de": (("de", "de-DE"),),
    "fr": (("fr", "fr-FR"), ("fr-be", "fr-BE"), ("fr-ch", "fr-CH")),
    "es": (("es", "es-ES"), ("es-419", "es-MX")),
    "it": (("it", "it-IT"),),
    "pt": (("pt-br", "pt-BR"), ("pt", "pt-PT")),
}
LANGUAGES = ("en", "de", "fr", "es", "it", "pt")
LANGUAGE_CHANCES = (0.4, 0.12, 0.12, 0.12, 0.12, 0.12)
WOMEN, MEN = ("f1", "f2", "f3", "f4", "f5"), ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
RESTS, REST_CHANCES = ("front", "apart", "high", "open", "folded", "hanging"), (0.24, 0.22, 0.18, 0.14, 0.12, 0.10)
RIGHT_HANDED = 0.88


@dataclass(frozen=True)
class Speaker:
    """`seed` makes the person's looks too; odd seeds are women."""

    seed: int
    language: str  # of samples.builders.phrases.BOOKS
    voice: Voice
    pause: float  # seconds between sentences, about
    style: Style


def make_speaker(seed: int) -> Speaker:
    """The speaker of a non-negative seed, always the same."""
    if seed < 0:
        raise ValueError(f"a speaker's seed must be 0 or more, got {seed}")
    rng = np.random.default_rng([seed, 31])
    woman = bool(seed % 2)
    language = str(rng.choice(LANGUAGES, p=LANGUAGE_CHANCES))
    name, tag = ACCENTS[language][rng.integers(len(ACCENTS[language]))]
    variant = rng.choice(WOMEN if woman else MEN)
    pitch = int(np.clip(rng.normal(58 if woman else 42, 9), 20, 85))
    rate, pitch_range = int(np.clip(rng.normal(168, 14), 135, 205)), int(rng.uniform(45, 80))
    voice = Voice(f"{name}+{variant}", tag, rate, pitch, pitch_range)
    return Speaker(seed, language, voice, round(float(rng.uniform(0.28, 0.55)), 2), _style(rng))


def _style(rng: np.random.Generator) -> Style:
    draw = lambda low, high: round(float(rng.uniform(low, high)), 3)  # noqa: E731
    liked = rng.choice(sorted(FORMS), 5, replace=False)
    right = draw(0.6, 0.85) if rng.random() < RIGHT_HANDED else draw(0.15, 0.4)
    return Style(
        MouthStyle(jaw=draw(0.85, 1.15), lips=draw(0.9, 1.15), smile=draw(0.0, 0.45)),
        FaceStyle(
            nod=draw(0.06, 0.13), nod_rate=draw(0.5, 0.85), brow=draw(0.25, 0.75), blinks=draw(0.2, 0.4),
            glance=draw(0.08, 0.18), tilt=draw(-0.04, 0.04),
        ),
        GestureStyle(
            rest=str(rng.choice(RESTS, p=REST_CHANCES)), rate=draw(0.65, 1.0), size=draw(0.85, 1.15), speed=draw(0.9, 1.15),
            right=right, both=draw(0.3, 0.6), beat=draw(0.04, 0.07), touch=draw(0.0, 0.1), pictured=draw(0.3, 0.7),
            likes={str(form): draw(0.5, 1.0) for form in liked},
        ),
        sway=draw(0.7, 1.25), lean=draw(0.02, 0.06), turn=draw(-0.12, 0.12), stance=draw(-0.02, 0.04),
    )  # fmt: skip
