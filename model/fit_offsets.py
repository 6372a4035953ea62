"""Where mediapipe puts body and hand landmarks, relative to the body's own points: constants of the fit.

Each offset is given in the frame of the joint that owns the point (template axes turned with the joint), metres.
"""

from __future__ import annotations

import torch
from torch import Tensor

_OFFSETS: list[tuple[float, float, float]] = []


def calibrated_offsets() -> Tensor:
    """[body + 2 hands, 3] in the order of `fit_layout`'s landmarks."""
    return torch.tensor(_OFFSETS).reshape(-1, 3)
