"""The energy of the body fit: landmarks in the picture, directions of bones, priors, smoothness.

Terms are in units of half a squared standard deviation, summed over landmarks and frames; each is a sum of squares, so
that the energy comes with its normal equations. World axes are the body's (y up); the camera sits at the origin and
looks along -z.

Axis legend: `T` frames, `J` joints (55), `K` landmarks, `L` limbs, `A` pose coordinates, `D` unknowns of a frame
(pose coordinates, translation, expression), `S` shared ones (betas, log focal length).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from model import fit_priors as priors
from model.body import Body
from model.fit_layout import FACE_PART, HANDS_PART, LANDMARKS, Layout, Observations, joint_points, stack
from model.fit_points import Carrier, Posed
from model.fit_shape import BETAS, ShapePrior, shape_prior
from model.fit_solver import NormalEquations, Smoothness
from model.types import JOINTS, SmplxParams

CAMERA_AXES = (1.0, -1.0, -1.0)  # world → OpenCV camera, and back
HAND_WEIGHT = 0.5
NEGATIVE_EXPRESSION_WEIGHT = 10.0
DIRECTION_SCALE = 3.0  # the robust scale of directions gets no narrower
NEAREST = 0.1  # metres; points nearer to the camera's plane are taken to lie there
CHUNK = 32  # frames linearised at once, by one thread
EXPRESSIONS, SHARED = 10, 11


def geman_mcclure(squared: Tensor, scale: float) -> Tensor:
    """Robust loss of squared residuals: quadratic near 0, `scale²` at infinity."""
    return scale**2 * squared / (scale**2 + squared)


def robust_weight(squared: Tensor, scale: float) -> Tensor:
    """Derivative of `geman_mcclure` by the squared residual."""
    return (scale**2 / (scale**2 + squared)).square()


@dataclass
class State:
    """Where the fit is."""

    pose: Tensor  # [T, 55, 3]
    transl: Tensor  # [T, 3]
    expression: Tensor  # [T, 10]
    betas: Tensor  # [10]
    log_focal: Tensor  # [1] relative to the first guess

    def params(self) -> SmplxParams:
        return SmplxParams.from_pose(self.pose, self.betas.expand(len(self.pose), -1), self.expression, self.transl)


def project(points: Tensor, focal: Tensor | float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """World points [T, K, 3] → pixels [T, K, 2] and depths [T, K] in metres."""
    camera = points * torch.tensor(CAMERA_AXES)
    depth = camera[..., 2].clamp(min=NEAREST)
    return camera[..., :2] / depth[..., None] * focal + torch.tensor(size) / 2, depth


class Energy:
    """The energy of bodies [T] given what is seen of them [T], as a function of the chosen pose coordinates."""

    def __init__(
        self,
        body: Body,
        layout: Layout,
        seen: Observations,
        coordinates: Tensor,  # [A, 2] joint and axis of the angles that may change
        focal_start: float,  # pixels
        unipolar_expression: bool,
        hands: bool = True,
        shape: ShapePrior | None = None,
    ):
        self.layout, self.seen, self.focal_start = layout, seen, focal_start
        points = stack([layout.points, joint_points(body, layout.limb.flatten())])
        # what moves the face comes first: most landmarks are the face's, and few coordinates move them
        face = Carrier(body, points, coordinates).moves[FACE_PART].any(0)
        coordinates = torch.cat([coordinates[face], coordinates[~face]])
        self.face_coordinates = int(face.sum())
        self.carrier = Carrier(body, points, coordinates)
        self.last: tuple[State, Posed] | None = None
        self.unipolar = unipolar_expression
        self.flat = coordinates[:, 0] * 3 + coordinates[:, 1]
        mean, sigma = priors.pose_prior()
        self.mean, self.precision = mean.flatten()[self.flat], sigma.flatten()[self.flat] ** -2
        self.low, self.high = (x.flatten()[self.flat] for x in priors.joint_limits())
        self.weights = seen.weights.clone()
        self.weights[:, HANDS_PART] *= HAND_WEIGHT if hands else 0.0
        shape = shape or shape_prior(body)
        self.usual = torch.cat([shape.mean, torch.zeros(1)])
        shared = torch.block_diag(shape.precision, torch.tensor([[priors.LOG_FOCAL_SIGMA**-2]]))
        self.shared_precision = shared * len(seen)  # once a frame: landmarks are off the same way in all of them
        smooth = priors.acceleration_sigma(seen.fps).flatten()[self.flat]
        rate = (priors.REFERENCE_FPS / seen.fps) ** 2
        place = torch.tensor(priors.PLACE_ACCELERATION) * rate
        face = torch.full((EXPRESSIONS,), priors.EXPRESSION_ACCELERATION * rate)
        self.smoothness = Smoothness(len(seen), torch.cat([smooth, place, face]))

    def unknowns(self, state: State) -> Tensor:  # [T, D]
        return torch.cat([state.pose.flatten(1)[:, self.flat], state.transl, state.expression], 1)

    def moved(self, state: State, step: Tensor, shared: Tensor) -> State:  # [T, D], [S]
        count = len(self.flat)
        pose = state.pose.flatten(1).clone()
        pose[:, self.flat] += step[:, :count]
        return State(
            pose.unflatten(1, (JOINTS, 3)), state.transl + step[:, count : count + 3],
            state.expression + step[:, count + 3 :], state.betas + shared[:BETAS], state.log_focal + shared[BETAS:],
        )  # fmt: skip

    def focal(self, state: State) -> Tensor:
        return self.focal_start * state.log_focal.exp()

    def posed(self, state: State) -> Posed:
        """The points of a state; those of the last one asked for are kept."""
        if self.last is None or any(a is not b for a, b in zip(vars(self.last[0]).values(), vars(state).values(), strict=True)):
            self.last = replace(state), self.carrier.place(state.params())
        return self.last[1]

    def value(self, state: State, scale: float) -> float:
        """The energy; `scale` of the robust loss."""
        points = self.posed(state).points
        squared = self.squared(points[:, :LANDMARKS], self.focal(state))
        limbs = (self._limbs(points)[0] / self.layout.limb_sigma).square().sum(-1)
        wide = max(DIRECTION_SCALE, scale)
        data = (geman_mcclure(squared, scale) * self.weights).sum()
        data = data + (geman_mcclure(limbs, wide) * self.seen.limb_weights).sum()
        x = self.unknowns(state)
        angles, face = x[:, : len(self.flat)], state.expression
        prior = 0.5 * ((angles - self.mean).square() * self.precision).sum()
        prior = prior + 0.5 * (face / priors.EXPRESSION_SIGMA).square().sum()
        prior = prior + self._excess(angles).square().sum() / priors.HINGE_SIGMA**2
        if self.unipolar:
            prior = prior + NEGATIVE_EXPRESSION_WEIGHT * torch.relu(-face).square().sum()
        off = torch.cat([state.betas, state.log_focal]) - self.usual
        return float(data + prior + 0.5 * off @ self.shared_precision @ off + self.smoothness.energy(x))

    def squared(self, marks: Tensor, focal: Tensor) -> Tensor:  # [T, K, 3] → [T, K]
        """Squared distance in the picture, carried to the person's depth in metres, over the landmark's variance."""
        pixels, depth = project(marks, focal, self.seen.size)
        metres_per_pixel = depth.mean(1, keepdim=True) / focal
        return (pixels - self.seen.points).square().sum(-1) * metres_per_pixel**2 / self.layout.sigma**2

    def residual(self, state: State) -> Tensor:  # [T, K]
        """Distance in the picture at the person's depth, metres; NaN where unseen."""
        marks = self.posed(state).points[:, :LANDMARKS]
        distance = self.squared(marks, self.focal(state)).sqrt() * self.layout.sigma
        return torch.where(self.seen.weights > 0, distance, torch.nan)

    def equations(self, state: State, scale: float) -> NormalEquations:
        """Normal equations of all terms but smoothness."""
        self.posed(state)  # once, before the threads ask for it
        chunks = [slice(a, a + CHUNK) for a in range(0, len(self.seen), CHUNK)]
        with ThreadPoolExecutor(min(len(chunks), len(os.sched_getaffinity(0)))) as pool:
            parts = list(pool.map(lambda part: self._linearised(state, part, scale), chunks))
        matrix, gradient, border = (torch.cat([p[i] for p in parts]) for i in range(3))
        shared_matrix, shared_gradient = (sum(p[i] for p in parts) for i in (3, 4))
        count, face = len(self.flat), state.expression
        angles = self.unknowns(state)[:, :count]
        diagonal, slope = torch.zeros_like(gradient), torch.zeros_like(gradient)
        excess = self._excess(angles)
        hinge = 2 / priors.HINGE_SIGMA**2
        diagonal[:, :count] = self.precision + hinge * (excess != 0)
        slope[:, :count] = (angles - self.mean) * self.precision + hinge * excess
        below = torch.relu(-face) * 2 * NEGATIVE_EXPRESSION_WEIGHT * self.unipolar
        diagonal[:, count + 3 :] = priors.EXPRESSION_SIGMA**-2 + 2 * NEGATIVE_EXPRESSION_WEIGHT * (below > 0)
        slope[:, count + 3 :] = face * priors.EXPRESSION_SIGMA**-2 - below
        matrix = matrix + torch.diag_embed(diagonal)
        off = torch.cat([state.betas, state.log_focal]) - self.usual
        shared_gradient = shared_gradient + self.shared_precision @ off
        return NormalEquations(matrix, gradient + slope, border, shared_matrix + self.shared_precision, shared_gradient)

    def _linearised(self, state: State, part: slice, scale: float) -> tuple[Tensor, ...]:
        seen, focal = frames_of(self.seen, part), self.focal(state)
        posed = self.posed(state).frames(part)
        slopes, by_shape = self.carrier.slopes(posed), self.carrier.by_shape(posed)
        pixels, depth = project(posed.points[:, :LANDMARKS], focal, seen.size)
        ray = (pixels - torch.tensor(seen.size) / 2) / focal  # [T, K, 2]
        unit = depth.mean(1, keepdim=True) / self.layout.sigma  # [T, K] metres per unit of ray, over sigma
        error = (pixels - seen.points) / focal * unit[..., None]
        root = (2 * self.weights[part] * robust_weight(error.square().sum(-1), scale)).sqrt()
        # covectors of the picture: d pixel = focal / depth (d xy - ray dz), world axes
        lens = torch.zeros(*ray.shape, 3)
        lens[..., 0, 0], lens[..., 1, 1], lens[..., 2] = 1.0, -1.0, ray
        lens = lens * (unit * root / depth)[..., None, None]
        limb, turn = self._limbs(posed.points, part)
        off = limb / self.layout.limb_sigma
        limb_root = (2 * seen.limb_weights * robust_weight(off.square().sum(-1), max(DIRECTION_SCALE, scale))).sqrt()
        turn = turn * (limb_root[..., None] / self.layout.limb_sigma)[..., None]  # [T, L, 3, 3]
        ends = torch.stack([-turn, turn], 2).flatten(1, 2)

        def jacobian(covectors: Tensor, points: slice, count: int) -> Tensor:  # [T, P, R, 3] → [T, P, R, count + 3 + 20]
            bent = self.carrier.by_pose(slopes, covectors, points, count)
            x, y, z = covectors[..., None].unbind(-2)
            of_shape = by_shape[:, points, None]
            grown = x * of_shape[..., 0, :] + y * of_shape[..., 1, :] + z * of_shape[..., 2, :]
            return torch.cat([bent, covectors, grown[..., BETAS:], grown[..., :BETAS]], -1)

        zoomed = ray * (unit * root)[..., None]
        error = error * root[..., None]
        # columns: pose, translation, expression, betas, log focal length
        width, few = len(self.flat) + 3 + EXPRESSIONS + SHARED, self.face_coordinates
        rest = slice(0, FACE_PART.start)
        rows = torch.cat([jacobian(lens[:, rest], rest, len(self.flat)), zoomed[:, rest, :, None]], -1).flatten(1, 2)
        limbs = jacobian(ends, slice(LANDMARKS, None), len(self.flat)).unflatten(1, (-1, 2)).sum(2).flatten(1, 2)
        limbs = torch.nn.functional.pad(limbs, (0, 1))
        face = torch.cat([jacobian(lens[:, FACE_PART], FACE_PART, few), zoomed[:, FACE_PART, :, None]], -1).flatten(1, 2)
        values = torch.cat([error[:, rest].flatten(1), (off * limb_root[..., None]).flatten(1)], 1)
        square, slope = _normal(torch.cat([rows, limbs], 1), values)
        of_face, slope_of_face = _normal(face, error[:, FACE_PART].flatten(1))
        parts = ((slice(0, few), slice(0, few)), (slice(len(self.flat), width), slice(few, None)))
        for into, taken in parts:
            slope[:, into] += slope_of_face[:, taken]
            for across, across_taken in parts:
                square[:, into, across] += of_face[:, taken, across_taken]
        own = width - SHARED
        return (
            square[:, :own, :own], slope[:, :own], square[:, :own, own:], square[:, own:, own:].sum(0), slope[:, own:].sum(0)
        )  # fmt: skip

    def _limbs(self, points: Tensor, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Unit directions of limbs minus the seen ones [T, L, 3], and their derivative by the limb's vector [T, L, 3, 3]."""
        ends = points[:, LANDMARKS:]
        bones = ends[:, 1::2] - ends[:, ::2]
        length = bones.norm(dim=-1, keepdim=True)
        unit = bones / length
        turn = (torch.eye(3) - unit[..., None] * unit[..., None, :]) / length[..., None]
        return unit - self.seen.limbs[part], turn

    def _excess(self, angles: Tensor) -> Tensor:
        """How far angles [T, A] are beyond their limits, with sign."""
        return torch.relu(angles - self.high) - torch.relu(self.low - angles)


def _normal(jacobian: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:  # [T, N, D], [T, N] → [T, D, D], [T, D]
    return jacobian.mT @ jacobian, (jacobian.mT @ values[..., None])[..., 0]


def frames_of(observations: Observations, part: slice) -> Observations:
    """A stretch, or each n-th frame; `fps` stays as it is."""
    values = ((f.name, getattr(observations, f.name)) for f in fields(observations))
    cut: dict[str, Any] = {name: value[part] for name, value in values if isinstance(value, Tensor)}
    return replace(observations, **cut)


def every(observations: Observations, step: int) -> Observations:
    """Each `step`-th frame."""
    return replace(frames_of(observations, slice(None, None, step)), fps=observations.fps / step)
