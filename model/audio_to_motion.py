"""The baseline's first stage: audio features → SMPL-X motion in the person's own frame, without any picture.

A stack of dilated convolutions over time, so that any length is one call. Motion vectors are those of `model.motion`,
relative to `rest_of` the clip: the T-pose at the clip's mean place and root. Axes: B batch, T frames, A audio features.
"""

from __future__ import annotations

import roma
import torch.nn.functional as F
from torch import Tensor, nn, ones, zeros

from model.motion import MOTION
from model.types import SmplxParams


def rest_of(params: SmplxParams) -> SmplxParams:
    """What a clip's motion [T] is told relative to, without leading axes: mean root and place, all else zero, its betas."""
    root = roma.special_procrustes(roma.rotvec_to_rotmat(params.global_orient).mean(0))
    rest = params[0].map(lambda t: t * 0)
    fields = {name: getattr(rest, name) for name in rest.__dataclass_fields__}
    fields |= {"global_orient": roma.rotmat_to_rotvec(root), "transl": params.transl.mean(0), "betas": params.betas[0]}
    return SmplxParams(**fields)


class AudioToMotion(nn.Module):
    """[B, T, A] → [B, T, M]; normalisation constants are part of the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, audio_dim: int, width: int, layers: int):
        super().__init__()
        self.read = nn.Conv1d(audio_dim, width, 5, padding=2)
        self.blocks = nn.ModuleList(_Block(width, 2 ** (i % 4)) for i in range(layers))
        self.out = nn.Linear(width, MOTION)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("mean", zeros(MOTION))
        self.register_buffer("std", ones(MOTION))

    def normalise_by(self, vectors: Tensor) -> None:
        """Take mean and standard deviation from training motion [frames, M]."""
        self.mean.copy_(vectors.mean(0))
        self.std.copy_(vectors.std(0).clamp(min=1e-3))

    def normalised(self, audio: Tensor) -> Tensor:
        x = self.read(audio.mT)
        for block in self.blocks:
            x = block(x)
        return self.out(x.mT)

    def forward(self, audio: Tensor) -> Tensor:
        return self.normalised(audio) * self.std + self.mean


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.mix = nn.Conv1d(width, 2 * width, 5, padding=2 * dilation, dilation=dilation)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.glu(self.mix(self.norm(x)), dim=1))
