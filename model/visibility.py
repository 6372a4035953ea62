"""Where anchors fall in a picture, which of them the camera sees, and a first guess of the colour of those it does not.

Axes: B batch, N points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fixed_sums import FixedSums
from model.geometry import rotate

CELLS = 96  # cells per side of the depth buffer
DEPTH_SLACK = 0.02  # metres behind the nearest point that still count as seen, plus one cell's width
FACING_FROM, FACING_TO = 0.1, 0.35  # cosines between which a surface counts as ever better seen: rims show background
FAR = 1e6
WHITE = 0.985  # darkest channel of a pixel of the background
FILL_CELLS = (96, 48, 24, 12)  # cells per side, fine to coarse
OUTLINE = (0.0, 0.01, 0.03, 0.07, 0.15)  # metres outward at which the background is looked for: clothes and hair end there
EDGE_STEP, EDGE_STEPS = 0.004, (8, 20)  # metres between the points at which the outline is sought, their number inward and outward
FAR_STEP, FAR_STEPS = 0.01, 18  # the same further outward, where skirts end
EDGE_UNIT = 0.02  # metres that a distance to the outline is counted in


class Sight(NamedTuple):
    """What a picture can show of each point."""

    places: Tensor  # [B, N, 2] picture coordinates, -1..1
    facing: Tensor  # [B, N] cosine of the outward normal to the direction of the camera, -1..1
    inside: Tensor  # [B, N] bool: in the picture and before the camera
    seen: Tensor  # [B, N] 0..1 how well: inside, turned towards the camera, and no nearer point covers it
    outline: Tensor  # [B, N, len(OUTLINE), 2] places of the points moved outward
    step: Tensor  # [B, N, 2] how far `EDGE_STEP` outward is in the picture


def sight(
    means: Tensor,  # [B, N, 3] camera frame, metres
    turns: Tensor,  # [B, N, 4] template → posed, unit wxyz
    normals: Tensor,  # [N, 3] outward, template space
    focal_over_size: Tensor,  # [B]
    principal: Tensor,  # [B, 2] from the picture's centre, in sides
    solid: int,  # so many of the points, the first, cover those behind them
) -> Sight:
    """Where points fall in pictures, and which of them the camera sees."""

    def project(points: Tensor) -> Tensor:  # [B, N, K, 3] → [B, N, K, 2]
        depth = points[..., 2:].clamp(min=0.05)
        return 2 * (points[..., :2] / depth * focal_over_size[:, None, None, None] + principal[:, None, None])

    normal = rotate(turns, normals)
    outward = project(means[:, :, None] + normal[:, :, None] * means.new_tensor(OUTLINE)[:, None])
    places, depth = project(means[:, :, None])[:, :, 0], means[..., 2].clamp(min=0.05)
    facing = -(normal * F.normalize(means, dim=-1)).sum(-1)
    inside = (places.abs().amax(-1) < 1) & (means[..., 2] > 0.05)
    nearest = _nearest_depth(places, torch.where(inside, depth, FAR), solid)
    cell_width = 2 / CELLS * depth / (2 * focal_over_size[:, None])
    covered = depth > nearest + DEPTH_SLACK + cell_width
    seen = (inside & ~covered).float() * ((facing - FACING_FROM) / (FACING_TO - FACING_FROM)).clamp(0, 1)
    step = (EDGE_STEP / OUTLINE[1]) * (outward[:, :, 1] - places)
    return Sight(places, facing, inside, seen, outward, step)


def _nearest_depth(places: Tensor, depth: Tensor, solid: int) -> Tensor:
    """Least depth of any of the first points in a point's own or a neighbouring cell, [B, N]."""
    cell = ((places + 1) / 2 * CELLS).long().clamp(0, CELLS - 1)
    index = cell[..., 1] * CELLS + cell[..., 0]
    buffer = torch.full((len(depth), CELLS * CELLS), FAR, device=depth.device, dtype=depth.dtype)
    buffer = buffer.scatter_reduce(1, index[:, :solid], depth[:, :solid], "amin").unflatten(1, (CELLS, CELLS))
    return (-F.max_pool2d(-buffer[:, None], 3, 1, 1)).flatten(1).gather(1, index)


def blank_background(image: Tensor) -> Tensor:
    """Where pictures [B, 3, S, S] show plain white patches, and one pixel round them: 1, else 0, [B, 1, S, S].

    A body part that is predicted beside its place in the picture then takes no colour from the background. A patch
    has a 50th of the picture's side at least, so that highlights on a white shirt are none.
    """
    side = max(3, image.shape[-1] // 50 // 2 * 2 + 1)
    white = (image.amin(1, keepdim=True) > WHITE).float()
    return _widened(1 - _widened(1 - white, side), side + 2)


def coverage(image: Tensor, blank: Tensor) -> Tensor:
    """How much of each pixel of pictures [B, 3, S, S] the person covers, 0..1, [B, 1, S, S]; `blank` as above.

    A pixel beside the background is white to the degree that it shows it, against the darkest pixel near it.
    """
    dark = 1 - image.amin(1, keepdim=True)
    background = 1 - _widened(1 - blank, 3)  # as it was before it was widened
    rim = _widened(background, 5) - background
    shown = (dark / _widened(dark, 5).clamp(min=1 - WHITE)).clamp(0, 1)
    return torch.where(rim > 0, shown, 1 - background)


def edge_distances(cover: Tensor, places: Tensor, outward: Tensor) -> Tensor:
    """How far the outline is from points at `places` [B, N, 2] of pictures whose coverage is [B, 1, S, S]: outward to the
    first background, inward to the first of the person, and outward beyond the steps of the first, in `EDGE_UNIT`s,
    [B, N, 3]; `outward`: the way of `EDGE_STEP`.

    The sum of what is covered without a break measures parts of a pixel too.
    """
    inward, near = EDGE_STEPS
    steps = torch.arange(inward + near, device=places.device) - inward + 0.5
    far = near + (torch.arange(FAR_STEPS, device=places.device) + 0.5) * (FAR_STEP / EDGE_STEP)
    grid = places[:, None] + torch.cat([steps, far])[:, None, None] * outward[:, None]
    covered = F.grid_sample(cover, grid, padding_mode="border", align_corners=False)[:, 0]  # [B, inward + near + far, N]
    unbroken = covered[:, inward:].cumprod(1)
    back = (1 - covered[:, :inward].flip(1)).cumprod(1).sum(1)
    distances = [EDGE_STEP * unbroken[:, :near].sum(1), EDGE_STEP * back, FAR_STEP * unbroken[:, near:].sum(1)]
    return torch.stack(distances, -1) / EDGE_UNIT


def _widened(mask: Tensor, side: int) -> Tensor:  # [B, 1, S, S]
    """Largest values over squares of so many pixels a side, along one axis after the other."""
    rows = F.max_pool2d(mask, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, side // 2))


class ColorFill(nn.Module):
    """Colours of hidden points from seen ones: the mean over ever larger cells of the template's (|x|, y), and beyond
    the largest, the nearest cells that are seen.

    So a back starts as its front, a hidden arm as the other arm, and legs outside the picture as the last that is seen
    of them; the network corrects from there.
    """

    cells: Tensor  # [levels, N] cell of each point
    reach: Tensor  # [cells, cells] weight of the coarsest cells for each other

    def __init__(self, points: Tensor, layers: Tensor):
        """Points [N, 3] in template space, and which of several surfaces [N] each lies on: colours do not pass from one to another."""
        super().__init__()
        flat = torch.stack([points[:, 0].abs(), points[:, 1] - points[:, 1].amin()], -1)
        flat = flat / flat.amax().clamp(min=1e-6)
        index = [(flat * side).long().clamp(max=side - 1) for side in FILL_CELLS]
        count = int(layers.amax()) + 1
        self.sizes = [count * side**2 for side in FILL_CELLS]  # cells a level
        cells = torch.stack([(layers * side + i[:, 1]) * side + i[:, 0] for i, side in zip(index, FILL_CELLS, strict=True)])
        self.register_buffer("cells", cells, persistent=False)
        every = torch.arange(len(points), device=points.device)
        self.sums = nn.ModuleList(FixedSums(c, every, 1.0, (size, len(points))) for c, size in zip(cells, self.sizes, strict=True))
        coarsest = FILL_CELLS[-1]
        centres = torch.cartesian_prod(*[torch.arange(coarsest, device=points.device).float()] * 2)
        reach = (1 + torch.cdist(centres, centres).square()) ** -6
        self.register_buffer("reach", torch.block_diag(*[reach] * count), persistent=False)

    def forward(self, colors: Tensor, seen: Tensor) -> Tensor:
        """Colours [B, N, 3] read where points fall and how well they are seen [B, N] → plausible colours [B, N, 3]."""
        rows = torch.cat([colors * seen[..., None], seen[..., None]], -1)  # [B, N, 4]
        totals = [sums(rows) for sums in self.sums]
        far = self.reach.to(rows.dtype) @ totals[-1]
        of_surface = far[..., 3:].unflatten(1, (-1, FILL_CELLS[-1] ** 2))
        unseen = (of_surface.sum(2, keepdim=True) < 1e-6).expand_as(of_surface).flatten(1, 2)  # nothing of it in the picture: grey
        mean = torch.where(unseen, 0.5, far[..., :3] / far[..., 3:].clamp(min=1e-20))
        guess = mean[:, self.cells[-1]]
        for cell, total in zip(reversed(list(self.cells)), reversed(totals), strict=True):
            near = total[:, cell]
            guess = torch.lerp(guess, near[..., :3] / near[..., 3:].clamp(min=1e-4), near[..., 3:].clamp(max=1))
        return torch.lerp(guess, colors, seen[..., None])
