"""Wavefront OBJ and MTL files as arrays: vertices are kept as the file has them, polygons become fans of triangles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.store import InputRejected


@dataclass(frozen=True)
class Obj:
    """What an OBJ file holds. V vertices, U texture coordinates, F triangles, M materials."""

    vertices: np.ndarray  # [V, 3] in the file's unit
    colors: np.ndarray | None  # [V, 3] uint8
    uv: np.ndarray | None  # [U, 2]
    faces: np.ndarray  # [F, 3]
    uv_faces: np.ndarray | None  # [F, 3]; none where a face has no texture coordinates
    material: np.ndarray  # [F] index into `materials`
    materials: tuple[str, ...]  # [M] names, '' before the first `usemtl`
    libraries: tuple[str, ...]  # names of the MTL files


@dataclass(frozen=True)
class Material:
    """The colour of a material: a picture, or one colour where it names none."""

    picture: str | None  # as the MTL file writes it
    color: tuple[float, float, float]


def read_obj(path: Path) -> Obj:
    """Read an OBJ file. InputRejected says what is wrong with it."""
    lines: dict[bytes, list[bytes]] = {b"v": [], b"vt": [], b"f": []}
    runs: list[tuple[int, str]] = []  # first face, material
    libraries: list[str] = []
    for line in path.read_bytes().splitlines():
        kind, _, rest = line.strip().partition(b" ")
        if kind in lines:
            lines[kind].append(rest)
        elif kind == b"usemtl":
            runs.append((len(lines[b"f"]), rest.strip().decode(errors="replace")))
        elif kind == b"mtllib":
            libraries.append(rest.strip().decode(errors="replace"))
    if not lines[b"v"] or not lines[b"f"]:
        raise InputRejected(f"{path}: expected a mesh, got {len(lines[b'v'])} vertices and {len(lines[b'f'])} faces")
    points = _table(lines[b"v"], (3, 4, 6, 7), path, "v")
    colors = points[:, -3:] if points.shape[1] >= 6 else None
    if colors is not None:
        colors = np.clip(colors * (255 if colors.max() <= 1 else 1) + 0.5, 0, 255).astype(np.uint8)
    uv = _table(lines[b"vt"], (2, 3), path, "vt")[:, :2] if lines[b"vt"] else None
    faces, uv_faces, of_line = _faces(lines[b"f"], len(points), 0 if uv is None else len(uv), path)
    if not runs or runs[0][0] > 0:
        runs.insert(0, (0, ""))
    names = list(dict.fromkeys(name for _, name in runs))
    starts, ids = np.array([start for start, _ in runs]), np.array([names.index(name) for _, name in runs])
    material = ids[np.searchsorted(starts, of_line, side="right") - 1]
    return Obj(points[:, :3], colors, uv, faces, uv_faces, material, tuple(names), tuple(libraries))


def read_mtl(path: Path) -> dict[str, Material]:
    """Materials by name; options of `map_Kd` are ignored."""
    out: dict[str, Material] = {}
    name = ""
    for line in path.read_text(errors="replace").splitlines():
        kind, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if kind == "newmtl":
            name = rest
            out[name] = Material(None, (1.0, 1.0, 1.0))
        elif name and kind.lower() == "map_kd" and rest:
            # an option is a word such as -bm and its numbers; what is left is the file's name, with its spaces
            words = rest.split()
            while words and (words[0].startswith("-") or _is_number(words[0])) and len(words) > 1:
                words.pop(0)
            out[name] = Material(" ".join(words), out[name].color)
        elif name and kind == "Kd":
            values = [float(x) for x in rest.split()[:3] if _is_number(x)]
            if len(values) == 3:
                out[name] = Material(out[name].picture, (values[0], values[1], values[2]))
    return out


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return word in ("on", "off")
    return True


def _table(rows: list[bytes], widths: tuple[int, ...], path: Path, kind: str) -> np.ndarray:
    """Rows of numbers [N, w]; every row as wide as the first."""
    try:
        width = len(rows[0].split())
        values = np.array(b" ".join(rows).split(), np.bytes_).astype(np.float64)
        if width in widths and len(values) == width * len(rows):
            return values.reshape(len(rows), width)
    except ValueError:
        pass
    raise InputRejected(f"{path}: expected each '{kind}' line to hold {' or '.join(map(str, widths))} numbers, as the first does")


def _faces(rows: list[bytes], vertices: int, coordinates: int, path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Triangles [F, 3], their texture coordinates or none, and the line [F] that each came from."""
    counts = np.array([len(row.split()) for row in rows])
    if counts.min() < 3:
        raise InputRejected(f"{path}: expected faces of 3 corners or more, got one of {counts.min()}")
    try:
        points, places = _corners(rows, counts)
    except ValueError as error:
        raise InputRejected(f"{path}: expected face corners such as 3, 3/4 or 3/4/5, got {error}") from error
    if coordinates == 0:
        places = None
    # an n-gon's corners a, b, c, d … make triangles (a, b, c), (a, c, d) …
    of_line = np.repeat(np.arange(len(rows)), counts - 2)
    first = np.repeat(np.cumsum(counts) - counts, counts - 2)
    step = np.arange(len(of_line)) - np.repeat(np.cumsum(counts - 2) - (counts - 2), counts - 2)
    fan = np.stack([first, first + step + 1, first + step + 2], -1)
    resolve = lambda x, count, what: _resolve(x, count, path, what)[fan]  # noqa: E731
    return resolve(points, vertices, "vertices"), None if places is None else resolve(places, coordinates, "texture coordinates"), of_line


def _corners(rows: list[bytes], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices of the vertices of all corners, and of their texture coordinates or none, as the file has them."""
    number = lambda words: np.array(words, np.bytes_).astype(np.int64)  # noqa: E731
    text = b" ".join(rows)
    slashes = np.array([row.count(b"/") for row in rows])
    parts = int(slashes[0] // counts[0]) + 1
    if parts <= 3 and (slashes == (parts - 1) * counts).all() and b"//" not in text:  # all corners alike, as a rule
        table = number(text.replace(b"/", b" ").split()).reshape(-1, parts)
        return table[:, 0], table[:, 1] if parts > 1 else None
    corners = [word.split(b"/") for word in text.split()]
    textured = all(len(c) > 1 and c[1] for c in corners)
    return number([c[0] for c in corners]), number([c[1] for c in corners]) if textured else None


def _resolve(index: np.ndarray, count: int, path: Path, what: str) -> np.ndarray:
    """OBJ's indices (from 1; negative ones from the end) → from 0."""
    out = np.where(index < 0, index + count, index - 1)
    if (index == 0).any() or (out < 0).any() or (out >= count).any():
        raise InputRejected(f"{path}: faces point outside its {count} {what}")
    return out
