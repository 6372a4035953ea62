"""Scans in THuman2.1's layout → multi-view pictures with exact cameras, alpha and the SMPL-X body in the same world.

Layout read: `<subject>/<subject>.obj` (+ .mtl and texture; also under `model/`) and `smplx/<subject>/smplx_param.pkl`.
THuman fits hold a `scale`: scan = scale · body + transl, so mesh and translation are divided by it: a metric world.
World: y up. Cameras stand on a ring round the person, the first in front of the face, then half-body ones in front.
"""

from __future__ import annotations

import importlib.resources
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import roma
import torch
import trimesh
from PIL import Image

from configs.schema import EMBEDDED, Config, ScansConfig
from model.body import Body
from model.mesh_raster import Lights, render_mesh
from model.types import Camera, SmplxParams
from pipelines.body import body_file, body_hash, load_body
from pipelines.formats import load_pickle_arrays
from pipelines.store import (
    InputRejected,
    Record,
    Store,
    hash_file,
    hash_files,
    hash_json,
    safe_name,
    write_json,
    writing,
)
from pipelines.view_sets import View, azimuth_of, cameras_json, hands_mean_of, params_from_arrays, params_npz

CODE_VERSION = "2"
HALF_BODY_FOCAL = 1.6  # fraction of the picture's side, as talks are filmed
HALF_BODY_SPREAD = 40.0  # degrees each side of the front
SURFACE_POINTS = 8192  # for the chamfer loss
MAX_UNPACKED = 2 << 30  # bytes; a larger archive of people is refused
PELVIS, HEAD = 0, 15


@dataclass(frozen=True)
class ScanMesh:
    """A textured (or coloured) scan in metres."""

    vertices: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3]
    uv: np.ndarray | None  # [U, 2]
    uv_faces: np.ndarray | None  # [F, 3]
    texture: np.ndarray | None  # [h, w, 3] uint8
    colors: np.ndarray | None  # [V, 3] uint8


def scan_root(config: Config, store: Store) -> Path:
    """The folder of scans; the embedded people are unpacked on first use. ValueError where it does not exist."""
    if config.scans.root != EMBEDDED:
        root = Path(config.scans.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"scans.root: expected a folder in THuman2.1's layout or '{EMBEDDED}', got {root}: no folder")
        return root
    archive = Path(str(importlib.resources.files("samples"))) / "people.zip"
    if not archive.is_file():
        raise ValueError("samples/people.zip is missing; rebuild it with `python -m samples.build_people`")

    def work() -> dict[str, Any]:
        return {"files": unpack(archive, store.scan_source)}

    store.once("scan_source", "embedded", CODE_VERSION, hash_file(archive), [store.scan_source], work)
    return store.scan_source


def unpack(archive: Path, target: Path) -> int:
    """Unpack a zip into `target`, return the count of files; ValueError where an entry leads out of it."""
    with zipfile.ZipFile(archive) as source, writing(target) as folder:
        folder.mkdir()
        entries = [e for e in source.infolist() if not e.is_dir()]
        if sum(e.file_size for e in entries) > MAX_UNPACKED:
            raise ValueError(f"{archive}: expected at most {MAX_UNPACKED >> 20} MB of people, got more")
        for entry in entries:
            path = (folder / entry.filename).resolve()
            link = (entry.external_attr >> 16) & 0o170000 == 0o120000
            if link or "\\" in entry.filename or not path.is_relative_to(folder.resolve()):
                raise ValueError(f"{archive}: entry {entry.filename!r} leads out of the folder; the archive is refused")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(entry))
    return len(entries)


def list_subjects(config: Config, store: Store) -> list[str]:
    """Ids of the scans found, in order."""
    return sorted(_subject_folders(scan_root(config, store)))


def _subject_folders(root: Path) -> dict[str, Path]:
    folders = [p for parent in (root, root / "model") if parent.is_dir() for p in parent.iterdir() if p.is_dir()]
    return {safe_name(p.name): p for p in folders if (p / f"{p.name}.obj").is_file()}


def render_scan(config: Config, store: Store, subject: str) -> Record:
    """Write `scans/<subject>/` (a view set and `preview.png`) unless that was done; a scan of no use is recorded."""
    root = scan_root(config, store)
    folders = _subject_folders(root)
    if subject not in folders:
        raise ValueError(f"scan {subject!r} not found under {root}; it has {sorted(folders)[:10]}")
    folder = folders[subject]
    fit = root / "smplx" / folder.name / "smplx_param.pkl"
    files = [p for p in folder.rglob("*") if p.is_file()] + ([fit] if fit.is_file() else [])
    settings = config.scans.model_dump(exclude={"root"})
    inputs = hash_json([hash_files(files, root), settings, body_hash(config), _lit(config)])
    target = store.scan(subject)

    def work() -> dict[str, Any]:
        if not fit.is_file():
            raise InputRejected(f"scan {subject}: expected SMPL-X parameters at {fit.relative_to(root)}, got none")
        mesh, params = load_scan(folder / f"{folder.name}.obj", fit, hands_mean_of(body_file(config)))
        views = make_views(mesh.vertices, params, load_body(config), config.scans)
        with writing(target) as temporary:
            (temporary / "render").mkdir(parents=True)
            pictures = [_render(mesh, view.camera, Lights() if _lit(config) else None) for view in views]
            for view, picture in zip(views, pictures, strict=True):
                Image.fromarray(picture).save(temporary / "render" / view.file)
            write_json(temporary / "cameras.json", cameras_json(views))
            (temporary / "smplx.npz").write_bytes(params_npz(params))
            np.savez(temporary / "points.npz", points=surface_points(mesh.vertices, mesh.faces, SURFACE_POINTS))
            contact_sheet(pictures).save(temporary / "preview.png")
        coverage = float(np.mean([p[..., 3].mean() / 255 for p in pictures]))
        counts = {"views": len(views), "vertices": len(mesh.vertices), "faces": len(mesh.faces)}
        return {**counts, "coverage": coverage, "path": str(target), "preview": str(target / "preview.png")}

    return store.once("scan_renders", subject, CODE_VERSION, inputs, [target], work)


def _lit(config: Config) -> bool:
    """The embedded people's textures are bare colours; those of real scans hold the light they were taken in."""
    return config.scans.root == EMBEDDED


def load_scan(obj: Path, fit: Path, hands_mean: np.ndarray | None) -> tuple[ScanMesh, SmplxParams]:
    """Read mesh and body into one metric world. InputRejected says what is wrong."""
    arrays = load_pickle_arrays(fit)
    params = params_from_arrays(arrays, hands_mean, str(fit))
    scale = float(np.asarray(arrays.get("scale", 1.0)).reshape(-1)[0])
    if not scale > 0:
        raise InputRejected(f"{fit}: expected a positive scale, got {scale}")
    mesh = load_mesh(obj)
    fields = {n: getattr(params, n) for n in params.__dataclass_fields__}
    metric = SmplxParams(**{**fields, "transl": params.transl / scale})
    return ScanMesh(mesh.vertices / scale, mesh.faces, mesh.uv, mesh.uv_faces, mesh.texture, mesh.colors), metric


def load_mesh(obj: Path) -> ScanMesh:
    """Read an OBJ with its texture; vertices that the file splits at texture seams are joined again."""
    try:
        mesh = trimesh.load(obj, force="mesh", process=False)
    except Exception as error:  # trimesh raises whatever its parser met
        raise InputRejected(f"{obj}: not a readable OBJ ({error})") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise InputRejected(f"{obj}: expected a triangle mesh with finite vertices, got none")
    corners, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    vertices, joined = np.unique(corners, axis=0, return_inverse=True)
    joined = joined.reshape(-1)  # numpy 2.0 gives it a second axis
    visual: Any = mesh.visual
    uv, image = getattr(visual, "uv", None), _texture(visual)
    if uv is not None and image is not None:
        return ScanMesh(vertices, joined[faces], np.asarray(uv, np.float32), faces, image, None)
    if visual is not None and visual.kind == "vertex":
        colors = np.zeros((len(vertices), 3), np.uint8)
        colors[joined] = np.asarray(visual.vertex_colors)[:, :3]
        return ScanMesh(vertices, joined[faces], None, None, None, colors)
    raise InputRejected(f"{obj}: expected a texture image with UV coordinates or vertex colours, got neither")


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


def _texture(visual: Any) -> np.ndarray | None:
    material = getattr(visual, "material", None)
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    # where the file of a texture is missing, trimesh puts 2 × 2 grey pixels in its place
    return None if image is None or max(image.size) <= 2 else np.asarray(image.convert("RGB"))


def make_views(vertices: np.ndarray, params: SmplxParams, body: Body, scans: ScansConfig) -> list[View]:
    """Cameras round a person: `views` of the whole body, then `half_body_views` from the hips up in front."""
    joints = body.joints(params[None])[0].double()
    facing = roma.rotvec_to_rotmat(params.global_orient)[:, 2].double()
    front = math.atan2(facing[0], facing[2])
    low, high = torch.from_numpy(vertices.min(0)), torch.from_numpy(vertices.max(0))
    size = scans.size
    views: list[tuple[Literal["full", "half"], Camera]] = []
    for i in range(scans.views):
        turn = math.radians(360 * i / scans.views)
        # the golden ratio spreads elevations evenly whatever their count
        lift = math.radians(scans.elevation * (2 * ((i * 0.618034) % 1) - 1))
        distance = scans.focal * float(high[1] - low[1]) / (scans.height_fill * size)
        views.append(("full", look_at((low + high) / 2, front + turn, lift, distance, scans.focal, size)))
    for i in range(scans.half_body_views):
        turn = math.radians(HALF_BODY_SPREAD * (2 * (i + 0.5) / scans.half_body_views - 1))
        hips, top = float(joints[PELVIS, 1]) - 0.05, float(high[1])
        focal = HALF_BODY_FOCAL * size
        centre = torch.stack([joints[HEAD, 0], joints.new_tensor((hips + top) / 2), joints[HEAD, 2]])
        distance = focal * (top - hips) / (scans.height_fill * size)
        views.append(("half", look_at(centre, front + turn, 0.0, distance, focal, size)))
    pelvis = joints[PELVIS].float()
    azimuth = lambda camera: float(azimuth_of(camera.w2c, params.global_orient, pelvis))  # noqa: E731
    return [View(f"{i:03d}.png", kind, azimuth(camera), camera) for i, (kind, camera) in enumerate(views)]


def look_at(centre: torch.Tensor, azimuth: float, elevation: float, distance: float, focal: float, size: int) -> Camera:
    """An upright camera `distance` metres from `centre` [3], looking at it; azimuth 0 is +z, π/2 is +x (radians)."""
    level = math.cos(elevation)
    towards = [math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level]
    back = torch.tensor(towards, dtype=torch.float64)
    right = torch.tensor([math.cos(azimuth), 0.0, -math.sin(azimuth)], dtype=torch.float64)
    down = -torch.linalg.cross(back, right)
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3, :3] = torch.stack([right, down, -back])
    w2c[:3, 3] = -w2c[:3, :3] @ (centre.double() + distance * back)
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(w2c.float(), intrinsics.float(), torch.tensor([size, size]))


def _render(mesh: ScanMesh, camera: Camera, lights: Lights | None) -> np.ndarray:
    """RGBA [H, W, 4] uint8, straight alpha."""
    colour: dict[str, Any] = {
        "texture": mesh.texture,
        "uv": mesh.uv,
        "uv_faces": mesh.uv_faces,
        "vertex_colors": mesh.colors,
    }
    out = render_mesh(mesh.vertices, mesh.faces, camera, lights=lights, **colour)
    return np.round(np.concatenate([out.rgb, out.alpha[..., None]], -1).clip(0, 1) * 255).astype(np.uint8)


def contact_sheet(pictures: list[np.ndarray], columns: int = 8, side: int = 128) -> Image.Image:
    """Small pictures [H, W, 4] in rows on white."""
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (side * min(columns, len(pictures)), side * rows), "white")
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture).resize((side, side))
        sheet.paste(image, (side * (i % columns), side * (i // columns)), image.getchannel("A"))
    return sheet
