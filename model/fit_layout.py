"""Which point of the body each detected landmark stands for.

Axis legend: `P` surface points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FACE_POINTS = 478  # mediapipe's refined face mesh: 468 points and 2 x 5 of the irises


@dataclass(frozen=True)
class FaceEmbedding:
    """Mediapipe's face points on a body's surface: barycentric points plus an offset in template space, metres."""

    faces: np.ndarray  # [478] int64, triangle index
    barycentric: np.ndarray  # [478, 3] float32
    offset: np.ndarray  # [478, 3] float32

    def __post_init__(self) -> None:
        for name, shape in (("faces", (FACE_POINTS,)), ("barycentric", (FACE_POINTS, 3)), ("offset", (FACE_POINTS, 3))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"FaceEmbedding.{name}: expected {shape}, got {getattr(self, name).shape}")
