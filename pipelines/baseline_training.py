"""The baseline's own first stage: a network from speech to motion, trained on the training talks.

Axes: B batch, T frames, A audio features.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import Config
from model.audio_to_motion import AudioToMotion, rest_of
from model.motion import motion_vector
from pipelines.motions import Motion
from pipelines.progress import progress

WINDOW = 64  # frames of a training window


def train(config: Config, clips: list[Motion]) -> tuple[AudioToMotion, list[float]]:
    """Regression with position and velocity terms on random windows; deterministic in `config.seed`."""
    settings = config.baseline
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vectors = [motion_vector(clip.fit.params, rest_of(clip.fit.params)) for clip in clips]
    network = AudioToMotion(clips[0].features.shape[1], settings.width, settings.layers)
    network.normalise_by(torch.cat(vectors))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1)
    losses = []
    for _ in progress(range(settings.steps), "audio to motion"):
        audio, target = _windows(clips, vectors, settings.batch, rng)
        wanted = (target - network.mean) / network.std
        got = network.normalised(audio)
        loss = F.l1_loss(got, wanted) + F.l1_loss(got.diff(dim=1), wanted.diff(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return network.eval(), losses


def _windows(clips: list[Motion], vectors: list[Tensor], batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    length = min(WINDOW, *map(len, vectors))
    audio, target = [], []
    for _ in range(batch):
        i = int(rng.integers(len(clips)))
        start = int(rng.integers(len(vectors[i]) - length + 1))
        audio.append(clips[i].features[start : start + length])
        target.append(vectors[i][start : start + length])
    return torch.stack(audio), torch.stack(target)
