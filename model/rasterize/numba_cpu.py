"""The CPU backend: numba kernels on a pool of threads, with a hand-written backward.

Threads are Python's own (the kernels release the GIL), as many as `torch.get_num_threads()`: numba's parallel loops
would bring a second OpenMP runtime beside torch's, and one that cannot be used after a fork.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.rasterize import numba_composite, numba_projection
from model.rasterize.background import over
from model.rasterize.numba_projection import DEPTH, SPLAT, TILE
from model.types import GaussianCloud

SHARES = 4  # pieces of work a thread, so that one slow piece does not leave the others idle


def render(
    cloud: GaussianCloud,  # [B, N]
    w2c: Tensor,  # [B, C, 4, 4]
    intrinsics: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    antialiased: bool,
    background: Tensor | None,  # [B, C, D]; none: black
    depth: bool,  # comes at no cost here
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [B, C, H, W, D], alpha [B, C, H, W, 1], alpha-weighted depth [B, C, H, W, 1]."""
    if torch.is_grad_enabled() and (w2c.requires_grad or intrinsics.requires_grad):
        raise ValueError("rasterize: numba gives no gradient of cameras; detach them or choose 'torch'")
    scenes, views = w2c.shape[:2]
    fields = (cloud.means, cloud.rotations, cloud.scales, cloud.opacities, cloud.colors)
    color, alpha, weighted = _Rasterize.apply(*fields, w2c, intrinsics, width, height, antialiased)
    lead = (scenes, views, height, width)
    alpha = alpha.reshape(*lead, 1)
    return over(color.reshape(*lead, -1), alpha, background), alpha, weighted.reshape(*lead, 1)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, means: Tensor, rotations: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor,
        w2c: Tensor, intrinsics: Tensor, width: int, height: int, antialiased: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(means, rotations, scales, opacities, colors, w2c, intrinsics)
        cloud = [_array(t) for t in (means, rotations, scales, opacities)]
        views = (_array(w2c), _array(intrinsics), width, height, antialiased)
        count, view_count = means.shape[1], w2c.shape[0] * w2c.shape[1]
        columns, rows = -(-width // TILE), -(-height // TILE)
        real = cloud[0].dtype

        splats = np.empty((view_count, count, SPLAT), real)
        rects = np.empty((view_count, count, 4), np.int32)
        pieces = _ranges(means.shape[0] * count)
        broken = sum(_share(lambda a, b: numba_projection.project(a, b, *cloud, *views, splats, rects), pieces))
        if broken:
            raise FloatingPointError(f"rasterize: {broken} of {means.shape[0] * count} Gaussians are not finite")

        tile_counts = np.zeros((view_count, columns * rows), np.int64)
        splat_counts = np.empty((view_count, count), np.int64)
        each_view = [(s,) for s in range(view_count)]
        _share(lambda s: numba_projection.count_tiles(s, rects, columns, tile_counts, splat_counts), each_view)
        tile_start, pair_start = _starts(tile_counts), _starts(splat_counts)
        ids, pairs = np.empty((2, tile_start[-1]), np.int32)
        keys = np.ascontiguousarray(splats[..., DEPTH]).view(np.uint32 if real == np.float32 else np.uint64)
        order = np.empty((view_count, count), np.int32)
        _share(lambda s: numba_projection.order_by_depth(s, keys, order), each_view)
        lists = (columns, tile_start, pair_start, ids, pairs)
        _share(lambda s: numba_projection.fill_tiles(s, rects, order, *lists), each_view)

        shape = (view_count, height, width)
        color = np.zeros((*shape, colors.shape[-1]), real)
        alpha, depth, closing = (np.zeros(shape, real) for _ in range(3))
        rest = np.ones(shape, real)
        used = np.zeros(tile_counts.size, np.int32)
        tiles = _deal(tile_counts.ravel())
        grid = (columns, width, height, splats, _array(colors), tile_start, ids)
        _share(lambda t: numba_composite.composite(t, *grid, color, alpha, depth, rest, closing, used), tiles)
        ctx.state = (views, splats, tile_start, ids, pair_start, pairs, rest, closing, used, tiles)
        return torch.from_numpy(color), torch.from_numpy(alpha), torch.from_numpy(depth)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_color: Tensor | None, grad_alpha: Tensor | None, grad_depth: Tensor | None) -> Any:  # type: ignore[override]
        means, rotations, scales, opacities, colors, _, _ = ctx.saved_tensors
        views, splats, tile_start, ids, pair_start, pairs, rest, closing, used, tiles = ctx.state
        _, _, width, height, _ = views
        g_color = np.zeros((*rest.shape, colors.shape[-1]), rest.dtype) if grad_color is None else _array(grad_color)
        g_alpha = np.zeros_like(rest) if grad_alpha is None else _array(grad_alpha)
        g_depth = rest if grad_depth is None else _array(grad_depth)  # not read when there is none

        pair_grads = np.empty((len(ids), SPLAT + colors.shape[-1]), rest.dtype)
        grid = (-(-width // TILE), width, height, splats, _array(colors), tile_start, ids, rest, closing, used)
        given = (g_color, g_alpha, g_depth, grad_depth is not None)
        _share(lambda t: numba_composite.composite_backward(t, *grid, *given, pair_grads), tiles)

        cloud = [_array(t) for t in (means, rotations, scales, opacities)]
        grads = [torch.zeros(t.shape, dtype=t.dtype) for t in (means, rotations, scales, opacities, colors)]
        arrays = [g.numpy() for g in grads]
        state = (*cloud, *views, splats, pair_start, pairs, pair_grads, *arrays)
        _share(lambda a, b: numba_projection.project_backward(a, b, *state), _ranges(means.shape[0] * means.shape[1]))
        return (*grads, None, None, None, None, None)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _starts(counts: np.ndarray) -> np.ndarray:
    """[K] → [K + 1] offsets of the pieces, the last the total."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _ranges(length: int) -> list[tuple[int, int]]:
    pieces = SHARES * torch.get_num_threads() if length > 1024 else 1
    edges = [length * i // pieces for i in range(pieces + 1)]
    return list(itertools.pairwise(edges))


def _deal(counts: np.ndarray) -> list[tuple[np.ndarray]]:
    """Tiles that have splats, dealt out so that every share gets full and sparse ones."""
    order = np.argsort(-counts, kind="stable")
    order = order[: np.count_nonzero(counts)]
    pieces = SHARES * torch.get_num_threads()
    return [(order[i::pieces],) for i in range(min(pieces, len(order)))]


_pool: tuple[int, ThreadPoolExecutor] | None = None  # process id, threads: a forked child must start its own


def _share(work: Callable[..., Any], pieces: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call `work` on every piece, on as many threads as torch uses; results in order."""
    threads = min(torch.get_num_threads(), len(pieces))
    if threads <= 1:
        return [work(*piece) for piece in pieces]
    results: list[Any] = [None] * len(pieces)
    todo = iter(range(len(pieces)))  # next() on it is atomic under the GIL

    def run() -> None:
        for i in todo:
            results[i] = work(*pieces[i])

    others = [_threads().submit(run) for _ in range(threads - 1)]
    run()
    for other in others:
        other.result()
    return results


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), ThreadPoolExecutor(max(torch.get_num_threads() - 1, 1), "rasterize"))
    return _pool[1]
