"""Clips → SMPL-X parameters and camera of every frame: landmarks, the fit, its confidence and a preview.

Writes beside the clip `landmarks.npz`, `fit.npz` (keys in `pipelines.formats`) and `fit_preview.png`. World axes are
the body's: y up, camera at the origin, `w2c = diag(1, -1, -1, 1)`; focal length in pixels of the clip.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from configs.schema import Config
from model.body import Body
from model.fit_layout import BODY_PART, FACE_PART, HAND_COUNT, HANDS_PART, UPPER_LIMBS, Layout, Observations, lifted, make_layout, observe
from model.fit_lift import Lift
from model.fit_offsets import calibrated_offsets
from model.fit_shape import shape_prior
from model.fit_windows import fit_long
from model.fitting import FitOptions, FitResult
from model.types import Camera, SmplxParams
from pipelines import body as body_files
from pipelines import landmarks as detector
from pipelines import media
from pipelines.formats import make_camera, save_fit
from pipelines.landmarks import Landmarks
from pipelines.mesh_preview import shaded_mesh
from pipelines.progress import progress
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, writing

STAGE, LANDMARK_STAGE = "clip_fits", "landmarks"
CODE_VERSION = "5"
LANDMARK_VERSION = "2"
LEAST_FOUND = 0.5  # share of a clip's frames in which a body must be found
RESIDUAL_SCALE = 0.06  # metres; a frame whose landmarks are off by this much has half the confidence
_HANDS = HANDS_PART.start, HANDS_PART.start + HAND_COUNT, HANDS_PART.stop
PARTS = {  # landmarks, and how far off they have half the confidence, metres
    "left_hand": (slice(*_HANDS[:2]), 0.02), "right_hand": (slice(*_HANDS[1:]), 0.02), "face": (FACE_PART, 0.01),
}  # fmt: skip
PREVIEW_FRAMES, PREVIEW_SIZE = 6, 320
LIFT = Path(str(resources.files("samples"))) / "body" / "fit_lift.npz"
OUTPUTS = ("fit.npz", "fit_preview.png", "landmarks.npz")


@dataclass(frozen=True)
class FitBody:
    """The body and its correspondences, loaded once for many clips."""

    body: Body
    layout: Layout
    embedded: bool
    lift: Lift


def fit_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Fit every clip of a talk; clips that are done stay. Rejected where the talk has no clip that can be fitted."""
    clips = store.clips(talk_id)
    load = cache(lambda: load_fit_body(config))
    settings = _settings(config)

    def work() -> dict[str, Any]:
        if not clips:
            raise InputRejected(f"talk {talk_id!r}: expected clips, it has none; clips.json and rejected.json say why")
        records = {clip.name: _fit_clip(config, store, talk_id, clip.name, load, settings) for clip in clips}
        good = {name: r.facts for name, r in records.items() if r.status == "ok"}
        bad = {name: r.reason for name, r in records.items() if r.status == "rejected"}
        if not good:
            raise InputRejected(f"talk {talk_id!r}: no clip could be fitted: {'; '.join(bad.values())}")
        frames = sum(f["frames"] for f in good.values())
        mean = lambda name: round(sum(f[name] * f["frames"] for f in good.values()) / frames, 4)  # noqa: E731
        first = next(iter(good.values()))
        return {
            "clips": len(good), "rejected": bad, "frames": frames, "preview": first["preview"],
            "metrics": {"confidence": mean("confidence"), "body_mm": mean("body_mm"), "face_mm": mean("face_mm")},
        }  # fmt: skip

    inputs = [[clip.name, hash_file(clip / "clip.mp4")] for clip in clips]
    outputs = [clip / name for clip in clips for name in OUTPUTS if _was_fitted(store, talk_id, clip.name)]
    return store.once(STAGE, talk_id, CODE_VERSION, hash_json([settings, inputs]), outputs, work)


def fit_clip(config: Config, store: Store, talk_id: str, clip_id: str) -> Record:
    """Fit one clip. Rejected where nobody is found in half of its frames."""
    return _fit_clip(config, store, talk_id, clip_id, lambda: load_fit_body(config), _settings(config))


def load_fit_body(config: Config) -> FitBody:
    body, digest = body_files.load_body(config), body_files.body_hash(config)
    embedded = body_files.is_embedded(digest)
    offsets = calibrated_offsets() if embedded else None  # they were measured on the embedded body's joints
    layout = make_layout(body, body_files.face_embedding(body, digest), offsets)
    return FitBody(body, layout, embedded, Lift.load(LIFT))


def fit_landmarks(config: Config, fitted: FitBody, found: Landmarks, talk: str = "clip") -> FitResult:
    """Landmarks [T] → SMPL-X and camera, in windows of `config.fit.window` frames."""
    settings = config.fit
    options = FitOptions(settings.iterations, settings.focal_prior, fitted.embedded)
    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"fit {talk}", total=None)
        tell = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        directions, lengths, covariance = fitted.lift(found)
        seen = lifted(observations(found), directions, found.visibility)
        shape = shape_prior(fitted.body, lengths, covariance, settings.height)
        return fit_long(fitted.body, fitted.layout, seen, options, settings.window, tell, shape)


def observations(found: Landmarks) -> Observations:
    width, height = found.size.tolist()
    return observe(
        found.pose, found.visibility, found.pose_world, found.face, found.left_hand, found.right_hand,
        (width, height), float(found.fps[0] / found.fps[1]),
    )  # fmt: skip


def confidence(result: FitResult, seen: Observations) -> Tensor:
    """[T] 0..1: how much of the upper body is seen, times how closely body and face follow their landmarks.

    Seen: mean weight of shoulders, elbows and wrists. Close: 1 / (1 + (r / RESIDUAL_SCALE)²), r the weighted root mean
    square distance of body landmarks at the person's depth. 0 where nobody was found.
    """
    visible = seen.weights[:, list(UPPER_LIMBS)].mean(1)
    weight, squared = seen.weights[:, BODY_PART], result.residual[:, BODY_PART].nan_to_num().square()
    mean = (weight * squared).sum(1) / weight.sum(1).clamp(min=1e-6)
    return (visible / (1 + mean / RESIDUAL_SCALE**2)).clamp(0, 1)


def part_confidence(result: FitResult, seen: Observations) -> dict[str, Tensor]:
    """[T] 0..1 of left hand, right hand and face: the share of the part's landmarks that was seen, times how closely it follows
    them (as in `confidence`, at the part's own scale). 0: the part's angles are a guess between frames where it was seen."""
    out = {}
    for name, (part, scale) in PARTS.items():
        weight, squared = seen.weights[:, part], result.residual[:, part].nan_to_num().square()
        mean = (weight * squared).sum(1) / weight.sum(1).clamp(min=1e-6)
        out[name] = (weight > 0).float().mean(1) / (1 + mean / scale**2)
    return out


def clip_camera(focal: float, size: tuple[int, int]) -> Camera:
    """The camera of a fit: at the world's origin, looking along -z, y up."""
    width, height = size
    principal = torch.tensor([width / 2, height / 2])
    w2c = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    return make_camera(w2c, torch.tensor([focal, focal]), principal, torch.tensor([width, height]))


def _fit_clip(config: Config, store: Store, talk_id: str, clip_id: str, load: Any, settings: Any) -> Record:
    folder, unit = store.clip(talk_id, clip_id), f"{talk_id}/{clip_id}"
    about = json.loads((folder / "clip.json").read_text())
    rate, video = Fraction(about["fps"]), folder / "clip.mp4"
    digest = hash_file(video)

    def find() -> dict[str, Any]:
        pictures = progress(media.frames(video, rate), f"landmarks {unit}", total=about.get("frames"))
        found = detector.detect(pictures, rate)
        found.save(folder / "landmarks.npz")
        return {"frames": len(found), **found.found()}

    landmarks = store.once(LANDMARK_STAGE, unit, LANDMARK_VERSION, hash_json([digest, rate]), [folder / "landmarks.npz"], find)

    def work() -> dict[str, Any]:
        found = Landmarks.load(folder / "landmarks.npz")
        shares = found.found()
        if shares["body"] < LEAST_FOUND:
            expected = f"expected a person in at least {LEAST_FOUND:.0%} of the frames"
            raise InputRejected(f"{unit}: {expected}, found one in {shares['body']:.0%}")
        fitted: FitBody = load()
        result = fit_landmarks(config, fitted, found, unit)
        seen = observations(found)
        sure, parts = confidence(result, seen), part_confidence(result, seen)
        width, height = found.size.tolist()
        save_fit(folder / "fit.npz", result.params, clip_camera(result.focal, (width, height)), sure, rate, parts)
        write_preview(folder / "fit_preview.png", video, rate, fitted.body, result)
        middle = lambda part: round(1e3 * torch.nanmedian(result.residual[:, part]).item(), 2)  # noqa: E731
        return {
            "frames": len(found), "confidence": round(sure.mean().item(), 4), "body_mm": middle(BODY_PART),
            "face_mm": middle(FACE_PART), "focal": round(result.focal, 1), "found": shares,
            "preview": str(folder / "fit_preview.png"),
            "part_confidence": {name: round(x.mean().item(), 4) for name, x in parts.items()},
        }  # fmt: skip

    key = hash_json([settings, landmarks.output_hash, digest])
    return store.once(STAGE, unit, CODE_VERSION, key, [folder / name for name in OUTPUTS], work)


def write_preview(path: Path, video: Path, rate: Fraction, body: Body, result: FitResult) -> None:
    """Six frames of the clip with the fitted mesh over them."""
    frames = len(result.params.transl)
    wanted = sorted({round(i) for i in np.linspace(0, frames - 1, PREVIEW_FRAMES)})
    pictures = {i: picture for i, picture in enumerate(media.frames(video, rate)) if i in wanted}
    tiles = [overlay(pictures[i], body, result.params[i : i + 1], result.focal) for i in wanted if i in pictures]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 3)
    rows = [np.concatenate(tiles[i : i + 3], 1) for i in range(0, len(tiles), 3)]
    with writing(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(np.concatenate(rows, 0), cv2.COLOR_RGB2BGR))


def overlay(picture: np.ndarray, body: Body, params: SmplxParams, focal: float) -> np.ndarray:
    """The mesh of `params` [1] drawn over a square picture [S, S, 3] uint8, both shrunk to PREVIEW_SIZE."""
    small = cv2.resize(picture, (PREVIEW_SIZE, PREVIEW_SIZE), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        vertices = body.vertices(params)[0].numpy() * [1, -1, -1]
    mesh, mask = shaded_mesh(vertices, body.faces, focal * PREVIEW_SIZE / picture.shape[0], PREVIEW_SIZE)
    drawn = 0.35 * small + 0.65 * 255 * mesh
    return np.where(mask[..., None], drawn, small).astype(np.uint8)


def _settings(config: Config) -> list[Any]:
    """All that the fit reads beside the clip: what is asked for, and the files that ship with the project."""
    read = [body_files.body_hash(config), body_files.embedding_hash(), hash_file(LIFT)]
    return [config.fit.model_dump(mode="json"), LANDMARK_VERSION, *read]


def _was_fitted(store: Store, talk_id: str, clip_id: str) -> bool:
    record = store.read_record(STAGE, f"{talk_id}/{clip_id}")
    return record is None or record.status == "ok"
