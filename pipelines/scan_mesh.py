"""A scan's surface: an OBJ with one texture, several, or vertex colours, checked and ready to be drawn.

V vertices, F faces, U texture coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from pipelines.obj import Material, Obj, read_mtl, read_obj
from pipelines.store import InputRejected

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
BORDER = 16  # texels round each picture of an atlas, so that its halvings do not run into the next
PATCH = 16  # texels, side of a material without a picture
HEIGHTS = (0.5, 2.6)  # metres; a standing or sitting person, children too
UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}


@dataclass(frozen=True)
class ScanMesh:
    """A textured (or coloured) scan."""

    vertices: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3]
    uv: np.ndarray | None  # [U, 2]
    uv_faces: np.ndarray | None  # [F, 3]
    texture: np.ndarray | None  # [h, w, 3] uint8
    colors: np.ndarray | None  # [V, 3] uint8
    dropped: int = 0  # degenerate faces that the file held and this does not

    @property
    def height(self) -> float:
        return float(np.ptp(self.vertices[:, 1]))

    def scaled(self, factor: float) -> ScanMesh:
        return replace(self, vertices=self.vertices * factor)


def load_mesh(obj: Path) -> ScanMesh:
    """Read an OBJ with its textures, in the file's unit.

    Vertices that the file splits at texture seams are joined again, faces without area are dropped and counted.
    Several textures become one. Without an MTL file, the one picture beside the OBJ is its texture. InputRejected says
    what is wrong.
    """
    source = read_obj(obj)
    bad = int((~np.isfinite(source.vertices)).any(1).sum())
    if bad:
        raise InputRejected(f"{obj}: expected finite vertices, got {bad} of {len(source.vertices)} that hold NaN or infinity")
    vertices, joined = np.unique(source.vertices, axis=0, return_inverse=True)
    joined = joined.reshape(-1)  # numpy 2.0 gives it a second axis
    faces = joined[source.faces]
    kept = _has_area(vertices, faces)
    if not kept.any():
        raise InputRejected(f"{obj}: expected a surface, got {len(faces)} faces that all have no area")
    mesh = ScanMesh(vertices, faces[kept], None, None, None, None, int((~kept).sum()))
    if source.uv is not None and source.uv_faces is not None:
        pictures = _pictures(obj, source)
        if pictures is not None:
            texture, uv, uv_faces = _one_texture(pictures, source.uv, source.uv_faces[kept], source.material[kept])
            return replace(mesh, texture=texture, uv=uv.astype(np.float32), uv_faces=uv_faces)
    if source.colors is not None:
        colors = np.zeros((len(vertices), 3), np.uint8)
        colors[joined] = source.colors
        return replace(mesh, colors=colors)
    raise InputRejected(f"{obj}: expected a texture image with UV coordinates or vertex colours, got neither")


def metres_per_unit(height: float, source: str) -> float:
    """Which unit makes a person of a height plausible: 1 (metres), 0.01 or 0.001. InputRejected where none does."""
    for factor in UNITS.values():
        if HEIGHTS[0] <= height * factor <= HEIGHTS[1]:
            return factor
    raise InputRejected(
        f"{source}: expected a person {HEIGHTS[0]} to {HEIGHTS[1]} m tall in {', '.join(UNITS)}, got a height of {height:.4g}; "
        "set scans.unit to the metres of one unit"
    )


def surface_points(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Points [count, 3] float32 spread evenly by area over the surface; no chance in it."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    places = (np.arange(count) + 0.5) / count * area.sum()
    picked = np.minimum(np.searchsorted(np.cumsum(area), places), len(faces) - 1)
    u, v = (np.arange(count)[:, None] * np.array([0.7548777, 0.5698403]) % 1).T  # the plastic number's even sequence
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    bary = np.stack([1 - u - v, u, v], -1)
    return (corners[picked] * bary[..., None]).sum(1).astype(np.float32)


def _has_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    twice = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    size = max(float(np.ptp(vertices, axis=0).max()), 1e-30)
    return twice > 1e-14 * size**2


def _pictures(obj: Path, source: Obj) -> list[np.ndarray] | None:
    """The picture of each material [h, w, 3] uint8; none where there is no MTL file and no picture beside the OBJ."""
    libraries = [p for p in (_beside(obj, name) for name in source.libraries) if p is not None]
    materials: dict[str, Material] = {}
    for library in libraries:
        materials |= read_mtl(library)
    used = [source.materials[i] for i in np.unique(source.material)]
    if not any(m.picture for n, m in materials.items() if n in used):
        alone = _lone_picture(obj)
        if alone is not None:
            return [_open(alone)] * len(source.materials)
        if not any(n in materials for n in used):
            return None
    out = []
    for name in source.materials:
        material = materials.get(name)
        if material is None and name in used:
            raise InputRejected(f"{obj}: faces use material {name!r}, which {', '.join(source.libraries)} does not define")
        if material is None or material.picture is None:
            color = np.array(material.color if material else (1.0, 1.0, 1.0))
            out.append(np.tile((np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8), (PATCH, PATCH, 1)))
            continue
        picture = _beside(obj, material.picture)
        if picture is None:
            raise InputRejected(f"{obj}: texture {material.picture!r} of material {name!r} is missing; put it beside the OBJ")
        out.append(_open(picture))
    return out


def _beside(obj: Path, name: str) -> Path | None:
    """A file that an OBJ or MTL names, in the OBJ's folder; names that lead elsewhere are looked for by their last part."""
    for candidate in (obj.parent / name, obj.parent / PureWindowsPath(name).name):
        if candidate.is_file() and candidate.resolve().is_relative_to(obj.parent.resolve()):
            return candidate
    return None


def _lone_picture(obj: Path) -> Path | None:
    """The picture beside an OBJ that names none: one with the OBJ's name, or the only one."""
    found = sorted(p for p in obj.parent.iterdir() if p.suffix.lower() in PICTURES)
    named = [p for p in found if p.stem == obj.stem]
    if len(named or found) > 1:
        raise InputRejected(f"{obj}: no MTL file says which of {', '.join(p.name for p in found)} is its texture")
    return next(iter(named or found), None)


def _open(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise InputRejected(f"{path}: not a readable picture ({error})") from error
    return np.repeat(np.repeat(picture, 2, 0), 2, 1) if min(picture.shape[:2]) < 2 else picture


def _one_texture(
    pictures: list[np.ndarray], uv: np.ndarray, uv_faces: np.ndarray, material: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture for all materials, with the coordinates moved to it; coordinates that repeat a picture are wrapped."""
    used = np.unique(material)
    if len(used) == 1 and uv.min() >= 0 and uv.max() <= 1:
        return pictures[used[0]], uv, uv_faces
    corners = uv[uv_faces]  # [F, 3, 2]
    corners = np.clip(corners - np.floor(corners.min(1, keepdims=True) + 1e-6), 0, 1)
    width = max(pictures[i].shape[1] for i in used) + 2 * BORDER
    height = sum(pictures[i].shape[0] + 2 * BORDER for i in used)
    texture, top = np.zeros((height, width, 3), np.uint8), 0
    for i in used:
        rows, columns = pictures[i].shape[:2]
        padded = np.pad(pictures[i], ((BORDER, BORDER), (BORDER, width - columns - BORDER), (0, 0)), mode="edge")
        texture[top : top + rows + 2 * BORDER] = padded
        mine = material == i
        corners[mine, :, 0] = (BORDER + corners[mine, :, 0] * columns) / width
        corners[mine, :, 1] = 1 - (top + BORDER + (1 - corners[mine, :, 1]) * rows) / height
        top += rows + 2 * BORDER
    return texture, corners.reshape(-1, 2), np.arange(corners.shape[0] * 3).reshape(-1, 3)
