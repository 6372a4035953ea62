"""Light on a mesh: a sky, a large soft lamp and a fill, and how much of each reaches every vertex past the mesh itself.

`light_reaching` draws height maps of the mesh along spread directions and asks at each vertex which of them are
free: cosine-weighted ambient occlusion for the sky, the free share of the lamp's disc for its soft shadow. It
follows the pose, not the camera, so that a turning camera or a hand that leaves the picture changes no shade.
Axes: V vertices, F faces, D directions. World: y up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)
AXES = 12  # each gives two opposite directions of the sky
LAMP_POINTS = 6  # on the lamp's disc
SMOOTHING = 2  # rounds that even out the steps which so few directions leave, over a vertex's neighbours
SLACK = np.float32(1e-5)
FAR = np.float32(1e9)
CELLS = 288  # of a height map, along the longest side of the mesh's box


@dataclass(frozen=True)
class Lights:
    """A sky and two lamps in world space (y up, the person looks along +z); intensities are linear factors."""

    ambient: float = 0.46
    sky: float = 0.11  # added for normals that point up, subtracted for those that point down
    key: tuple[float, float, float] = (0.50, 0.68, 0.70)  # direction towards the lamp
    key_intensity: float = 0.60
    fill: tuple[float, float, float] = (-0.70, 0.15, 0.60)
    fill_intensity: float = 0.18
    key_softness: float = 0.3  # sine of the angle that the lamp's radius spans; 0: a point
    occlusion: float = 0.85  # 0..1: how much folds and cavities keep the sky and the fill away
    shadow: float = 0.85  # 0..1: how much the key's light is missing in its shadow
    ambient_color: Colour = WHITE
    key_color: Colour = WHITE
    fill_color: Colour = WHITE

    def __post_init__(self) -> None:
        for name in ("occlusion", "shadow", "key_softness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Lights.{name}: expected 0..1, got {getattr(self, name)}")
        for name in ("key", "fill"):
            if not np.linalg.norm(getattr(self, name)) > 0:
                raise ValueError(f"Lights.{name}: expected a direction towards the lamp, got {getattr(self, name)}")

    @property
    def casts(self) -> bool:
        """Whether the mesh keeps light from itself."""
        return self.occlusion > 0 or self.shadow > 0

    def matrix(self) -> NDArray[np.float64]:
        """What the shading kernel reads, [3, 7]: of sky, key and fill the direction, colour × intensity, and a figure.

        The figures are occlusion, key_softness and shadow; the sky's direction is (0, sky, 0).
        """
        rows = [[0.0, self.sky, 0.0, *(self.ambient * np.array(self.ambient_color)), self.occlusion]]
        lamps = (
            (self.key, self.key_intensity, self.key_color, self.key_softness),
            (self.fill, self.fill_intensity, self.fill_color, self.shadow),
        )
        for direction, intensity, color, figure in lamps:
            rows.append([*unit(direction), *(intensity * np.array(color)), figure])
        return np.array(rows, np.float64)


DAYLIGHT = Lights()


def light_reaching(
    vertices: NDArray[np.float64],  # [V, 3] world, metres
    normals: NDArray[np.float64],  # [V, 3] unit
    faces: NDArray[np.int64],  # [F, 3]
    lights: Lights = DAYLIGHT,
    wanted: NDArray[np.bool_] | None = None,  # [V, 2] fronts and backs that are asked for; none: all
) -> NDArray[np.float32]:
    """What of the light arrives, 0..1: [V, 4] of the sky on the front and on the back, of the key on each.

    It is 1 where it is not wanted.
    """
    key = unit(lights.key)
    across = unit(np.cross([0.0, 1.0, 0.0] if abs(key[1]) < 0.9 else [1.0, 0.0, 0.0], key))
    disc = disc_points(LAMP_POINTS) * lights.key_softness
    towards = key + disc[:, :1] * across + disc[:, 1:] * np.cross(key, across)
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    cell = float(np.ptp(vertices, axis=0).max()) / CELLS if len(vertices) else 0.0
    if wanted is None:
        wanted = np.ones((len(vertices), 2), np.bool_)
    if not cell > 0 or not wanted.any():
        return np.ones((len(vertices), 4), np.float32)
    small = faces.astype(np.int32)
    out = _light_reaching(vertices, normals, small, wanted, sky_axes(AXES), towards, cell)
    for _ in range(SMOOTHING):
        out = _smoothed(out, small, wanted)
    return out


def unit(direction: object) -> NDArray[np.float64]:
    vector = np.asarray(direction, np.float64)
    return vector / np.linalg.norm(vector)


@cache
def sky_axes(count: int) -> NDArray[np.float64]:
    """Directions [D, 3] spread evenly over the upper half of the sphere (Fibonacci's lattice)."""
    k = np.arange(count) + 0.5
    height, turn = 1 - k / count, k * np.pi * (3 - np.sqrt(5))
    level = np.sqrt(1 - height**2)
    return np.stack([level * np.cos(turn), height, level * np.sin(turn)], -1)


@cache
def disc_points(count: int) -> NDArray[np.float64]:
    """Points [D, 2] spread evenly over the unit disc (Vogel's spiral)."""
    k = np.arange(count) + 0.5
    radius, turn = np.sqrt(k / count), k * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)


@njit(cache=True, nogil=True, error_model="numpy")
def _light_reaching(vertices, normals, faces, wanted, axes, towards, cell):
    count = len(vertices)
    out = np.zeros((count, 4), np.float32)
    weight = np.zeros((count, 2), np.float32)  # of the key; that of the sky is the same on both sides
    total = np.zeros(count, np.float32)
    for n in range(len(axes) + len(towards)):
        is_sky = n < len(axes)
        direction = axes[n] if is_sky else towards[n - len(axes)]
        right, up = _basis(direction)
        places = np.empty((count, 3), np.float32)
        for v in range(count):
            x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            places[v, 0] = (x * right[0] + y * right[1] + z * right[2]) / cell
            places[v, 1] = (x * up[0] + y * up[1] + z * up[2]) / cell
            places[v, 2] = x * direction[0] + y * direction[1] + z * direction[2]
        left, bottom, right_end, top = np.inf, np.inf, -np.inf, -np.inf  # the map covers what is asked for
        for v in range(count):
            if wanted[v, 0] or wanted[v, 1]:
                left, right_end = min(left, places[v, 0]), max(right_end, places[v, 0])
                bottom, top = min(bottom, places[v, 1]), max(top, places[v, 1])
        for v in range(count):
            places[v, 0] -= left - 3.0
            places[v, 1] -= bottom - 3.0
        rows, columns = int(top - bottom) + 8, int(right_end - left) + 8
        high = np.full((rows, columns), -FAR, np.float32)
        low = np.full((rows, columns), FAR, np.float32)
        _height_maps(places, faces, high, low)
        for v in range(count):
            if not (wanted[v, 0] or wanted[v, 1]):
                continue
            nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
            cosine = nx * direction[0] + ny * direction[1] + nz * direction[2]
            # a step off the surface, so that the cells next to it do not rise above it where it slopes
            sine = np.sqrt(max(0.0, 1.0 - cosine * cosine))
            step = cell * (0.35 + 1.3 * sine)
            du = step / cell * (nx * right[0] + ny * right[1] + nz * right[2])
            dv = step / cell * (nx * up[0] + ny * up[1] + nz * up[2])
            dt = step * cosine
            x, y, t = places[v, 0], places[v, 1], places[v, 2]
            for side in range(2):
                if not wanted[v, side]:
                    continue
                sign = 1.0 - 2.0 * side
                facing = sign * cosine
                if is_sky:
                    if facing > 0:
                        free = _free(high, x + sign * du, y + sign * dv, t + sign * dt, 1.0, cell)
                    else:
                        free = _free(low, x + sign * du, y + sign * dv, t + sign * dt, -1.0, cell)
                    out[v, side] += abs(cosine) * free
                elif facing > 0:
                    # a facet turned nearly edge-on shades itself at random: it counts little
                    w = facing + 0.02
                    out[v, 2 + side] += w * _free(high, x + sign * du, y + sign * dv, t + sign * dt, 1.0, cell)
                    weight[v, side] += w
            if is_sky:
                total[v] += abs(cosine)
    for v in range(count):
        for side in range(2):
            out[v, side] = out[v, side] / total[v] if wanted[v, side] and total[v] > 0 else 1.0
            out[v, 2 + side] = out[v, 2 + side] / weight[v, side] if weight[v, side] > 0 else 1.0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _smoothed(light, faces, wanted):
    """Each vertex's mean [V, 4] with its neighbours, weighted half and half, where they are wanted."""
    total, count = np.zeros_like(light), np.zeros((len(light), 2), np.float32)
    for f in range(len(faces)):
        for corner in range(3):
            v, w = faces[f, corner], faces[f, (corner + 1) % 3]
            for side in range(2):
                if wanted[v, side] and wanted[w, side]:
                    count[v, side] += 1
                    count[w, side] += 1
                    total[v, side] += light[w, side]
                    total[w, side] += light[v, side]
                    total[v, 2 + side] += light[w, 2 + side]
                    total[w, 2 + side] += light[v, 2 + side]
    for v in range(len(light)):
        for n in range(4):
            if count[v, n % 2] > 0:
                total[v, n] = 0.5 * (light[v, n] + total[v, n] / count[v, n % 2])
            else:
                total[v, n] = light[v, n]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _basis(direction):
    """Two unit vectors across a direction; the second is as upright as it can be."""
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.99 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, direction)
    right /= np.sqrt((right**2).sum())
    return right, np.cross(direction, right)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _height_maps(places, faces, high, low):
    """Highest and lowest third coordinate of the faces over each cell's centre (at whole numbers)."""
    rows, columns = high.shape
    for f in range(len(faces)):
        i, j, k = faces[f]
        ax, ay, bx, by, cx, cy = places[i, 0], places[i, 1], places[j, 0], places[j, 1], places[k, 0], places[k, 1]
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx)))), min(columns - 1, int(np.floor(max(ax, bx, cx))))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy)))), min(rows - 1, int(np.floor(max(ay, by, cy))))
        if x0 > x1 or y0 > y1:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not abs(area) > SLACK:
            continue
        inverse = np.float32(1) / area
        a_x, a_y, b_x, b_y = (by - cy) * inverse, (cx - bx) * inverse, (cy - ay) * inverse, (ax - cx) * inverse
        ta, tb, tc = places[i, 2], places[j, 2], places[k, 2]
        t_x, t_y = a_x * (ta - tc) + b_x * (tb - tc), a_y * (ta - tc) + b_y * (tb - tc)
        for y in range(y0, y1 + 1):
            dy = np.float32(y) - cy
            a0, b0, t0 = a_y * dy - a_x * cx, b_y * dy - b_x * cx, tc + t_y * dy - t_x * cx
            for x in range(x0, x1 + 1):  # no branches: thrice as fast on small triangles
                step = np.float32(x)
                a, b, t = a0 + a_x * step, b0 + b_x * step, t0 + t_x * step
                inside = min(a, b, np.float32(1) - a - b) >= -SLACK
                high[y, x] = max(high[y, x], t if inside else -FAR)
                low[y, x] = min(low[y, x], t if inside else FAR)


@njit(cache=True, nogil=True, error_model="numpy")
def _free(heights, x, y, t, sign, ramp):
    """Share of light along ±t that passes the map at (x, y): four cells, each closing over `ramp` metres."""
    column, row = int(x), int(y)
    fx, fy = x - column, y - row
    out = 0.0
    for n in range(4):
        dx, dy = n & 1, n >> 1
        above = sign * (heights[row + dy, column + dx] - t) / ramp
        share = (fx if dx else 1.0 - fx) * (fy if dy else 1.0 - fy)
        out += share * (1.0 - min(1.0, max(0.0, above)))
    return out
