"""Numba kernels: splats of each tile to pixels and back.

A kernel works through a list of tiles; the caller gives each thread its own list. A tile's pixels live in one flat
scratch array, planes of TILE·TILE, so that the loop over a row's pixels becomes vector instructions: that takes
unsigned indices, and selects between constants only. Nothing is summed between threads, so results do not depend on
their number.
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
ROWS = 4 * TILE  # four scratch rows come before the planes
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
    row, area, start = index(TILE), index(AREA), index(ROWS)
    # planes: 0 transmittance, negative once the pixel is closed; 1 closing; 2… channels
    scratch = np.empty(ROWS + (2 + channels) * AREA, splats.dtype)
    value = np.empty(channels, splats.dtype)
    for x in range(TILE):
        scratch[x] = real(x) + half
    for tile in tiles:
        view = tile // per_view
        local = tile % per_view
        left, top = (local % columns) * TILE, (local // columns) * TILE
        right, bottom = min(TILE, width - left), min(TILE, height - top)
        scratch[ROWS : ROWS + AREA] = one
        scratch[ROWS + AREA :] = zero
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
            y0, y1 = _rows(splat, y, bottom)
            for i in range(y0, y1):
                dy = real(i) + half - y
                constant, linear = yy * dy * dy, xy * dy
                base = start + index(i) * row
                for j in range(row):
                    dx = scratch[j] - x
                    sigma = min(max((xx * dx + linear) * dx + constant, zero), sigma_max)
                    a = min(opacity * _exp(-sigma), alpha_max)
                    a = a if a >= alpha_min else zero
                    rest_now = scratch[base + j]
                    before = max(rest_now, zero)
                    # a select of anything but constants would become scattered stores
                    keep = one if before * (one - a) > rest_min else zero
                    sign = one if before * (one - a) > rest_min else -one
                    weight = a * before * keep
                    mark = rank if weight > zero else zero
                    scratch[row + j] = weight
                    scratch[base + j] = min(rest_now - weight, (rest_now - weight) * sign)
                    scratch[area + base + j] = max(scratch[area + base + j], mark)
                for d in range(channels):
                    plane = base + (index(2) + index(d)) * area
                    factor = value[d]
                    for j in range(row):
                        scratch[plane + j] += scratch[row + j] * factor
            if k % CHECK_EVERY == 0:
                most = zero
                for j in range(AREA):
                    most = max(most, scratch[ROWS + j])
                if most == zero:
                    break
        used[tile] = k
        for i in range(bottom):
            for j in range(right):
                p = ROWS + i * TILE + j
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
    row, area, start = index(TILE), index(AREA), index(ROWS)
    # planes: 0 transmittance behind, 1 light behind, 2 closing, 3 gradient of alpha, 4… gradient of channels
    scratch = np.empty(ROWS + (4 + channels) * AREA, splats.dtype)
    value = np.empty(channels, splats.dtype)
    # one row each: three of -dL/dsigma times 1, dy, dy², then the channels; summed over x once per splat
    sums = np.empty((3 + channels) * TILE, splats.dtype)
    for x in range(TILE):
        scratch[x] = real(x) + half
    for tile in tiles:
        view = tile // per_view
        local = tile % per_view
        left, top = (local % columns) * TILE, (local // columns) * TILE
        right, bottom = min(TILE, width - left), min(TILE, height - top)
        scratch[ROWS : ROWS + AREA] = one
        scratch[ROWS + AREA :] = zero
        for i in range(bottom):
            for j in range(right):
                p = ROWS + i * TILE + j
                scratch[p] = rest[view, top + i, left + j]
                scratch[p + 2 * AREA] = closing[view, top + i, left + j]
                scratch[p + 3 * AREA] = grad_alpha[view, top + i, left + j]
                for d in range(color_channels):
                    scratch[p + (4 + d) * AREA] = grad_color[view, top + i, left + j, d]
                if with_depth:
                    scratch[p + (4 + color_channels) * AREA] = grad_depth[view, top + i, left + j]
        begin = tile_start[tile]
        for pair in range(begin + used[tile], tile_start[tile + 1]):
            pair_grads[pair] = zero
        for k in range(used[tile] - 1, -1, -1):
            pair = begin + k
            n = ids[pair]
            splat = splats[view, n]
            x, y = splat[X] - real(left), splat[Y] - real(top)
            xx, xy, yy, opacity = half * splat[XX], splat[XY], half * splat[YY], splat[OPACITY]
            for d in range(color_channels):
                value[d] = colors[view // views_per_scene, n, d]
            if with_depth:
                value[color_channels] = splat[DEPTH]
            rank = real(k)
            sums[:] = zero
            y0, y1 = _rows(splat, y, bottom)
            for i in range(y0, y1):
                dy = real(i) + half - y
                constant, linear = yy * dy * dy, xy * dy
                base = start + index(i) * row
                for j in range(row):
                    scratch[row + row + j] = scratch[base + index(3) * area + j]
                for d in range(channels):
                    plane = base + (index(4) + index(d)) * area
                    factor = value[d]
                    for j in range(row):
                        scratch[row + row + j] += factor * scratch[plane + j]
                for j in range(row):
                    dx = scratch[j] - x
                    sigma = min(max((xx * dx + linear) * dx + constant, zero), sigma_max)
                    raw = opacity * _exp(-sigma)
                    a = min(raw, alpha_max)
                    a = a if raw >= alpha_min else zero
                    a = a if scratch[area + area + base + j] > rank else zero
                    before = scratch[base + j] / (one - a)
                    behind = scratch[area + base + j]
                    gain = scratch[row + row + j] - behind
                    scratch[base + j] = before
                    scratch[area + base + j] = behind + a * gain
                    scratch[row + j] = a * before
                    t = a * before * gain if raw <= alpha_max else zero  # -dL/dsigma
                    sums[j] += t
                    sums[row + j] += t * dy
                    sums[row + row + j] += t * dy * dy
                for d in range(channels):
                    plane, sum_row = base + (index(4) + index(d)) * area, (index(3) + index(d)) * row
                    for j in range(row):
                        sums[sum_row + j] += scratch[row + j] * scratch[plane + j]
            s = sx = sy = sxx = sxy = syy = zero  # moments of -dL/dsigma
            for j in range(row):
                dx = scratch[j] - x
                s += sums[j]
                sx += sums[j] * dx
                sxx += sums[j] * dx * dx
                sy += sums[row + j]
                sxy += sums[row + j] * dx
                syy += sums[row + row + j]
            out = pair_grads[pair]
            out[X], out[Y] = splat[XX] * sx + xy * sy, xy * sx + splat[YY] * sy
            out[XX], out[XY], out[YY] = -half * sxx, -sxy, -half * syy
            out[OPACITY] = s / opacity
            out[DEPTH] = zero
            for d in range(channels):
                t = zero
                for j in range(row):
                    t += sums[(index(3) + index(d)) * row + j]
                out[DEPTH if d == color_channels else SPLAT + d] = t


@njit(inline="always", **OPTIONS)
def _rows(splat, y, bottom):
    """Rows of the tile in which the splat's alpha can reach 1/255."""
    real = splat.dtype.type
    # variance along y is xx / det of the conic
    variance = splat[XX] / (splat[XX] * splat[YY] - splat[XY] * splat[XY])
    reach = math.sqrt(real(2) * math.log(splat[OPACITY] / real(ALPHA_MIN)) * variance) + real(0.01)
    return int(max(np.floor(y - reach), real(0))), int(min(np.ceil(y + reach), real(bottom)))


def _exp(x):
    """exp on [-6.5, 0], written so that it vectorises in float32."""
    return math.exp(x)


def _fit_exp() -> tuple[np.float32, ...]:
    """Polynomial of exp on [-6.5 / 8, 0], fitted at Chebyshev nodes; its 8th power is within 5e-7 of exp, relative."""
    nodes = -SIGMA_MAX / 16 * (1 + np.cos(np.pi * (np.arange(200) + 0.5) / 200))
    fit = np.polynomial.Polynomial.fit(nodes, np.exp(nodes), 6).convert()
    return tuple(fit.coef.astype(np.float32))


_POLYNOMIAL = _fit_exp()


@overload(_exp, inline="always")
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
