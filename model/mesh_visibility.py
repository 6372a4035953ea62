"""Which triangle of a mesh each sample of a picture sees: projection, z-buffers and normals, as numba kernels.

Kernels hold no Python objects and release the GIL, so pictures may be drawn in threads. They start no threads of
their own: numba's pools do not survive a fork or calls from several threads, and one picture a thread is as fast.
Axes: V vertices, F faces, H × W pixels, S samples a pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from model.types import Camera

NEAR = 0.01  # metres; triangles that reach closer to the camera's plane are not drawn


def project_vertices(vertices: ArrayLike, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World vertices [V, 3] through one camera → pixels [V, 2] and depths [V], float64."""
    if camera.w2c.shape != (4, 4):
        lead = tuple(camera.w2c.shape[:-2])
        raise ValueError(f"mesh rendering takes one camera, got leading axes {lead}; index it first")
    w2c = camera.w2c.detach().cpu().double().numpy()
    intrinsics = camera.intrinsics.detach().cpu().double().numpy()
    points = np.asarray(vertices, np.float64) @ w2c[:3, :3].T + w2c[:3, 3]
    depth = points[:, 2]
    return (points @ intrinsics.T)[:, :2] / np.where(depth > NEAR, depth, 1.0)[:, None], depth


def rasterize_mesh(
    pixels: ArrayLike,  # [V, 2] projected vertices
    depth: ArrayLike,  # [V] metres
    faces: ArrayLike,  # [F, 3] either winding
    height: int,
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The nearest triangle at each pixel centre.

    Returns face_id [H, W] (-1: none), barycentric [H, W, 3] (perspective right) and depth [H, W] (inf: none).
    """
    pixels = np.ascontiguousarray(pixels, np.float64)
    depth, faces = np.ascontiguousarray(depth, np.float64), np.ascontiguousarray(faces, np.int64)
    face_id = visible_faces(pixels, depth, faces, sample_places(1), height, width)[..., 0]
    barycentric, near = _look_up(face_id, pixels, 1.0 / depth, faces)
    return face_id.astype(np.int64), barycentric, near


def sample_places(side: int) -> NDArray[np.float64]:
    """Places [side², 2] of the samples inside a pixel, (x, y) in 0..1: no two share a row or a column.

    The canonical arrangement of correlated multi-jittered sampling (Kensler 2013, Pixar 13-01); for side 2 it is the
    rotated grid. Their mean is the pixel's centre.
    """
    i, j = (g.reshape(-1) for g in np.meshgrid(np.arange(side), np.arange(side)))
    return np.stack([(i + (j + 0.5) / side) / side, (j + (side - i - 0.5) / side) / side], -1)


def regular_places(side: int) -> NDArray[np.float64]:
    """Places [side², 2] of a pixel divided into equal squares, row by row."""
    i, j = (g.reshape(-1) for g in np.meshgrid(np.arange(side), np.arange(side)))
    return np.stack([(i + 0.5) / side, (j + 0.5) / side], -1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def visible_faces(pixels, depth, faces, places, height, width):
    """The nearest face at each sample: int32 [H, W, S], -1 where there is none. Samples lie at `places` [S, 2]."""
    count = len(places)
    face_id = np.full((height, width, count), -1, np.int32)
    buffer = np.zeros((height, width, count), np.float32)  # 1 / depth: linear on the picture, so no division a sample
    step_a, step_b = np.empty(count), np.empty(count)
    first_x, last_x = places[:, 0].min(), places[:, 0].max()
    first_y, last_y = places[:, 1].min(), places[:, 1].max()
    for f in range(np.int32(len(faces))):
        i, j, k = faces[f]
        za, zb, zc = depth[i], depth[j], depth[k]
        if not (za >= NEAR and zb >= NEAR and zc >= NEAR):
            continue
        ax, ay = pixels[i, 0], pixels[i, 1]
        bx, by = pixels[j, 0], pixels[j, 1]
        cx, cy = pixels[k, 0], pixels[k, 1]
        left, right = min(ax, bx, cx), max(ax, bx, cx)
        top, bottom = min(ay, by, cy), max(ay, by, cy)
        if right < 0 or bottom < 0 or left > width or top > height:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not abs(area) > 1e-12:  # degenerate or not finite
            continue
        x0, x1 = max(0, int(np.ceil(left - last_x))), min(width - 1, int(np.floor(right - first_x)))
        y0, y1 = max(0, int(np.ceil(top - last_y))), min(height - 1, int(np.floor(bottom - first_y)))
        inverse = 1.0 / area
        a_x, a_y = (by - cy) * inverse, (cx - bx) * inverse
        b_x, b_y = (cy - ay) * inverse, (ax - cx) * inverse
        ic = 1.0 / zc
        da, db = 1.0 / za - ic, 1.0 / zb - ic
        most_a, most_b, most_c = -np.inf, -np.inf, -np.inf
        for q in range(count):
            step_a[q] = a_x * places[q, 0] + a_y * places[q, 1]
            step_b[q] = b_x * places[q, 0] + b_y * places[q, 1]
            most_a, most_b = max(most_a, step_a[q]), max(most_b, step_b[q])
            most_c = max(most_c, -step_a[q] - step_b[q])
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                # weights of corners a and b at the pixel's upper left corner
                wa = a_x * (x - cx) + a_y * (y - cy)
                wb = b_x * (x - cx) + b_y * (y - cy)
                if min(wa + most_a, wb + most_b, 1.0 - wa - wb + most_c) < -1e-9:
                    continue
                for q in range(count):  # no branches: the outcome is hard to foresee on small triangles
                    a, b = wa + step_a[q], wb + step_b[q]
                    near = np.float32(ic + a * da + b * db)
                    seen = (min(a, b, 1.0 - a - b) >= -1e-9) & (near > buffer[y, x, q])
                    buffer[y, x, q] = near if seen else buffer[y, x, q]
                    face_id[y, x, q] = f if seen else face_id[y, x, q]
    return face_id


@njit(cache=True, nogil=True, error_model="numpy")
def place_on_face(pixels, nearness, i, j, k, px, py):
    """Perspective-right weights of corners i, j, k and the depth where the ray through (px, py) meets their plane.

    `nearness` [V] is 1 / depth.
    """
    ax, ay = pixels[i, 0] - px, pixels[i, 1] - py
    bx, by = pixels[j, 0] - px, pixels[j, 1] - py
    cx, cy = pixels[k, 0] - px, pixels[k, 1] - py
    a, b, c = (bx * cy - by * cx) * nearness[i], (cx * ay - cy * ax) * nearness[j], (ax * by - ay * bx) * nearness[k]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    total = 1.0 / (a + b + c)
    return a * total, b * total, c * total, area * total


@njit(cache=True, nogil=True, error_model="numpy")
def seen_sides(face_id, pixels, faces):
    """Which vertices belong to faces that are seen, from the front and from the back: bool [V, 2]."""
    out = np.zeros((len(pixels), 2), np.bool_)
    height, width, count = face_id.shape
    for y in range(height):
        last = -1
        for x in range(width):
            for q in range(count):
                f = face_id[y, x, q]
                if f < 0 or f == last:
                    continue
                last = f
                i, j, k = faces[f]
                side = 1 if twice_area(pixels, i, j, k) > 0 else 0
                out[i, side] = out[j, side] = out[k, side] = True
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def twice_area(points, i, j, k):
    """Of a triangle in the plane; above 0 where a picture (y down) shows a face's back, as fronts run clockwise."""
    area = (points[j, 0] - points[i, 0]) * (points[k, 1] - points[i, 1])
    return area - (points[j, 1] - points[i, 1]) * (points[k, 0] - points[i, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(face_id, pixels, nearness, faces):
    height, width = face_id.shape
    barycentric = np.zeros((height, width, 3), np.float32)
    near = np.full((height, width), np.inf, np.float32)
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f >= 0:
                a, b, c, z = place_on_face(pixels, nearness, faces[f, 0], faces[f, 1], faces[f, 2], x + 0.5, y + 0.5)
                barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2] = a, b, c
                near[y, x] = z
    return barycentric, near


@njit(cache=True, nogil=True, error_model="numpy")
def vertex_normals(vertices, faces):
    """Area-weighted unit normals [V, 3] of float64 vertices [V, 3]; zero where no face meets."""
    out = np.zeros_like(vertices)
    for f in range(len(faces)):
        i, j, k = faces[f]
        ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(len(out)):
        norm = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if norm > 1e-20:
            out[v] /= norm
    return out
