"""LHM motion: one JSON a frame, the camera at the origin; a folder of them, a zip of it, or a talk in the reference's layout.

`smplx_params/%05d.json` with `betas root_pose body_pose jaw_pose leye_pose reye_pose lhand_pose rhand_pose trans focal
princpt img_size_wh pad_ratio expr`. Fingers relative to the flat hand. The reference talk layout keeps the same files
beside `imgs_png/%05d.png`, `samurai_seg/%05d.png` (mask) and one sound file. Neither holds a rate.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.types import Camera
from pipelines.formats_hands import Context, hands_for_writing
from pipelines.formats_take import Take, default_camera, dropped_coefficients, make_camera, moved, resampled
from pipelines.store import InputRejected, writing

RATE = Fraction(30)
TALK_RATE = Fraction(24)  # of the reference's own configuration
SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg")
ROTATIONS = ("root_pose", "body_pose", "jaw_pose", "leye_pose", "reye_pose")
HANDS = ("lhand_pose", "rhand_pose")


def read(path: Path, context: Context) -> Take:
    """Motion in the world of the context's camera (default: y up); betas of frame 0 are used, as LHM does."""
    seen, given = read_seen(path, context), context.given_camera
    assert seen.camera is not None
    world = moved(seen, torch.linalg.inv(given.w2c.double()), context.body)
    return world.replace(camera=Camera(given.w2c, seen.camera.intrinsics, seen.camera.size))


def read_seen(path: Path, context: Context) -> Take:
    """The same in the frame of its own camera, whose w2c is the identity."""
    frames = list(_frames(path))
    if not frames:
        raise InputRejected(f"{path}: expected LHM motion as smplx_params/*.json, found none")
    names, rows = zip(*frames, strict=True)

    def column(key: str, width: int | None, default: int | None = None) -> Tensor:
        values = []
        for name, row in zip(names, rows, strict=True):
            value = np.asarray(row.get(key, [] if default is None else [0.0] * default), np.float64).reshape(-1)
            if len(value) == 0 or (width is not None and len(value) != width):
                raise InputRejected(f"{path}: {name}: {key}: expected {width or 'some'} numbers, got {len(value) or 'none'}")
            values.append(value)
        if len({len(v) for v in values}) > 1:
            raise InputRejected(f"{path}: {key}: expected as many numbers in every frame, got {sorted({len(v) for v in values})}")
        return torch.from_numpy(np.stack(values))

    rotations = [column(k, 63 if k == "body_pose" else 3) for k in ROTATIONS]
    hands = [column(k, None) for k in HANDS]
    fingers = hands if hands[0].shape[1] == 45 else [context.hands.fingers(torch.stack(hands, 1)).flatten(1)]
    pose = torch.cat([*rotations, *fingers], 1)
    if pose.shape[1] != 165:
        raise InputRejected(f"{path}: expected 45 numbers a hand or principal components, got {[h.shape[1] for h in hands]}")
    if any(float(r.get("pad_ratio", 0) or 0) != 0 for r in rows):
        raise InputRejected(f"{path}: pad_ratio: expected 0 (pictures that are not padded), got {rows[0]['pad_ratio']}")
    fps = context.rate or (TALK_RATE if is_talk(path) else RATE)
    expression = column("expr", None, 10)
    camera = _camera(rows[0], context.given_camera, str(path))
    audio = sound_of(path) if is_talk(path) else None
    return Take(pose.reshape(-1, 55, 3), column("trans", 3), expression, column("betas", None)[0], fps, camera, audio=audio)


def write(path: Path, take: Take, context: Context) -> list[str]:
    """A folder of JSON files (with a `.zip` name: a zip of `smplx_params/`); returns what they cannot hold."""
    said, frames = _written(take, context)
    if path.suffix == ".zip":
        with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, frame in enumerate(frames):
                archive.writestr(f"smplx_params/{i:05d}.json", json.dumps(frame))
    else:
        with writing(path) as temporary:
            _write_folder(temporary, frames)
    return said


def write_talk(path: Path, take: Take, context: Context) -> list[str]:
    """A talk in the reference's layout, with the pictures, masks and sound that lie beside the motion."""
    said, frames = _written(take, context)
    with writing(path) as folder:
        _write_folder(folder / "smplx_params", frames)
        if take.audio is not None:
            shutil.copyfile(take.audio, folder / f"{path.name}{take.audio.suffix}")
        if take.video is not None and (context.rate or take.fps) != take.fps:
            said.append("pictures and masks: at another rate than the motion is resampled to, so none are written")
        elif take.video is not None:
            _write_pictures(folder, take, len(frames))
    absent = {"sound": take.audio, "pictures (imgs_png)": take.video, "masks (samurai_seg)": take.masks}
    return said + [f"{what}: none beside the motion, so none is written" for what, source in absent.items() if source is None]


def is_talk(path: Path) -> bool:
    return path.is_dir() and ((path / "imgs_png").is_dir() or ((path / "smplx_params").is_dir() and sound_of(path) is not None))


def is_lhm(path: Path) -> bool:
    """A folder or a zip with JSON files that have LHM's keys."""
    return next((("root_pose" in row) for _, row in _frames(path)), False)


def sound_of(folder: Path) -> Path | None:
    """The one sound file of a talk's folder."""
    return next((p for p in sorted(folder.iterdir()) if p.suffix.lower() in SOUNDS), None)


def _written(take: Take, context: Context) -> tuple[list[str], list[dict[str, Any]]]:
    rate = context.rate or take.fps
    said = ["rate: the files hold none" + (f"; {take.fps} frames/s resampled to {rate}" if take.fps != rate else f" ({rate} frames/s)")]
    said += ["confidence"] * (take.confidence is not None)
    camera = context.camera or take.camera or default_camera()
    said += [] if context.camera or take.camera else ["camera: none was given, the reference's default is written"]
    said.append("world: LHM has the camera at the origin, where it stands in the world is not kept (give --w2c to read it back)")
    said += dropped_coefficients(take, 10, None)
    seen = moved(resampled(take, rate), camera.w2c, context.body)
    left, right = hands_for_writing(seen.pose, context, said)
    k = camera.intrinsics
    shared = {
        "betas": [*seen.betas[:10].tolist(), *[0.0] * (10 - len(seen.betas))], "focal": [k[0, 0].item(), k[1, 1].item()],
        "princpt": [k[0, 2].item(), k[1, 2].item()], "img_size_wh": camera.size.tolist(), "pad_ratio": 0.0,
    }  # fmt: skip
    rows = []
    for i in range(seen.frames):
        pose = {"root_pose": seen.pose[i, 0], "body_pose": seen.pose[i, 1:22], "jaw_pose": seen.pose[i, 22]}
        pose |= {"leye_pose": seen.pose[i, 23], "reye_pose": seen.pose[i, 24], "trans": seen.transl[i], "expr": seen.expression[i]}
        wide = context.hands_pca is None
        pose |= {key: h[i].reshape(15, 3) if wide else h[i] for key, h in (("lhand_pose", left), ("rhand_pose", right))}
        rows.append({key: value.tolist() for key, value in pose.items()} | shared)
    return said, rows


def _write_folder(folder: Path, frames: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        (folder / f"{i:05d}.json").write_text(json.dumps(frame))


def _write_pictures(folder: Path, take: Take, count: int) -> None:
    from PIL import Image

    from pipelines.clips import read_masks
    from pipelines.media import frames

    assert take.video is not None
    for name in ("imgs_png", *(["samurai_seg"] if take.masks else [])):
        (folder / name).mkdir()
    for i, picture in enumerate(frames(take.video)):
        if i < count:
            Image.fromarray(picture).save(folder / "imgs_png" / f"{i:05d}.png")
    if take.masks:
        for i, mask in enumerate(read_masks(take.masks)[:count]):
            Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255).save(folder / "samurai_seg" / f"{i:05d}.png")


def _frames(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and content of every frame in order."""
    if path.is_dir():
        folder = path / "smplx_params" if (path / "smplx_params").is_dir() else path
        texts: Iterator[tuple[str, bytes]] = ((f.name, f.read_bytes()) for f in sorted(folder.glob("*.json")))
    else:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".json") and not Path(n).name.startswith("."))
            texts = iter([(n, archive.read(n)) for n in names])
    for name, text in texts:
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputRejected(f"{path}: {name}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputRejected(f"{path}: {name}: expected an object with root_pose and so on, got {type(row).__name__}")
        yield name, row


def _camera(row: dict[str, Any], given: Camera, source: str) -> Camera:
    if any(k not in row for k in ("focal", "princpt", "img_size_wh")):
        return given.at_origin()
    focal, principal, size = (torch.tensor(row[k], dtype=torch.float32).reshape(-1) for k in ("focal", "princpt", "img_size_wh"))
    if len(focal) != 2 or len(principal) != 2 or len(size) != 2:
        raise InputRejected(f"{source}: expected two numbers each in focal, princpt and img_size_wh")
    return make_camera(torch.eye(4), focal, principal, size.long())
