"""Hair and beards: shells pushed out of the scalp and the jaw, hanging hair wound round the head, tails and buns.

Places are given in the template (T-pose, metres; y up, z forward), relative to the eyes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter1d

from model.body import JOINT_NAMES
from model.winding import grid_faces, wound
from samples.builders.anatomy import Anatomy
from samples.builders.fields import bump, noise, smoothstep
from samples.builders.hairstyles import BEARD_STYLES, HAIR_STYLES, HairStyle
from samples.builders.layers import Layer, carried, clip, joined, refine, select_faces, smoothed
from samples.builders.lofts import lying_on, spline, tube
from samples.builders.looks import Look

HEAD, SPINE3 = JOINT_NAMES.index("head"), JOINT_NAMES.index("spine3")
AXIS = (0.0, 0.025)  # x, z of the head's middle
TIES = {
    "pony": (0.055, -0.105),
    "low_pony": (-0.015, -0.085),
    "bun": (0.035, -0.105),
    "top_bun": (0.115, -0.045),
    "braid": (-0.020, -0.080),
}


def scalp_value(p: np.ndarray, ears: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    """Metres inside the hairline, [P]; negative on face, ears and neck."""
    style = HAIR_STYLES[look.hair_style]
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    eye, uneven = at.left_eye[1], 0.0025 * noise(p * 170) + 0.002 * noise(p * 60)
    if look.woman:  # round, with a low corner at the temples
        line = eye + 0.071 - 9.0 * x**2 - 0.2 * np.maximum(x - 0.04, 0)
    else:  # higher at the temples
        line = eye + 0.067 + 0.012 * bump(x - 0.042, 0.016) - 0.9 * np.maximum(x - 0.052, 0)
    if style.line == "receding":
        line = line + 0.010 + 0.030 * bump(x - 0.040, 0.020)
    if style.fringe == "straight":
        line = np.minimum(line, eye + 0.034 + 0.010 * smoothstep(0.0, 0.06, x))
    elif style.fringe == "swept":
        line = np.minimum(line, eye + 0.040 + 0.20 * (look.hair_side * p[:, 0] + 0.035) * (look.hair_side * p[:, 0] > -0.035))
    forehead = np.minimum(y - line, (z - 0.02) * 2)
    sides = np.minimum(0.066 + 0.004 * look.woman - z, y - (eye + (0.012 if look.woman else 0.020)))
    sideburn = np.minimum(np.minimum(0.066 - z, z - 0.048), y - (eye - 0.022 + 0.03 * look.woman))
    back = np.minimum(0.030 - z, y - (eye - 0.075))
    value = np.maximum(np.maximum(forehead, sides), np.maximum(back, sideburn)) + uneven
    if style.line == "ring":
        value = np.minimum(value, eye + 0.052 - 0.35 * np.maximum(z, 0) - y + 2 * uneven)
    value = np.minimum(value, (0.35 - ears) * 0.2)
    return np.where(x < 0.12, np.minimum(value, y - 0.2), -1.0)


def hair_layers(skin: Layer, scalp: np.ndarray, look: Look, at: Anatomy, clothes: list[Layer]) -> list[Layer]:
    style = HAIR_STYLES[look.hair_style]
    head = replace(skin, masks={"scalp": scalp}, uv=None, uv_faces=None, groups=None)
    head = select_faces(head, (skin.groups == "body") & (scalp[skin.faces].max(1) > -0.004))
    head = refine(head, np.abs(head.masks["scalp"]) < 0.012)
    if style.rough:
        head = refine(head, np.ones(len(head.rest), bool))
    shell = clip(head, head.masks["scalp"])
    shell = replace(_shell(shell, style, look, at), name="hair", masks={})
    out = [shell]
    if style.falls is not None:
        out.append(_hanging(shell, style, look, at, clothes))
    if style.tail != "none":
        out.append(_tail(shell, style.tail, at, clothes))
    return out


def beard_layers(skin: Layer, look: Look, at: Anatomy) -> list[Layer]:
    """A beard that stands off the skin; short ones are only painted."""
    style = BEARD_STYLES[look.beard_style]
    if not look.beard or not style.thick:
        return []
    value = beard_value(skin.rest, skin.masks["lips"], skin.masks["mouth"], look, at)
    face = replace(skin, masks={"beard": value}, uv=None, uv_faces=None, groups=None)
    face = select_faces(face, (skin.groups == "body") & (value[skin.faces].max(1) > -0.002))
    face = refine(face, np.abs(face.masks["beard"]) < 0.006)
    shell = clip(face, face.masks["beard"])
    p, inside = shell.rest, shell.masks["beard"]
    down = smoothstep(at.mouth[1] + 0.01, at.chin[1], p[:, 1])
    thick = 0.0006 + style.thick * smoothstep(0, 0.016, inside) * (0.25 + 0.75 * down) * (1 + 0.25 * noise(p * 140))
    normal = shell.normals() * [0.7, 1.0, 1.0] - np.array([0, 0.5, 0]) * down[:, None] * (style.thick > 0.02)
    shell = replace(shell, rest=p + normal * thick[:, None])
    return [replace(shell, name="beard", masks={}, rest=smoothed(shell.rest, shell.faces, 1))]


def beard_value(p: np.ndarray, lips: np.ndarray, mouth: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    """Metres inside the beard's edge, [P]."""
    style, x, y, z = BEARD_STYLES[look.beard_style], np.abs(p[:, 0]), p[:, 1], p[:, 2]
    uneven = 0.0015 * noise(p * 220)
    below = np.minimum(y - at.chin[1] + 0.016 - 0.2 * np.maximum(0.10 - z, 0), (z - 0.022) * 0.8)
    cheek = at.mouth[1] + 0.004 + 0.45 * np.maximum(x - 0.026, 0) + 0.30 * np.maximum(0.06 - z, 0) - y
    jaw = np.minimum(cheek, below)
    chin = np.minimum(np.minimum(at.mouth[1] - 0.006 - y, 0.027 - x), below)
    lip = np.minimum(0.0075 - np.abs(y - (at.mouth[1] + 0.0135 - 0.10 * x)), 0.034 - x)
    around = np.minimum(0.0065 - np.abs(x - 0.0305), np.minimum(at.mouth[1] + 0.012 - y, below))  # joins lip and chin
    none = np.full(len(p), -1.0)
    value = np.maximum(jaw if style.jaw else none, chin if style.chin else none)
    value = np.maximum(value, np.where(z > 0.08, lip, -1.0) if style.lip else none)
    if style.chin and style.lip:
        value = np.maximum(value, np.where(z > 0.08, around, -1.0))
    return np.minimum(np.minimum(value + uneven, (0.35 - lips) * 0.03), (0.5 - mouth) * 0.1)


def _shell(shell: Layer, style: HairStyle, look: Look, at: Anatomy) -> Layer:
    p, value, eye = shell.rest, shell.masks["scalp"], at.left_eye[1]
    high = smoothstep(eye + 0.02, eye + 0.09, p[:, 1])
    volume = style.sides + (style.top - style.sides) * high
    volume = volume + style.front * smoothstep(0.04, 0.09, p[:, 2]) * high
    volume = volume * (1 + style.lean * 0.6 * np.tanh(look.hair_side * (p[:, 0] - 0.03 * look.hair_side) / 0.02) * high)
    parting = 0.35 * style.parted * bump(p[:, 0] - _part(look), 0.007) * high
    rise = 0.016 if max(style.top, style.sides) < 0.03 else 0.030
    thick = 0.0012 + volume * look.hair_volume * (1 - parting) * (0.12 + 0.88 * smoothstep(0.0, rise, value)) * smoothstep(
        -0.002, 0.004, value
    )
    middle = np.array([0, eye + 0.045, AXIS[1]])
    away = (p - middle) / np.linalg.norm(p - middle, axis=1, keepdims=True)
    round_ = np.clip((volume - 0.025) / 0.03, 0, 1)[:, None]
    toward = shell.normals() * (1 - round_) + away * round_
    out = smoothed(p + toward * thick[:, None], shell.faces, 4)
    if style.rough:
        out = out + away * (style.rough * smoothstep(0, 0.02, value) * (noise(p * 75) + 0.5 * noise(p * 160)))[:, None]
    return replace(shell, rest=out)


def _part(look: Look) -> float:
    """Metres to the side of the middle at which the hair is parted."""
    return look.hair_side * (0.028 if HAIR_STYLES[look.hair_style].lean else 0.008)


def _hanging(shell: Layer, style: HairStyle, look: Look, at: Anatomy, clothes: list[Layer]) -> Layer:
    """Hair that falls from the shell's widest places, behind the ears and round the back, and lies on shoulders."""
    assert style.falls is not None
    columns, long = 96, style.falls < 0.15
    rows, first = (32 if long else 22), 10  # the first rows lie on the shell
    angle = np.linspace(-1.0, 1.0, columns) * np.radians(112 if long else 108)  # from the back
    start, loose = at.left_eye[1] + 0.080, at.left_eye[1] - 0.005
    levels = np.linspace(start, loose, first)
    widest = gaussian_filter(maximum_filter1d(_outline(shell, angle, levels), 3, axis=1), (1, 2), mode="nearest") + 0.0015
    widest = np.maximum.accumulate(widest, 0)  # hair hangs straight down from where the head is widest
    edge = np.degrees(np.abs(angle))
    widest = widest * (1 - 0.08 * smoothstep(80, 108, edge))  # the front edges turn in
    behind = np.cos(angle * 0.75)  # 1 at the back, less beside the face
    if long:  # beside the neck it ends on the shoulders
        bottom = 0.168 - (0.168 - style.falls) * smoothstep(0.25, 0.75, behind)
    else:
        bottom = style.falls + 0.010 - 0.014 * behind
    bottom = bottom + 0.006 * np.sin(angle * 23) * np.sin(angle * 7)
    down = np.linspace(0, 1, rows - first + 1)[1:, None]
    height = np.concatenate([np.repeat(levels[:, None], columns, 1), loose * (1 - down) + bottom * down])
    down = np.concatenate([np.zeros((first, 1)), down])
    swing = 0.006 * np.sin(down * np.pi) + (0.016 if long else -0.004) * down * smoothstep(0.2, 0.9, behind)
    strands = 0.0030 * down * np.sin(angle * 17 + 2 * np.sin(angle * 5))
    waves = style.wave * smoothstep(0.0, 0.4, down) * np.sin(height * 85 + 1.5 * np.sin(angle * 6))
    reach = np.concatenate([widest, np.repeat(widest[-1:], rows - first, 0)]) + swing + strands + waves
    reach[0] -= 0.006  # the upper edge hides in the shell
    points = wound(np.pi - angle, height, reach, AXIS)
    if style.rough:
        away = points - np.array([0, 0, AXIS[1]])
        away[:, 1] = 0
        points = points + 12 * style.rough * away * noise(points * 80)[:, None] * np.repeat(smoothstep(0, 0.2, down), columns, 0)
    faces = grid_faces(rows, columns)
    outer = carried("hair", smoothed(points, faces, 1, keep_borders=True), faces, shell)
    torso = [c for c in clothes if c.name in ("top", "over", "collar", "hood", "scarf")]
    outer = lying_on(outer, torso, 0.008) if torso else outer
    share = 0.2 + 0.8 * smoothstep(0.10, 0.235, outer.rest[:, 1])
    hung = carried("hair", outer.rest, faces, joined(shell, _upper_skin(torso))) if torso else outer
    weights = np.zeros_like(outer.weights)
    weights[:, HEAD] = share
    low = hung.weights.copy()
    low[:, HEAD] = 0
    low[low.sum(1) < 1e-3, SPINE3] = 1
    weights += low / low.sum(1, keepdims=True) * (1 - share)[:, None]
    return replace(outer, weights=weights)


def _outline(shell: Layer, angle: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How far the shell reaches from the head's axis at angles [C] from the back and heights [R], [R, C]."""
    flat = shell.rest[:, [0, 2]] - AXIS
    bearing, radius = np.arctan2(flat[:, 0], -flat[:, 1]), np.linalg.norm(flat, axis=1)
    beside = np.abs(bearing[:, None] - angle) < 0.10
    out = np.zeros((len(levels), len(angle)))
    for k, level in enumerate(levels):
        near = beside & (np.abs(shell.rest[:, 1] - level) < 0.012)[:, None]
        out[k] = np.where(near, radius[:, None], 0).max(0)
    return out


def _upper_skin(torso: list[Layer]) -> Layer:
    out = replace(torso[0], masks={})
    for layer in torso[1:]:
        out = joined(out, replace(layer, masks={}))
    return out


def _tail(shell: Layer, kind: str, at: Anatomy, clothes: list[Layer]) -> Layer:
    """A ponytail, a bun or a braid from where the hair is tied."""
    rise, depth = TIES[kind]
    tie = np.array([0, at.left_eye[1] + rise, depth])
    nearest = np.linalg.norm(shell.rest - tie, axis=1).argmin()
    tie = shell.rest[nearest] * [0, 1, 1]
    if "bun" in kind:
        out = tie - np.array([0, at.left_eye[1] + 0.03, AXIS[1]])
        out /= np.linalg.norm(out)
        size = 0.036 if kind == "bun" else 0.032
        along = np.linspace(-0.8, 0.98, 12)
        path = tie + out * (0.55 * size + size * 0.85 * along[:, None])
        points, faces = tube(path, size * np.sqrt(np.maximum(1 - along**2, 0.02)), 20, flat=np.array([1.0, 0, 0]))
        points = points + 0.0022 * noise(points * 170)[:, None]
    else:
        drop = {"pony": 0.30, "low_pony": 0.22, "braid": 0.30}[kind]
        knots = tie + np.array([[0, 0, 0.012], [0, 0.004, -0.022], [0, -0.05, -0.042], [0, -0.5 * drop, -0.040], [0, -drop, -0.028]])
        path = spline(knots, 40)
        down = np.linspace(0, 1, 40)
        radius = 0.013 + 0.015 * smoothstep(0.0, 0.35, down) - 0.022 * smoothstep(0.6, 1.0, down)
        if kind == "braid":
            radius = 0.013 + 0.0055 * np.abs(np.sin(down * 26)) - 0.006 * smoothstep(0.85, 1, down)
        points, faces = tube(path, np.stack([radius * 1.15, radius], 1), 14, flat=np.array([0, 0, 1.0]))
        points = points + 0.002 * noise(points * [160, 30, 160])[:, None]
    tail = carried("hair", points, faces, shell)
    torso = [c for c in clothes if c.name in ("top", "over", "collar", "hood", "scarf")]
    tail = lying_on(tail, torso, 0.006, smooth=1) if torso else tail
    weights = np.zeros_like(tail.weights)
    weights[:, HEAD] = 0.35 + 0.65 * smoothstep(0.05, 0.30, tail.rest[:, 1])
    weights[:, SPINE3] = 1 - weights[:, HEAD]
    return replace(tail, weights=weights)
