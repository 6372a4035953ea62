"""Where mediapipe puts body and hand landmarks, relative to the body's own points: constants of the fit.

Measured on embedded people that are in no sample talk by `python -m samples.build_fit_offsets`. Template space (T-pose
axes), given for the person's left side; the right side is its mirror image. Legs are not seen there and have none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.fit_layout import BODY_NAMES, HAND_NAMES

_BODY: dict[str, tuple[int, int, int]] = {}  # millimetres
_HAND: dict[str, tuple[int, int, int]] = {}


def calibrated_offsets() -> Tensor:
    """[body + 2 hands, 3] metres, in the order of `fit_layout`'s landmarks."""
    rows = [_offset(_BODY, name) for name in BODY_NAMES] + [_offset(_HAND, name) for name in HAND_NAMES]
    return 1e-3 * torch.tensor(rows)


def left_name(name: str) -> str:
    """The same point on the left side: right_wrist → left_wrist, rindex → lindex, RHeel → LHeel."""
    for right, left in (("right_", "left_"), ("R", "L"), ("r", "l")):
        if name.startswith(right):
            return left + name[len(right) :]
    return name


def _offset(table: dict[str, tuple[int, int, int]], name: str) -> tuple[float, float, float]:
    x, y, z = table.get(left_name(name), (0, 0, 0))
    return (float(x if left_name(name) == name else -x), float(y), float(z))
