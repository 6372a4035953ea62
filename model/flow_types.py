"""What goes into model.flow and what comes out of it.

Axes: B batch, T frames, K chunks, A audio features, w width, C flow channels, M mouth channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.motion_space import Still
from model.types import TensorGroup


@dataclass(frozen=True)
class Windows(TensorGroup):
    """Training windows: T = K · CHUNK frames with what is round them."""

    audio: Tensor  # [B, reach before + T + look_ahead, A]
    motion: Tensor  # [B, SEED + T + TAIL, C] flow channels
    mouth: Tensor  # [B, T, M]
    still: Still  # [B] the reference's channels; its root reads zero
    origin: Tensor  # [B, C] what the motion is a residual to: the reference's channels, its root's place included
    style: Tensor  # [B, 3 C]
    confidence: Tensor  # [B, T]


@dataclass(frozen=True)
class Drawn:
    """What the network says of training windows."""

    losses: dict[str, Tensor]  # [B, …] unreduced
    knots: Tensor  # [B, K, SPAN, C] with the clean estimates of each chunk's new ones
    mouth: Tensor  # [B, T, M] residuals to the reference
    heard: Tensor  # [B, T, w]

    def __getitem__(self, rows: slice) -> Drawn:
        losses = {name: value[rows] for name, value in self.losses.items()}
        return Drawn(losses, self.knots[rows], self.mouth[rows], self.heard[rows])


@dataclass
class State:
    """Where a generation stands; of constant size."""

    still: Still  # [B]
    knots: Tensor  # [B, PAST, C] residuals to the reference
    memory: list[Tensor]  # of every block, tokens [B or 2B, ≤ memory, w]
    described: Tensor  # [B or 2B, w]
    noise: list[torch.Generator]  # of every row, on the CPU: the same draws on every device
    end: Tensor | None = None  # [B, C] the last pose as a residual to the reference, where it is given
    left: int = 0  # chunks until there, this one included


@dataclass(frozen=True)
class Chunk:
    """CHUNK generated frames, as residuals to the reference."""

    flow: Tensor  # [B, CHUNK, C]
    mouth: Tensor  # [B, CHUNK, M]
