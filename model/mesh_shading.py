"""Colours of a picture whose visible faces are known: texture with mipmaps, smooth normals, light, averaged samples.

A face is shaded once a pixel, at the middle of the samples that see it, so that edges cost and plain surfaces do not.
Axes: V vertices, F faces, U texture coordinates, H × W pixels, S samples a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.mesh_visibility import place_on_face, twice_area

LEVELS = 6  # of a texture: the last has a 32nd of its side
THROUGH = 0.3  # share of the sky that cloth lets through to its inside
SNAP = 0.15  # a level this near a whole one is looked up in that one alone


class Texture(NamedTuple):
    """A picture and its halvings, one after the other in memory."""

    texels: NDArray[np.uint8]  # [texels of all levels, 3]
    levels: NDArray[np.int64]  # [levels, 3] first texel, rows, columns


def make_texture(image: NDArray[np.generic]) -> Texture:
    """[h, w, 3] uint8, or float 0..1. Making it once saves about a millisecond a picture."""
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 2:
        raise ValueError(f"texture must be [h, w, 3] with h, w >= 2, got {image.shape}")
    if image.dtype != np.uint8:
        image = np.clip(image.astype(np.float32), 0, 1) * 255 + 0.5
    level = np.ascontiguousarray(image.astype(np.uint8, copy=False))
    parts, levels, first = [], [], 0
    while True:
        rows, columns = level.shape[:2]
        parts.append(level.reshape(-1, 3))
        levels.append((first, rows, columns))
        first += rows * columns
        if len(levels) == LEVELS or min(rows, columns) < 4:
            return Texture(np.concatenate(parts), np.array(levels, np.int64))
        level = _halved(level)


@njit(cache=True, nogil=True, error_model="numpy")
def _halved(image):
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    out = np.empty((rows, columns, 3), np.uint8)
    for y in range(rows):
        for x in range(columns):
            for n in range(3):
                a, b = np.int32(image[2 * y, 2 * x, n]), np.int32(image[2 * y, 2 * x + 1, n])
                c, d = np.int32(image[2 * y + 1, 2 * x, n]), np.int32(image[2 * y + 1, 2 * x + 1, n])
                out[y, x, n] = (a + b + c + d + 2) >> 2
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "arcp", "nsz"})  # infinities stay exact
def shade(face_id, places, mesh, surface, lamps, lit, background, filled):
    """Average of the samples → rgb, alpha, depth, normals, face.

    face_id [H, W, S] at `places` [S, 2]; mesh: pixels [V, 2], depth [V], faces [F, 3], normals [V, 3], reaching [V, 4];
    surface: texels, levels, coordinates ([U, 2] into the texture, or colours [V, 3]), corners [F, 3]; lamps: `Lights.matrix`;
    background [H, W, 3] or [1, 1, 3], laid under the picture where `filled`.
    """
    pixels, depths, faces, normals, reaching = mesh
    texels, levels, coordinates, corners = surface
    height, width, count = face_id.shape
    rgb = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    normal = np.zeros((height, width, 3), np.float32)
    face = np.full((height, width), -1, np.int32)
    textured = coordinates.shape[1] == 2
    color, light = np.zeros(3), np.ones(3)
    nearness = 1.0 / depths
    fineness, sides = _of_faces(pixels, faces, coordinates, corners, levels)
    for y in range(height):
        for x in range(width):
            covered, most = 0, 0
            for q in range(count):
                f = face_id[y, x, q]
                if f < 0:
                    continue
                seen, px, py = 0, 0.0, 0.0
                for p in range(count):
                    if face_id[y, x, p] == f:
                        if p < q:
                            break
                        seen, px, py = seen + 1, px + places[p, 0], py + places[p, 1]
                if seen == 0:  # an earlier sample saw this face
                    continue
                covered += seen
                i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                a, b, c, z = place_on_face(pixels, nearness, i, j, k, x + px / seen, y + py / seen)
                if z < depth[y, x]:
                    depth[y, x] = z
                if seen > most:
                    most = seen
                    face[y, x] = f
                ci, cj, ck = corners[f, 0], corners[f, 1], corners[f, 2]
                if textured:
                    u = a * coordinates[ci, 0] + b * coordinates[cj, 0] + c * coordinates[ck, 0]
                    v = a * coordinates[ci, 1] + b * coordinates[cj, 1] + c * coordinates[ck, 1]
                    _look_up(texels, levels, u, v, fineness[f], color)
                else:
                    for n in range(3):
                        color[n] = a * coordinates[ci, n] + b * coordinates[cj, n] + c * coordinates[ck, n]
                nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
                ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
                nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
                side = sides[f]  # the back of a surface is lit like a front
                scale = (1.0 - 2.0 * side) / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
                nx, ny, nz = nx * scale, ny * scale, nz * scale
                if lit:
                    sky = a * reaching[i, side] + b * reaching[j, side] + c * reaching[k, side]
                    key = a * reaching[i, 2 + side] + b * reaching[j, 2 + side] + c * reaching[k, 2 + side]
                    if side == 1:
                        sky = THROUGH + (1.0 - THROUGH) * sky
                    _light(lamps, nx, ny, nz, sky, key, color, light)
                for n in range(3):
                    rgb[y, x, n] += seen * min(1.0, max(0.0, color[n] * light[n]))
                normal[y, x, 0] += seen * nx
                normal[y, x, 1] += seen * ny
                normal[y, x, 2] += seen * nz
            if covered:
                alpha[y, x] = covered / count
                scale = 1.0 / np.sqrt(normal[y, x, 0] ** 2 + normal[y, x, 1] ** 2 + normal[y, x, 2] ** 2 + 1e-20)
                for n in range(3):
                    rgb[y, x, n] /= covered
                    normal[y, x, n] *= scale
            if filled:
                row, column = min(y, background.shape[0] - 1), min(x, background.shape[1] - 1)
                for n in range(3):
                    rgb[y, x, n] = rgb[y, x, n] * alpha[y, x] + background[row, column, n] * (1.0 - alpha[y, x])
    return rgb, alpha, depth, normal, face


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "arcp", "nsz"})
def _light(lamps, nx, ny, nz, sky, key, color, light):
    """Factor of each colour [3]: sky, key over a disc, fill; `sky` and `key` are the shares that arrive, 0..1."""
    # the root: colours are display values, in which half of the light is far more than half as bright
    sky, key = 1.0 - lamps[0, 6] * (1.0 - np.sqrt(max(sky, 0.0))), 1.0 - lamps[2, 6] * (1.0 - key)
    facing = nx * lamps[1, 0] + ny * lamps[1, 1] + nz * lamps[1, 2]
    soft = lamps[1, 6]
    if facing < soft:  # the disc is partly below the surface's horizon
        facing = (facing + soft) ** 2 / (4 * soft) if facing > -soft else 0.0
    filling = max(0.0, nx * lamps[2, 0] + ny * lamps[2, 1] + nz * lamps[2, 2])
    for n in range(3):
        # light thrown from fold to fold brightens bright surfaces and warms skin (Jimenez et al. 2016, GTAO)
        own = min(1.0, max(0.0, color[n])) ** 2
        s = ((sky * (2.0404 * own - 0.3324) + 0.6417 - 4.7951 * own) * sky + 2.7552 * own + 0.6903) * sky
        s = max(sky, min(1.0, s))
        light[n] = (lamps[0, 2 + 1 + n] + lamps[0, 1] * ny) * s + lamps[1, 3 + n] * facing * key + lamps[2, 3 + n] * filling * s


@njit(cache=True, nogil=True, error_model="numpy")
def _of_faces(pixels, faces, coordinates, corners, levels):
    """Of each face: the halvings of the texture at which a texel is as large as a pixel, and the side that is seen."""
    fineness, sides = np.zeros(len(faces), np.float32), np.zeros(len(faces), np.uint8)
    texels, most = levels[0, 1] * levels[0, 2], len(levels) - 1.0
    for f in range(len(faces)):
        area = twice_area(pixels, faces[f, 0], faces[f, 1], faces[f, 2])
        sides[f] = 1 if area > 0 else 0
        if coordinates.shape[1] == 2:
            ratio = abs(twice_area(coordinates, corners[f, 0], corners[f, 1], corners[f, 2])) * texels / max(abs(area), 1e-12)
            if ratio > 1.0:
                level = min(0.5 * np.log2(ratio), most)
                near = np.floor(level + 0.5)
                fineness[f] = near if abs(level - near) < SNAP else level
    return fineness, sides


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(texels, levels, u, v, fineness, color):
    """Colour [3] 0..1 at (u, v), v upwards: bilinear in the two nearest halvings."""
    color[:] = 0.0
    upper = int(fineness)
    for level in range(upper, min(upper + 2, len(levels))):
        share = 1.0 - abs(fineness - level)
        if share <= 0.0:
            continue
        first, rows, columns = levels[level]
        tx = min(max(u * columns - 0.5, 0.0), columns - 1.001)
        ty = min(max((1.0 - v) * rows - 0.5, 0.0), rows - 1.001)
        x, y = int(tx), int(ty)
        fx, fy = tx - x, ty - y
        at = first + y * columns + x
        w00, w01 = (1 - fx) * (1 - fy) * share / 255, fx * (1 - fy) * share / 255
        w10, w11 = (1 - fx) * fy * share / 255, fx * fy * share / 255
        for n in range(3):
            color[n] += w00 * texels[at, n] + w01 * texels[at + 1, n]
            color[n] += w10 * texels[at + columns, n] + w11 * texels[at + columns + 1, n]
