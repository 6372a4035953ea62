"""Measure whether what clothes cover comes outside them when a person moves.

S inner vertices, K candidate triangles of the garment each, T poses; metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from model.body import JOINT_NAMES
from model.types import SmplxParams
from samples.builders.people import PARTS, Person

OUTER = ("top", "over", "lower", "feet")
NEAR = 0.035  # a garment further off than this covers nothing
TOLERANCE = 0.001
CANDIDATES = 24


@dataclass(frozen=True)
class Covered:
    """Inner vertices that lie under a garment in the T-pose, and the garment triangles round each."""

    vertex: np.ndarray  # [S]
    triangles: np.ndarray  # [S, K] rows of the person's faces


def poke_through(person: Person, params: SmplxParams, inner: tuple[str, ...] = ("skin",), outer: tuple[str, ...] = OUTER) -> np.ndarray:
    """Share [T] of the covered vertices (those that are drawn at all) that come more than 1 mm outside the garment."""
    found = covered(person, inner, outer)
    if not len(found.vertex):
        return np.zeros(len(params.transl))
    posed = person.vertices(params)
    return np.array([(outside(v, person.faces, found) > TOLERANCE).mean() for v in posed])


def covered(person: Person, inner: tuple[str, ...] = ("skin",), outer: tuple[str, ...] = OUTER) -> Covered:
    rest = person.vertices(person.posing())[0].astype(np.float64)
    is_in = lambda names: np.isin(person.part_ids, [PARTS.index(n) for n in names])  # noqa: E731
    vertex, cloth = np.unique(person.faces[is_in(inner)]), np.flatnonzero(is_in(outer))
    if not len(cloth) or not len(vertex):
        return Covered(np.zeros(0, int), np.zeros((0, CANDIDATES), int))
    away, near = cKDTree(rest[person.faces[cloth]].mean(1)).query(rest[vertex], min(CANDIDATES, len(cloth)))
    vertex, triangles = vertex[away[:, 0] < 2 * NEAR], cloth[near[away[:, 0] < 2 * NEAR]]
    signed, distance, edge = _nearest(rest, person.faces, vertex, triangles)
    chosen = (signed < -1e-4) & (distance < NEAR) & ~edge
    return Covered(vertex[chosen], triangles[chosen])


def outside(vertices: np.ndarray, faces: np.ndarray, found: Covered) -> np.ndarray:
    """Metres outside the garment [S], negative inside, in one pose [P, 3]."""
    signed, _, edge = _nearest(vertices.astype(np.float64), faces, found.vertex, found.triangles)
    return np.where(edge, -1.0, signed)


def talk_poses(person: Person) -> tuple[list[str], SmplxParams]:
    """The far ends of what speakers do: names and parameters [T]."""
    poses: dict[str, dict[str, tuple[float, float, float]]] = {
        "rest": {},
        "arms_down": {"shoulder": (0, 0, -1.25), "elbow": (0, -0.2, 0)},
        "arms_forward": {"shoulder": (0, -1.2, -0.5), "elbow": (0, -0.5, 0)},
        "arms_up": {"collar": (0, 0, 0.25), "shoulder": (0, -0.2, 0.9), "elbow": (0, -0.4, 0)},
        "elbows_120": {"shoulder": (0, -0.3, -1.1), "elbow": (0, -2.1, 0)},
        "crossed": {"shoulder": (0.3, -0.9, -0.95), "elbow": (0, -1.75, 0)},
        "hands_together": {"shoulder": (0.2, -0.35, -1.1), "elbow": (0, -1.5, 0), "wrist": (0.4, 0.3, 0)},
        "wrists_bent": {"shoulder": (0, -0.3, -1.0), "elbow": (0, -1.2, 0), "wrist": (0.5, 0.0, 0.9)},
    }
    trunk: dict[str, dict[str, tuple[float, float, float]]] = {
        "lean": {"spine1": (0.20, 0, 0.10), "spine2": (0.15, 0, 0.08), "spine3": (0.15, 0, 0.08), "left_shoulder": (0, 0, -1.1)},
        "twist": {"spine1": (0, 0.2, 0), "spine2": (0, 0.2, 0), "spine3": (0, 0.2, 0), "head": (0, 0.5, 0), "left_shoulder": (0, 0, -1.1)},
        "head_turned": {"neck": (0, 0.5, 0), "head": (0.1, 0.5, 0), "left_shoulder": (0, 0, -1.1)},
        "head_down": {"neck": (0.35, 0, 0), "head": (0.35, 0, 0.1)},
        "weight_shift": {"left_hip": (-0.25, 0, 0.1), "left_knee": (0.45, 0, 0), "right_hip": (0.05, 0, 0.1), "spine1": (0, 0, -0.1)},
    }
    for name, turns in poses.items():
        trunk[name] = {f"left_{j}": r for j, r in turns.items()} | {f"right_{j}": (r[0], -r[1], -r[2]) for j, r in turns.items()}
    pose = torch.zeros(len(trunk), 21, 3)
    for k, turns in enumerate(trunk.values()):
        for joint, rotation in turns.items():
            pose[k, JOINT_NAMES.index(joint) - 1] = torch.tensor(rotation)
    return list(trunk), person.posing(body_pose=pose)


def _nearest(v: np.ndarray, faces: np.ndarray, vertex: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the candidates' closest points: signed distance along the normal, distance, and whether it is on the cloth's open edge."""
    a, b, c = (v[faces[triangles, k]] for k in range(3))  # [S, K, 3]
    p = v[vertex][:, None]
    u, w = b - a, c - a
    normal = np.cross(u, w)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-15)
    best = np.full(triangles.shape, np.inf)
    where = np.zeros((*triangles.shape, 3))
    d = p - a
    uu, uw, ww, du, dw = ((x * y).sum(-1) for x, y in ((u, u), (u, w), (w, w), (d, u), (d, w)))
    det = np.maximum(uu * ww - uw * uw, 1e-18)
    s, t = (ww * du - uw * dw) / det, (uu * dw - uw * du) / det
    within = (s >= 0) & (t >= 0) & (s + t <= 1)
    where[within] = (a + s[..., None] * u + t[..., None] * w)[within]
    best[within] = np.linalg.norm(p - where, axis=-1)[within]
    for start, end in ((a, b), (b, c), (c, a)):
        along = end - start
        k = np.clip(((p - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-18), 0, 1)
        point = start + k[..., None] * along
        distance = np.linalg.norm(p - point, axis=-1)
        closer = distance < best - 1e-12
        best, where = np.where(closer, distance, best), np.where(closer[..., None], point, where)
    nearest = best.argmin(1)
    row = np.arange(len(vertex))
    offset = v[vertex] - where[row, nearest]
    signed = (offset * normal[row, nearest]).sum(-1)
    # far round an edge the offset is not along the normal: there the vertex is beside the cloth, not through it
    beside = np.abs(signed) < 0.7 * best[row, nearest]
    return signed, best[row, nearest], beside
