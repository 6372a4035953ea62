"""Normal equations of a clip, and the step that solves them.

Every frame has its own unknowns, coupled to the next two frames by smoothness alone, coordinate by coordinate; shape and
focal length are shared by all. So the matrix is banded with a dense border: Cholesky of the band, Schur complement of
the border.

Axis legend: `T` frames, `D` unknowns of a frame, `S` shared unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
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
    factor = cholesky_banded(_band(equations, smoothness, damping), lower=True, overwrite_ab=True, check_finite=False)
    right = torch.cat([gradient[..., None], border], -1).reshape(frames * count, -1).numpy()
    solved = cho_solve_banded((factor, True), right, overwrite_b=True, check_finite=False)
    solution = torch.from_numpy(solved).reshape(frames, count, -1)
    free, held = solution[..., 0], solution[..., 1:]
    schur = equations.shared_matrix.double() + shared_damping.double().diag()
    schur = schur - torch.einsum("tds,tdr->sr", border, held)
    rest = equations.shared_gradient.double() - torch.einsum("tds,td->s", border, free)
    shared = -torch.linalg.solve(schur, rest)
    return (-free - held @ shared).float(), shared.float()


def _band(equations: NormalEquations, smoothness: Smoothness, damping: Tensor) -> np.ndarray:
    """Lower band storage [2 D + 1, T D] of LAPACK: row k holds the entries k below the diagonal."""
    frames, count = equations.gradient.shape
    band = np.zeros((2 * count + 1, frames, count))
    row, column = np.tril_indices(count)
    band[row - column, :, column] = equations.matrix.double().numpy()[:, row, column].T
    band[0] += damping.double().numpy()
    precision, square = smoothness.precision.numpy(), smoothness.square.numpy()
    for step in range(min(3, frames)):
        band[step * count, : frames - step] += np.diagonal(square, -step)[:, None] * precision
    return band.reshape(2 * count + 1, frames * count)
