"""Scans in THuman2.1's layout → multi-view pictures with exact cameras, alpha and the SMPL-X body in the same world.

Layout read: `<subject>/<subject>.obj`, or the only OBJ of the folder (+ .mtl and textures; also under `model/`), and
`smplx/<subject>/smplx_param.pkl`. THuman fits hold a `scale`: scan = scale · body + transl, so mesh and translation are
divided by it: a metric world, y up.
"""

from __future__ import annotations

import importlib.resources
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from configs.schema import EMBEDDED, Config, ScansConfig
from model.body import Body
from model.mesh_light import DAYLIGHT, Lights
from model.mesh_raster import make_texture, reaching_light, render_frames
from model.types import Camera, SmplxParams
from pipelines.body import body_file, body_hash, load_body
from pipelines.formats import load_pickle_arrays
from pipelines.scan_mesh import HEIGHTS, ScanMesh, load_mesh, metres_per_unit, surface_points
from pipelines.scan_views import look_at, make_views
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
from pipelines.view_sets import View, cameras_json, hands_mean_of, params_from_arrays, params_npz

__all__ = ["list_subjects", "load_mesh", "load_scan", "look_at", "make_views", "render_scan", "render_views", "scan_root"]

CODE_VERSION = "3"
SURFACE_POINTS = 8192  # for the chamfer loss
MAX_UNPACKED = 2 << 30  # bytes; a larger archive of people is refused
BESIDE = 0.15  # metres that the body's joints may lie outside the scan's box
LIGHTS: dict[str, Lights | None] = {
    "none": None,
    "daylight": DAYLIGHT,
    "overcast": replace(DAYLIGHT, ambient=0.72, sky=0.16, key_intensity=0.26, key_softness=0.8, fill_intensity=0.06),
    "studio": replace(DAYLIGHT, ambient=0.34, key=(-0.75, 0.55, 0.7), key_intensity=0.66, fill=(0.8, 0.2, 0.6), fill_intensity=0.30),
    "evening": replace(
        DAYLIGHT, ambient=0.42, key=(0.85, 0.35, 0.45), key_intensity=0.66, ambient_color=(0.90, 0.96, 1.10), key_color=(1.08, 0.96, 0.80)
    ),
}


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
    """OBJ files by subject."""
    found = {}
    for folder in (p for parent in (root, root / "model") if parent.is_dir() for p in sorted(parent.iterdir()) if p.is_dir()):
        objects = [p for p in (folder / f"{folder.name}.obj",) if p.is_file()] or sorted(folder.glob("*.obj"))
        if len(objects) == 1:
            found[safe_name(folder.name)] = objects[0]
    return found


def render_scan(config: Config, store: Store, subject: str) -> Record:
    """Write `scans/<subject>/` (a view set and `preview.png`) unless that was done; a scan of no use is recorded."""
    root, settings = scan_root(config, store), config.scans
    objects = _subject_folders(root)
    if subject not in objects:
        raise ValueError(f"scan {subject!r} not found under {root}; it has {sorted(objects)[:10]}")
    obj = objects[subject]
    fit = root / "smplx" / obj.parent.name / "smplx_param.pkl"
    files = [p for p in obj.parent.rglob("*") if p.is_file()] + ([fit] if fit.is_file() else [])
    lights = LIGHTS[_lighting(config)]
    options = settings.model_dump(exclude={"root"})
    inputs = hash_json([hash_files(files, root), options, body_hash(config), _lighting(config)])
    target = store.scan(subject)

    def work() -> dict[str, Any]:
        if settings.require_smplx and not fit.is_file():
            raise InputRejected(
                f"scan {subject}: expected SMPL-X parameters at {fit.relative_to(root)}, got none; "
                "scans.require_smplx: false draws it without a body"
            )
        body = load_body(config)
        mean = hands_mean_of(body_file(config))
        mesh, params = load_scan(obj, fit if fit.is_file() else None, mean, settings.unit, body)
        views = make_views(mesh.vertices, params, body, settings)
        with writing(target) as temporary:
            (temporary / "render").mkdir(parents=True)
            pictures = render_views(mesh, views, lights, settings)
            for view, picture in zip(views, pictures, strict=True):
                Image.fromarray(picture).save(temporary / "render" / view.file)
            write_json(temporary / "cameras.json", cameras_json(views))
            if params is not None:
                (temporary / "smplx.npz").write_bytes(params_npz(params))
            np.savez(temporary / "points.npz", points=surface_points(mesh.vertices, mesh.faces, SURFACE_POINTS))
            contact_sheet(pictures, background=settings.background or (1.0, 1.0, 1.0)).save(temporary / "preview.png")
        coverage = float(np.mean([p[..., 3].mean() / 255 for p in pictures]))
        counts = {"views": len(views), "vertices": len(mesh.vertices), "faces": len(mesh.faces), "dropped_faces": mesh.dropped}
        about = {"height_m": round(mesh.height, 4), "smplx": params is not None, "lights": _lighting(config)}
        return {**counts, **about, "coverage": coverage, "path": str(target), "preview": str(target / "preview.png")}

    return store.once("scan_renders", subject, CODE_VERSION, inputs, [target], work)


def _lighting(config: Config) -> str:
    """'auto': the embedded people's textures are bare colours; those of real scans hold the light they were taken in."""
    if config.scans.lights != "auto":
        return config.scans.lights
    return "daylight" if config.scans.root == EMBEDDED else "none"


def load_scan(
    obj: Path,
    fit: Path | None,  # none: no body
    hands_mean: np.ndarray | None = None,  # [90]
    unit: float | str = "auto",  # metres of one unit of the OBJ
    body: Body | None = None,  # to check that it lies in the scan
) -> tuple[ScanMesh, SmplxParams | None]:
    """Read mesh and body into one metric world. InputRejected says what is wrong."""
    mesh = load_mesh(obj)
    if fit is None:
        return mesh.scaled(metres_per_unit(mesh.height, str(obj)) if isinstance(unit, str) else unit), None
    arrays = load_pickle_arrays(fit)
    params = params_from_arrays(arrays, hands_mean, str(fit))
    scale = float(np.asarray(arrays.get("scale", 1.0)).reshape(-1)[0])
    if not (scale > 0 and math.isfinite(scale)):
        raise InputRejected(f"{fit}: expected a positive scale, got {scale}")
    fields = {n: getattr(params, n) for n in params.__dataclass_fields__}
    metric = SmplxParams(**{**fields, "transl": params.transl / scale})
    if isinstance(unit, str):
        # some fits were made in metres beside a scan in centimetres: what the scale leaves implausible, the height settles
        mesh = mesh.scaled(1 / scale)
        if not HEIGHTS[0] <= mesh.height <= HEIGHTS[1]:
            mesh = mesh.scaled(metres_per_unit(mesh.height, str(obj)))
    else:
        mesh = mesh.scaled(unit)
    if body is not None:
        joints = body.joints(metric[None])[0, :22].numpy()
        inside = ((joints > mesh.vertices.min(0) - BESIDE) & (joints < mesh.vertices.max(0) + BESIDE)).all(1).mean()
        if inside < 0.8:
            raise InputRejected(f"{fit}: expected a body that lies in its scan, got {inside:.0%} of its joints inside; see scans.unit")
    return mesh, metric


def render_views(mesh: ScanMesh, views: list[View], lights: Lights | None, scans: ScansConfig) -> list[np.ndarray]:
    """A picture [H, W, 4] uint8 a view, straight alpha; where nothing is seen it has the background's colour."""
    look: dict[str, Any] = {"lights": lights, "supersample": scans.supersample}
    if mesh.texture is not None:
        look |= {"texture": make_texture(mesh.texture), "uv": mesh.uv, "uv_faces": mesh.uv_faces}
    else:
        look["vertex_colors"] = mesh.colors
    if lights is not None:
        look["reaching"] = reaching_light(mesh.vertices, mesh.faces, lights)
    cameras = Camera.cat([view.camera[None] for view in views])
    under = np.zeros(3) if scans.background is None else np.array(scans.background)
    pictures = []
    for seen in render_frames([mesh.vertices] * len(views), mesh.faces, cameras, **look):
        rgb = np.where(seen.alpha[..., None] > 0, seen.rgb, under)
        pictures.append(np.round(np.concatenate([rgb, seen.alpha[..., None]], -1).clip(0, 1) * 255).astype(np.uint8))
    return pictures


def contact_sheet(
    pictures: list[np.ndarray], columns: int = 8, side: int = 128, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Image.Image:
    """Small pictures [H, W, 4] in rows on one colour."""
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (side * min(columns, len(pictures)), side * rows), tuple(round(255 * x) for x in background))
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture).resize((side, side))
        sheet.paste(image, (side * (i % columns), side * (i // columns)), image.getchannel("A"))
    return sheet
