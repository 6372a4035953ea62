"""What is behind the speaker, made from a seed: walls, a gradient, a blurred room, shelves; a floor where feet are seen.

Pictures are [size, size, 3] float32 0..1; x to the right and y down, 0..1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from model.types import Camera
from samples.builders.plan import Shot

Picture = NDArray[np.float32]
FLOOR_DEPTH = 1.2  # metres from the speaker back to the wall


def backdrop(shot: Shot, size: int, seed: int, camera: Camera | None = None, floor: float = 0.0) -> Picture:
    """The picture behind the speaker. With the `camera` of a full-body shot, what lies below the wall is floor at `floor`."""
    rng = np.random.default_rng(seed)
    out = {"wall": _wall, "plain": _plain, "gradient": _gradient, "room": _room, "shelves": _shelves}[shot.backdrop](shot, size, rng)
    if camera is not None and shot.framing == "full":
        out = _with_floor(out, camera, floor, rng)
    grain = gaussian_filter(rng.normal(0, 1, (size, size)), 1.2)
    return np.clip(out + 0.004 * (grain / grain.std())[..., None], 0, 1).astype(np.float32)


def _grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[0:size, 0:size] / size
    return x, y


def _wall(shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A lit wall with soft stains and one blurred picture or window on it."""
    x, y = _grid(size)
    light = 1.08 - 0.28 * np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.0, 0.4))
    stains = gaussian_filter(rng.normal(0, 1, (size, size)), size / 12)
    out = np.array(shot.wall) * (light + 0.02 * stains / stains.std())[..., None]
    left, top = rng.choice([rng.uniform(-0.1, 0.02), rng.uniform(0.74, 0.85)]), rng.uniform(0.05, 0.25)
    inside = (np.abs(x - left - 0.14) < 0.14) & (np.abs(y - top - 0.16) < 0.16)
    soft = gaussian_filter(inside.astype(float), size / 100)[..., None]
    return out * (1 - 0.5 * soft) + 0.5 * soft * (rng.uniform(0.3, 0.75) + rng.uniform(-0.12, 0.12, 3))


def _plain(shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A studio's paper, almost even."""
    x, y = _grid(size)
    return np.array(shot.wall) * (1.04 - 0.10 * np.hypot(x - rng.uniform(0.3, 0.7), y - 0.3))[..., None]


def _gradient(shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A glow behind the speaker that falls into the dark, or one colour into another."""
    x, y = _grid(size)
    other = np.clip(np.array(shot.wall) * rng.uniform(0.45, 0.8) + rng.uniform(-0.06, 0.10, 3), 0, 1)
    if rng.random() < 0.5:
        share = np.clip(np.hypot(x - 0.5, y - rng.uniform(0.25, 0.5)) / 0.75, 0, 1)
    else:
        angle = rng.uniform(0.8, 2.3)
        share = np.clip(np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5, 0, 1)
    share = (share * share * (3 - 2 * share))[..., None]
    return np.array(shot.wall) * 1.1 * (1 - share) + other * share


def _room(shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A room out of focus: a window or a lamp, furniture, all soft."""
    x, y = _grid(size)
    out = np.array(shot.wall) * (1.05 - 0.25 * y)[..., None]
    for _ in range(rng.integers(5, 9)):
        wide, high = rng.uniform(0.06, 0.28), rng.uniform(0.10, 0.5)
        left, bottom = rng.uniform(-0.1, 1.0), rng.uniform(0.45, 1.1)
        inside = (x > left) & (x < left + wide) & (y < bottom) & (y > bottom - high)
        color = np.clip(np.array(shot.wall) * rng.uniform(0.35, 1.25) + rng.uniform(-0.12, 0.12, 3), 0, 1)
        out = np.where(inside[..., None], color, out)
    left = rng.choice([rng.uniform(0.0, 0.12), rng.uniform(0.68, 0.8)])
    window = (np.abs(x - left - 0.1) < 0.1) & (np.abs(y - 0.25) < rng.uniform(0.12, 0.22))
    out = np.where(window[..., None], rng.uniform(0.75, 0.95) + rng.uniform(-0.08, 0.08, 3), out)
    return _blurred(out, size * rng.uniform(0.018, 0.035))


def _shelves(shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows of coloured blocks between boards, a little out of focus."""
    x, y = _grid(size)
    board = np.clip(np.array(shot.wall) * rng.uniform(0.5, 0.9), 0, 1)
    out = np.broadcast_to(board * 0.55, (size, size, 3)).copy()
    rows, tint = rng.integers(4, 7), rng.uniform(-0.08, 0.08, 3)
    for row in range(rows):
        bottom, step = (row + 1) / rows, 1 / rows
        at = rng.uniform(-0.03, 0.02)
        while at < 1:
            wide, high = rng.uniform(0.015, 0.05), step * rng.uniform(0.5, 0.85)
            if rng.random() < 0.88:
                color = np.clip(rng.uniform(0.15, 0.75) + tint + rng.uniform(-0.14, 0.14, 3), 0.05, 0.9)
                out[(x >= at) & (x < at + wide) & (y < bottom - 0.012) & (y > bottom - high)] = color
            at += wide
        out[(y <= bottom) & (y > bottom - 0.014)] = board
    shade = 1.1 - 0.5 * np.abs(x - rng.uniform(0.3, 0.7))
    return _blurred(out, size * rng.uniform(0.006, 0.014)) * 0.85 * shade[..., None]


def _blurred(picture: NDArray[np.float64], pixels: float) -> NDArray[np.float64]:
    return np.stack([gaussian_filter(picture[..., k], pixels) for k in range(3)], -1)


def _with_floor(picture: NDArray[np.float64], camera: Camera, floor: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Floor where a pixel's ray meets it before the wall, with the soft shadow of who stands at the origin."""
    size = len(picture)
    inverse = np.linalg.inv(camera.intrinsics.double().numpy())
    turn, shift = camera.w2c[:3, :3].double().numpy(), camera.w2c[:3, 3].double().numpy()
    eye = -turn.T @ shift
    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    ray = np.stack([column, row, np.ones_like(row)], -1) @ inverse.T @ turn
    far = np.where(ray[..., 1] < -1e-6, (floor - eye[1]) / np.minimum(ray[..., 1], -1e-6), np.inf)
    x, z = (eye[k] + np.where(np.isfinite(far), far, 0) * ray[..., k] for k in (0, 2))
    on = np.isfinite(far) & (z > -FLOOR_DEPTH)
    color = np.clip(rng.uniform(0.25, 0.6) + rng.uniform(-0.08, 0.08, 3) * [1, 0.3, -1], 0.05, 0.9)
    shadow = 1 - 0.55 * np.exp(-((x / 0.28) ** 2 + ((z + 0.02) / 0.20) ** 2))
    boards = 1 + 0.03 * np.sign(np.sin(2 * np.pi * x / 0.35))
    paint = color * (shadow * boards * (1 - 0.10 * np.clip(-z, 0, 1)))[..., None]
    edge = gaussian_filter(on.astype(float), size / 400)[..., None]
    return paint * edge + picture * (1 - edge)
