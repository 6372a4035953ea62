"""Fit SMPL-X and a camera to the landmarks of a clip, all frames at once.

World axes are the body's (y up, the person faces +z); the camera sits at the origin and looks along -z, so
`w2c = diag(1, -1, -1)`. Pose, expression and translation are cosine series over time, low frequencies first; shape and
focal length are shared by all frames. Adam in four stages under an annealed Geman-McClure loss: a robust loss
that starts narrow locks arms that begin on the wrong side. No full mesh is built: 55 joints and ~150 surface points.

Axis legend: `T` frames, `J` joints (55), `K` landmarks, `D` bones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from model import fit_priors as priors
from model.body import Body
from model.fit_layout import BODY_PART, FACE_PART, HAND_BONE_SIGMA, HAND_BONES, HANDS_PART, Layout, Observations
from model.types import JOINTS, SmplxParams

CAMERA_AXES = (1.0, -1.0, -1.0)  # world → OpenCV camera, and back
HAND_WEIGHT = 0.5
SMOOTH_PLACES_WEIGHT = 0.3
LIMIT_WEIGHT, NEGATIVE_EXPRESSION_WEIGHT = 1.0, 10.0
CORNER_HZ = 5 / 3  # above this frequency the cosine series is scaled down with its square
STAGE_JOINTS = (1, 22, JOINTS, JOINTS)  # the first joints that move in each stage: root, body, all, all


@dataclass(frozen=True)
class FitOptions:
    """How the fit is run."""

    iterations: tuple[int, int, int, int] = (60, 150, 120, 170)  # camera and root; body and face; hands; all
    learning_rate: float = 8e-3
    focal_prior: float = 1.6  # initial focal length, fraction of the picture's longer side
    unipolar_expression: bool = True  # the body's expression coefficients mean nothing below 0 (embedded body)


@dataclass(frozen=True)
class FixedShape:
    """Shape and focal length found elsewhere on the same person and camera."""

    betas: Tensor  # [10]
    focal: float  # pixels


@dataclass(frozen=True)
class FitResult:
    params: SmplxParams  # [T] world: camera at the origin, w2c = diag(1, -1, -1, 1)
    focal: float  # pixels
    residual: Tensor  # [T, K] metres at the landmark's depth; NaN where unseen
    energy: Tensor  # [iterations] of each step, for plots


def fit(
    body: Body,
    layout: Layout,
    observations: Observations,
    options: FitOptions = FitOptions(),
    fixed: FixedShape | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Fit all frames of `observations`; `on_step(done, total)` is called after each Adam step."""
    problem = _Problem(body, layout, observations, options, fixed)
    total, energies = sum(options.iterations), []
    for stage, steps in enumerate(options.iterations):
        free = problem.free(stage)
        optimizer = torch.optim.Adam(free, lr=options.learning_rate, betas=(0.9, 0.98))
        for step in range(steps):
            share = torch.tensor(step / steps)
            cosine = 0.03 + 0.97 * 0.5 * (1 + torch.cos(torch.pi * share).item())
            optimizer.param_groups[0]["lr"] = options.learning_rate * cosine * (0.6 if stage == 3 else 1.0)
            optimizer.zero_grad()
            energy = problem.energy(stage, _robust_scale(stage, step / steps))
            energy.backward()
            problem.hold_joints(stage)
            optimizer.step()
            energies.append(energy.detach())
            if on_step is not None:
                on_step(len(energies), total)
    with torch.no_grad():
        return FitResult(problem.params().detach(), problem.focal().item(), problem.residual(), torch.stack(energies))


def cosine_basis(frames: int, fps: float) -> Tensor:
    """[T, T] columns: the cosine of k half periods over the clip, scaled by 1 / (1 + (its frequency / CORNER_HZ)²).

    The scaling is a preconditioner: one Adam step moves slow motion far and fast motion little.
    """
    k = torch.arange(frames, dtype=torch.float64)
    hertz = k * fps / (2 * frames)
    basis = torch.cos(torch.pi * k[None] * (k[:, None] + 0.5) / frames) / (1 + (hertz / CORNER_HZ) ** 2)[None]
    return basis


def _robust_scale(stage: int, share: float) -> float:
    """Residual, in standard deviations, at which a landmark pulls hardest; `share` of the stage is done."""
    return (100.0, 30.0, 30.0 * 0.3**share, 9.0 * (3 / 9) ** min(1.0, 1.5 * share))[stage]


def geman_mcclure(squared: Tensor, scale: float) -> Tensor:
    """Robust loss of squared residuals: quadratic near 0, `scale²` at infinity."""
    return scale**2 * squared / (scale**2 + squared)


class _Problem:
    """The unknowns of one clip and the energy over them."""

    def __init__(self, body: Body, layout: Layout, seen: Observations, options: FitOptions, fixed: FixedShape | None):
        self.body, self.layout, self.seen, self.options = body, layout, seen, options
        frames = len(seen)
        self.flip = torch.tensor(CAMERA_AXES)
        self.centre = torch.tensor(seen.size) / 2
        self.pose_mean, self.pose_sigma = priors.pose_prior()
        self.pose_smooth, self.place_smooth = priors.acceleration_sigma(seen.fps)
        self.expression_smooth = priors.EXPRESSION_ACCELERATION * (priors.REFERENCE_FPS / seen.fps) ** 2
        basis = cosine_basis(frames, seen.fps)
        self.basis = basis.float()
        self.fixed = fixed is not None
        self.focal_start = fixed.focal if fixed else options.focal_prior * max(seen.size)
        self.log_focal = torch.zeros(1, requires_grad=True)  # relative to focal_start
        self.betas = (fixed.betas.clone() if fixed else torch.zeros(10)).requires_grad_()
        series = lambda x: torch.linalg.solve(basis, x.reshape(frames, -1).double()).float().requires_grad_()  # noqa: E731
        self.pose_series = series(self.pose_mean.expand(frames, -1, -1))
        self.expression_series = series(torch.zeros(frames, 10))
        self.transl_series = series(torch.zeros(frames, 3))
        with torch.no_grad():
            self.transl_series += series(self._starting_place())

    def free(self, stage: int) -> list[Tensor]:
        """The unknowns that move in a stage."""
        shared = [] if self.fixed else [self.betas, self.log_focal]
        return [self.pose_series, self.transl_series, *([self.expression_series, *shared] if stage else [])]

    def hold_joints(self, stage: int) -> None:
        if self.pose_series.grad is not None:
            self.pose_series.grad[:, 3 * STAGE_JOINTS[stage] :] = 0

    def params(self) -> SmplxParams:  # [T]
        pose = (self.basis @ self.pose_series).reshape(-1, JOINTS, 3)
        expression, transl = self.basis @ self.expression_series, self.basis @ self.transl_series
        return SmplxParams.from_pose(pose, self.betas.expand(len(pose), -1), expression, transl)

    def focal(self) -> Tensor:
        return self.focal_start * self.log_focal.exp()

    def energy(self, stage: int, scale: float) -> Tensor:
        """The whole energy, per frame; every term is in units of half a squared standard deviation or so."""
        params = self.params()
        pose = params.full_pose
        joints, marks = self._landmarks(params)
        direction_scale = max(3.0, scale)
        total = self._prior(params, pose) + self._smoothness(pose, joints, params.expression)
        error = geman_mcclure(self._squared(marks), scale) * self.seen.weights
        total = total + error[:, BODY_PART].sum(1).mean()
        if stage >= 1:
            total = total + error[:, FACE_PART].sum(1).mean() + self._limb_directions(joints, direction_scale)
        if stage >= 2:
            hands = error[:, HANDS_PART].sum(1).mean() + self._hand_directions(marks, direction_scale)
            total = total + HAND_WEIGHT * hands
        return total

    def residual(self) -> Tensor:  # [T, K] metres
        squared = self._squared(self._landmarks(self.params())[1]) * self.layout.sigma**2
        return torch.where(self.seen.weights > 0, squared.sqrt(), torch.nan)

    def _landmarks(self, params: SmplxParams) -> tuple[Tensor, Tensor]:
        """Posed joints [T, J, 3] and landmarks [T, K, 3], world."""
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        coefficients = params.shape_coefficients
        joints, transforms = self.body.kinematics(rotations, coefficients, params.transl)
        points = self.layout.points
        rest = self.body.shaped(points, rotations, coefficients)
        blend = torch.einsum("kj,tjc->tkc", points.weights, transforms.flatten(2)).unflatten(2, (3, 4))
        # products and sums, not one small matrix product per point: half the time on a CPU
        return joints, (blend[..., :3] * rest[:, :, None]).sum(-1) + blend[..., 3]

    def _squared(self, marks: Tensor) -> Tensor:  # [T, K, 3] → [T, K]
        """Squared distance in the picture, carried to the person's depth in metres, over the landmark's variance."""
        camera = marks * self.flip
        focal = self.focal()
        pixels = camera[..., :2] / camera[..., 2:].clamp(min=0.1) * focal + self.centre
        metres_per_pixel = (camera[..., 2].mean(1, keepdim=True) / focal).detach()
        return (pixels - self.seen.points).square().sum(-1) * metres_per_pixel**2 / self.layout.sigma**2

    def _limb_directions(self, joints: Tensor, scale: float) -> Tensor:
        bones = joints[:, self.layout.limb[:, 1]] - joints[:, self.layout.limb[:, 0]]
        off = (bones / bones.norm(dim=-1, keepdim=True) - self.seen.limbs).square().sum(-1) / self.layout.limb_sigma**2
        return (geman_mcclure(off, scale) * self.seen.limb_weights).sum(1).mean()

    def _hand_directions(self, marks: Tensor, scale: float) -> Tensor:
        hands = marks[:, HANDS_PART].unflatten(1, (2, -1))  # [T, 2, 21, 3]
        starts, ends = [i for i, _ in HAND_BONES], [j for _, j in HAND_BONES]
        bones = hands[:, :, ends] - hands[:, :, starts]
        bones = bones / bones.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        off = (bones - self.seen.hand_bones).square().sum(-1) / HAND_BONE_SIGMA**2
        return (geman_mcclure(off, scale).sum(-1) * self.seen.hand_weights).sum(1).mean()

    def _prior(self, params: SmplxParams, pose: Tensor) -> Tensor:
        expression = params.expression
        angles = ((pose - self.pose_mean) / self.pose_sigma).square().sum((1, 2)).mean()
        shape = (self.betas / priors.SHAPE_SIGMA).square().sum() + (
            self.log_focal / priors.LOG_FOCAL_SIGMA
        ).square().sum()
        face = (expression / priors.EXPRESSION_SIGMA).square().sum(1).mean()
        limits = priors.joint_limits(pose).mean() / priors.HINGE_SIGMA**2 * LIMIT_WEIGHT
        if self.options.unipolar_expression:
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

    def _starting_place(self) -> Tensor:  # [T, 3]
        """Translation that puts the mean pose's shoulders where they are seen, at the depth that the torso says."""
        pixels, metres = self.seen.torso_pixels, self.seen.torso_metres
        whole = ~(pixels.isnan().any(-1).any(-1) | metres.isnan().any(-1).any(-1))
        if not whole.any():
            raise ValueError(f"fit: expected a body in at least one of {len(pixels)} frames, found none")
        seen, size = (x[whole] - x[whole].mean(1, keepdim=True) for x in (pixels, metres))
        scale = ((seen * size).sum() / size.square().sum().clamp(min=1e-6)).clamp(min=1.0)  # pixels per metre
        depth = self.focal_start / scale
        shoulders = _hold_last(pixels[:, :2].mean(1), whole)
        place = torch.cat([(shoulders - self.centre) / scale, depth.expand(len(shoulders), 1)], 1) * self.flip
        rest, _ = self._landmarks(self.params())
        return place - rest[:, [16, 17]].mean(1)


def _hold_last(values: Tensor, valid: Tensor) -> Tensor:
    """Replace rows [T, ...] that are not `valid` [T] by the closest valid row in time."""
    index = torch.arange(len(values))
    known = index[valid]
    nearest = known[(index[:, None] - known[None]).abs().argmin(1)]
    return values[nearest]
