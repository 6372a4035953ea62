"""The running mean of a network's weights, which is what training shows and exports: steadier than the last step's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SLOW_START = 10  # steps: early on the mean reaches back a tenth of the way, so that it soon forgets the first weights


class WeightAverage:
    """Exponential mean of the learned parameters of `network`, float32, with decay `decay` a step (0: the weights themselves)."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.learned = [p for p in network.parameters() if p.requires_grad]
        self.means = [p.detach().float().clone() for p in self.learned] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        if self.means:
            decay = min(self.decay, (1 + step) / (SLOW_START + step))
            torch._foreach_lerp_(self.means, [p.detach().float() for p in self.learned], 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, the network has the mean weights."""
        kept = [p.detach().clone() for p in self.learned] if self.means else []
        self._fill(self.means)
        try:
            yield
        finally:
            self._fill(kept)

    def state(self) -> list[Tensor]:
        return self.means

    def load(self, state: Any) -> None:
        """What `state` gave in an earlier process."""
        for mean, value in zip(self.means, state, strict=True):
            mean.copy_(value)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.learned, values, strict=False):
            parameter.copy_(value)
