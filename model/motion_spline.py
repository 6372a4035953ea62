"""Motion as a cubic spline with a knot every two frames, and its knots as surprises: what the past does not foretell.

Frames come in chunks of `CHUNK`; a chunk adds `NEW` knots to those before it, and its frames follow from the last
`SPAN` knots, so motion is smooth (twice differentiable) within and across chunks by construction. A linear predictor for
each channel foretells the new knots from the `PAST` before; what is left is whitened and its tails are drawn in (asinh).
Unit noise in these numbers is a motion with the corpus' spectrum, and an error in them jitters no more than people do.
Axes: B batch, K chunks, C channels, N knots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.geometry import full_precision

CHUNK, SPACING = 8, 2  # frames
NEW = CHUNK // SPACING  # knots that a chunk adds
SPAN = NEW + 3  # knots that a chunk's frames depend on
PAST = 8  # knots that the predictor reads
SEED = 16  # frames before a window that give it its past
TAIL = 8  # frames after a window, so that its last knots are known
ROUGHNESS = 1e-4  # weight of the knots' third differences in the fit to frames: ends without frames stay tame
COMPANDING = 2.0  # surprises are drawn in as asinh(COMPANDING · z)
RARE = 5e-4  # share of surprises that are larger than any that is drawn


def spline_matrix(frames: int) -> Tensor:
    """[frames, frames / 2 + 3] weights of the knots; knot i lies at frame 2 (i - 1)."""
    out = torch.zeros(frames, -(-frames // SPACING) + 3, dtype=torch.float64)
    for t in range(frames):
        u = (t % SPACING) / SPACING
        weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
        out[t, t // SPACING : t // SPACING + 4] = torch.tensor(weights, dtype=torch.float64) / 6
    return out


def knot_matrix(frames: int) -> Tensor:
    """[frames / 2 + 3, frames]: the knots of least squares, its inverse but for a little smoothness."""
    spline = spline_matrix(frames)
    rough = torch.eye(spline.shape[1], dtype=torch.float64)
    for _ in range(3):
        rough = rough[1:] - rough[:-1]
    return torch.linalg.solve(spline.mT @ spline + ROUGHNESS * rough.mT @ rough, spline.mT)


class Surprises(nn.Module):
    """Knots ↔ whitened surprises. Before `fit` every surprise stands for none."""

    predictor: Tensor  # [C, NEW, PAST]
    spread: Tensor  # [C, NEW, NEW] lower triangular
    inverse: Tensor  # [C, NEW, NEW]
    gain: Tensor  # [C, NEW] of the drawn-in numbers, so that they have unit deviation
    limit: Tensor  # [C, NEW] the largest of them but for RARE: no more is drawn
    reach: Tensor  # [C] how far apart two knots of a clip lie at most: residuals go no further
    to_frames: Tensor  # [CHUNK, SPAN]

    def __init__(self, channels: int):
        super().__init__()
        hold = torch.zeros(channels, NEW, PAST)
        hold[..., -1] = 1
        self.register_buffer("predictor", hold)
        self.register_buffer("spread", torch.zeros(channels, NEW, NEW))
        self.register_buffer("inverse", torch.zeros(channels, NEW, NEW))
        self.register_buffer("gain", torch.ones(channels, NEW))
        self.register_buffer("limit", torch.full((channels, NEW), 3.0))
        self.register_buffer("reach", torch.full((channels,), 10.0))
        self.register_buffer("to_frames", spline_matrix(CHUNK).float(), persistent=False)

    def foretold(self, past: Tensor) -> Tensor:  # [..., PAST, C] → [..., NEW, C]
        with full_precision(past):
            return torch.einsum("cnp,...pc->...nc", self.predictor, past)

    def whiten(self, new: Tensor, past: Tensor) -> Tensor:  # [..., NEW, C], [..., PAST, C] → [..., NEW, C]
        with full_precision(past):
            z = torch.einsum("cnm,...mc->...nc", self.inverse, new - self.foretold(past))
            return (torch.asinh(COMPANDING * z) * self.gain.mT).clamp(-self.limit.mT, self.limit.mT)

    def colour(self, surprise: Tensor, past: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        with full_precision(past):
            z = torch.sinh(surprise.clamp(-self.limit.mT, self.limit.mT) / self.gain.mT) / COMPANDING
            new = self.foretold(past) + torch.einsum("cnm,...mc->...nc", self.spread, z)
            return new.clamp(-self.reach, self.reach)

    def frames(self, knots: Tensor) -> Tensor:  # [..., SPAN, C] → [..., CHUNK, C]
        with full_precision(knots):
            return self.to_frames @ knots

    @torch.no_grad()
    def amplify(self, gain: Tensor) -> None:  # [C]
        """Every surprise moves its channel `gain` times as far."""
        self.spread.mul_(gain[:, None, None])
        self.inverse.div_(gain[:, None, None])
        self.reach.mul_(gain)

    @torch.no_grad()
    def fit(self, knots: Tensor) -> None:
        """Of windows of knots [W, N ≥ PAST + NEW, C], each less the mean of its clip."""
        pieces = knots.double().unfold(1, PAST + NEW, 1).permute(2, 0, 1, 3).flatten(1, 2)  # [C, pieces, PAST + NEW]
        past, new = pieces[..., :PAST], pieces[..., PAST:]
        power = past.square().mean((1, 2), keepdim=True).clamp(min=1e-12)
        ridge = 1e-6 * past.shape[1] * power * torch.eye(PAST, dtype=torch.float64)
        solved = torch.linalg.solve(past.mT @ past + ridge, past.mT @ new)  # [C, PAST, NEW]
        left = new - past @ solved
        covariance = left.mT @ left / left.shape[1]
        floor = (1e-8 * power + 1e-14) * torch.eye(NEW, dtype=torch.float64)
        spread = torch.linalg.cholesky(covariance + floor)
        self.predictor.copy_(solved.mT.float())
        self.spread.copy_(spread.float())
        self.inverse.copy_(torch.linalg.inv(spread).float())
        z = torch.asinh(COMPANDING * (left @ torch.linalg.inv(spread).mT))
        gain = 1 / z.square().mean(1).sqrt().clamp(min=1e-3)
        self.gain.copy_(gain.float())
        largest = z.abs().topk(max(round(RARE * z.shape[1]), 1), dim=1).values[:, -1]
        self.limit.copy_((largest * gain).float())
        self.reach.copy_((knots.amax((0, 1)) - knots.amin((0, 1))).float())


def chunked(knots: Tensor) -> tuple[Tensor, Tensor]:
    """Knots [B, PAST + K · NEW, C] → the past [B, K, PAST, C] and the new ones [B, K, NEW, C] of every chunk."""
    pieces = knots.unfold(1, PAST + NEW, NEW).transpose(-1, -2)  # [B, K, PAST + NEW, C]
    return pieces[..., :PAST, :], pieces[..., PAST:, :]
