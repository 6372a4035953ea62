"""Skinned surfaces that together make a dressed person, and how they are cut out of one another.

A layer lives in template space (T-pose, metres). P points, F triangles, V body vertices, 20 = betas then expressions, 55 joints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

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
    anchors: sparse.csr_matrix | None = None  # [P, V] whose pose directions the points take; rows sum to 1, none: nobody's

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


def refine(layer: Layer, marked: np.ndarray) -> Layer:
    """Split in two every edge with a marked end [P]; neighbours stay sewn together. Finer where a cut will run."""
    if layer.uv is not None:
        raise ValueError(f"refine: layer {layer.name!r} brings its own UVs, which cannot be split; clear them first")
    sides = np.stack([layer.faces, np.roll(layer.faces, -1, 1)], -1)  # [F, 3, 2] edge k starts at corner k
    split = marked[sides].any(-1)
    pairs, index = np.unique(np.sort(sides[split], 1), axis=0, return_inverse=True)
    middle = np.full(layer.faces.shape, -1)
    middle[split] = index.reshape(-1) + len(layer.rest)
    extended = _with_mixed(layer, pairs[:, 0], pairs[:, 1], np.full(len(pairs), 0.5))
    count = split.sum(1)
    out = [layer.faces[count == 0]]
    for number in (1, 2, 3):  # turned so that the unsplit edges come last, or the only split edge first
        chosen = count == number
        start = (~split[chosen]).argmax(1) + 1 if number == 2 else split[chosen].argmax(1)
        turn = (start[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(layer.faces[chosen], turn, 1).T
        ab, bc, ca = np.take_along_axis(middle[chosen], turn, 1).T
        corners = {
            1: ((a, ab, c), (ab, b, c)),
            2: ((a, ab, bc), (ab, b, bc), (a, bc, c)),
            3: ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)),
        }[number]
        out += [np.stack(t, 1) for t in corners]
    groups = None if layer.groups is None else np.full(sum(map(len, out)), layer.groups[0])
    return replace(extended, faces=np.concatenate(out), groups=groups)


def hemmed(layer: Layer, depth: np.ndarray | float) -> Layer:
    """Turn every open edge in by `depth` metres ([P] or one for all), so that cloth has a thickness and shows no gap."""
    border = border_edges(layer.faces)
    if not len(border):
        return layer
    layer = replace(layer, rest=_even_borders(layer.rest, border, 4))
    ends, index = np.unique(border, return_inverse=True)
    inner = _points(layer, ends)
    inwards = -layer.normals()[ends] * np.broadcast_to(np.asarray(depth, float), len(layer.rest))[ends][:, None]
    inner = replace(inner, rest=inner.rest + inwards, masks={**inner.masks, "rim": np.ones(len(ends))})
    a, b = border.T
    c, d = index.reshape(border.shape).T + len(layer.rest)
    faces = np.concatenate([layer.faces, np.stack([b, a, c], 1), np.stack([b, c, d], 1)])
    return replace(joined(layer, inner), faces=faces)


def border_edges(faces: np.ndarray) -> np.ndarray:
    """Edges [E, 2] that only one triangle has, in its direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def joined(a: Layer, b: Layer) -> Layer:
    """Both in one layer, under the first's name."""
    masks = {n: np.concatenate([x.masks.get(n, np.zeros(len(x.rest))) for x in (a, b)]) for n in {**a.masks, **b.masks}}
    anchors = None if a.anchors is None or b.anchors is None else sparse.vstack([a.anchors, b.anchors], "csr")
    both = [np.concatenate([getattr(a, n), getattr(b, n)]) for n in ("rest", "dirs", "weights")]
    return Layer(a.name, *both, np.concatenate([a.faces, b.faces + len(a.rest)]), masks, anchors=anchors)


def carried(name: str, rest: np.ndarray, faces: np.ndarray, by: Layer, near: int = 6) -> Layer:
    """New geometry [P, 3] that moves as the nearest points of another layer do, blended over `near` of them."""
    distance, index = cKDTree(by.rest).query(rest, near)
    share = 1 / np.maximum(distance, 1e-3) ** 2
    share /= share.sum(1, keepdims=True)
    mix = sparse.csr_matrix((share.ravel(), index.ravel(), np.arange(0, share.size + 1, near)), (len(rest), len(by.rest)))
    dirs = (mix @ by.dirs.reshape(len(by.rest), -1)).reshape(len(rest), 3, -1)
    anchors = None if by.anchors is None else (mix @ by.anchors).tocsr()
    return Layer(name, rest, dirs, mix @ by.weights, faces, anchors=anchors)


def push_out(layer: Layer, distance: np.ndarray | float, smooth: int = 0) -> Layer:
    """Move every point along its normal by `distance` metres ([P] or one for all); `smooth` passes even out the result."""
    rest = layer.rest + layer.normals() * np.broadcast_to(np.asarray(distance, float), len(layer.rest))[:, None]
    return replace(layer, rest=smoothed(rest, layer.faces, smooth) if smooth else rest)


def smoothed(points: np.ndarray, faces: np.ndarray, passes: int, keep_borders: bool = True) -> np.ndarray:
    """Umbrella smoothing, alternately shrinking and growing (Taubin 1995); borders stay where they are."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_matrix((np.ones(len(both)), both.T), (len(points), len(points)))
    border = np.zeros(len(points), bool)
    border[border_edges(faces).ravel()] = keep_borders
    degree = np.maximum(np.asarray(graph.sum(1)), 1)
    out = points.copy()
    for step in range(2 * passes):
        moved = out + (0.5 if step % 2 == 0 else -0.53) * (graph @ out / degree - out)
        out = np.where(border[:, None], out, moved)
    return out


def _even_borders(points: np.ndarray, border: np.ndarray, passes: int) -> np.ndarray:
    """Points on open edges move towards the middle of their two neighbours along the edge."""
    out = points.copy()
    ends = np.unique(border)
    count = np.bincount(border.ravel(), minlength=len(points))[ends, None]
    for _ in range(passes):
        total = np.zeros_like(out)
        np.add.at(total, border[:, 0], out[border[:, 1]])
        np.add.at(total, border[:, 1], out[border[:, 0]])
        out[ends] = 0.5 * out[ends] + 0.5 * total[ends] / count
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
    anchors = None if layer.anchors is None else layer.anchors[index]
    return replace(layer, rest=layer.rest[index], dirs=layer.dirs[index], weights=layer.weights[index], masks=masks, anchors=anchors)


def _with_mixed(layer: Layer, a: np.ndarray, b: np.ndarray, share: np.ndarray) -> Layer:
    """Append the points (1 − share)·a + share·b."""

    def extend(x: np.ndarray) -> np.ndarray:
        s = share.reshape(-1, *[1] * (x.ndim - 1))
        return np.concatenate([x, x[a] * (1 - s) + x[b] * s])

    masks = {name: extend(mask) for name, mask in layer.masks.items()}
    anchors = layer.anchors
    if anchors is not None:
        new = sparse.diags(1 - share) @ anchors[a] + sparse.diags(share) @ anchors[b]
        anchors = sparse.vstack([anchors, new], "csr")
    parts = {n: extend(getattr(layer, n)) for n in ("rest", "dirs", "weights")}
    return replace(layer, masks=masks, anchors=anchors, **parts)
