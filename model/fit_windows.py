"""Clips longer than one fit: overlapping windows with one shape and focal length, joined without a step.

Axis legend: `T` frames, `K` landmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import roma
import torch
from torch import Tensor

from model.body import Body
from model.fit_energy import frames_of
from model.fit_layout import Layout, Observations
from model.fit_shape import ShapePrior
from model.fitting import FitOptions, FitResult, FixedShape, fit
from model.types import SmplxParams

OVERLAP = 20  # frames


def fit_long(
    body: Body,
    layout: Layout,
    observations: Observations,
    options: FitOptions = FitOptions(),
    window: int = 500,  # longest stretch fitted at once, frames
    on_step: Callable[[int, int], None] | None = None,
    shape: ShapePrior | None = None,
) -> FitResult:
    """`fit` in windows; the one with most seen landmarks is fitted first and its shape and focal length are kept."""
    spans = plan_windows(len(observations), window)
    steps = sum(options.iterations)
    seen = [observations.weights[a:b].sum().item() / (b - a) for a, b in spans]
    order = sorted(range(len(spans)), key=lambda i: -seen[i])
    results: dict[int, FitResult] = {}
    fixed: FixedShape | None = None
    for done, index in enumerate(order):
        tell = None if on_step is None else _shifted(on_step, done * steps, len(spans) * steps)
        result = fit(body, layout, frames_of(observations, slice(*spans[index])), options, fixed, tell, shape)
        fixed = fixed or FixedShape(result.params.betas[0], result.focal)
        results[index] = result
    whole = results[0]
    for index in range(1, len(spans)):
        whole = join(whole, results[index], spans[index - 1][1] - spans[index][0])
    return replace(whole, focal=results[order[0]].focal)


def plan_windows(frames: int, window: int, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Spans of about equal length, at most `window`, each sharing `overlap` frames with the next."""
    if frames <= window:
        return [(0, frames)]
    if window <= 2 * overlap:
        raise ValueError(f"fit.window: expected more than {2 * overlap} frames, got {window}")
    count = -(-(frames - overlap) // (window - overlap))
    starts = torch.linspace(0, frames - overlap, count + 1).round().long().tolist()
    return [(a, b + overlap) for a, b in pairwise(starts)]


def join(before: FitResult, after: FitResult, overlap: int) -> FitResult:
    """Two fits whose last and first `overlap` frames are the same ones; there the one fades into the other."""
    weight = (torch.arange(overlap) + 1) / (overlap + 1)
    tail, head = before.params[-overlap:], after.params[:overlap]
    mix = lambda a, b: a + (b - a) * weight[:, None]  # noqa: E731
    turns = [roma.rotvec_to_unitquat(x.full_pose).flatten(0, 1) for x in (tail, head)]
    step = weight[:, None].expand(-1, tail.full_pose.shape[1]).flatten()
    blend = roma.unitquat_to_rotvec(_slerp(turns[0], turns[1], step)).unflatten(0, (overlap, -1))
    shared = SmplxParams.from_pose(blend, mix(tail.betas, head.betas), mix(tail.expression, head.expression), mix(tail.transl, head.transl))
    params = SmplxParams.cat([before.params[:-overlap], shared, after.params[overlap:]])
    half = overlap // 2
    residual = torch.cat([before.residual[: len(before.residual) - overlap + half], after.residual[half:]])
    return FitResult(params, before.focal, residual, torch.cat([before.energy, after.energy]))


def _slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Spherical interpolation of unit quaternions [N, 4] with one weight each [N], the short way."""
    turn = roma.unitquat_to_rotvec(roma.quat_product(roma.quat_conjugation(a), b), shortest_arc=True)
    return roma.quat_product(a, roma.rotvec_to_unitquat(turn * weight[:, None]))


def _shifted(on_step: Callable[[int, int], None], offset: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: on_step(offset + done, total)
