"""A sheet of cloth round both legs, where Gaussians of skirts and coats start that no skin lies under.

Skin's anchors can be moved out to a skirt, but there are few for its width, those of both legs have to meet in the middle, and
how far each goes has to be learned for every spot. From the sheet all skirts are near; it is invisible where none is worn.
Axes: R rows from the hips to the ankles, C columns round the legs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.body import JOINT_NAMES, Body

ROWS, COLUMNS = 48, 96
ABOVE_HIP, ABOVE_ANKLE = 0.06, 0.05  # metres: where the sheet begins and ends
OFF = (0.01, 0.10)  # metres off the legs' hull, at the top and at the bottom
SLAB = 0.035  # metres above and below a row whose skin makes its hull
NARROWER = 0.985  # a row is no narrower than so much of the one above it


def skirt_mesh(body: Body) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points [R·C, 3] of the sheet in template space, and its triangles [F, 3], whose fronts face outward."""
    joint = lambda name: float(body.joint_template[JOINT_NAMES.index(name), 1])  # noqa: E731
    heights = np.linspace(joint("left_hip") + ABOVE_HIP, joint("left_ankle") + ABOVE_ANKLE, ROWS)
    angle = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    template = body.template.detach().cpu().numpy().astype(np.float64)
    between = template[(template[:, 1] < heights[0]) & (template[:, 1] > heights[-1])]
    depth = (between[:, 2].min() + between[:, 2].max()) / 2
    reach = np.stack([_hull(template[np.abs(template[:, 1] - h) < SLAB][:, [0, 2]] - [0, depth], angle) for h in heights])
    for row in range(1, ROWS):
        reach[row] = np.maximum(reach[row], NARROWER * reach[row - 1])
    reach = reach + np.linspace(*OFF, ROWS)[:, None]
    points = np.stack([np.sin(angle) * reach, np.broadcast_to(heights[:, None], reach.shape), np.cos(angle) * reach + depth], -1)
    index = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, d = index[:-1], index[1:]
    b, c = np.roll(a, -1, 1), np.roll(d, -1, 1)
    return points.reshape(-1, 3), np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (a, d, c))])


def _hull(points: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance [C] from the origin to the convex hull of points [P, 2], each way."""
    support = (np.stack([np.sin(angle), np.cos(angle)], 1) @ points.T).max(1)
    facing = np.cos(angle[:, None] - angle)
    return np.where(facing > 0.05, support / np.maximum(facing, 0.05), np.inf).min(1)
