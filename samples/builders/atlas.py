"""One texture for all layers of a person: lay out charts, then paint every texel from its place on the surface.

Charts are rectangles, packed as low as they go. UV follows OBJ files (v upwards). F triangles of all layers together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from model.mesh_raster import rasterize_mesh

GUTTER = 3.0  # texels round a chart


@dataclass(frozen=True)
class Chart:
    """A part of the surface laid flat."""

    faces: np.ndarray  # [C] triangle indices
    corners: np.ndarray  # [C, 3] into coordinates
    coordinates: np.ndarray  # [K, 2] any origin; the unit is a texel at scale 1, second axis upwards


@dataclass(frozen=True)
class Atlas:
    size: int
    uv: np.ndarray  # [U, 2] 0..1
    uv_faces: np.ndarray  # [F, 3]


@dataclass(frozen=True)
class Texels:
    """What each painted texel shows."""

    where: tuple[np.ndarray, np.ndarray]  # rows, columns
    face: np.ndarray  # [N]
    barycentric: np.ndarray  # [N, 3]


def island_charts(uv: np.ndarray, uv_faces: np.ndarray, first_face: int, density: np.ndarray) -> list[Chart]:
    """Charts from a layout that exists: one for each connected island; `density` [F] texels per UV unit (the median counts)."""
    edges = np.concatenate([uv_faces[:, [0, 1]], uv_faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(uv), len(uv)))
    island = connected_components(graph, directed=False)[1][uv_faces[:, 0]]
    charts = []
    for number in np.unique(island):
        faces = np.flatnonzero(island == number)
        used, corners = np.unique(uv_faces[faces], return_inverse=True)
        charts.append(Chart(faces + first_face, corners.reshape(-1, 3), uv[used] * np.median(density[faces])))
    return charts


def projected_charts(points: np.ndarray, faces: np.ndarray, first_face: int, density: float, sides: bool = False) -> list[Chart]:
    """A front and a back chart, seen along z, and with `sides` two more seen along x; `density` texels per metre."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    beside = (np.abs(normal[:, 0]) > 1.2 * np.abs(normal[:, 2])) & sides
    views = [(~beside & (normal[:, 2] >= 0), 0, 1.0), (~beside & (normal[:, 2] < 0), 0, -1.0)]
    views += [(beside & (normal[:, 0] >= 0), 2, -1.0), (beside & (normal[:, 0] < 0), 2, 1.0)]
    charts = []
    for chosen, axis, mirror in views:
        if chosen.any():
            used, corners = np.unique(faces[chosen], return_inverse=True)
            flat = points[used][:, [axis, 1]] * [mirror * density, density]
            charts.append(Chart(np.flatnonzero(chosen) + first_face, corners.reshape(-1, 3), flat))
    return charts


def pack(charts: list[Chart], face_count: int, size: int) -> Atlas:
    """Place the charts, upright, at the largest common scale that fits (bisection to 1 %)."""
    flat = [c.coordinates - c.coordinates.min(0) for c in charts]
    flat = [f[:, ::-1] if np.ptp(f[:, 0]) > np.ptp(f[:, 1]) else f for f in flat]
    boxes = np.array([f.max(0) for f in flat])
    low, high = 0.0, 4.0
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if _skyline(boxes * middle + 2 * GUTTER, size) is not None else (low, middle)
    corners = _skyline(boxes * low + 2 * GUTTER, size)
    if corners is None:
        raise ValueError(f"atlas: {len(charts)} charts do not fit {size} × {size} texels at any scale")
    uv, uv_faces, start = [], np.zeros((face_count, 3), np.int64), 0
    for chart, points, corner in zip(charts, flat, corners, strict=True):
        uv.append((points * low + corner + GUTTER) / size)
        uv_faces[chart.faces] = chart.corners + start
        start += len(points)
    return Atlas(size, np.concatenate(uv), uv_faces)


def texels(atlas: Atlas) -> Texels:
    """The texels that lie on the surface."""
    pixels = atlas.uv * [atlas.size, -atlas.size] + [0, atlas.size]
    face, barycentric, _ = rasterize_mesh(pixels, np.ones(len(pixels)), atlas.uv_faces, atlas.size, atlas.size)
    where = np.nonzero(face >= 0)
    return Texels(where, face[where], barycentric[where].astype(np.float64))


def fill(atlas: Atlas, found: Texels, colors: np.ndarray) -> np.ndarray:
    """The picture [size, size, 3] uint8: colours [N, 3] at their texels, the nearest one's in the gutters."""
    image = np.zeros((atlas.size, atlas.size, 3))
    empty = np.ones((atlas.size, atlas.size), bool)
    image[found.where], empty[found.where] = colors, False
    distance, (rows, columns) = distance_transform_edt(empty, return_indices=True)
    near = distance < 4 * GUTTER
    image[near] = image[rows[near], columns[near]]
    image[~near] = colors.mean(0)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _skyline(boxes: np.ndarray, size: int) -> np.ndarray | None:
    """Lower left corners [N, 2] of boxes [N, 2], each as low as it goes, tallest first; none where they do not fit."""
    corners = np.zeros_like(boxes)
    ground = np.zeros(size)  # height filled so far over each column of texels
    for i in np.argsort(-boxes[:, 1], kind="stable"):
        width = int(np.ceil(boxes[i, 0]))
        if width > size:
            return None
        floor = np.lib.stride_tricks.sliding_window_view(ground, width).max(1)
        x = int(floor.argmin())
        if floor[x] + boxes[i, 1] > size:
            return None
        corners[i] = x, floor[x]
        ground[x : x + width] = floor[x] + boxes[i, 1]
    return corners
