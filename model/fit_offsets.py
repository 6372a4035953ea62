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
    "left_shoulder": (-22, 4, 5),
    "left_elbow": (-23, 8, 11),
    "left_wrist": (-10, 3, 2),
    "left_hip": (3, -18, 13),
    "lear": (-21, -4, 2),
}
_HAND: dict[str, tuple[int, int, int]] = {
    "left_wrist": (-5, 6, 2),
    "left_thumb1": (-13, -3, -1),
    "left_thumb2": (-1, 2, -3),
    "left_thumb3": (-1, 5, -7),
    "lthumb": (-9, 7, -4),
    "left_index1": (-11, -4, -2),
    "left_index2": (1, -5, -2),
    "left_index3": (2, -3, -2),
    "lindex": (-5, -2, -3),
    "left_middle1": (-9, -5, 3),
    "left_middle2": (0, -4, 2),
    "left_middle3": (-1, -3, 2),
    "lmiddle": (-6, -3, 2),
    "left_ring1": (-9, -5, 4),
    "left_ring2": (0, -4, 2),
    "left_ring3": (0, -2, 2),
    "lring": (-7, 0, 1),
    "left_pinky1": (-12, -3, 7),
    "left_pinky2": (-3, -3, 3),
    "left_pinky3": (-1, -1, 2),
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
