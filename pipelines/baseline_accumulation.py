"""What each stage of the two-stage system loses: its other stage replaced by the truth, on the same clips.

| row          | motion    | avatar (shape, place and looks of the person)   |
| true_both    | true      | fitted to the clip's own frames                 |
| true_avatar  | predicted | fitted                                          |
| true_motion  | true      | predicted from one picture                      |
| two_stage    | predicted | predicted                                       |

No picture of the avatar's is true; the nearest thing is one fitted to frames of the clip that are not compared, with the true
motion. What even that one misses (`true_both`) is lost by the representation, by the fits of the body and by the camera.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.rasterize import rasterize
from model.stage1 import Stage1
from model.types import Camera, GaussianCloud
from pipelines.held_out import REFERENCE, HeldOutClip

ROWS = ("true_both", "true_avatar", "true_motion")
STEPS, FRAMES = 120, 24  # of fitting an avatar; frames that it looks at
RATES = {"means": 2e-4, "scales": 1e-2, "opacities": 2e-2, "colors": 3e-2}  # Adam's, of metres, logarithms and logits


def fitted_avatar(stage1: Stage1, clip: HeldOutClip, canonical: GaussianCloud, steps: int = STEPS) -> GaussianCloud:
    """Canonical Gaussians [1, N] of the clip's person, fitted to frames that are not compared; deterministic."""
    free = [i for i in range(len(clip.video)) if i not in clip.frames and i != REFERENCE]
    chosen = [free[i] for i in np.unique(np.linspace(0, len(free) - 1, FRAMES).round().astype(int))] if free else [REFERENCE]
    pictures = torch.from_numpy(np.stack([clip.video[i] for i in chosen])).float() / 255
    start = {"scales": canonical.scales.log(), "opacities": torch.logit(canonical.opacities.clamp(0.01, 0.99))}
    start |= {"means": canonical.means, "colors": torch.logit(canonical.colors.clamp(0.01, 0.99))}
    values = {n: v.detach().float().clone().requires_grad_() for n, v in start.items()}
    optimiser = torch.optim.Adam([{"params": [values[n]], "lr": rate} for n, rate in RATES.items()])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(0)
    with torch.enable_grad():
        for _ in range(steps):
            k = int(rng.integers(len(chosen)))
            cloud = stage1.pose(_cloud(values, canonical), clip.truth[chosen[k] : chosen[k] + 1])
            loss = (_painted(cloud, clip.camera) - pictures[k]).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return _cloud(values, canonical).detach()


def _cloud(values: dict[str, Tensor], canonical: GaussianCloud) -> GaussianCloud:
    scales, opacities, colors = values["scales"].exp(), torch.sigmoid(values["opacities"]), torch.sigmoid(values["colors"])
    return GaussianCloud(values["means"], canonical.rotations, scales, opacities, colors)


def _painted(cloud: GaussianCloud, camera: Camera) -> Tensor:  # [R, R, 3]
    views = camera.map(lambda t: t[None, None])
    return rasterize(cloud, views, torch.ones(3), antialiased=True).color[0, 0]
