"""Where the cameras of a scan stand: a ring round the whole person, then half-body ones in front. World: y up, metres."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import roma
import torch

from configs.schema import ScansConfig
from model.body import Body
from model.types import Camera, SmplxParams
from pipelines.view_sets import View, azimuth_of

HALF_BODY_FOCAL = 1.6  # fraction of the picture's side, as talks are filmed
HALF_BODY_SPREAD = 40.0  # degrees each side of the front
PELVIS, HEAD = 0, 15


def make_views(vertices: np.ndarray, params: SmplxParams | None, body: Body, scans: ScansConfig) -> list[View]:
    """Cameras round a person: `views` of the whole body, then `half_body_views` from the hips up in front.

    Without a body the front is +z, and only whole views are made.
    """
    low, high = torch.from_numpy(vertices.min(0)).double(), torch.from_numpy(vertices.max(0)).double()
    turned = torch.zeros(3) if params is None else params.global_orient
    facing = roma.rotvec_to_rotmat(turned)[:, 2].double()
    front = math.atan2(facing[0], facing[2])
    size, middle = scans.size, (low + high) / 2
    views: list[tuple[Literal["full", "half"], Camera]] = []
    height, width = float(high[1] - low[1]), float((high - low)[::2].max())
    distance = scans.distance or scans.focal * max(height / scans.height_fill, width) / size
    for i in range(scans.views):
        turn = math.radians(scans.azimuth + 360 * i / scans.views)
        # the golden ratio spreads elevations evenly whatever their count
        lift = math.radians(scans.elevation * (2 * ((i * 0.618034) % 1) - 1)) if scans.elevation else 0.0
        views.append(("full", look_at(middle, front + turn, lift, distance, scans.focal, size)))
    joints = middle[None] if params is None else body.joints(params[None])[0].double()
    for i in range(scans.half_body_views if params is not None else 0):
        turn = math.radians(HALF_BODY_SPREAD * (2 * (i + 0.5) / scans.half_body_views - 1))
        hips, top = float(joints[PELVIS, 1]) - 0.05, float(high[1])
        focal = HALF_BODY_FOCAL * size
        centre = torch.stack([joints[HEAD, 0], joints.new_tensor((hips + top) / 2), joints[HEAD, 2]])
        near = focal * (top - hips) / (scans.height_fill * size)
        views.append(("half", look_at(centre, front + turn, 0.0, near, focal, size)))
    pelvis = joints[PELVIS].float()
    azimuth = lambda camera: float(azimuth_of(camera.w2c, turned, pelvis))  # noqa: E731
    return [View(f"{i:03d}.png", kind, azimuth(camera), camera) for i, (kind, camera) in enumerate(views)]


def look_at(centre: torch.Tensor, azimuth: float, elevation: float, distance: float, focal: float, size: int) -> Camera:
    """An upright camera `distance` metres from `centre` [3], looking at it; azimuth 0 is +z, π/2 is +x (radians)."""
    level = math.cos(elevation)
    towards = [math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level]
    back = torch.tensor(towards, dtype=torch.float64)
    right = torch.tensor([math.cos(azimuth), 0.0, -math.sin(azimuth)], dtype=torch.float64)
    down = -torch.linalg.cross(back, right)
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3, :3] = torch.stack([right, down, -back])
    w2c[:3, 3] = -w2c[:3, :3] @ (centre.double() + distance * back)
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(w2c.float(), intrinsics.float(), torch.tensor([size, size]))
