"""Teeth and tongue that look right in an open mouth: MakeHuman's are wide bands and a slab.

V vertices of the base mesh; metres, template space (y up, z forward).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from samples.builders.makehuman import Rig

ARCH = 0.82  # of MakeHuman's width, which is 67 mm at the molars and shows white at the corners of closed lips
UPPER_DROP, LOWER_DROP = 0.0030, 0.0015  # metres; the edges of the incisors show under a raised lip
TEETH_BACK = 0.0012  # metres behind MakeHuman's place, off the lips
LEAN, THICKNESS = (0.0009, 0.0006), 0.0022  # metres: how far the middle and edge stand before the gum; thickness of the edge
TONGUE_SIZE, TONGUE_DROP = np.array([0.9, 0.75, 0.80]), 0.006  # the whole one would cover the lower teeth
TIP_LENGTH, TIP_WIDTH, TIP_HEIGHT = 0.030, 0.62, 0.45  # metres over which the tongue tapers; what is left at its tip
GROOVE_DEPTH, GROOVE_WIDTH = 0.0016, 0.0045  # metres, along the middle of the tongue

JAW_SHUT = 0.02  # radians; MakeHuman's lips do not quite meet, and teeth would glint between them


def shape_mouth(template: np.ndarray, rig: Rig) -> np.ndarray:  # [V, 3] → [V, 3]
    """A copy with narrower dental arches, a lower row of upper teeth, and a tongue with a tip and a groove."""
    out = template.copy()
    for group, drop, down in (("helper-upper-teeth", UPPER_DROP, 1.0), ("helper-lower-teeth", LOWER_DROP, -1.0)):
        teeth = rig.vertices(group)
        out[teeth] = _upright_teeth(out[teeth], down)
        out[teeth] = out[teeth] * [ARCH, 1, 1] - [0, drop, TEETH_BACK]
    tongue = rig.vertices("helper-tongue")
    out[tongue] = _tongue(out[tongue])
    return out


def close_lips(template: np.ndarray, jaw: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Turn the jaw shut about its joint [3]; `share` [V] is its skinning weight."""
    turn = Rotation.from_rotvec([-JAW_SHUT, 0, 0]).as_matrix()
    arm = template - jaw
    return template + share[:, None] * (arm @ turn.T - arm)


def _upright_teeth(points: np.ndarray, down: float) -> np.ndarray:
    """Bands [68, 3] whose front stands upright and whose back is a narrow rim, so that their shading is a tooth's.

    A band has 17 columns round the arch: three points in front (gum, middle, edge) and one behind. `down` is 1 where
    the edge is the lower end, −1 where it is the upper one.
    """
    low, high = points[:, [0, 2]].min(0), points[:, [0, 2]].max(0)
    radii = np.array([(high[0] - low[0]) / 2, high[1] - low[1]])
    flat = (points[:, [0, 2]] - [0, low[1]]) / radii
    bearing = np.arctan2(flat[:, 0], flat[:, 1])
    behind = np.linalg.norm(flat, axis=1) < 0.9
    front = np.flatnonzero(~behind)[np.argsort(bearing[~behind], kind="stable")].reshape(17, 3)
    back = np.flatnonzero(behind)[np.argsort(bearing[behind], kind="stable")]
    gum, middle, edge = np.take_along_axis(front, np.argsort(-down * points[front, 1], 1), 1).T
    outward = flat[gum] / radii
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    out = points.copy()
    for row, lean in ((middle, LEAN[0]), (edge, LEAN[1])):
        out[np.ix_(row, [0, 2])] = points[np.ix_(gum, [0, 2])] + lean * outward
    out[np.ix_(back, [0, 2])] = out[np.ix_(edge, [0, 2])] - THICKNESS * outward
    out[back, 1] = out[edge, 1] + down * THICKNESS / 4
    return out


def _tongue(points: np.ndarray) -> np.ndarray:
    root = np.array([0, points[:, 1].min(), points[:, 2].min()])
    points = root + TONGUE_SIZE * (points - root) - [0, TONGUE_DROP, 0]
    near_tip = np.clip(1 - (points[:, 2].max() - points[:, 2]) / TIP_LENGTH, 0, 1) ** 2
    middle = np.median(points[points[:, 2] > points[:, 2].max() - TIP_LENGTH, 1])
    x = points[:, 0] * (1 - (1 - TIP_WIDTH) * near_tip)
    above = points[:, 1] > middle
    groove = GROOVE_DEPTH * np.exp(-((x / GROOVE_WIDTH) ** 2)) * above * (1 - near_tip)
    y = middle + (points[:, 1] - middle) * (1 - (1 - TIP_HEIGHT) * near_tip) - groove
    return np.stack([x, y, points[:, 2]], -1)
