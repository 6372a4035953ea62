"""Where mediapipe puts body and hand landmarks, relative to the body's own points: constants of the fit.

Measured on embedded people that are in no sample talk by `python -m samples.build_fit_offsets`. Template space (T-pose
axes), given for the person's left side; the right side is its mirror image. Legs are not seen there and have none. They
hold for the embedded body: where a body file puts its joints inside the limbs is its own affair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.fit_layout import BODY_NAMES, HAND_NAMES

_BODY: dict[str, tuple[int, int, int]] = {  # millimetres
    "left_shoulder": (-28, -2, 9),
    "left_elbow": (-33, 1, 16),
    "left_wrist": (-4, 2, 3),
    "left_hip": (-1, -15, 24),
    "lear": (-20, -3, 9),
}
_HAND: dict[str, tuple[int, int, int]] = {
    "left_wrist": (-2, 6, 2),
    "left_thumb1": (-15, -3, 0),
    "left_thumb2": (0, 3, -2),
    "left_thumb3": (-2, 5, -8),
    "lthumb": (-12, 8, -6),
    "left_index1": (-12, -4, -2),
    "left_index2": (2, -5, -1),
    "left_index3": (2, -3, -1),
    "lindex": (-7, -2, -2),
    "left_middle1": (-8, -5, 4),
    "left_middle2": (1, -4, 2),
    "left_middle3": (-1, -4, 2),
    "lmiddle": (-7, -4, 2),
    "left_ring1": (-9, -5, 5),
    "left_ring2": (1, -4, 2),
    "left_ring3": (1, -3, 2),
    "lring": (-8, 0, 1),
    "left_pinky1": (-13, -4, 8),
    "left_pinky2": (-3, -5, 3),
    "left_pinky3": (-1, -3, 2),
    "lpinky": (-6, 0, 4),
}


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
