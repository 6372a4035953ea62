"""Fit SMPL-X and a camera to the landmarks of a clip, all frames at once.

World axes are the body's (y up, the person faces +z); the camera sits at the origin and looks along -z, so
`w2c = diag(1, -1, -1, 1)`. Levenberg-Marquardt over all frames, whose shape and focal length are shared; first on few
frames of the trunk and arms, then with face and hands, then on every frame, under an annealed Geman-McClure loss: a
robust loss that starts narrow locks arms that begin on the wrong side. No full mesh is built: 55 joints and some 150
surface points.

Axis legend: `T` frames, `J` joints (55), `K` landmarks, `A` pose coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model import fit_priors as priors
from model.body import Body
from model.fit_energy import CAMERA_AXES, Energy, State, every
from model.fit_layout import Layout, Observations
from model.fit_shape import BETAS, ShapePrior
from model.fit_solver import solve
from model.fit_threads import one_thread
from model.types import JOINTS, SmplxParams

COARSE_RATE = 6.0  # frames per second that the early stages look at, about
LEAST_FRAMES = 16  # a clip is not thinned below this
SCALES = ((100.0, 30.0), (30.0, 9.0), (9.0, 3.0), (3.0, 3.0))  # of the robust loss in each stage, start and end
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-4, 1e4
FIXED_SIGMA = 0.035  # angles whose prior is narrower stay at its mean
LEGS = (4, 5, 7, 8, 10, 11)


@dataclass(frozen=True)
class FitOptions:
    """How the fit is run."""

    iterations: tuple[int, int, int, int] = (8, 6, 4, 3)  # few frames: body; all; every frame: annealed; settled
    focal_prior: float = 1.8  # initial focal length, fraction of the picture's longer side
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
    energy: Tensor  # [iterations] after each step, for plots


def fit(
    body: Body,
    layout: Layout,
    observations: Observations,
    options: FitOptions = FitOptions(),
    fixed: FixedShape | None = None,
    on_step: Callable[[int, int], None] | None = None,
    shape: ShapePrior | None = None,
) -> FitResult:
    """Fit all frames of `observations`; `on_step(done, total)` is called after each step; no `shape`: the population's."""
    energies: list[float] = []
    total = sum(options.iterations)

    def tell(value: float) -> None:
        energies.append(value)
        if on_step is not None:
            on_step(len(energies), total)

    with torch.no_grad(), one_thread():
        focal = fixed.focal if fixed else options.focal_prior * max(observations.size)
        step = thinning(observations, COARSE_RATE)
        few = every(observations, step)
        state = starting_state(body, layout, few, focal, fixed, shape)
        legs = bool((observations.weights[:, 8:10] > 0).any())
        everything = moving_coordinates(legs, hands=True)

        def energy_of(seen: Observations, coordinates: Tensor, hands: bool = True) -> Energy:
            return Energy(body, layout, seen, coordinates, focal, options.unipolar_expression, hands, shape)

        stages = options.iterations
        descend(energy_of(few, moving_coordinates(legs, hands=False), False), state, stages[0], SCALES[0], fixed, tell)
        descend(energy_of(few, everything), state, stages[1], SCALES[1], fixed, tell)
        state = refined(state, step, len(observations))
        final = energy_of(observations, everything)
        descend(final, state, stages[2], SCALES[2], fixed, tell)
        descend(final, state, stages[3], SCALES[3], fixed, tell)
        return FitResult(state.params(), final.focal(state).item(), final.residual(state), torch.tensor(energies))


def descend(
    energy: Energy, state: State, steps: int, scales: tuple[float, float], fixed: FixedShape | None, tell: Callable[[float], None]
) -> None:
    """Levenberg-Marquardt: `steps` linearisations, `state` is changed in place."""
    damping = FIRST_DAMPING
    held = torch.tensor([1e12] * (BETAS + 1)) if fixed else torch.zeros(BETAS + 1)
    first, last = scales
    for done in range(steps):
        scale = first * (last / first) ** (done / max(steps - 1, 1))
        before = energy.value(state, scale)
        equations = energy.equations(state, scale)
        typical = equations.matrix.diagonal(dim1=1, dim2=2).mean(0)
        shared = equations.shared_matrix.diagonal()
        while True:
            step, common = solve(equations, energy.smoothness, energy.unknowns(state), damping * typical, damping * shared + held)
            trial = energy.moved(state, step, common * (0.0 if fixed else 1.0))
            after = energy.value(trial, scale)
            if after < before:
                vars(state).update(vars(trial))
                damping = max(damping / 5, LEAST_DAMPING)
                break
            damping *= 8
            if damping > MOST_DAMPING:
                after = before
                break
        tell(after)


def moving_coordinates(legs: bool, hands: bool) -> Tensor:  # [A, 2]
    """Joint and axis of the angles that the fit moves; the others stay at the prior's mean."""
    sigma = priors.pose_prior()[1]
    free = sigma > FIXED_SIGMA
    if not legs:
        free[list(LEGS)] = False
    if not hands:
        free[25:] = False
    return free.nonzero()


def thinning(observations: Observations, rate: float) -> int:
    """Every how manieth frame a stage looks at, to see about `rate` frames per second but enough frames in all."""
    return max(1, min(round(observations.fps / rate), len(observations) // LEAST_FRAMES))


def refined(state: State, step: int, frames: int) -> State:
    """The state of each `step`-th frame → of every frame, linearly in between."""
    at = torch.arange(frames) / step
    low = at.floor().long().clamp(max=len(state.transl) - 1)
    high = (low + 1).clamp(max=len(state.transl) - 1)
    between = lambda x: torch.lerp(x[low], x[high], (at - low).reshape(-1, *[1] * (x.dim() - 1)).to(x))  # noqa: E731
    return replace(state, pose=between(state.pose), transl=between(state.transl), expression=between(state.expression))


def starting_state(
    body: Body, layout: Layout, seen: Observations, focal: float, fixed: FixedShape | None, shape: ShapePrior | None = None
) -> State:
    """The mean pose, its shoulders where they are seen, as far away as the torso's size says."""
    pixels, metres = seen.torso_pixels, seen.torso_metres
    whole = ~(pixels.isnan().any(-1).any(-1) | metres.isnan().any(-1).any(-1))
    if not whole.any():
        raise ValueError(f"fit: expected a body in at least one of {len(pixels)} frames, found none")
    in_pixels, in_metres = (x[whole] - x[whole].mean(1, keepdim=True) for x in (pixels, metres))
    scale = (in_pixels * in_metres).sum() / in_metres.square().sum().clamp(min=1e-6)
    scale = scale.clamp(min=1.0)  # pixels per metre
    shoulders = _hold_last(pixels[:, :2].mean(1), whole) - torch.tensor(seen.size) / 2
    depth = (focal / scale).expand(len(pixels), 1)
    pose = priors.pose_prior()[0].expand(len(pixels), JOINTS, 3).clone()
    betas = fixed.betas if fixed else shape.mean if shape else torch.zeros(BETAS)
    state = State(
        pose, torch.zeros(len(pixels), 3), torch.zeros(len(pixels), 10),
        betas.clone(), torch.zeros(1),
    )  # fmt: skip
    rest = body.joints(state.params())[:, [16, 17]].mean(1)
    return replace(state, transl=torch.cat([shoulders / scale, depth], 1) * torch.tensor(CAMERA_AXES) - rest)


def _hold_last(values: Tensor, valid: Tensor) -> Tensor:
    """Replace rows [T, ...] that are not `valid` [T] by the closest valid row in time."""
    index = torch.arange(len(values))
    known = index[valid]
    nearest = known[(index[:, None] - known[None]).abs().argmin(1)]
    return values[nearest]
