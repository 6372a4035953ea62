"""What a talk says, from a seed: `write_lines` fills the phrase books of its language. Every seed says something else."""

from __future__ import annotations

import re

import numpy as np

from samples.builders.phrases import BOOKS, Book

LETTERS_A_WORD = 5.2  # espeak-ng's words a minute are of about this many letters
_SLOT = re.compile(r"\{(\w+)\}")


def write_lines(language: str, seconds: float, rate: float, pause: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Sentences of about `seconds` at `rate` words a minute with `pause` seconds between them.

    ValueError for a language that has no phrase book.
    """
    if language not in BOOKS:
        raise ValueError(f"no phrase book for language {language!r}; there are {sorted(BOOKS)}")
    book = BOOKS[language]
    filler = _Filler(book, rng)
    closing = filler.sentence("close")
    lines = [filler.sentence("open")]
    while duration([*lines, closing], rate, pause) < seconds - 1.0:
        lines.append(filler.sentence("body"))
    return (*lines, closing)


def duration(lines: list[str], rate: float, pause: float) -> float:
    """Seconds that `lines` take, about."""
    letters = sum(len(line.replace(" ", "")) for line in lines)
    stops = sum(len(re.findall(r"[.?!,:] ", line)) for line in lines)
    return 60 * letters / LETTERS_A_WORD / rate + pause * len(lines) + 0.25 * stops + 0.4


class _Filler:
    """Draws sentences and words without repeating one before its list is used up."""

    def __init__(self, book: Book, rng: np.random.Generator):
        self.book, self.rng = book, rng
        self.left: dict[str, list[str]] = {}
        self.topic = self._draw("topic").split("|")

    def sentence(self, part: str) -> str:
        text = _SLOT.sub(lambda m: self._fill(m[1]), self._draw(part))
        # a capital at the start of each sentence, after an opening mark too
        return re.sub(r"(^|[.?!] )([¿¡]?)(\w)", lambda m: m[1] + m[2] + m[3].upper(), text)

    def _fill(self, slot: str) -> str:
        if slot in ("t", "t4"):
            return self.topic[-1 if slot == "t4" else 0]
        return self._draw(slot)

    def _draw(self, part: str) -> str:
        if not self.left.get(part):
            self.left[part] = [str(x) for x in self.rng.permutation(self.book[part])]
        return self.left[part].pop()
