"""How far the lips are apart, for a loss that sees what closes them: p, b and m are few frames and small numbers.

Axes: B batch, T frames, M mouth channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.body import Body, SurfacePoints
from model.face_motion import FaceMotion

SPREAD = 0.006  # metres, about the deviation of the opening in talk
NEARLY = 0.0025  # metres closer than at rest: from there on lips count as meeting
SOFT = 0.0015  # metres over which they come to count
MEETING = 12.0  # added weight of frames whose lips meet


class LipOpening(nn.Module):
    """Distance between two points, mid upper and mid lower lip, of the average face."""

    place: Tensor  # [M - 3, 10] of the lips' coefficients among all expressions

    def __init__(self, body: Body, points: SurfacePoints, mouth: tuple[int, ...]):
        super().__init__()
        self.lips = len(mouth)
        self.register_buffer("place", torch.eye(10)[list(mouth)], persistent=False)
        self._face = FaceMotion(body, points)
        self.rest = float(self(torch.zeros(1, 1, 3 + len(mouth))))

    def forward(self, mouth: Tensor) -> Tensor:  # [B, T, M] jaw, then the expressions that speech moves → [B, T] metres
        jaw, lips = mouth.flatten(0, 1).float().split([3, self.lips], -1)
        ends = self._face.to(mouth.device)(jaw, jaw.new_zeros(10), lips @ self.place)
        return (ends[:, 0] - ends[:, 1] + 1e-6).norm(dim=-1).unflatten(0, mouth.shape[:2])

    def errors(self, mouth: Tensor, true: Tensor) -> Tensor:
        """Squared errors of the opening [B, T], in deviations; where the true lips meet they weigh more."""
        opening = self(true).detach()
        meets = torch.sigmoid((self.rest - NEARLY - opening) / SOFT)
        return (1 + MEETING * meets) * ((self(mouth) - opening) / SPREAD).square()
