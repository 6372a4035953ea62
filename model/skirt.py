"""A sheet of cloth round both legs, where Gaussians of skirts and coats start that no skin lies under.

Skin's anchors can be moved out to a skirt, but there are few for its width, those of both legs have to meet in the middle, and
how far each goes has to be learned for every spot. From the sheet all skirts are near; it is invisible where none is worn.
Axes: R rows from the hips to the ankles, C columns round the legs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.body import Body
from model.hanging import rest_height
from model.winding import grid_faces, hull_reach, wound

ROWS, COLUMNS = 48, 96
ABOVE_HIP, ABOVE_ANKLE = 0.06, 0.05  # metres: where the sheet begins and ends
OFF = (0.01, 0.10)  # metres off the legs' hull, at the top and at the bottom
SLAB = 0.035  # metres above and below a row whose skin makes its hull
NARROWER = 0.985  # a row is no narrower than so much of the one above it


def skirt_mesh(body: Body) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points [R·C, 3] of the sheet in template space, and its triangles [F, 3], whose fronts face outward."""
    heights = np.linspace(rest_height(body, "left_hip") + ABOVE_HIP, rest_height(body, "left_ankle") + ABOVE_ANKLE, ROWS)
    angle = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    template = body.template.detach().cpu().numpy().astype(np.float64)
    between = template[(template[:, 1] < heights[0]) & (template[:, 1] > heights[-1])]
    axis = (0.0, float(between[:, 2].min() + between[:, 2].max()) / 2)
    reach = np.stack([hull_reach(template[np.abs(template[:, 1] - h) < SLAB], angle, axis) for h in heights])
    for row in range(1, ROWS):
        reach[row] = np.maximum(reach[row], NARROWER * reach[row - 1])
    reach = reach + np.linspace(*OFF, ROWS)[:, None]
    return wound(angle, heights[:, None], reach, axis), grid_faces(ROWS, COLUMNS, closed=True)
