"""Surfaces wound round a vertical axis, as skirts and hanging hair are.

Axes: R rows, C columns of a grid.
"""

from __future__ import annotations

import numpy as np


def grid_faces(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles [F, 3] over row-major points; `closed` sews the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (a, d, c))])


def wound(angle: np.ndarray, height: np.ndarray, reach: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Points [R·C, 3] round a vertical axis at `centre` (x, z): angles [C] from the front, heights and distances [R, C]."""
    angle = np.broadcast_to(angle, reach.shape)
    points = np.stack([np.sin(angle) * reach + centre[0], np.broadcast_to(height, reach.shape), np.cos(angle) * reach + centre[1]], -1)
    return points.reshape(-1, 3)


def hull_reach(points: np.ndarray, angle: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Distance [C] from the axis to the convex hull of points [N, 3] seen from above."""
    toward = np.stack([np.sin(angle), np.cos(angle)], 1)
    support = ((points[:, [0, 2]] - centre) @ toward.T).max(0)
    facing = np.cos(angle[:, None] - angle[None])
    return np.where(facing > 0.05, support[None] / np.maximum(facing, 0.05), np.inf).min(1)
