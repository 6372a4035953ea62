"""Numba kernels: splats of each tile to pixels and back.

A kernel works through a list of tiles; the caller gives each thread its own list. A tile's pixels live in one flat
scratch array, planes of TILE·TILE, and a splat is applied to the rows it reaches in loops over consecutive pixels,
which become vector instructions: that takes unsigned indices, and selects between constants only. Nothing is summed
between threads, so results do not depend on their number.
Axes: S views, N Gaussians, T tiles of a view, M pairs of splat and tile, D channels.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from model.rasterize.numba_projection import DEPTH, OPACITY, OPTIONS, SPLAT, TILE, XX, XY, YY, X, Y
from model.rasterize.reference import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

AREA = TILE * TILE
SIGMA_MAX = 6.5  # alpha is under 1/255 beyond ln 255 = 5.54
CHECK_EVERY = 8  # splats between two looks at whether all pixels are closed


@njit(**OPTIONS)
def composite(tiles, columns, width, height, splats, colors, tile_start, ids, color, alpha, depth, rest, closing, used):
    """Render `tiles` (of all S·T): colour[S, H, W, D] on black, alpha[S, H, W], alpha-weighted depth[S, H, W].

    For the way back: rest[S, H, W] transmittance, closing[S, H, W] 1 + last splat counted, used[S·T] splats looked at.
    """
    real = splats.dtype.type
    index = np.uintp
    zero, one, half = real(0), real(1), real(0.5)
    alpha_min, alpha_max = real(ALPHA_MIN), real(ALPHA_MAX)
    rest_min, sigma_max = real(TRANSMITTANCE_MIN), real(SIGMA_MAX)
    per_view = columns * ((height + TILE - 1) // TILE)
    views_per_scene = splats.shape[0] // colors.shape[0]
    channels = colors.shape[2] + 1  # depth is the last
    area = index(AREA)
    # planes: 0 and 1 pixel centres, 2 weight of the splat, 3 transmittance (negative once closed), 4 closing,
    # 5… channels
    scratch = np.empty((5 + channels) * AREA, splats.dtype)
    _write_centers(scratch)
    value = np.empty(channels, splats.dtype)
    for tile in tiles:
        view = tile // per_view
        local = tile % per_view
        left, top = (local % columns) * TILE, (local // columns) * TILE
        right, bottom = min(TILE, width - left), min(TILE, height - top)
        scratch[3 * AREA : 4 * AREA] = one
        scratch[4 * AREA :] = zero
        k = 0
        for pair in range(tile_start[tile], tile_start[tile + 1]):
            n = ids[pair]
            splat = splats[view, n]
            x, y = splat[X] - real(left), splat[Y] - real(top)
            xx, xy, yy, opacity = half * splat[XX], splat[XY], half * splat[YY], splat[OPACITY]
            for d in range(channels - 1):
                value[d] = colors[view // views_per_scene, n, d]
            value[channels - 1] = splat[DEPTH]
            k += 1
            rank = real(k)
            begin, end = _reach(splat, y, bottom)
            for p in range(begin, end):
                dx, dy = scratch[p] - x, scratch[area + p] - y
                sigma = min(max((xx * dx + xy * dy) * dx + yy * dy * dy, zero), sigma_max)
                a = min(opacity * _exp(-sigma), alpha_max)
                a = a if a >= alpha_min else zero
                rest_now = scratch[index(3) * area + p]
                before = max(rest_now, zero)
                # a select of anything but constants would become scattered stores
                keep = one if before * (one - a) > rest_min else zero
                sign = one if before * (one - a) > rest_min else -one
                weight = a * before * keep
                mark = rank if weight > zero else zero
                scratch[index(2) * area + p] = weight
                scratch[index(3) * area + p] = min(rest_now - weight, (rest_now - weight) * sign)
                scratch[index(4) * area + p] = max(scratch[index(4) * area + p], mark)
            for d in range(channels):
                plane = (index(5) + index(d)) * area
                factor = value[d]
                for p in range(begin, end):
                    scratch[plane + p] += scratch[index(2) * area + p] * factor
            if k % CHECK_EVERY == 0:
                most = zero
                for p in range(index(3) * area, index(4) * area):
                    most = max(most, scratch[p])
                if most == zero:
                    break
        used[tile] = k
        for i in range(bottom):
            for j in range(right):
                p = 3 * AREA + i * TILE + j
                rest[view, top + i, left + j] = abs(scratch[p])
                alpha[view, top + i, left + j] = one - abs(scratch[p])
                closing[view, top + i, left + j] = scratch[p + AREA]
                for d in range(channels - 1):
                    color[view, top + i, left + j, d] = scratch[p + (2 + d) * AREA]
                depth[view, top + i, left + j] = scratch[p + (1 + channels) * AREA]


@njit(**OPTIONS)
def composite_backward(
    tiles, columns, width, height, splats, colors, tile_start, ids, rest, closing, used,
    grad_color, grad_alpha, grad_depth, with_depth, pair_grads,
):  # fmt: skip
    """Write pair_grads[M, 7 + D]: what each splat of each tile adds to the gradients of its 7 values and D colours.

    Back to front: dL/dalpha = T (value·gradient − B); T reaches the splat, B is the gradient-weighted light behind it.
    """
    real = splats.dtype.type
    index = np.uintp
    zero, one, half = real(0), real(1), real(0.5)
    alpha_min, alpha_max, sigma_max = real(ALPHA_MIN), real(ALPHA_MAX), real(SIGMA_MAX)
    per_view = columns * ((height + TILE - 1) // TILE)
    views_per_scene = splats.shape[0] // colors.shape[0]
    color_channels = colors.shape[2]
    channels = color_channels + (1 if with_depth else 0)
    area = index(AREA)
    # planes: 0 and 1 pixel centres, 2 value·gradient, 3 weight, 4 -dL/dsigma, 5 transmittance behind, 6 light behind,
    # 7 closing, 8 gradient of alpha, 9… gradients of channels
    scratch = np.empty((9 + channels) * AREA, splats.dtype)
    _write_centers(scratch)
    value = np.empty(channels, splats.dtype)
    for tile in tiles:
        view = tile // per_view
        local = tile % per_view
        left, top = (local % columns) * TILE, (local // columns) * TILE
        right, bottom = min(TILE, width - left), min(TILE, height - top)
        scratch[5 * AREA : 6 * AREA] = one
        scratch[6 * AREA :] = zero
        for i in range(bottom):
            for j in range(right):
                p = i * TILE + j
                scratch[5 * AREA + p] = rest[view, top + i, left + j]
                scratch[7 * AREA + p] = closing[view, top + i, left + j]
                scratch[8 * AREA + p] = grad_alpha[view, top + i, left + j]
                for d in range(color_channels):
                    scratch[(9 + d) * AREA + p] = grad_color[view, top + i, left + j, d]
                if with_depth:
                    scratch[(9 + color_channels) * AREA + p] = grad_depth[view, top + i, left + j]
        first = tile_start[tile]
        for pair in range(first + used[tile], tile_start[tile + 1]):
            pair_grads[pair] = zero
        for k in range(used[tile] - 1, -1, -1):
            n = ids[first + k]
            splat = splats[view, n]
            x, y = splat[X] - real(left), splat[Y] - real(top)
            xx, xy, yy, opacity = half * splat[XX], splat[XY], half * splat[YY], splat[OPACITY]
            for d in range(color_channels):
                value[d] = colors[view // views_per_scene, n, d]
            if with_depth:
                value[color_channels] = splat[DEPTH]
            rank = real(k)
            begin, end = _reach(splat, y, bottom)
            for p in range(begin, end):
                scratch[index(2) * area + p] = scratch[index(8) * area + p]
            for d in range(channels):
                plane = (index(9) + index(d)) * area
                factor = value[d]
                for p in range(begin, end):
                    scratch[index(2) * area + p] += factor * scratch[plane + p]
            for p in range(begin, end):
                dx, dy = scratch[p] - x, scratch[area + p] - y
                sigma = min(max((xx * dx + xy * dy) * dx + yy * dy * dy, zero), sigma_max)
                raw = opacity * _exp(-sigma)
                a = min(raw, alpha_max)
                a = a if raw >= alpha_min else zero
                a = a if scratch[index(7) * area + p] > rank else zero
                before = scratch[index(5) * area + p] / (one - a)
                behind = scratch[index(6) * area + p]
                gain = scratch[index(2) * area + p] - behind
                scratch[index(5) * area + p] = before
                scratch[index(6) * area + p] = behind + a * gain
                scratch[index(3) * area + p] = a * before
                scratch[index(4) * area + p] = a * before * gain if raw <= alpha_max else zero
            s = sx = sy = sxx = sxy = syy = zero  # moments of -dL/dsigma
            for p in range(begin, end):
                t = scratch[index(4) * area + p]
                dx, dy = scratch[p] - x, scratch[area + p] - y
                s += t
                sx += t * dx
                sy += t * dy
                sxx += t * dx * dx
                sxy += t * dx * dy
                syy += t * dy * dy
            out = pair_grads[first + k]
            out[X], out[Y] = splat[XX] * sx + xy * sy, xy * sx + splat[YY] * sy
            out[XX], out[XY], out[YY] = -half * sxx, -sxy, -half * syy
            out[OPACITY] = s / opacity
            out[DEPTH] = zero
            for d in range(channels):
                plane = (index(9) + index(d)) * area
                t = zero
                for p in range(begin, end):
                    t += scratch[index(3) * area + p] * scratch[plane + p]
                out[DEPTH if d == color_channels else SPLAT + d] = t


@njit(**OPTIONS)
def _write_centers(scratch):
    for p in range(AREA):
        scratch[p] = p % TILE + 0.5
        scratch[AREA + p] = p // TILE + 0.5


@njit(**OPTIONS)
def _reach(splat, y, bottom):
    """First pixel, and one past the last, of the tile's rows in which the splat's alpha can reach 1/255."""
    real = splat.dtype.type
    # variance along y is xx / det of the conic
    variance = splat[XX] / (splat[XX] * splat[YY] - splat[XY] * splat[XY])
    reach = math.sqrt(real(2) * math.log(splat[OPACITY] / real(ALPHA_MIN)) * variance) + real(0.01)
    low = min(max(np.floor(y - reach), real(0)), real(bottom))
    high = min(max(np.ceil(y + reach), low), real(bottom))
    return np.uintp(TILE) * np.uintp(low), np.uintp(TILE) * np.uintp(high)


def _exp(x):
    """exp on [-6.5, 0], written so that it vectorises in float32."""
    return math.exp(x)


def _fit_exp() -> tuple[np.float32, ...]:
    """Polynomial of exp on [-6.5 / 8, 0], fitted at Chebyshev nodes; its 8th power is within 5e-7 of exp, relative."""
    nodes = -SIGMA_MAX / 16 * (1 + np.cos(np.pi * (np.arange(200) + 0.5) / 200))
    fit = np.polynomial.Polynomial.fit(nodes, np.exp(nodes), 6).convert()
    return tuple(fit.coef.astype(np.float32))


_POLYNOMIAL = _fit_exp()


@overload(_exp)
def _exp_by_type(x):
    if x == types.float32:
        c0, c1, c2, c3, c4, c5, c6 = _POLYNOMIAL
        eighth = np.float32(0.125)

        def polynomial(x):
            t = x * eighth
            p = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * c6)))))
            p = p * p
            p = p * p
            return p * p

        return polynomial

    return lambda x: math.exp(x)
