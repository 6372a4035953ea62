"""Numba kernels: Gaussians to splats and back, and the sorting of splats into tiles.

Kernels work on one share of the rows, so that the caller can give each thread its own; they compile for float32 and
float64 alike and are cached on disk. The mathematics is `reference.project`'s, with its derivative written by hand.
Axes: S = B·C views (view s shows scene s // C), N Gaussians, T tiles of a view, M pairs of splat and tile.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from model.rasterize.reference import ALPHA_MIN, BLUR, COMPENSATION_MIN, EXTENT_MAX, MARGIN, NEAR, PIXEL

TILE = 16  # px; a row of a tile is one AVX-512 register of float32
RADIX_BITS = 11
RADIX_MASK = (1 << RADIX_BITS) - 1
# columns of a splat; its depth comes last
X, Y, XX, XY, YY, OPACITY, DEPTH, SPLAT = 0, 1, 2, 3, 4, 5, 6, 7

OPTIONS: Any = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"nsz", "arcp", "contract", "reassoc", "afn"},
}


@njit(**OPTIONS)
def project(
    first, last, means, rotations, scales, opacities, w2c, intrinsics, width, height, antialiased, splats, rects
):  # fmt: skip
    """Fill splats[S, N, 7] and rects[S, N, 4] (tile columns from, to, rows from, to).

    Of Gaussians first..last of all B·N. Returns how many of them are not finite.
    """
    real = means.dtype.type
    one, two = real(1), real(2)
    count = means.shape[1]
    views = w2c.shape[1]
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    broken = 0
    for index in range(first, last):
        b, n = index // count, index % count
        mean = means[b, n]
        m = _shape_matrix(rotations[b, n], scales[b, n])
        for c in range(views):
            s = b * views + c
            splat = splats[s, n]
            rect = rects[s, n]
            rect[:] = 0
            pose = w2c[b, c]
            px = _camera_axis(pose, 0, mean)
            py = _camera_axis(pose, 1, mean)
            pz = _camera_axis(pose, 2, mean)
            splat[DEPTH] = pz
            if pz <= real(NEAR):
                continue  # behind; a NaN goes on and is counted
            fx, fy, cx, cy = _lens(intrinsics[b, c])
            inverse = one / pz
            u, _ = _clamp_ray(px * inverse, fx, cx, real(width), real(MARGIN))
            v, _ = _clamp_ray(py * inverse, fy, cy, real(height), real(MARGIN))
            p = _times(_image_row(pose, 0, u, fx * inverse), m)
            q = _times(_image_row(pose, 1, v, fy * inverse), m)
            sharp_xx, xy, sharp_yy = _dot(p, p), _dot(p, q), _dot(q, q)
            blur = real(PIXEL if antialiased else BLUR)
            xx, yy = sharp_xx + blur, sharp_yy + blur
            area = xx * yy - xy * xy
            opacity = opacities[b, n]
            if antialiased:
                opacity *= math.sqrt(max((sharp_xx * sharp_yy - xy * xy) / area, real(COMPENSATION_MIN)))
            x, y = fx * inverse * px + cx, fy * inverse * py + cy
            splat[X], splat[Y], splat[OPACITY] = x, y, opacity
            splat[XX], splat[XY], splat[YY] = yy / area, -xy / area, xx / area
            if not _finite(abs(x) + abs(y) + opacity + splat[XX] + splat[YY]):
                broken += 1
            elif opacity >= real(ALPHA_MIN):
                extent = min(math.sqrt(two * math.log(opacity / real(ALPHA_MIN))), real(EXTENT_MAX))
                rect[0], rect[1] = _tiles(x, np.ceil(extent * math.sqrt(xx)), columns)
                rect[2], rect[3] = _tiles(y, np.ceil(extent * math.sqrt(yy)), rows)
    return broken


@njit(**OPTIONS)
def project_backward(
    first, last, means, rotations, scales, opacities, w2c, intrinsics, width, height, antialiased,
    splats, pair_start, pairs, pair_grads, grad_means, grad_rotations, grad_scales, grad_opacities, grad_colors,
):  # fmt: skip
    """Gradients of Gaussians first..last from those of their pairs with tiles, pair_grads[M, 7 + D].

    pairs[pair_start[s·N + n] : pair_start[s·N + n + 1]] are the rows of `pair_grads` that belong to splat n of view s.
    """
    real = means.dtype.type
    one, two, half = real(1), real(2), real(0.5)
    count = means.shape[1]
    views = w2c.shape[1]
    channels = grad_colors.shape[2]
    g = np.empty(SPLAT, means.dtype)
    for index in range(first, last):
        b, n = index // count, index % count
        mean = means[b, n]
        m = _shape_matrix(rotations[b, n], scales[b, n])
        d0 = d1 = d2 = (real(0), real(0), real(0))  # rows of the gradient of m
        for c in range(views):
            s = b * views + c
            row = s * count + n
            if pair_start[row] == pair_start[row + 1]:
                continue
            g[:] = 0
            for j in range(pair_start[row], pair_start[row + 1]):
                pair = pairs[j]
                for k in range(SPLAT):
                    g[k] += pair_grads[pair, k]
                for d in range(channels):
                    grad_colors[b, n, d] += pair_grads[pair, SPLAT + d]
            # projection again: cheaper than storing it
            pose = w2c[b, c]
            fx, fy, cx, cy = _lens(intrinsics[b, c])
            px, py = _camera_axis(pose, 0, mean), _camera_axis(pose, 1, mean)
            inverse = one / splats[s, n, DEPTH]
            u, u_inside = _clamp_ray(px * inverse, fx, cx, real(width), real(MARGIN))
            v, v_inside = _clamp_ray(py * inverse, fy, cy, real(height), real(MARGIN))
            t, w = _image_row(pose, 0, u, fx * inverse), _image_row(pose, 1, v, fy * inverse)
            p, q = _times(t, m), _times(w, m)
            # conic Q = Σ⁻¹: dL/dΣ = -Q (dL/dQ) Q
            cxx, cxy, cyy = splats[s, n, XX], splats[s, n, XY], splats[s, n, YY]
            off = half * g[XY]
            h00, h01 = cxx * g[XX] + cxy * off, cxx * off + cxy * g[YY]
            h10, h11 = cxy * g[XX] + cyy * off, cxy * off + cyy * g[YY]
            g_xx, g_yy = -(h00 * cxx + h01 * cxy), -(h10 * cxy + h11 * cyy)
            g_xy = -two * (h00 * cxy + h01 * cyy)
            if antialiased:
                sharp_xx, xy, sharp_yy = _dot(p, p), _dot(p, q), _dot(q, q)
                xx, yy = sharp_xx + real(PIXEL), sharp_yy + real(PIXEL)
                area = xx * yy - xy * xy
                ratio = (sharp_xx * sharp_yy - xy * xy) / area
                compensation = math.sqrt(max(ratio, real(COMPENSATION_MIN)))
                grad_opacities[b, n] += g[OPACITY] * compensation
                if ratio > real(COMPENSATION_MIN):
                    g_sharp = g[OPACITY] * opacities[b, n] * half / (compensation * area)
                    g_area = -g_sharp * ratio
                    g_xx += g_sharp * sharp_yy + g_area * yy
                    g_yy += g_sharp * sharp_xx + g_area * xx
                    g_xy -= two * xy * (g_sharp + g_area)
            else:
                grad_opacities[b, n] += g[OPACITY]
            gp = _mix(two * g_xx, p, g_xy, q)
            gq = _mix(two * g_yy, q, g_xy, p)
            d0 = _add(d0, _mix(t[0], gp, w[0], gq))
            d1 = _add(d1, _mix(t[1], gp, w[1], gq))
            d2 = _add(d2, _mix(t[2], gp, w[2], gq))
            gt = (_dot(m[0], gp), _dot(m[1], gp), _dot(m[2], gp))
            gw = (_dot(m[0], gq), _dot(m[1], gq), _dot(m[2], gq))
            g_px, g_py = g[X] * fx * inverse, g[Y] * fy * inverse
            g_inverse = (_dot(t, gt) + _dot(w, gw)) / inverse + g[X] * fx * px + g[Y] * fy * py
            if u_inside:
                g_u = -fx * inverse * (pose[2, 0] * gt[0] + pose[2, 1] * gt[1] + pose[2, 2] * gt[2])
                g_px += g_u * inverse
                g_inverse += g_u * px
            if v_inside:
                g_v = -fy * inverse * (pose[2, 0] * gw[0] + pose[2, 1] * gw[1] + pose[2, 2] * gw[2])
                g_py += g_v * inverse
                g_inverse += g_v * py
            g_pz = g[DEPTH] - g_inverse * inverse * inverse
            for k in range(3):
                grad_means[b, n, k] += pose[0, k] * g_px + pose[1, k] * g_py + pose[2, k] * g_pz
        _shape_matrix_backward(rotations[b, n], scales[b, n], d0, d1, d2, grad_rotations[b, n], grad_scales[b, n])


@njit(**OPTIONS)
def count_tiles(view, rects, columns, tile_counts, splat_counts):
    """How many splats each tile of a view has, tile_counts[S, T], and how many tiles each splat, splat_counts[S, N]."""
    for n in range(rects.shape[1]):
        x0, x1, y0, y1 = rects[view, n]
        splat_counts[view, n] = (x1 - x0) * (y1 - y0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile_counts[view, y * columns + x] += 1


@njit(**OPTIONS)
def order_by_depth(view, keys, order):
    """order[view]: the indices that sort keys[view] (the bits of depths, as unsigned integers), ties by index.

    Radix sort. Bits of positive floats sort as the floats do; what lies behind the camera comes last and is in no tile.
    """
    count = keys.shape[1]
    source, target = np.empty(count, np.int32), np.arange(count).astype(np.int32)
    for shift in range(0, 8 * keys.itemsize, RADIX_BITS):
        source, target = target, source
        starts = np.zeros((1 << RADIX_BITS) + 1, np.int32)
        for n in range(count):
            starts[((keys[view, n] >> shift) & RADIX_MASK) + 1] += 1
        for digit in range(1 << RADIX_BITS):
            starts[digit + 1] += starts[digit]
        for k in range(count):
            digit = (keys[view, source[k]] >> shift) & RADIX_MASK
            target[starts[digit]] = source[k]
            starts[digit] += 1
    order[view] = target


@njit(**OPTIONS)
def fill_tiles(view, rects, order, columns, tile_start, pair_start, ids, pairs):
    """Write each tile's splats near to far: ids[M] by tile, pairs[M] by splat (rows of `ids`)."""
    count = rects.shape[1]
    tiles = (tile_start.shape[0] - 1) // rects.shape[0]
    cursor = tile_start[view * tiles : (view + 1) * tiles].copy()
    for k in range(count):
        n = order[view, k]
        x0, x1, y0, y1 = rects[view, n]
        j = pair_start[view * count + n]
        for y in range(y0, y1):
            for x in range(x0, x1):
                position = cursor[y * columns + x]
                cursor[y * columns + x] += 1
                ids[position] = n
                pairs[j] = position
                j += 1


@njit(**OPTIONS)
def _finite(value):
    # math.isfinite computes value - value, which the fast-math flags fold to 0
    return abs(value) < np.inf


@njit(**OPTIONS)
def _tiles(center, radius, limit):
    """First tile, and one past the last, that the splat touches along an axis."""
    # bounded as floats: a splat near the camera can be wider than an integer holds
    low, high = np.floor((center - radius) / TILE), np.ceil((center + radius) / TILE)
    return int(min(max(low, 0.0), float(limit))), int(min(max(high, 0.0), float(limit)))


@njit(**OPTIONS)
def _lens(k):
    return k[0, 0], k[1, 1], k[0, 2], k[1, 2]


@njit(**OPTIONS)
def _camera_axis(pose, axis, point):
    return pose[axis, 0] * point[0] + pose[axis, 1] * point[1] + pose[axis, 2] * point[2] + pose[axis, 3]


@njit(**OPTIONS)
def _image_row(pose, axis, ray, scale):
    """Row of (Jacobian of the projection) · (rotation of the camera)."""
    return (
        scale * (pose[axis, 0] - ray * pose[2, 0]),
        scale * (pose[axis, 1] - ray * pose[2, 1]),
        scale * (pose[axis, 2] - ray * pose[2, 2]),
    )


@njit(**OPTIONS)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**OPTIONS)
def _add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit(**OPTIONS)
def _mix(x, a, y, b):
    return x * a[0] + y * b[0], x * a[1] + y * b[1], x * a[2] + y * b[2]


@njit(**OPTIONS)
def _times(row, m):
    return _add(_mix(row[0], m[0], row[1], m[1]), (row[2] * m[2][0], row[2] * m[2][1], row[2] * m[2][2]))


@njit(**OPTIONS)
def _clamp_ray(ray, focal, principal, size, margin):
    low, high = -(principal + margin * size) / focal, (size - principal + margin * size) / focal
    return min(max(ray, low), high), low < ray < high


@njit(**OPTIONS)
def _turn(rotation):
    """Rows of the matrix of q / |q|, then q / |q| and 1 / |q|."""
    real = rotation.dtype.type
    one, two = real(1), real(2)
    w, x, y, z = rotation[0], rotation[1], rotation[2], rotation[3]
    inverse = one / max(math.sqrt(w * w + x * x + y * y + z * z), real(1e-12))
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    r0 = (one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y))
    r1 = (two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x))
    r2 = (two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y))
    return r0, r1, r2, (w, x, y, z), inverse


@njit(**OPTIONS)
def _shape_matrix(rotation, scale):
    """Rows of R(q / |q|) · diag(scale)."""
    r0, r1, r2, _, _ = _turn(rotation)
    return (
        (r0[0] * scale[0], r0[1] * scale[1], r0[2] * scale[2]),
        (r1[0] * scale[0], r1[1] * scale[1], r1[2] * scale[2]),
        (r2[0] * scale[0], r2[1] * scale[1], r2[2] * scale[2]),
    )


@njit(**OPTIONS)
def _shape_matrix_backward(rotation, scale, d0, d1, d2, grad_rotation, grad_scale):
    two = rotation.dtype.type(2)
    r0, r1, r2, (w, x, y, z), inverse = _turn(rotation)
    for k in range(3):
        grad_scale[k] = d0[k] * r0[k] + d1[k] * r1[k] + d2[k] * r2[k]
    d00, d01, d02 = d0[0] * scale[0], d0[1] * scale[1], d0[2] * scale[2]
    d10, d11, d12 = d1[0] * scale[0], d1[1] * scale[1], d1[2] * scale[2]
    d20, d21, d22 = d2[0] * scale[0], d2[1] * scale[1], d2[2] * scale[2]
    gw = two * (x * (d21 - d12) + y * (d02 - d20) + z * (d10 - d01))
    gx = two * (-two * x * (d11 + d22) + y * (d01 + d10) + z * (d02 + d20) + w * (d21 - d12))
    gy = two * (x * (d01 + d10) - two * y * (d00 + d22) + z * (d12 + d21) + w * (d02 - d20))
    gz = two * (x * (d02 + d20) + y * (d12 + d21) - two * z * (d00 + d11) + w * (d10 - d01))
    along = gw * w + gx * x + gy * y + gz * z
    grad_rotation[0], grad_rotation[1] = (gw - along * w) * inverse, (gx - along * x) * inverse
    grad_rotation[2], grad_rotation[3] = (gy - along * y) * inverse, (gz - along * z) * inverse
