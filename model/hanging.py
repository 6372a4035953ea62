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
WAIST = (0.06, -0.04)  # metres above the hips where cloth begins to hang, and where it hangs altogether
LEGS = [JOINT_NAMES.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("hip", "knee", "ankle", "foot")]


class Hanging(KeptDtype):
    """What hangs of points that are fixed to a body's surface, and how it moves."""

    rest: Tensor  # [N, 3] template space
    legs: Tensor  # [N] share of the legs' joints in the points' weights
    least: Tensor  # [N] 0..1 how much the points hang at least, wherever they are
    carriers: Tensor  # [3] joints

    def __init__(self, body: Body, points: SurfacePoints, least: Tensor):
        super().__init__()
        self.top, self.bottom = rest_height(body, "left_hip"), (rest_height(body, "left_hip") + rest_height(body, "left_knee")) / 2
        buffers = {
            "rest": points.rest, "legs": points.weights[:, LEGS].sum(1), "least": least,
            "carriers": torch.tensor([JOINT_NAMES.index(name) for name in CARRIERS], device=points.rest.device),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        moves: Tensor,  # [B, N, K] how the skin moves the points
        of_joints: Tensor,  # [B, J, K] how each joint moves what is its own
        offsets: Tensor,  # [B, N, 3] or [N, 3] of the points from the template's surface
    ) -> Tensor:  # [B, N, K]
        """How the points move after what hangs has been told to; `moves` are weighted means of `of_joints`."""
        share = torch.maximum(self.legs * _ramp(torch.linalg.vector_norm(offsets, dim=-1), *OFF), self.least)
        return torch.lerp(moves, self.weights(self.rest + offsets) @ of_joints[:, self.carriers], share[..., None])

    def weights(self, places: Tensor) -> Tensor:  # [..., N, 3] template space → [..., N, 3] of `CARRIERS`
        thighs = THIGHS * _ramp(places[..., 1], self.top, self.bottom)
        left = _ramp(places[..., 0], -AMONG, AMONG)
        return torch.stack([1 - thighs, thighs * left, thighs * (1 - left)], -1)


def hung(body: Body, places: Tensor) -> Tensor:  # [N, 3] template space → [N]
    """How much cloth at these places hangs, 0..1: the less the nearer to the waist."""
    hip = rest_height(body, "left_hip")
    return _ramp(places[..., 1], hip + WAIST[0], hip + WAIST[1])


def rest_height(body: Body, joint: str) -> float:  # metres, template space
    return float(body.joint_template[JOINT_NAMES.index(joint), 1])


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 before `start`, 1 after `end`, smooth between."""
    t = ((x - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)
