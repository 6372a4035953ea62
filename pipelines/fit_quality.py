"""How closely fits follow their pictures: reprojection and confidence of every frame.

Reprojection: mean distance, weighted by visibility, between the body's landmarks (shoulders to feet and ears) as
detected and as the fitted body and camera project them; as a share of the longer side of the box round the person's
detected landmarks. NaN where nobody was found; a close-up of a head has no more than its ears. Axes: T frames, K landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.body import Body
from model.fit_layout import BODY_PART, Layout, Observations
from pipelines.fit import LANDMARK_STAGE, STAGE, FitBody, observations
from pipelines.formats import FitFile, load_fit
from pipelines.landmarks import Landmarks
from pipelines.store import Store


@dataclass(frozen=True)
class Quality:
    """Of the frames of one or more clips."""

    reprojection: np.ndarray  # [T] share of the person's box; NaN where nobody was found
    confidence: np.ndarray  # [T] 0..1

    def median_reprojection(self) -> float:
        """Over the frames in which somebody was found; NaN where there is none."""
        seen = self.reprojection[np.isfinite(self.reprojection)]
        return float(np.median(seen)) if len(seen) else float("nan")


def clip_quality(fitted: FitBody, clip: Path) -> Quality:
    """Quality of the fit in a clip's folder, from its `fit.npz` and `landmarks.npz`."""
    fit, seen = load_fit(clip / "fit.npz"), observations(Landmarks.load(clip / "landmarks.npz"))
    return Quality(reprojection(fitted.body, fitted.layout, fit, seen).numpy(), fit.confidence.numpy())


def joined(parts: list[Quality]) -> Quality:
    empty = [np.zeros(0, np.float32)]
    return Quality(np.concatenate([p.reprojection for p in parts] or empty), np.concatenate([p.confidence for p in parts] or empty))


def fitted_clips(store: Store, talk: str) -> list[Path]:
    """Folders of a talk's clips that have a fit."""
    records = {clip: store.read_record(STAGE, f"{talk}/{clip.name}") for clip in store.clips(talk)}
    return [clip for clip, record in records.items() if record is not None and record.status == "ok"]


def speeds(store: Store, talk: str) -> dict[str, float]:
    """Frames a second of a talk's landmarks and fits when they were made, from their records."""
    found = {}
    for stage, name in ((LANDMARK_STAGE, "landmarks"), (STAGE, "fit")):
        records = [r for c in store.clips(talk) if (r := store.read_record(stage, f"{talk}/{c.name}")) and r.status == "ok"]
        seconds = sum(r.seconds for r in records)
        if seconds > 0:
            found[name] = round(sum(r.facts["frames"] for r in records) / seconds, 2)
    return found


def percent(share: float) -> float | None:
    """A share in percent, for files and tables; none for NaN, which JSON lacks."""
    return None if np.isnan(share) else round(100 * share, 3)


def reprojection(body: Body, layout: Layout, fit: FitFile, seen: Observations) -> Tensor:  # [T]
    with torch.no_grad():
        world = body.posed_points(layout.points, fit.params)  # [T, K, 3]
    w2c, intrinsics = fit.camera.w2c, fit.camera.intrinsics
    projected = (world @ w2c[:3, :3].mT + w2c[:3, 3]) @ intrinsics.mT
    pixels = projected[..., :2] / projected[..., 2:].clamp(min=1e-3)
    weight = seen.weights[:, BODY_PART]
    distance = (pixels - seen.points).norm(dim=-1)[:, BODY_PART]
    mean = (weight * distance).sum(1) / weight.sum(1)  # NaN where all weights are 0
    return mean / _longer_side(seen)


def _longer_side(seen: Observations) -> Tensor:  # [T] pixels
    there = (seen.weights > 0)[..., None]
    low = torch.where(there, seen.points, torch.inf).amin(1)
    high = torch.where(there, seen.points, -torch.inf).amax(1)
    side = (high - low).amax(-1)
    return torch.where(side > 0, side, torch.nan)
