"""What a talk lost and why: `rejected.json`, and `rejected_preview.png` with one small picture of every stretch.

rejected.json: a list of {"start", "end" (seconds), "reason", "picture" (its number in the sheet, row by row)}.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipelines.cut_plan import Rejected
from pipelines.media import Picture, write_picture
from pipelines.store import write_json

WIDTH = 160  # pixels of a small picture
COLUMNS = 8
LINES, LINE_HEIGHT, LINE_LENGTH = 3, 12, 26  # of text under a picture: how many, pixels, characters
INK, PAPER, NOTHING = (30, 30, 30), 245, 128


def write_rejected(
    folder: Path, rejected: Sequence[Rejected], fps: Fraction, picture_at: Callable[[Rejected], Picture | None]
) -> dict[str, float]:
    """Write both files of a talk; returns seconds by reason. Without rejected stretches there is no sheet."""
    ordered = sorted(rejected, key=lambda r: r.start)
    rows = []
    seconds: dict[str, Fraction] = defaultdict(Fraction)
    for number, stretch in enumerate(ordered):
        start, end = float(stretch.start / fps), float(stretch.end / fps)
        rows.append({"start": start, "end": end, "reason": stretch.reason, "picture": number})
        seconds[stretch.reason] += len(stretch) / fps
    sheet = folder / "rejected_preview.png"
    sheet.unlink(missing_ok=True)
    if ordered:
        write_picture(sheet, draw_sheet([_tile(s, fps, picture_at(s)) for s in ordered]))
    write_json(folder / "rejected.json", rows)
    return {reason: round(float(total), 3) for reason, total in seconds.items()}


def draw_sheet(pictures: Sequence[Picture]) -> Picture:
    """Pictures of equal width in rows of `COLUMNS`, each row as tall as its tallest picture."""
    rows = []
    for first in range(0, len(pictures), COLUMNS):
        row = pictures[first : first + COLUMNS]
        height = max(len(p) for p in row)
        filled = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=PAPER) for p in row]
        rows.append(np.hstack(filled))
    width = max(r.shape[1] for r in rows)
    return np.vstack([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=PAPER) for r in rows])


def shrink(picture: Picture) -> Picture:
    """To `WIDTH` pixels."""
    height = min(max(round(WIDTH * picture.shape[0] / picture.shape[1]), 1), 2 * WIDTH)
    return np.asarray(cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)


def _tile(stretch: Rejected, fps: Fraction, picture: Picture | None) -> Picture:
    """The picture over its time and reason; grey where none decodes."""
    shown = np.full((90, WIDTH, 3), NOTHING, np.uint8) if picture is None else shrink(picture)
    text = np.full((LINES * LINE_HEIGHT + 4, WIDTH, 3), PAPER, np.uint8)
    lines = [f"{_clock(stretch.start / fps)} - {_clock(stretch.end / fps)}", *textwrap.wrap(stretch.reason, LINE_LENGTH)]
    for number, line in enumerate(lines[:LINES]):
        at = (3, (number + 1) * LINE_HEIGHT - 2)
        cv2.putText(text, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.34, INK, 1, cv2.LINE_AA)
    return np.vstack([shown, text])


def _clock(seconds: Fraction) -> str:
    minutes, rest = divmod(float(seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"
