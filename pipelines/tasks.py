"""What a stage of training is to the training loop: batches, losses, a look at held-out data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.schema import Config, LossConfig
from model.rasterize import choose_backend
from pipelines.checkpoints import Stage
from pipelines.datasets import Draw
from pipelines.store import Store


class Task(nn.Module):
    """Base of the two stages. Its parameters that require gradients are learned; `network` is what is exported."""

    network: nn.Module
    backend: str  # of the rasteriser, as configured

    def begin(self) -> None:
        """Called once the network has the weights that training begins with, before any batch."""

    @abstractmethod
    def batches(self, draw: Draw) -> Iterable[Any]:
        """Batches for steps `draw.start` … `draw.end`, the same whenever the run is begun."""

    @abstractmethod
    def forward(self, batch: Any, progress: float) -> dict[str, Tensor]:
        """Losses by name and their weighted sum `total`; `progress` is the share of steps done, 0..1."""

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """Figures and a picture [H, W, 3] 0..1 of a few held-out samples (of training ones where none are held out)."""

    def about(self) -> dict[str, Any]:
        """What a weights file must say beside the configuration."""
        return {}

    @property
    def rasterizer(self) -> str:
        return choose_backend(self.backend, next(self.network.parameters()).device)


def weighted(losses: dict[str, Tensor], weights: LossConfig) -> dict[str, Tensor]:
    """Add `total`: each loss times the weight of its name (`name_detail` takes that of `name`)."""
    total = torch.stack([getattr(weights, name.split("_")[0]) * value for name, value in losses.items()]).sum()
    return {"total": total, **losses}


def learn_parts(network: nn.Module, parts: Sequence[str]) -> None:
    """Leave of what a network learns only the parameters whose names begin so; no parts: all. ValueError for a part it has not."""
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    if unknown := [part for part in parts if not any(name.startswith(part) for name in names)]:
        raise ValueError(f"learned: expected beginnings of names as {names[0]!r}, got {', '.join(unknown)} which no learned parameter has")
    for name, parameter in network.named_parameters():
        if parts and not name.startswith(tuple(parts)):
            parameter.requires_grad_(False)


def picture_rows(rows: list[list[Tensor]]) -> np.ndarray:
    """Pictures [h, w, 3] of one size, row by row, as one."""
    return np.concatenate([np.concatenate([p.detach().float().cpu().numpy() for p in row], 1) for row in rows], 0)


def make_task(stage: Stage, config: Config, store: Store) -> Task:
    """The task with its data read; ValueError where there is nothing to train on."""
    if stage == "stage1":
        from pipelines.steps_stage1 import Stage1Task

        return Stage1Task(config, store)
    from pipelines.steps_stage2 import Stage2Task

    return Stage2Task.of(config, store)
