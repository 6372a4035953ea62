"""Fit SMPL-X and a camera to the landmarks of a clip, all frames at once.

World axes are the body's (y up, the person faces +z); the camera sits at the origin and looks along -z, so
`w2c = diag(1, -1, -1, 1)`. Pose, expression and translation are cosine series over time, low frequencies first; shape
and focal length are shared by all frames. Adam in four stages, early ones on fewer frames and slower motion, under an
annealed Geman-McClure loss: a robust loss that starts narrow locks arms that begin on the wrong side. No full mesh is
built: 55 joints and some 150 surface points.

Axis legend: `T` frames, `J` joints (55), `K` landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model import fit_priors as priors
from model.body import Body
from model.fit_energy import CAMERA_AXES, Energy, every, landmarks
from model.fit_layout import Layout, Observations
from model.types import JOINTS, SmplxParams

CORNER_HZ = 5 / 3  # above this frequency the cosine series is scaled down with its square
STAGE_JOINTS = (1, 22, JOINTS, JOINTS)  # the first joints that move in each stage: root, body, all, all
STAGE_RATE = (6.0, 6.0, 12.0, math.inf)  # frames per second that each stage looks at, about
STAGE_STEP_SIZE = (1.0, 1.0, 1.0, 0.6)
LEAST_FRAMES = 16  # a clip is not thinned below this


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
    unknowns = Unknowns(observations, options, fixed)
    unknowns.place(_starting_place(body, layout, observations, unknowns))
    total, energies = sum(options.iterations), []
    for stage, steps in enumerate(options.iterations):
        step = thinning(observations, STAGE_RATE[stage])
        energy_of = Energy(body, layout, every(observations, step), options.unipolar_expression)
        optimizer = torch.optim.Adam(unknowns.free(stage), lr=options.learning_rate, betas=(0.9, 0.98))
        for done in range(steps):
            cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done / steps))
            optimizer.param_groups[0]["lr"] = options.learning_rate * cosine * STAGE_STEP_SIZE[stage]
            optimizer.zero_grad()
            scale = _robust_scale(stage, done / steps)
            energy = energy_of(unknowns.params(step), unknowns.log_focal, unknowns.focal(), stage, scale)
            energy.backward()
            unknowns.hold_joints(stage)
            optimizer.step()
            energies.append(energy.detach())
            if on_step is not None:
                on_step(len(energies), total)
    with torch.no_grad():
        params, focal = unknowns.params().detach(), unknowns.focal().detach()
        residual = Energy(body, layout, observations, options.unipolar_expression).residual(params, focal)
        return FitResult(params, focal.item(), residual, torch.stack(energies))


def cosine_basis(frames: int, fps: float) -> Tensor:
    """[T, T] columns: the cosine of k half periods over the clip, scaled by 1 / (1 + (its frequency / CORNER_HZ)²).

    The scaling is a preconditioner: one Adam step moves slow motion far and fast motion little.
    """
    k = torch.arange(frames, dtype=torch.float64)
    hertz = k * fps / (2 * frames)
    return torch.cos(torch.pi * k[None] * (k[:, None] + 0.5) / frames) / (1 + (hertz / CORNER_HZ) ** 2)[None]


def thinning(observations: Observations, rate: float) -> int:
    """Every how manieth frame a stage looks at, to see about `rate` frames per second but enough frames in all."""
    return max(1, min(round(observations.fps / rate), len(observations) // LEAST_FRAMES))


class Unknowns:
    """What the fit looks for: cosine series of the motion, shape, focal length."""

    def __init__(self, seen: Observations, options: FitOptions, fixed: FixedShape | None):
        frames = len(seen)
        self.exact_basis = cosine_basis(frames, seen.fps)
        self.basis = self.exact_basis.float()
        self.fixed = fixed is not None
        self.focal_start = fixed.focal if fixed else options.focal_prior * max(seen.size)  # pixels
        self.log_focal = torch.zeros(1, requires_grad=True)  # relative to focal_start
        self.betas = (fixed.betas.clone() if fixed else torch.zeros(10)).requires_grad_()
        self.pose_series = self._series(priors.pose_prior()[0].expand(frames, -1, -1))
        self.expression_series = self._series(torch.zeros(frames, 10))
        self.transl_series = self._series(torch.zeros(frames, 3))

    def place(self, transl: Tensor) -> None:
        """Start from translations [T, 3]."""
        self.transl_series.data.copy_(self._series(transl).data)

    def free(self, stage: int) -> list[Tensor]:
        """The unknowns that move in a stage."""
        shared = [] if self.fixed else [self.betas, self.log_focal]
        return [self.pose_series, self.transl_series, *([self.expression_series, *shared] if stage else [])]

    def hold_joints(self, stage: int) -> None:
        """Forget the gradient of the joints that do not move yet."""
        if self.pose_series.grad is not None:
            self.pose_series.grad[:, 3 * STAGE_JOINTS[stage] :] = 0

    def params(self, step: int = 1) -> SmplxParams:
        """Each `step`-th frame, without the motion that is too fast to be seen in these frames."""
        rows = self.basis[::step]
        basis = rows[:, : len(rows)]
        count = basis.shape[1]
        pose = (basis @ self.pose_series[:count]).unflatten(1, (JOINTS, 3))
        expression, transl = basis @ self.expression_series[:count], basis @ self.transl_series[:count]
        return SmplxParams.from_pose(pose, self.betas.expand(len(pose), -1), expression, transl)

    def focal(self) -> Tensor:  # [1] pixels
        return self.focal_start * self.log_focal.exp()

    def _series(self, motion: Tensor) -> Tensor:  # [T, ...] → [T, D]
        flat = motion.reshape(len(motion), -1).double()
        return torch.linalg.solve(self.exact_basis, flat).float().contiguous().requires_grad_()


def _robust_scale(stage: int, share: float) -> float:
    """Residual, in standard deviations, at which a landmark pulls hardest; `share` of the stage is done."""
    return (100.0, 30.0, 30.0 * 0.3**share, 9.0 * (3 / 9) ** min(1.0, 1.5 * share))[stage]


def _starting_place(body: Body, layout: Layout, seen: Observations, unknowns: Unknowns) -> Tensor:  # [T, 3]
    """Translation that puts the mean pose's shoulders where they are seen, as far away as the torso's size says."""
    pixels, metres = seen.torso_pixels, seen.torso_metres
    whole = ~(pixels.isnan().any(-1).any(-1) | metres.isnan().any(-1).any(-1))
    if not whole.any():
        raise ValueError(f"fit: expected a body in at least one of {len(pixels)} frames, found none")
    in_pixels, in_metres = (x[whole] - x[whole].mean(1, keepdim=True) for x in (pixels, metres))
    scale = (in_pixels * in_metres).sum() / in_metres.square().sum().clamp(min=1e-6)
    scale = scale.clamp(min=1.0)  # pixels per metre
    shoulders = _hold_last(pixels[:, :2].mean(1), whole) - torch.tensor(seen.size) / 2
    depth = (unknowns.focal_start / scale).expand(len(pixels), 1)
    with torch.no_grad():
        rest, _ = landmarks(body, layout, unknowns.params())
    return torch.cat([shoulders / scale, depth], 1) * torch.tensor(CAMERA_AXES) - rest[:, [16, 17]].mean(1)


def _hold_last(values: Tensor, valid: Tensor) -> Tensor:
    """Replace rows [T, ...] that are not `valid` [T] by the closest valid row in time."""
    index = torch.arange(len(values))
    known = index[valid]
    nearest = known[(index[:, None] - known[None]).abs().argmin(1)]
    return values[nearest]
