"""What a drawing of an avatar beside its picture says of each Gaussian, and the correction that is learned from it.

Each Gaussian hears by how much the picture differs where it was drawn, and which way its place, size and opacity would
have to go: half the squared difference falls that way, a step a pixel that the Gaussian covers. A small network makes of
that a change of the head's outputs, of hidden Gaussians as well (a gradient as a network's input: Chen et al., G3R, ECCV
2024).
Axes: B batch, V pictures of a person, N anchors, S picture side, H hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.anchors import Anchors, Stance
from model.fixed_sums import FixedSums
from model.geometry import apply_matrices, full_precision, rotate, working_dtype
from model.rasterize import rasterize
from model.types import Camera, GaussianCloud
from model.visibility import ColorFill

HEARD = 3 + 1 + 3 + 3 + 1 + 1  # colour, coverage, place, log size, log opacity, and pixels covered of these and `FEW` more
GAIN = 10.0  # differences are about tenths
MASK = 0.5  # weight of the squared difference of coverage, beside that of colours
FEW = 0.5  # pixels: a Gaussian that covers no more than that hears half
LEVELS = (1, 2, 3)  # of `ColorFill`'s, over whose cells Gaussians tell each other


@torch.no_grad()
def differences(
    anchors: Anchors,
    cloud: GaussianCloud,  # [B, N] canonical
    stance: Stance,  # [B × V] of the bodies, each in its camera's frame
    cameras: Camera,  # [B, V] at their origins, of the pictures' size
    pictures: Tensor,  # [B, V, 4, S, S] 0..1, colours on white, then how much of a pixel the person covers
    rasterizer: str = "auto",
) -> Tensor:  # [B, N, HEARD] of all pictures; no gradient passes
    """How the pictures differ from the avatar drawn in their places, as each Gaussian hears it."""
    views, side = pictures.shape[1], pictures.shape[-1]
    one = cameras.map(lambda t: t.flatten(0, 1)[:, None])
    with full_precision(pictures):
        several = cloud.map(lambda t: t.float().repeat_interleave(views, 0))
        posed, turns = anchors.posed_cloud(several, stance)
        silent = torch.zeros_like(posed.means[..., :2])  # two channels of nothing, whose gradients sum what is covered
        leaves = [torch.cat([posed.colors, silent], -1), posed.means, posed.scales, posed.opacities]
        with torch.enable_grad():
            colors, means, scales, opacities = (t.requires_grad_() for t in leaves)
            seen = rasterize(
                GaussianCloud(means, posed.rotations, scales, opacities, colors), one, means.new_tensor([1, 1, 1, 0, 0]), rasterizer,
                antialiased=True, size=(side, side), depth=False,
            )  # fmt: skip
        missing = pictures.float().flatten(0, 1).movedim(1, -1)[:, None] - torch.cat([seen.color[..., :3], seen.alpha], -1)
        told = torch.cat([missing[..., :3], torch.ones_like(seen.alpha), missing[..., 3:]], -1)
        color, place, size, opacity = torch.autograd.grad([seen.color, seen.alpha], leaves, [told, MASK * missing[..., 3:]])
        place = apply_matrices(anchors.frames.mT, rotate(turns, place, back=True))
        covered, color = color[..., 3:4], torch.cat([color[..., :3], color[..., 4:]], -1)
        parts = [color, place * anchors.spacing[:, None], size * scales, (opacity * opacities)[..., None], covered]
        total = torch.cat(parts, -1).unflatten(0, (-1, views)).sum(1)
        pixels = total[..., -1:]
        return torch.cat([GAIN * total[..., :-1], pixels], -1) / (pixels + FEW)


class Exchange(nn.Module):
    """How Gaussians tell each other: to those beside, and to all of a cell."""

    def __init__(self, neighbours: Tensor, fill: ColorFill):  # [N, K]
        super().__init__()
        (count, each), cells = neighbours.shape, fill.cells
        self.sizes = [fill.sizes[level] for level in LEVELS]  # cells a level
        firsts = torch.tensor([0, *self.sizes[:-1]], device=cells.device).cumsum(0)
        cell, anchor = (cells[list(LEVELS)] + firsts[:, None]).flatten(), torch.arange(count, device=cells.device)
        every, total = anchor.repeat(len(LEVELS)), sum(self.sizes)
        self.gather = FixedSums(cell, every, 1.0, (total, count))  # of anchors, into the cells of all levels
        sums, points = torch.cat([anchor.repeat_interleave(each), every]), torch.cat([neighbours.flatten(), count + cell])
        shares = torch.cat([torch.full((count * each,), 1 / each), torch.ones(len(every))])
        self.tell = FixedSums(sums, points, shares, (count, count + total))  # the mean of those beside, and the sum of a cell each level

    def cell_means(self, values: Tensor, weights: Tensor) -> Tensor:  # [B, N, H], [B, N, 1] → [B, cells of all levels, H]
        return self.gather(values * weights) / (self.gather(weights) + 0.1)

    def forward(self, values: Tensor, cells: Tensor) -> Tensor:  # [B, N, H], [B, cells, H] → [B, N, H] what each is told
        return self.tell(torch.cat([values, cells], 1))


class Correction(nn.Module):
    """What Gaussians hear → a change of the head's outputs; nothing at first."""

    def __init__(self, features: int, outputs: int, hidden: int):
        super().__init__()
        self.listen = nn.Linear(features + outputs + HEARD, hidden)
        self.join = nn.Linear((2 + len(LEVELS)) * hidden, hidden)
        self.out = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        features: Tensor,  # [B, N, F] learned
        outputs: Tensor,  # [B, N, OUTPUTS] of the head so far
        heard: Tensor,  # [B, N, HEARD]
        exchange: Exchange,
    ) -> Tensor:  # [B, N, OUTPUTS]
        dtype = working_dtype(self.out.weight)
        x = F.gelu(self.listen(torch.cat([t.to(dtype) for t in (features, outputs, heard)], -1)))
        levels = exchange.cell_means(x, heard[..., -1:].to(x)).split(exchange.sizes, 1)
        own, beside, *shared = self.join.weight.split(x.shape[-1], 1)  # before they are told, since cells are fewer than anchors
        cells = torch.cat([F.linear(level, weight) for level, weight in zip(levels, shared, strict=True)], 1)
        told = exchange(F.linear(x, beside), cells)
        return self.out(F.gelu(F.linear(x, own, self.join.bias) + told)).float()
