"""Normal equations of a clip, and the step that solves them.

Every frame has its own unknowns, coupled to the next two frames by smoothness alone, coordinate by coordinate; shape and
focal length are shared by all. So the matrix is banded with a dense border: Cholesky of the band, Schur complement of
the border.

Axis legend: `T` frames, `D` unknowns of a frame, `S` shared unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.linalg import LinAlgError, lapack
from torch import Tensor


@dataclass
class NormalEquations:
    """Half the energy's second derivative in Gauss and Newton's approximation, and its gradient, without smoothness."""

    matrix: Tensor  # [T, D, D]
    gradient: Tensor  # [T, D]
    border: Tensor  # [T, D, S]
    shared_matrix: Tensor  # [S, S]
    shared_gradient: Tensor  # [S]


class Smoothness:
    """Half the squared second differences over frames, in units of `sigma` [D]."""

    def __init__(self, frames: int, sigma: Tensor):
        self.precision = sigma.double() ** -2
        bend = torch.zeros(max(frames - 2, 0), frames, dtype=torch.float64)
        for t in range(len(bend)):
            bend[t, t : t + 3] = torch.tensor([1.0, -2.0, 1.0])
        self.square = bend.T @ bend  # [T, T], five diagonals

    def energy(self, x: Tensor) -> Tensor:  # [T, D]
        if len(x) < 3:
            return x.new_zeros(())
        return 0.5 * ((x[2:] - 2 * x[1:-1] + x[:-2]).square().double() * self.precision).sum()

    def gradient(self, x: Tensor) -> Tensor:  # [T, D] → [T, D]
        return (self.square @ x.double()) * self.precision


def solve(
    equations: NormalEquations,
    smoothness: Smoothness,
    x: Tensor,  # [T, D] the unknowns now
    damping: Tensor,  # [D] added to the diagonal
    shared_damping: Tensor,  # [S]
) -> tuple[Tensor, Tensor]:
    """The step [T, D] and [S] that minimises the quadratic model; float32."""
    frames, count = x.shape
    gradient = equations.gradient.double() + smoothness.gradient(x)
    border = equations.border.double()
    factor, failed = lapack.dpbtrf(_band(equations, smoothness, damping), lower=1, overwrite_ab=1)
    if failed:
        raise LinAlgError(f"fit: expected a positive definite matrix, row {failed} of {frames * count} is not")
    # with the matrix L Lᵀ, forward alone for all columns, and back for the one that is wanted
    right = torch.cat([gradient[..., None], border], -1).reshape(frames * count, -1)
    solved = torch.from_numpy(_substitute(factor, right.numpy(), "N"))
    free, held = solved[:, 0], solved[:, 1:]
    schur = equations.shared_matrix.double() + shared_damping.double().diag() - held.T @ held
    shared = -torch.linalg.solve(schur, equations.shared_gradient.double() - held.T @ free)
    step = torch.from_numpy(_substitute(factor, (free + held @ shared)[:, None].numpy(), "T"))
    return -step.reshape(frames, count).float(), shared.float()


def _substitute(factor: np.ndarray, right: np.ndarray, turned: Literal["N", "T"]) -> np.ndarray:
    """L⁻¹ or, `turned` "T", L⁻ᵀ times `right` [N, columns]."""
    out: np.ndarray = lapack.dtbtrs(factor, right, uplo="L", trans=turned)[0]
    return out


def _band(equations: NormalEquations, smoothness: Smoothness, damping: Tensor) -> np.ndarray:
    """Lower band storage [2 D + 1, T D] of LAPACK: row k holds the entries k below the diagonal."""
    frames, count = equations.gradient.shape
    deep = 2 * count + 1
    band = np.zeros((frames, count, deep))  # column by column
    item = band.itemsize
    # entry (i, j) of a frame's block lies i - j below column j's diagonal; zeros above the diagonal fall where smoothness comes
    blocks = np.lib.stride_tricks.as_strided(band, (frames, count, count), (item * count * deep, item * (deep - 1), item))
    blocks[:] = equations.matrix.triu().numpy()
    band[..., 0] += damping.double().numpy()
    precision, square = smoothness.precision.numpy(), smoothness.square.numpy()
    for step in range(min(3, frames)):
        band[: frames - step, :, step * count] += np.diagonal(square, -step)[:, None] * precision
    return band.reshape(frames * count, deep).T
