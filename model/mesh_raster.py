"""Headless renderer of textured triangle meshes on a CPU: a numba z-buffer and simple lights.

`rasterize_mesh` says which triangle each pixel centre sees; `render_mesh` shades. Cameras are `model.types.Camera`
(OpenCV, pixel centres at +0.5). UV coordinates follow OBJ files: u to the right, v upwards, (0, 0) at the lower left.
Kernels hold no Python objects and release the GIL, so frames may be rendered in threads.
Axes: V vertices, F faces, H × W pixels, S supersampling per side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from model.types import Camera

Array = NDArray[np.generic]
NEAR = 0.01  # metres; triangles that reach closer to the camera's plane are not drawn


@dataclass(frozen=True)
class Lights:
    """A sky and two lamps in world space (y up, the person looks along +z); intensities are linear factors."""

    ambient: float = 0.46
    sky: float = 0.10  # added for normals that point up, subtracted for those that point down
    key: tuple[float, float, float] = (0.45, 0.70, 0.75)  # direction towards the lamp
    key_intensity: float = 0.48
    fill: tuple[float, float, float] = (-0.70, 0.15, 0.60)
    fill_intensity: float = 0.18

    def matrix(self) -> NDArray[np.float64]:
        """Rows (direction, intensity) of ambient + sky, key and fill, as the shading kernel reads them: [3, 4]."""
        rows = [(0.0, self.sky, 0.0, self.ambient)]
        for direction, intensity in ((self.key, self.key_intensity), (self.fill, self.fill_intensity)):
            unit = np.asarray(direction) / np.linalg.norm(direction)
            rows.append((unit[0], unit[1], unit[2], intensity))
        return np.array(rows)


DAYLIGHT = Lights()


class MeshRender(NamedTuple):
    """A rendered view."""

    rgb: NDArray[np.float32]  # [H, W, 3] 0..1
    alpha: NDArray[np.float32]  # [H, W] covered share of the pixel
    depth: NDArray[np.float32]  # [H, W] metres along the camera's z, of the nearest sample; inf where nothing is


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
    face_id = np.full((height, width), -1, np.int64)
    barycentric = np.zeros((height, width, 3), np.float32)
    buffer = np.full((height, width), np.inf, np.float32)
    pixels = np.ascontiguousarray(pixels, np.float64)
    depth, faces = np.ascontiguousarray(depth, np.float64), np.ascontiguousarray(faces, np.int64)
    _rasterize(pixels, depth, faces, face_id, barycentric, buffer)
    return face_id, barycentric, buffer


def render_mesh(
    vertices: ArrayLike,  # [V, 3] world, metres
    faces: ArrayLike,  # [F, 3]
    camera: Camera,  # one camera; its size is the picture's
    *,
    texture: Array | None = None,  # [h, w, 3] uint8, or float 0..1
    uv: ArrayLike | None = None,  # [U, 2]
    uv_faces: ArrayLike | None = None,  # [F, 3] indices into uv; none: uv has one row a vertex
    vertex_colors: Array | None = None,  # [V, 3] uint8 or float 0..1, instead of texture
    background: ArrayLike | None = None,  # [3] or [H, W, 3]; none: the surface's own colour (straight alpha)
    supersample: int = 2,  # samples per pixel and side
    lights: Lights | None = DAYLIGHT,  # none: colours unlit
) -> MeshRender:
    """Render one view, smoothly shaded. ValueError where neither a texture with UVs nor vertex colours are given."""
    points = np.ascontiguousarray(vertices, np.float64)
    triangles = np.ascontiguousarray(faces, np.int64)
    pixels, depth = project_vertices(points, camera)
    columns, rows = (int(x) * supersample for x in camera.size)
    face_id, barycentric, buffer = rasterize_mesh(pixels * supersample, depth, triangles, rows, columns)
    if vertex_colors is not None:
        image, coordinates = np.zeros((1, 1, 3), np.uint8), np.ascontiguousarray(_unit(vertex_colors))
        corners = triangles
    elif texture is not None and uv is not None:
        image, coordinates = np.ascontiguousarray(_bytes(texture)), np.ascontiguousarray(uv, np.float32)
        corners = triangles if uv_faces is None else np.ascontiguousarray(uv_faces, np.int64)
    else:
        raise ValueError("render_mesh: expected vertex_colors, or texture and uv; got neither")
    if corners.shape != triangles.shape:
        raise ValueError(f"render_mesh: uv_faces must be {triangles.shape} like faces, got {corners.shape}")
    normals = vertex_normals(points, triangles) if lights is not None else np.zeros_like(points)
    lamps = (lights or DAYLIGHT).matrix()
    eye = (-camera.w2c[:3, :3].double().T @ camera.w2c[:3, 3].double()).cpu().numpy()
    hits, mesh, look = (face_id, barycentric, buffer), (points, triangles, normals), (image, coordinates, corners)
    rgb, alpha, near = _shade(hits, mesh, look, lamps, lights is not None, eye, supersample)
    if background is not None:
        rgb = rgb * alpha[..., None] + np.asarray(background, np.float32) * (1 - alpha[..., None])
    return MeshRender(rgb, alpha, near)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _rasterize(pixels, depth, faces, face_id, barycentric, buffer):
    height, width = buffer.shape
    for f in range(len(faces)):
        i, j, k = faces[f]
        za, zb, zc = depth[i], depth[j], depth[k]
        if za < NEAR or zb < NEAR or zc < NEAR:
            continue
        ax, ay = pixels[i, 0], pixels[i, 1]
        bx, by = pixels[j, 0], pixels[j, 1]
        cx, cy = pixels[k, 0], pixels[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not abs(area) > 1e-12:  # degenerate or not finite
            continue
        # pixel x is sampled at x + 0.5
        left, right = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top, bottom = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        inverse = 1.0 / area
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                wc = 1.0 - wa - wb
                if wa < -1e-9 or wb < -1e-9 or wc < -1e-9:
                    continue
                wa, wb, wc = wa / za, wb / zb, wc / zc
                z = 1.0 / (wa + wb + wc)
                if z < buffer[y, x]:
                    buffer[y, x] = z
                    face_id[y, x] = f
                    barycentric[y, x, 0] = wa * z
                    barycentric[y, x, 1] = wb * z
                    barycentric[y, x, 2] = wc * z


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "arcp", "nsz"})  # infinities stay exact
def _shade(hits, mesh, look, lamps, lit, eye, s):
    """Average S × S shaded samples a pixel. Coordinates [U, 2] look up the image; [V, 3] are colours themselves."""
    face_id, barycentric, buffer = hits
    vertices, faces, normals = mesh
    image, coordinates, corners = look
    height, width = face_id.shape[0] // s, face_id.shape[1] // s
    rgb = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    textured = coordinates.shape[1] == 2
    rows, columns = image.shape[0], image.shape[1]
    color = np.zeros(3)
    for y in range(height):
        for x in range(width):
            count = 0
            for q in range(s * s):
                yy, xx = y * s + q // s, x * s + q % s
                f = face_id[yy, xx]
                if f < 0:
                    continue
                count += 1
                depth[y, x] = min(depth[y, x], buffer[yy, xx])
                a, b, c = barycentric[yy, xx, 0], barycentric[yy, xx, 1], barycentric[yy, xx, 2]
                i, j, k = corners[f, 0], corners[f, 1], corners[f, 2]
                if textured:
                    u = a * coordinates[i, 0] + b * coordinates[j, 0] + c * coordinates[k, 0]
                    v = a * coordinates[i, 1] + b * coordinates[j, 1] + c * coordinates[k, 1]
                    tx = min(max(u * columns - 0.5, 0.0), columns - 1.001)
                    ty = min(max((1.0 - v) * rows - 0.5, 0.0), rows - 1.001)
                    x0, y0 = int(tx), int(ty)
                    fx, fy = tx - x0, ty - y0
                    for n in range(3):
                        upper = image[y0, x0, n] * (1 - fx) + image[y0, x0 + 1, n] * fx
                        lower = image[y0 + 1, x0, n] * (1 - fx) + image[y0 + 1, x0 + 1, n] * fx
                        color[n] = (upper * (1 - fy) + lower * fy) / 255.0
                else:
                    for n in range(3):
                        color[n] = a * coordinates[i, n] + b * coordinates[j, n] + c * coordinates[k, n]
                light = 1.0
                if lit:
                    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                    nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
                    ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
                    nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
                    dx = eye[0] - (a * vertices[i, 0] + b * vertices[j, 0] + c * vertices[k, 0])
                    dy = eye[1] - (a * vertices[i, 1] + b * vertices[j, 1] + c * vertices[k, 1])
                    dz = eye[2] - (a * vertices[i, 2] + b * vertices[j, 2] + c * vertices[k, 2])
                    scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
                    if nx * dx + ny * dy + nz * dz < 0:  # the back of a surface is lit like its front
                        scale = -scale
                    nx, ny, nz = nx * scale, ny * scale, nz * scale
                    light = lamps[0, 3] + lamps[0, 1] * ny
                    for n in range(1, 3):
                        light += lamps[n, 3] * max(0.0, lamps[n, 0] * nx + lamps[n, 1] * ny + lamps[n, 2] * nz)
                for n in range(3):
                    rgb[y, x, n] += min(1.0, max(0.0, color[n] * light))
            if count:
                alpha[y, x] = count / (s * s)
                for n in range(3):
                    rgb[y, x, n] /= count
    return rgb, alpha, depth


def _unit(colors: Array) -> NDArray[np.float32]:
    return colors.astype(np.float32) / 255 if colors.dtype == np.uint8 else colors.astype(np.float32)


def _bytes(image: Array) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 2:
        raise ValueError(f"texture must be [h, w, 3] with h, w >= 2, got {image.shape}")
    if image.dtype != np.uint8:
        image = np.clip(image.astype(np.float32), 0, 1) * 255 + 0.5
    return image.astype(np.uint8, copy=False)
