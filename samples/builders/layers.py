"""Skinned surfaces that together make a dressed person, and how they are cut out of one another.

A layer lives in template space (T-pose, metres). P points, F triangles, 20 = betas then expressions, 55 joints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from model.mesh_raster import vertex_normals


@dataclass(frozen=True)
class Layer:
    name: str
    rest: np.ndarray  # [P, 3]
    dirs: np.ndarray  # [P, 3, 20]
    weights: np.ndarray  # [P, 55]
    faces: np.ndarray  # [F, 3]
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # name → [P], interpolated like positions
    groups: np.ndarray | None = None  # [F] names; none: the layer's own
    uv: np.ndarray | None = None  # [U, 2] a layout the layer brings along
    uv_faces: np.ndarray | None = None  # [F, 3]

    def face_groups(self) -> np.ndarray:
        return np.full(len(self.faces), self.name) if self.groups is None else self.groups

    def normals(self) -> np.ndarray:
        return vertex_normals(np.ascontiguousarray(self.rest, np.float64), np.ascontiguousarray(self.faces, np.int64))


def select_faces(layer: Layer, keep: np.ndarray) -> Layer:
    """Drop whole triangles, and the points that no triangle uses any more."""
    faces = layer.faces[keep]
    used, renumbered = np.unique(faces, return_inverse=True)
    out = _points(layer, used)
    uv, uv_faces = layer.uv, layer.uv_faces
    if uv is not None and uv_faces is not None:
        uv_used, uv_faces = np.unique(uv_faces[keep], return_inverse=True)
        uv, uv_faces = uv[uv_used], uv_faces.reshape(-1, 3)
    groups = None if layer.groups is None else layer.groups[keep]
    return replace(out, faces=renumbered.reshape(-1, 3), groups=groups, uv=uv, uv_faces=uv_faces)


def clip(layer: Layer, value: np.ndarray) -> Layer:
    """Keep where `value` [P] >= 0; triangles are cut along the zero line, which makes clean hems."""
    if layer.uv is not None:
        raise ValueError(f"clip: layer {layer.name!r} brings its own UVs, which cannot be cut; clear them first")
    inside = value >= 0
    count = inside[layer.faces].sum(1)
    whole = layer.faces[count == 3]
    # rotate each cut triangle so that its odd corner comes first
    cut_one, cut_two = (_odd_first(layer.faces[count == n], inside, odd) for n, odd in ((1, True), (2, False)))
    edges = np.concatenate([cut_one[:, [0, 1]], cut_one[:, [0, 2]], cut_two[:, [0, 1]], cut_two[:, [0, 2]]])
    pairs, index = np.unique(np.sort(edges, 1), axis=0, return_inverse=True)
    a, b = pairs.T
    share = value[a] / (value[a] - value[b]) if len(pairs) else np.zeros(0)
    extended = _with_mixed(layer, a, b, share)
    new = (index.reshape(-1) + len(layer.rest)).reshape(-1)
    n1, n2 = len(cut_one), len(cut_two)
    one_b, one_c, two_b, two_c = np.split(new, [n1, 2 * n1, 2 * n1 + n2])
    tips = np.stack([cut_one[:, 0], one_b, one_c], 1)
    quads = [np.stack([two_b, cut_two[:, 1], cut_two[:, 2]], 1), np.stack([two_b, cut_two[:, 2], two_c], 1)]
    faces = np.concatenate([whole, tips, *quads])
    return select_faces(replace(extended, faces=faces, groups=None), np.ones(len(faces), bool))


def push_out(layer: Layer, distance: np.ndarray | float, smooth: int = 0) -> Layer:
    """Move every point along its normal by `distance` metres ([P] or one for all); `smooth` passes even out the result."""
    rest = layer.rest + layer.normals() * np.broadcast_to(np.asarray(distance, float), len(layer.rest))[:, None]
    return replace(layer, rest=smoothed(rest, layer.faces, smooth) if smooth else rest)


def smoothed(points: np.ndarray, faces: np.ndarray, passes: int, keep_borders: bool = True) -> np.ndarray:
    """Umbrella smoothing, alternately shrinking and growing (Taubin 1995); borders stay where they are."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    border = np.zeros(len(points), bool)
    border[edges[first[count == 1]].ravel()] = keep_borders
    degree = np.maximum(np.bincount(both[:, 0], minlength=len(points)), 1)[:, None]
    out = points.copy()
    for step in range(2 * passes):
        mean = np.zeros_like(out)
        np.add.at(mean, both[:, 0], out[both[:, 1]])
        moved = out + (0.5 if step % 2 == 0 else -0.53) * (mean / degree - out)
        out = np.where(border[:, None], out, moved)
    return out


def _odd_first(faces: np.ndarray, inside: np.ndarray, odd: bool) -> np.ndarray:
    """Rotate triangles so that the one corner whose `inside` equals `odd` comes first; the winding stays."""
    if not len(faces):
        return faces
    start = (inside[faces] == odd).argmax(1)
    columns = (start[:, None] + np.arange(3)) % 3
    return np.take_along_axis(faces, columns, 1)


def _points(layer: Layer, index: np.ndarray) -> Layer:
    masks = {name: mask[index] for name, mask in layer.masks.items()}
    return replace(layer, rest=layer.rest[index], dirs=layer.dirs[index], weights=layer.weights[index], masks=masks)


def _with_mixed(layer: Layer, a: np.ndarray, b: np.ndarray, share: np.ndarray) -> Layer:
    """Append the points (1 − share)·a + share·b."""

    def extend(x: np.ndarray) -> np.ndarray:
        s = share.reshape(-1, *[1] * (x.ndim - 1))
        return np.concatenate([x, x[a] * (1 - s) + x[b] * s])

    masks = {name: extend(mask) for name, mask in layer.masks.items()}
    return replace(layer, rest=extend(layer.rest), dirs=extend(layer.dirs), weights=extend(layer.weights), masks=masks)
