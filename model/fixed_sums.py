"""Weighted sums over points that are the same in every call, as products with a sparse matrix.

On a GPU these need no atomic additions, which index_add and the gradients of index_select and grid_sample are made of,
and no copy of all that is gathered.
Axes: B batch, N points, R sums, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from model.geometry import full_precision


class KeptDtype(nn.Module):
    """A module whose buffers keep their type where others are cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KeptDtype:
        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)


class FixedSums(KeptDtype):
    """Values of points [B, N, C] → [B, R, C], the sums over points of weight × value."""

    def __init__(self, sums: Tensor, points: Tensor, weights: Tensor | float, shape: tuple[int, int]):
        """Entry i adds `weights[i]` times the value of point `points[i]` to sum `sums[i]`; `shape`: R, N."""
        super().__init__()
        _hear_warnings()
        self.shape = shape
        values = torch.as_tensor(weights, dtype=torch.float32).expand(len(sums)).cpu().numpy()
        matrix = csr_matrix((values, (sums.cpu().numpy(), points.cpu().numpy())), shape)
        for name, part in (("", matrix), ("back_", matrix.T.tocsr())):
            for array, kind in (("starts", part.indptr), ("places", part.indices), ("weights", part.data)):
                kept = torch.from_numpy(kind if array == "weights" else kind.astype(np.int32)).to(sums.device)
                self.register_buffer(name + array, kept, persistent=False)

    @classmethod
    def means(cls, points: Tensor, count: int) -> FixedSums:
        """The means of the points whose indices are the rows of `points` [R, K], of `count` there are."""
        rows, each = points.shape
        return cls(torch.arange(rows, device=points.device).repeat_interleave(each), points.flatten(), 1 / each, (rows, count))

    def forward(self, values: Tensor) -> Tensor:
        """In the values' type; sums are worked out in float32 at least."""
        with full_precision(values):
            out: Tensor = _Product.apply(values, self)
        return out

    def product(self, values: Tensor, back: bool = False) -> Tensor:
        """Without a gradient; `back`: with the transposed matrix, [B, R, C] → [B, N, C]."""
        starts, places, weights = (getattr(self, ("back_" if back else "") + name) for name in ("starts", "places", "weights"))
        batch, count, channels = values.shape
        kind = values.dtype if values.is_cuda or values.dtype == torch.float64 else torch.float32  # what processors' libraries know
        shape = self.shape[::-1] if back else self.shape
        matrix = torch.sparse_csr_tensor(starts, places, weights.to(kind), shape, check_invariants=False)
        flat = values.to(kind).transpose(0, 1).reshape(count, batch * channels)
        return (matrix @ flat).view(-1, batch, channels).transpose(0, 1).to(values.dtype)


@cache
def _hear_warnings() -> None:
    """PyTorch says once that sparse matrices are new and that indices are taken as they are: here, where nobody needs to hear it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse ")
        torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, sums: FixedSums) -> Tensor:
        ctx.sums = sums
        return sums.product(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.sums.product(gradient, back=True), None
