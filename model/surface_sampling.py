"""Evenly spread points on a triangle mesh, denser where asked; no chance from run to run.

Axes: F triangles, M candidates, N points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

OVERSAMPLE = 3  # candidates per point
SHARPNESS = 8  # how much closer neighbours count for more in thinning


def sample_surface(
    corners: NDArray[np.float64],  # [F, 3, 3] metres
    density: NDArray[np.float64],  # [F] relative points per area; triangles of one density form a region
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Triangle [N] and barycentric weights [N, 3] of each point, sorted by triangle.

    Each region gets its share of the points by stratified candidates, thinned to an even spacing by sample
    elimination (Yuksel, 2015). Surfaces that lie close but face apart (lips, fingers) do not thin each other.
    """
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(double_area, 1e-12)[:, None]
    weight = double_area / 2 * density
    rng = np.random.default_rng(0)
    picked, barycentric = [], []
    for level, share in _shares(density, weight, count):
        inside = np.flatnonzero(density == level)
        face, bary = _stratified(weight[inside], OVERSAMPLE * share, rng)
        face = inside[face]
        spacing = np.sqrt(weight[inside].sum() / level / share)
        place = np.einsum("mkc,mk->mc", corners[face], bary)
        kept = thin(np.concatenate([place, normal[face] * spacing], 1), share, 2 * spacing)
        picked.append(face[kept])
        barycentric.append(bary[kept])
    order = np.argsort(np.concatenate(picked), kind="stable")
    return np.concatenate(picked)[order], np.concatenate(barycentric)[order]


def thin(points: NDArray[np.float64], count: int, radius: float) -> NDArray[np.int64]:
    """Indices of `count` of the points [M, D]: rounds that drop those most crowded within `radius` of each other."""
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    kernel = (1 - distance / radius) ** SHARPNESS
    alive = np.ones(len(points), bool)
    tie_break = np.arange(len(points)) * 1e-12
    while (excess := int(alive.sum()) - count) > 0:
        i, j = pairs.T
        crowd = tie_break + np.bincount(i, kernel, len(points)) + np.bincount(j, kernel, len(points))
        worst_neighbour = np.zeros(len(points))
        np.maximum.at(worst_neighbour, i, crowd[j])
        np.maximum.at(worst_neighbour, j, crowd[i])
        drop = np.flatnonzero(alive & (crowd >= worst_neighbour))  # no two of them are neighbours
        drop = drop[np.argsort(-crowd[drop], kind="stable")][: min(excess, max(1, len(drop) // 2))]
        alive[drop] = False
        keep = alive[i] & alive[j]
        pairs, kernel = pairs[keep], kernel[keep]
    return np.flatnonzero(alive)


def _shares(density: NDArray[np.float64], weight: NDArray[np.float64], count: int) -> list[tuple[float, int]]:
    """Points of each density that occurs, by largest remainder; regions without any are left out."""
    levels = np.unique(density[weight > 0])
    exact = np.array([weight[density == level].sum() for level in levels]) / weight.sum() * count
    share = np.floor(exact).astype(int)
    share[np.argsort(share - exact, kind="stable")[: count - share.sum()]] += 1
    return [(float(level), int(n)) for level, n in zip(levels, share, strict=True) if n]


def _stratified(
    weight: NDArray[np.float64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    total = np.cumsum(weight)
    at = (np.arange(count) + rng.uniform(size=count)) / count * total[-1]
    picked = np.minimum(np.searchsorted(total, at, side="right"), len(weight) - 1)
    root, along = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    return picked.astype(np.int64), np.stack([1 - root, root * (1 - along), root * along], 1)
