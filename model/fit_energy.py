"""The energy of the body fit: landmarks in the picture, directions of bones, priors, smoothness.

Terms are in units of half a squared standard deviation, summed over landmarks and averaged over frames. World axes are
the body's (y up); the camera sits at the origin and looks along -z.

Axis legend: `T` frames, `J` joints (55), `K` landmarks, `D` bones.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import roma
import torch
from torch import Tensor

from model import fit_priors as priors
from model.body import Body
from model.fit_layout import BODY_PART, FACE_PART, HAND_BONE_SIGMA, HAND_BONES, HANDS_PART, Layout, Observations
from model.types import SmplxParams

CAMERA_AXES = (1.0, -1.0, -1.0)  # world → OpenCV camera, and back
HAND_WEIGHT = 0.5
SMOOTH_PLACES_WEIGHT = 0.3
NEGATIVE_EXPRESSION_WEIGHT = 10.0
DIRECTION_SCALE = 3.0  # the robust scale of directions gets no narrower
NEAREST = 0.1  # metres; points nearer to the camera's plane are taken to lie there


def geman_mcclure(squared: Tensor, scale: float) -> Tensor:
    """Robust loss of squared residuals: quadratic near 0, `scale²` at infinity."""
    return scale**2 * squared / (scale**2 + squared)


def landmarks(body: Body, layout: Layout, params: SmplxParams) -> tuple[Tensor, Tensor]:
    """Posed joints [T, J, 3] and landmarks [T, K, 3], world."""
    rotations = roma.rotvec_to_rotmat(params.full_pose)
    coefficients = params.shape_coefficients
    joints, transforms = body.kinematics(rotations, coefficients, params.transl)
    rest = body.shaped(layout.points, rotations, coefficients)
    blend = torch.einsum("kj,tjc->tkc", layout.points.weights, transforms.flatten(2)).unflatten(2, (3, 4))
    # products and sums, not one small matrix product per point: half the time on a CPU
    return joints, (blend[..., :3] * rest[:, :, None]).sum(-1) + blend[..., 3]


def project(points: Tensor, focal: Tensor | float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """World points [T, K, 3] → pixels [T, K, 2] and depths [T, K] in metres."""
    camera = points * torch.tensor(CAMERA_AXES)
    depth = camera[..., 2].clamp(min=NEAREST)
    return camera[..., :2] / depth[..., None] * focal + torch.tensor(size) / 2, depth


class Energy:
    """The energy of bodies [T] given what is seen of them [T]."""

    def __init__(self, body: Body, layout: Layout, seen: Observations, unipolar_expression: bool):
        self.body, self.layout, self.seen = body, layout, seen
        self.unipolar_expression = unipolar_expression
        self.pose_mean, self.pose_sigma = priors.pose_prior()
        self.pose_smooth, self.place_smooth = priors.acceleration_sigma(seen.fps)
        self.expression_smooth = priors.EXPRESSION_ACCELERATION * (priors.REFERENCE_FPS / seen.fps) ** 2
        self.bone_starts, self.bone_ends = torch.tensor(HAND_BONES).T

    def __call__(self, params: SmplxParams, log_focal: Tensor, focal: Tensor, stage: int, scale: float) -> Tensor:
        """One number. Stages 0: trunk and limbs in the picture; 1: also face, bone directions; 2 and 3: also hands.

        `focal` in pixels, `log_focal` its logarithm relative to the first guess; `scale` of the robust loss.
        """
        pose = params.full_pose
        joints, marks = landmarks(self.body, self.layout, params)
        error = geman_mcclure(self.squared(marks, focal), scale) * self.seen.weights
        direction_scale = max(DIRECTION_SCALE, scale)
        total = self._prior(params, pose, log_focal) + self._smoothness(pose, joints, params.expression)
        total = total + error[:, BODY_PART].sum(1).mean()
        if stage >= 1:
            total = total + error[:, FACE_PART].sum(1).mean() + self._limb_directions(joints, direction_scale)
        if stage >= 2:
            hands = error[:, HANDS_PART].sum(1).mean() + self._hand_directions(marks, direction_scale)
            total = total + HAND_WEIGHT * hands
        return total

    def squared(self, marks: Tensor, focal: Tensor) -> Tensor:  # [T, K, 3] → [T, K]
        """Squared distance in the picture, carried to the person's depth in metres, over the landmark's variance."""
        pixels, depth = project(marks, focal, self.seen.size)
        metres_per_pixel = (depth.mean(1, keepdim=True) / focal).detach()
        return (pixels - self.seen.points).square().sum(-1) * metres_per_pixel**2 / self.layout.sigma**2

    def residual(self, params: SmplxParams, focal: Tensor) -> Tensor:  # [T, K]
        """Distance in the picture at the person's depth, metres; NaN where unseen."""
        marks = landmarks(self.body, self.layout, params)[1]
        distance = self.squared(marks, focal).sqrt() * self.layout.sigma
        return torch.where(self.seen.weights > 0, distance, torch.nan)

    def _limb_directions(self, joints: Tensor, scale: float) -> Tensor:
        bones = joints[:, self.layout.limb[:, 1]] - joints[:, self.layout.limb[:, 0]]
        off = (bones / bones.norm(dim=-1, keepdim=True) - self.seen.limbs).square().sum(-1) / self.layout.limb_sigma**2
        return (geman_mcclure(off, scale) * self.seen.limb_weights).sum(1).mean()

    def _hand_directions(self, marks: Tensor, scale: float) -> Tensor:
        hands = marks[:, HANDS_PART].unflatten(1, (2, -1))  # [T, 2, 21, 3]
        bones = hands[:, :, self.bone_ends] - hands[:, :, self.bone_starts]
        bones = bones / bones.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        off = (bones - self.seen.hand_bones).square().sum(-1) / HAND_BONE_SIGMA**2
        return (geman_mcclure(off, scale).sum(-1) * self.seen.hand_weights).sum(1).mean()

    def _prior(self, params: SmplxParams, pose: Tensor, log_focal: Tensor) -> Tensor:
        expression = params.expression
        angles = ((pose - self.pose_mean) / self.pose_sigma).square().sum((1, 2)).mean()
        shape = (params.betas[0] / priors.SHAPE_SIGMA).square().sum() + (
            log_focal / priors.LOG_FOCAL_SIGMA
        ).square().sum()
        face = (expression / priors.EXPRESSION_SIGMA).square().sum(1).mean()
        limits = priors.joint_limits(pose).mean() / priors.HINGE_SIGMA**2
        if self.unipolar_expression:
            limits = limits + NEGATIVE_EXPRESSION_WEIGHT * torch.relu(-expression).square().sum(1).mean()
        return 0.5 * (angles + shape + face) + limits

    def _smoothness(self, pose: Tensor, joints: Tensor, expression: Tensor) -> Tensor:
        if len(pose) < 3:
            return pose.new_zeros(())
        bend = lambda x: x[2:] - 2 * x[1:-1] + x[:-2]  # noqa: E731
        angles = (bend(pose) / self.pose_smooth).square().sum((1, 2)).mean()
        places = (bend(joints) / self.place_smooth).square().sum((1, 2)).mean()
        face = (bend(expression) / self.expression_smooth).square().sum(1).mean()
        return 0.5 * (angles + SMOOTH_PLACES_WEIGHT * places + face)


def every(observations: Observations, step: int) -> Observations:
    """Each `step`-th frame."""
    values = ((f.name, getattr(observations, f.name)) for f in fields(observations))
    cut: dict[str, Any] = {name: value[::step] for name, value in values if isinstance(value, Tensor)}
    return replace(observations, fps=observations.fps / step, **cut)
