"""Clips longer than one fit: overlapping windows with one shape and focal length, joined without a step.

Axis legend: `T` frames, `K` landmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import roma
import torch
from torch import Tensor

from model.body import Body
from model.fit_energy import frames_of
from model.fit_layout import BODY_PART, Layout, Observations
from model.fit_shape import ShapePrior
from model.fitting import FitOptions, FitResult, FixedShape, fit
from model.types import SmplxParams

OVERLAP = 20  # frames
SAMPLE = 80  # frames of a long clip that its shape is told from


def fit_long(
    body: Body,
    layout: Layout,
    observations: Observations,
    options: FitOptions = FitOptions(),
    window: int = 500,  # longest stretch fitted at once, frames
    on_step: Callable[[int, int], None] | None = None,
    shape: ShapePrior | None = None,
) -> FitResult:
    """`fit` in windows; shape and focal length come from a fit of `SAMPLE` frames out of the whole clip."""
    spans = plan_windows(len(observations), window)
    if len(spans) == 1:
        return fit(body, layout, observations, options, None, on_step, shape)
    steps, runs = sum(options.iterations), len(spans) + 1
    tell = lambda run: None if on_step is None else _shifted(on_step, run * steps, runs * steps)  # noqa: E731
    sample = fit(body, layout, sampled(observations, SAMPLE), options, None, tell(0), shape)
    fixed = FixedShape(sample.params.betas[0], sample.focal)
    results = [
        fit(body, layout, frames_of(observations, slice(*span)), options, fixed, tell(run), shape) for run, span in enumerate(spans, 1)
    ]
    whole = results[0]
    for index in range(1, len(spans)):
        whole = join(whole, results[index], spans[index - 1][1] - spans[index][0])
    return replace(whole, focal=sample.focal)


def sampled(observations: Observations, count: int) -> Observations:
    """`count` frames, evenly spread over those in which somebody is seen."""
    seen = (observations.weights[:, BODY_PART].sum(1) > 0).nonzero()[:, 0]
    if len(seen) == 0:
        seen = torch.arange(len(observations))
    pick = seen[torch.linspace(0, len(seen) - 1, min(count, len(seen))).round().long()]
    values = {f.name: getattr(observations, f.name) for f in fields(observations)}
    cut: dict[str, Any] = {name: value[pick] for name, value in values.items() if isinstance(value, Tensor)}
    return replace(observations, **cut, fps=observations.fps * len(pick) / len(observations))


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
