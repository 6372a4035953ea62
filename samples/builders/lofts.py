"""New geometry for what is not cut from the body: tubes along paths, and how it lies on clothes.

Axes: K points of a path.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from model.winding import grid_faces
from samples.builders.layers import Layer, smoothed


def tube(
    path: np.ndarray, radius: np.ndarray, sides: int = 10, closed: bool = False, flat: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Points and triangles of a tube round a path [K, 3]; `radius` [K] across, or [K, 2] across and along `flat` [3]."""
    step = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        step[0], step[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead = step / np.linalg.norm(step, axis=1, keepdims=True)
    up = np.tile(np.array([0.0, 0.0, 1.0]) if flat is None else flat, (len(path), 1))
    across = np.cross(ahead, up)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    up = np.cross(across, ahead)
    both = np.stack([radius, radius], 1) if np.ndim(radius) == 1 else np.asarray(radius)
    turn = np.arange(sides) * (2 * np.pi / sides)
    ring = across[:, None] * (both[:, :1, None] * np.cos(turn)[:, None]) + up[:, None] * (both[:, 1:, None] * np.sin(turn)[:, None])
    points = (path[:, None] + ring).reshape(-1, 3)
    count = len(path)
    faces = grid_faces(count, sides, closed=True)
    if closed:
        last, first = np.arange(sides) + (count - 1) * sides, np.arange(sides)
        a, b, c, d = last, np.roll(last, -1), np.roll(first, -1), first
        return points, np.concatenate([faces, np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    ends = []
    for k, turned in ((0, False), (count - 1, True)):
        tip = len(points)
        points = np.concatenate([points, path[k : k + 1]])
        ring_index = np.arange(sides) + k * sides
        pair = (np.roll(ring_index, -1), ring_index) if turned else (ring_index, np.roll(ring_index, -1))
        ends.append(np.stack([np.full(sides, tip), *pair], 1))
    return points, np.concatenate([faces, *ends])


def spline(knots: np.ndarray, count: int, closed: bool = False) -> np.ndarray:
    """A smooth path [count, D] through knots [K, D] (Catmull-Rom)."""
    k = len(knots)
    at = np.linspace(0, k if closed else k - 1, count, endpoint=not closed)
    i, t = np.minimum(at.astype(int), k - 1 if closed else k - 2), 0.0
    t = (at - i)[:, None]
    take = (lambda j: knots[j % k]) if closed else (lambda j: knots[np.clip(j, 0, k - 1)])
    a, b, c, d = take(i - 1), take(i), take(i + 1), take(i + 2)
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def lying_on(layer: Layer, below: list[Layer], gap: float, smooth: int = 2) -> Layer:
    """Move points that are less than `gap` metres outside other layers' surfaces out to it."""
    shown = [b.masks.get("rim", np.zeros(len(b.rest))) < 0.5 for b in below]  # not the edges that are turned in
    places = np.concatenate([b.rest[keep] for b, keep in zip(below, shown, strict=True)])
    normals = np.concatenate([b.normals()[keep] for b, keep in zip(below, shown, strict=True)])
    tree, rest = cKDTree(places), layer.rest
    for turn in range(3):
        distance, near = tree.query(rest, 4)
        outside = ((rest[:, None] - places[near]) * normals[near]).sum(-1).max(1)
        short = np.where(distance[:, 0] < 0.08, np.maximum(gap - outside, 0), 0)
        rest = rest + normals[near[:, 0]] * short[:, None]
        if turn < 2 and smooth and short.any():
            rest = smoothed(rest, layer.faces, smooth, keep_borders=False)
    return replace(layer, rest=rest)
