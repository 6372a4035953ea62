"""What a talking person's pose is likely to be, before any landmark: tables of the body fit.

Axis legend: `J` joints (55, smplx's order), `T` frames. Angles in radians, axis-angle relative to the parent joint.
The widths were set by hand on talking people; hinge axes hold for every body in SMPL-X's T-pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.body import JOINT_NAMES
from model.types import JOINTS

REFERENCE_FPS = 25.0  # rate for which the smoothness tables are given; accelerations scale with its square
FINGERS = ("index", "middle", "pinky", "ring")

_SPINE = (0.12, 0.12, 0.10)
# standard deviation per joint (one number, or x y z); `{s}` stands for left and right
_SIGMA: dict[str, float | tuple[float, float, float]] = {
    "pelvis": 10.0, "spine1": _SPINE, "spine2": _SPINE, "spine3": _SPINE, "neck": 0.25, "head": (0.35, 0.5, 0.3),
    "{s}_collar": 0.15, "{s}_shoulder": 1.2, "{s}_elbow": (0.6, 2.0, 0.12), "{s}_wrist": (0.5, 0.45, 0.6),
    "{s}_hip": 0.25, "{s}_knee": 0.25, "{s}_ankle": 0.15, "{s}_foot": 0.15,
    "jaw": (0.25, 0.02, 0.03), "{s}_eye_smplhf": (0.2, 0.3, 0.01),
    **{f"{{s}}_{finger}1": (0.08, 0.15, 0.5) for finger in FINGERS},
    **{f"{{s}}_{finger}2": (0.03, 0.03, 0.6) for finger in FINGERS},
    **{f"{{s}}_{finger}3": (0.03, 0.03, 0.5) for finger in FINGERS},
    "{s}_thumb1": 0.3, "{s}_thumb2": (0.12, 0.35, 0.12), "{s}_thumb3": (0.12, 0.35, 0.12),
}  # fmt: skip
# mean pose of the left side: arms hang, forearms are raised, fingers are half bent; the right side is its mirror image
_LEFT_MEAN: dict[str, tuple[float, float, float]] = {
    "shoulder": (0.0, 0.0, -1.1), "elbow": (0.0, -1.2, 0.0),
    **{f"{finger}{k + 1}": (0.0, 0.0, -bend) for finger in FINGERS for k, bend in enumerate((0.4, 0.5, 0.35))},
    **{f"thumb{k}": (0.0, 0.15, 0.0) for k in (1, 2, 3)},
}  # fmt: skip
_ACCELERATION: dict[str, float] = {  # of the pose, per frame squared at 25 frames/s
    "pelvis": 0.005, "spine1": 0.003, "spine2": 0.003, "spine3": 0.003, "neck": 0.008, "head": 0.012,
    "{s}_collar": 0.008, "{s}_shoulder": 0.025, "{s}_elbow": 0.03, "{s}_wrist": 0.05, "jaw": 0.08, "{s}_eye_smplhf": 0.1,
    **{f"{{s}}_{finger}{k}": 0.06 for finger in (*FINGERS, "thumb") for k in (1, 2, 3)},
}  # fmt: skip

EXPRESSION_SIGMA = 0.7
EXPRESSION_ACCELERATION = 0.15  # per frame squared at 25 frames/s
LOG_FOCAL_SIGMA = 0.1
PLACE_ACCELERATION = (0.0007, 0.0007, 0.0007)  # metres per frame squared at 25 frames/s: right, up, depth
HINGE_SIGMA = 0.05  # softness of the joint limits


def joint_index(name: str) -> int:
    return JOINT_NAMES.index(name)


def pose_prior() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each angle, [J, 3] each."""
    sigma, mean = torch.full((JOINTS, 3), 0.3), torch.zeros(JOINTS, 3)
    for name, value in _SIGMA.items():
        for joint in _both_sides(name):
            sigma[joint] = torch.tensor(value)
    for name, angles in _LEFT_MEAN.items():
        left = torch.tensor(angles)
        mean[joint_index(f"left_{name}")] = left
        mean[joint_index(f"right_{name}")] = left * torch.tensor([1.0, -1.0, -1.0])
    return mean, sigma


def acceleration_sigma(fps: float) -> Tensor:  # [J, 3]
    """Standard deviations of the angles' second differences over frames."""
    angles = torch.full((JOINTS, 3), 0.02)
    for name, value in _ACCELERATION.items():
        for joint in _both_sides(name):
            angles[joint] = value
    return angles * (REFERENCE_FPS / fps) ** 2


def joint_limits() -> tuple[Tensor, Tensor]:
    """Least and greatest angles [J, 3]: elbows and knees do not bend backwards, fingers -9°..97°, the jaw 0..29°."""
    low, high = torch.full((JOINTS, 3), -torch.inf), torch.full((JOINTS, 3), torch.inf)
    high[joint_index("left_elbow"), 1], low[joint_index("right_elbow"), 1] = -0.02, 0.02
    low[[joint_index("left_knee"), joint_index("right_knee")], 0] = 0.0
    low[joint_index("jaw"), 0], high[joint_index("jaw"), 0] = 0.0, 0.5
    # four fingers of three joints each; thumbs have no hinge here
    low[25:37, 2], high[25:37, 2] = -1.7, 0.15
    low[40:52, 2], high[40:52, 2] = -0.15, 1.7
    return low, high


def _both_sides(name: str) -> list[int]:
    return [joint_index(name.format(s=side)) for side in ("left", "right")] if "{s}" in name else [joint_index(name)]
