"""Where mediapipe puts body and hand landmarks, relative to the body's own points: constants of the fit.

Template space (T-pose axes), metres; they turn with the joint that carries the point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.fit_layout import FACE_PART


def calibrated_offsets() -> Tensor:
    """[body + 2 hands, 3] in the order of `fit_layout`'s landmarks."""
    return torch.zeros(FACE_PART.start, 3)
