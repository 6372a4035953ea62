"""Spectacle frames: thin tubes that sit rigidly on the head; lenses are left out, as if perfectly clear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from model.body import JOINT_NAMES
from samples.builders.layers import Layer
from samples.builders.lofts import spline, tube


@dataclass(frozen=True)
class Frame:
    """Half width and half height of a lens, metres; `power` 2 is an ellipse, more is a rectangle."""

    wide: float
    high: float
    power: float = 2.0
    lift: float = 0.0  # of the outer corners
    drop: float = 0.0  # of the lower outer half: aviators
    thick: float = 0.0016
    upper_only: bool = False


FRAMES: dict[str, Frame] = {
    "round": Frame(0.0215, 0.0205, 2.0, thick=0.0011),
    "oval": Frame(0.0235, 0.0165, 2.2),
    "rectangle": Frame(0.0250, 0.0155, 5.0, thick=0.0022),
    "square": Frame(0.0245, 0.0200, 4.0, thick=0.0026),
    "cat_eye": Frame(0.0245, 0.0170, 2.6, lift=0.006, thick=0.0022),
    "aviator": Frame(0.0250, 0.0215, 2.6, drop=0.004, thick=0.0010),
    "half_rim": Frame(0.0245, 0.0155, 4.0, upper_only=True, thick=0.0020),
}


def glasses_layer(skin: Layer, frame: Frame, eye: np.ndarray, ear: np.ndarray, nose: float) -> Layer:
    """Frames before the eye centre `eye` [3] of the left side, temples to the ear's top `ear` [3]; `nose`: z of the bridge's skin."""
    parts = []
    plane = max(nose + 0.004, eye[2] + 0.020)
    middle = max(eye[0], frame.wide + 0.0085)
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    if frame.upper_only:
        turn = np.linspace(-0.15, np.pi + 0.15, 18)
    c, s = np.cos(turn), np.sin(turn)
    round_ = (np.abs(c) ** frame.power + np.abs(s) ** frame.power) ** (-1 / frame.power)
    x, y = frame.wide * c * round_, frame.high * s * round_
    y = y + frame.lift * np.clip(c, 0, 1) ** 3 * (s > -0.3)
    y = y - frame.drop * (s < 0) * (0.3 + 0.7 * np.clip(c, 0, 1))
    x, y = x + middle, y + eye[1] - 0.002
    depth = lambda side: plane - 6.0 * np.maximum(np.abs(side) - 0.016, 0) ** 2  # noqa: E731
    hinge = np.array([middle + frame.wide, eye[1] + 0.35 * frame.high + frame.lift * 0.6, depth(middle + frame.wide)])
    for sign in (1.0, -1.0):
        mirror = np.array([sign, 1, 1])
        rim = np.stack([x, y, depth(x)], 1) * mirror
        parts.append(tube(rim, np.full(len(rim), frame.thick), 5, closed=not frame.upper_only))
        side = np.array([ear[0] - 0.006, ear[1], ear[2]])
        corner = np.array([hinge[0] + 0.0045, hinge[1], hinge[2] - 0.010])
        knots = np.array([hinge, corner, 0.45 * corner + 0.55 * side + [0.002, 0.003, 0], side, side + [-0.002, -0.018, -0.014]]) * mirror
        arm = spline(knots, 16)
        parts.append(tube(arm, np.tile([[frame.thick * 0.8, max(frame.thick, 0.0016)]], (len(arm), 1)), 5, flat=np.array([0.0, 1.0, 0.1])))
    inner = middle - frame.wide
    bridge = spline(np.array([[-inner, eye[1] + 0.003, plane], [0, eye[1] + 0.007, plane + 0.002], [inner, eye[1] + 0.003, plane]]), 7)
    parts.append(tube(bridge, np.full(len(bridge), frame.thick), 5))
    starts = np.cumsum([0, *(len(p) for p, _ in parts)])
    rest = np.concatenate([p for p, _ in parts])
    return on_head("glasses", rest, np.concatenate([f + n for (_, f), n in zip(parts, starts, strict=False)]), skin)


def on_head(name: str, rest: np.ndarray, faces: np.ndarray, skin: Layer) -> Layer:
    """A rigid thing on the head: it goes with the head joint, and each beta moves it by the affine motion of eyes, nose and ears."""
    head = JOINT_NAMES.index("head")
    face = np.flatnonzero(
        (skin.weights[:, head] > 0.95) & (skin.masks["mouth"] < 0.1) & (np.abs(skin.rest[:, 1] - rest[:, 1].mean()) < 0.03)
    )
    ones = lambda p: np.concatenate([p, np.ones((len(p), 1))], 1)  # noqa: E731
    motion = np.linalg.lstsq(ones(skin.rest[face]), skin.dirs[face].reshape(len(face), -1), rcond=None)[0]
    dirs = (ones(rest) @ motion).reshape(len(rest), 3, -1)
    dirs[..., 10:] = 0  # expressions leave glasses alone
    weights = np.zeros((len(rest), skin.weights.shape[1]))
    weights[:, head] = 1
    none = None if skin.anchors is None else sparse.csr_matrix((len(rest), skin.anchors.shape[1]))
    return Layer(name, rest, dirs, weights, faces, anchors=none)
