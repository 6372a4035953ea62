"""Any performances of the held-out clips, scored as `speech-avatar evaluate` scores folders, whoever made them.

A row is one system (or the truth, or a reference) over all clips; a figure is a mean over clips with its 95 % interval over
speakers. Motion is judged upright in the camera's frame and in the truth's shape. Talks show no legs: figures that look at
legs are left out. `DEFINITIONS` states what is printed; pictures are compared inside the person's box.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.schema import Config
from model import metrics
from model.body import Body
from model.metrics_talk import wrist_speed
from model.motion import pose_features
from model.stage1 import Stage1
from model.types import SmplxParams
from pipelines import scoring_clips
from pipelines.baseline_training import SOURCES, training_clips
from pipelines.formats_take import Take
from pipelines.held_out import HeldOutClip, Performance
from pipelines.manifests import read_manifest
from pipelines.scoring_clips import Scorer, Speech
from pipelines.scoring_pictures import embedding
from pipelines.scoring_rows import ClipScorer
from pipelines.scoring_summary import Row, add_visemes, summary
from pipelines.store import Store, hash_json, write_json, writing

LEGS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm", "acceleration_error", "foot_sliding")  # look at unseen joints
DEFINITIONS = {n: d for n, d in scoring_clips.DEFINITIONS.items() if n not in LEGS} | {
    "psnr": "PSNR inside the person's box, dB ↑",
    "ssim": "SSIM inside the person's box ↑",
    "identity": "cosine of frames' embeddings (encoder of samples/weights/identity.safetensors) with the reference picture's ↑",
    "identity_other": "the same with another speaker's reference picture: the control",
}
ORDER = ("psnr", "ssim", "flicker", "identity", "identity_other", "fgd", "upper_mpjpe_mm", "upper_pa_mpjpe_mm")  # shown first
DEFINITIONS = {n: DEFINITIONS[n] for n in (*ORDER, *(n for n in DEFINITIONS if n not in ORDER))}
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # camera frame (y down) → upright
FITTING_CLIPS = 60  # of training motion, evenly spaced, that FGD's auto-encoder is fitted to
IDENTITY_FRAMES = 4  # of a clip's compared frames
TRUTH = "ground_truth"


@dataclass(frozen=True)
class Scored:
    """Rows by name, and curves over time: clip → row → {time, mouth, wrist}."""

    rows: dict[str, Row]
    who: dict[str, str]
    curves: dict[str, dict[str, dict[str, list[float]]]]

    def table(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Row → figure → value, low, high, clips."""
        keep = lambda figures: {n: figures[n] for n in DEFINITIONS if n in figures}  # noqa: E731
        return {name: keep(summary(row, self.who)) for name, row in self.rows.items()}

    def means(self, row: str) -> dict[str, float]:
        return {name: figure["value"] for name, figure in self.table().get(row, {}).items()}

    def write(self, folder: Path, **more: Any) -> None:
        """`metrics.json` (rows with intervals, figures of every clip, curves) and `latents.npz`, from which FGD comes."""
        table = self.table()
        about = {
            "rows": table, "definitions": {n: d for n, d in DEFINITIONS.items() if any(n in r for r in table.values())},
            "per_clip": {name: row.clips for name, row in self.rows.items()}, "speakers": self.who, "curves": self.curves, **more,
        }  # fmt: skip
        write_json(folder / "metrics.json", about)
        arrays: dict[str, Any] = {}
        for name, row in self.rows.items():
            for clip, (truth, got) in row.latents.items():
                arrays |= {f"{name}|{clip}|truth": truth.numpy(), f"{name}|{clip}|got": got.numpy()}
        np.savez(folder / "latents.npz", **arrays)


def score(
    config: Config,
    store: Store,
    stage1: Stage1,
    clips: list[HeldOutClip],
    rows: Mapping[str, Sequence[Performance | None]],  # row → one performance a clip (none: it has no such)
) -> Scored:
    """Every figure that can be measured, of all rows; the truth's row must be among them."""
    body = stage1.body
    scorer, network = Scorer(config, body), autoencoder(config, store, body)
    speech = [Speech.of(c.audio.astype(np.float64)) for c in clips]
    found = {name: Row(name) for name in rows}
    curves: dict[str, dict[str, dict[str, list[float]]]] = {}
    for i, clip in enumerate(clips):
        turn = [(i + k) % len(clips) for k in range(1, len(clips))]
        other = next((j for j in turn if clips[j].group != clip.group), turn[0] if turn else None)
        truth = upright(body, clip.truth, clip.fps)
        control = None if other is None else speech[other]
        scored = ClipScorer(scorer, network, clip.id, truth, speech[i], control, clip.phones)
        curves[clip.id] = {"speech": voice(clip, speech[i])}
        for name, performances in rows.items():
            played = performances[i]
            if played is None:
                continue
            got = truth if played.params is clip.truth else upright(body, played.params, clip.fps)
            elsewhere = None if other is None else clips[other]
            scored.add(found[name], got, _picture_figures(clip, played, elsewhere), said=False)
            curves[clip.id][name] = _curves(scorer, got, scored.betas)
    add_visemes(found, TRUTH)
    return Scored({n: r for n, r in found.items() if r.clips}, {c.id: c.group for c in clips}, curves)


def upright(body: Body, params: SmplxParams, fps: Fraction) -> Take:
    """Motion in the camera's frame → a take, y up; its betas are the first frame's."""
    world = body.moved(params, FLIP)
    fields = {n: getattr(world, n) for n in world.__dataclass_fields__}
    return Take.of(SmplxParams(**{**fields, "betas": world.betas[:1].expand_as(world.betas)}), fps)


def _picture_figures(clip: HeldOutClip, played: Performance, other: HeldOutClip | None) -> dict[str, float]:
    if played.pictures is None:
        return {}
    found = picture_scores(played.pictures, clip.pictures, clip.alpha)
    if played.flicker is not None:
        found["flicker"] = played.flicker
    own = embedding(clip.reference[None])[0]
    seen = embedding(played.pictures[:: max(1, len(played.pictures) // IDENTITY_FRAMES)][:IDENTITY_FRAMES])
    found["identity"] = metrics.identity(seen, own)
    if other is not None:
        found["identity_other"] = metrics.identity(seen, embedding(other.reference[None])[0])
    # a figure that has no bound (the truth's own PSNR) is left out
    return {name: value for name, value in found.items() if math.isfinite(value)}


def picture_scores(got: Tensor, wanted: Tensor, alpha: Tensor) -> dict[str, float]:
    """PSNR and SSIM of pictures [P, R, R, 3] inside the boxes of alpha [P, R, R], means over P."""
    boxes = metrics.person_box(alpha)
    return {"psnr": metrics.psnr(got, wanted, boxes), "ssim": metrics.ssim(got, wanted, boxes)}


def _curves(scorer: Scorer, take: Take, betas: Tensor) -> dict[str, list[float]]:
    """Mouth opening (mm) and mean wrist speed (m/s) over time (s), for plots."""
    measured = scorer.measured(take, betas)
    speed = wrist_speed(measured.joints, float(take.fps))
    time = (np.arange(take.frames) + 0.5) / float(take.fps)
    series = {"time": time, "mouth": 1000 * measured.opening, "wrist": np.concatenate([speed[:1], speed])}
    return {name: [round(float(x), 4) for x in values] for name, values in series.items()}


def voice(clip: HeldOutClip, speech: Speech) -> dict[str, list[float]]:
    """Loudness of the speech over time, of 1."""
    frames = len(clip.truth.transl)
    loud = speech.energy(float(clip.fps), frames)
    time = (np.arange(frames) + 0.5) / float(clip.fps)
    return {"time": [round(float(t), 4) for t in time], "loudness": [round(float(x), 4) for x in loud / max(loud.max(), 1e-9)]}


def autoencoder(config: Config, store: Store, body: Body) -> metrics.MotionAutoencoder | None:
    """FGD's auto-encoder, trained once on training motion, of talks and without pictures; its file name is its data version.

    None: too few frames.
    """
    data = {kind: (read_manifest(store, kind) or {}).get("hash") for kind in SOURCES}  # type: ignore[arg-type]
    key = hash_json([data, config.seed, metrics.AUTOENCODER_VERSION, "upright", FITTING_CLIPS])
    path = store.evaluation("autoencoder") / f"{key}.safetensors"
    if not path.is_file():
        clips = training_clips(config, store)
        chosen = clips[:: -(-len(clips) // FITTING_CLIPS) or 1]
        motions = [pose_features(body.moved(m.params, FLIP @ m.w2c))[..., :330] for m in chosen]
        windows = metrics.motion_windows(motions)
        if len(windows) < 2:
            return None
        network = metrics.fit_autoencoder(windows, seed=config.seed)
        with writing(path) as temporary:
            save_file(network.state_dict(), temporary, {"about": json.dumps(data)})
    network = metrics.MotionAutoencoder()
    network.load_state_dict(load_file(path))
    return network.eval()

