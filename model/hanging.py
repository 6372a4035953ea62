"""Cloth that hangs: what has left the legs, as skirts do, follows pelvis and thighs instead of the shin it stands off.

How far a Gaussian hangs follows from its place alone (skinning weights that belong to places off the body: Lin et al.,
FITE, ECCV 2022), so that one canonical skirt serves every stance.
Axes: B batch, N points, J joints.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.body import JOINT_NAMES, Body, SurfacePoints
from model.fixed_sums import KeptDtype

OFF = (0.04, 0.09)  # metres off the leg from which, and by which, a point hangs: trousers stay below, skirts soon pass it
CARRIERS = ("pelvis", "left_hip", "right_hip")
THIGHS = 0.5  # of what hangs at mid-thigh or below follows them, the rest the pelvis
AMONG = 0.16  # metres aside of the middle by which one thigh alone counts
LEGS = [JOINT_NAMES.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("hip", "knee", "ankle", "foot")]


class Hanging(KeptDtype):
    """What hangs of points that are fixed to a body's surface, and how it moves."""

    rest: Tensor  # [N, 3] template space
    legs: Tensor  # [N] share of the legs' joints in the points' weights
    carriers: Tensor  # [3] joints

    def __init__(self, body: Body, points: SurfacePoints):
        super().__init__()
        height = {name: float(body.joint_template[JOINT_NAMES.index(name), 1]) for name in ("left_hip", "left_knee")}
        self.top, self.bottom = height["left_hip"], (height["left_hip"] + height["left_knee"]) / 2
        buffers = {
            "rest": points.rest, "legs": points.weights[:, LEGS].sum(1),
            "carriers": torch.tensor([JOINT_NAMES.index(name) for name in CARRIERS], device=points.rest.device),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        moves: Tensor,  # [B, N, K] how the skin moves the points
        of_joints: Tensor,  # [B, J, K] how each joint moves what is its own
        offsets: Tensor,  # [B, N, 3] of the points from the template's surface
    ) -> Tensor:  # [B, N, K]
        """How the points move after what hangs has been told to; `moves` are weighted means of `of_joints`."""
        share = self.legs * _ramp(torch.linalg.vector_norm(offsets, dim=-1), *OFF)
        return torch.lerp(moves, self.weights(self.rest + offsets) @ of_joints[:, self.carriers], share[..., None])

    def weights(self, places: Tensor) -> Tensor:  # [B, N, 3] template space → [B, N, 3] of `CARRIERS`
        thighs = THIGHS * _ramp(places[..., 1], self.top, self.bottom)
        left = _ramp(places[..., 0], -AMONG, AMONG)
        return torch.stack([1 - thighs, thighs * left, thighs * (1 - left)], -1)


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 before `start`, 1 after `end`, smooth between."""
    t = ((x - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)
