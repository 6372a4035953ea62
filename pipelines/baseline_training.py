"""The baseline's own first stage: codes of each body part are fitted to the training talks, a transformer learns to fill them in.

Axes: B batch, T frames, A audio features, M numbers of a motion vector.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.audio_to_motion import WINDOW, AudioToMotion, rest_of, standardised
from model.baseline_codes import STRIDE
from model.motion import motion_vector
from pipelines.motions import Motion
from pipelines.progress import progress


def train(config: Config, clips: list[Motion]) -> tuple[AudioToMotion, list[float]]:
    """The network and its losses, step by step; deterministic in `config.seed`."""
    settings = config.baseline
    rng = np.random.default_rng(config.seed)
    vectors = [motion_vector(clip.fit.params, rest_of(clip.fit.params)) for clip in clips]
    audio = [standardised(clip.features) for clip in clips]
    speakers = sorted({clip.group for clip in clips})
    style = [torch.full((len(v),), speakers.index(clip.group)) for v, clip in zip(vectors, clips, strict=True)]
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = AudioToMotion(audio[0].shape[1], settings.width, settings.layers, settings.codes, len(speakers))
        network.motion.fit(vectors, config.seed)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1)
        for _ in progress(range(settings.steps), "audio to motion"):
            heard, wanted, whose = _windows([audio, vectors, style], settings.batch, WINDOW, rng)
            loss = network.loss(heard, wanted, whose[:, 0])
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval(), losses


def _windows(series: list[list[Tensor]], batch: int, longest: int, rng: np.random.Generator) -> list[Tensor]:
    """The same random windows [B, T, …] of several series of every clip; T a multiple of a code's frames."""
    length = min(longest, *map(len, series[0])) // STRIDE * STRIDE
    chosen = []
    for _ in range(batch):
        i = int(rng.integers(len(series[0])))
        start = int(rng.integers(len(series[0][i]) - length + 1))
        chosen.append((i, start))
    return [torch.stack([one[i][start : start + length] for i, start in chosen]) for one in series]
