"""What shape a person is likely to have: the population, bone lengths read off the landmarks, a height that the user knows.

A picture does not tell size: a tall person far away looks like a small one nearby. What tells it a little is proportion
(faces differ less in size than limbs do), which `fit_lift` has learned; what tells it well is the person's height.

Axis legend: `V` vertices, `L` lengths, `B` betas (10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.body import Body
from model.fit_lift import LENGTHS
from model.fit_priors import joint_index

BETAS = 10
SIGMA = 1.1  # of betas in a population
STIFF = 0.01  # of logarithms of lengths, by which those told may contradict each other
# times the certainty of lengths that were read, in the fit: they were read from the very landmarks that it counts again in
# each frame, off the same way in all. Left to these, lengths move by 2-5 %, and not towards the truth (correlation -.2)
HELD = 40.0
HEIGHT_SIGMA = 0.005  # of the logarithm of a given height
ROUNDS = 4
HEIGHTS = (1.0, 2.3)  # metres that are taken


@dataclass(frozen=True)
class ShapePrior:
    mean: Tensor  # [B]
    precision: Tensor  # [B, B]


def shape_prior(
    body: Body,
    lengths: np.ndarray | None = None,  # [L] logarithms of `LENGTHS` in metres
    covariance: np.ndarray | None = None,  # [L, L]
    height: float | None = None,  # metres, standing upright without shoes
) -> ShapePrior:
    """The population, with what is told in place of its own lengths and height; by Gauss and Newton from the mean shape.

    What lengths do not tell, a face's shape above all, stays as free as in the population.
    `lengths` are the best guess already, the population counted in: taken as a measurement they would be drawn to the
    mean a second time, and long arms come out short.
    """
    if height is not None and not HEIGHTS[0] <= height <= HEIGHTS[1]:
        raise ValueError(f"fit.height: expected {HEIGHTS[0]} to {HEIGHTS[1]} metres, got {height:g}")
    at = torch.zeros(BETAS, dtype=torch.float64)
    for _ in range(ROUNDS):
        mean, spread = torch.zeros(BETAS, dtype=torch.float64), torch.eye(BETAS, dtype=torch.float64) * SIGMA**2
        rows = []
        if lengths is not None and covariance is not None:
            rows.append((*log_lengths(body, at), torch.from_numpy(lengths).double(), torch.from_numpy(covariance).double()))
        if height is not None:
            known = torch.tensor([height], dtype=torch.float64).log()
            rows.append((*log_height(body, at), known, torch.full((1, 1), HEIGHT_SIGMA**2, dtype=torch.float64)))
        for value, slope, told, error in rows:
            stiff = STIFF**2 * torch.eye(len(told), dtype=torch.float64)
            gain = spread @ slope.T @ torch.linalg.inv(slope @ spread @ slope.T + stiff)
            mean = mean + gain @ (told - value + slope @ (at - mean))
            spread = spread - gain @ slope @ spread + gain @ error @ gain.T
        at = mean
    precision = torch.linalg.inv(spread)
    if lengths is not None and covariance is not None:
        slope = log_lengths(body, at)[1]
        precision = precision + (HELD - 1) * slope.T @ torch.linalg.inv(torch.from_numpy(covariance).double()) @ slope
    return ShapePrior(at.float(), precision.float())


def log_lengths(body: Body, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of `LENGTHS` [L] of a body at rest, and their derivative by betas [L, B]; float64."""
    ends = torch.tensor([[joint_index(a), joint_index(b)] for a, b in LENGTHS])
    dirs, rest = body.joint_dirs[..., :BETAS].double(), body.joint_template.double()
    bones = (rest + dirs @ betas)[ends[:, 1]] - (rest + dirs @ betas)[ends[:, 0]]
    squared = bones.square().sum(1)
    return 0.5 * squared.log(), (bones[:, None] @ (dirs[ends[:, 1]] - dirs[ends[:, 0]]))[:, 0] / squared[:, None]


def log_height(body: Body, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of the stature [1] of a body at rest, from its lowest to its highest vertex, and its derivative [1, B]; float64."""
    tall = (body.template[:, 1].double() + body.shape_dirs[:, 1, :BETAS].double() @ betas)
    top, foot = tall.argmax(), tall.argmin()
    stature = (tall[top] - tall[foot])[None]
    return stature.log(), (body.shape_dirs[top, 1, :BETAS] - body.shape_dirs[foot, 1, :BETAS]).double()[None] / stature
