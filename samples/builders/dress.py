"""Cut a person's clothes and hair: skin, shirt, jacket, trousers, shoes, hair as layers over one skeleton.

Places are given in the template (T-pose, metres; y up, z forward); the numbers fit the embedded body's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from model.body import JOINT_NAMES
from samples.builders.layers import Layer, clip, push_out, select_faces, smoothed
from samples.builders.looks import Look
from samples.builders.paint import Anatomy, bump, noise, smoothstep
from samples.builders.wardrobe import Wardrobe

HEAD, SPINE3 = JOINT_NAMES.index("head"), JOINT_NAMES.index("spine3")
HIDDEN_MARGIN = 0.03  # metres of skin kept visible under the edge of a garment
ANKLE_CUT, WAIST, TUCKED_HEM, LOOSE_HEM, JACKET_HEM = -1.155, -0.275, -0.30, -0.385, -0.44


@dataclass(frozen=True)
class BodyArrays:
    """The body file, as far as clothes need it."""

    template: np.ndarray  # [V, 3]
    dirs: np.ndarray  # [V, 3, 20]
    weights: np.ndarray  # [V, 55]
    faces: np.ndarray  # [F, 3]
    joints: np.ndarray  # [55, 3]


def anatomy(body: BodyArrays, wardrobe: Wardrobe) -> Anatomy:
    joint = {name: body.joints[i] for i, name in enumerate(JOINT_NAMES)}
    skin = np.unique(body.faces[wardrobe.groups == "body"])
    middle = body.template[skin[np.abs(body.template[skin, 0]) < 0.005]]
    face = middle[(middle[:, 2] > 0.1) & (middle[:, 1] > joint["neck"][1])]
    lips = body.template[wardrobe.masks["lips"] > 0.5]
    above = face[face[:, 1] > lips[:, 1].max()]
    return Anatomy(
        left_eye=joint["left_eye_smplhf"],
        mouth=lips.mean(0),
        nose=above[above[:, 2].argmax()],
        chin=face[face[:, 1].argmin()],
        neck=joint["neck"],
        ankle=joint["left_ankle"],
        pelvis=joint["pelvis"],
    )


def dressed_layers(body: BodyArrays, wardrobe: Wardrobe, look: Look) -> list[Layer]:
    """All layers of a person, innermost first; triangles that clothes hide are left out."""
    at = anatomy(body, wardrobe)
    skin = Layer(
        "skin", body.template, body.dirs, body.weights, body.faces, wardrobe.masks, wardrobe.groups, wardrobe.uv, wardrobe.uv_faces
    )
    tights = Layer("tights", wardrobe.tights, wardrobe.tights_dirs, wardrobe.tights_weights, wardrobe.tights_faces)
    garments = _upper(tights, look)
    if look.jacket is not None:
        garments.append(_jacket(tights, look))
        garments[0] = _drop_covered(garments[0], look)
    garments += _lower(tights, look)
    scalp = scalp_value(body.template, wardrobe.masks["ears"], look, at)
    hair = _hair(skin, scalp, look, at)
    bare = _bare(body.template, look)
    hidden = (~bare)[skin.faces].all(1) & (skin.groups == "body")
    hidden |= ((scalp > 0.02)[skin.faces].all(1)) & (skin.groups == "body")
    hidden |= np.isin(skin.groups, ("helper-l-eyelashes-1", "helper-r-eyelashes-1"))
    return [select_faces(skin, ~hidden), *garments, *hair]


def neck_value(p: np.ndarray, look: Look) -> np.ndarray:
    """Metres below the neckline; negative above it. Sleeves count as far below."""
    rise = {"crew": 0.0, "v": 0.002, "collar": 0.004, "high": 0.045}[look.neckline]
    plane = 0.140 + rise - 0.27 * (p[:, 2] - 0.012) - p[:, 1]
    value = plane + 0.008 + 0.9 * np.maximum(np.abs(p[:, 0]) - 0.062, 0)
    if look.neckline in ("v", "collar"):
        depth = 0.015 if look.neckline == "v" else 0.075  # height of the V's point
        opening = np.abs(p[:, 0]) - 0.42 * (p[:, 1] - depth)
        value = np.minimum(value, np.maximum(opening, 0.02 - p[:, 2]))
    return value


def scalp_value(p: np.ndarray, ears: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    """Metres inside the hairline, [P]; negative on face, ears and neck."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    eye, uneven = at.left_eye[1], 0.0025 * noise(p * 170) + 0.002 * noise(p * 60)
    if look.woman:  # round, with a low corner at the temples
        line = eye + 0.071 - 9.0 * x**2 - 0.2 * np.maximum(x - 0.04, 0)
    else:  # higher at the temples
        line = eye + 0.067 + 0.012 * bump(x - 0.042, 0.016) - 0.9 * np.maximum(x - 0.052, 0)
    forehead = np.minimum(y - line, (z - 0.02) * 2)
    sides = np.minimum(0.066 + 0.004 * look.woman - z, y - (eye + (0.012 if look.woman else 0.020)))
    sideburn = np.minimum(np.minimum(0.066 - z, z - 0.048), y - (eye - 0.022 + 0.03 * look.woman))
    back = np.minimum(0.030 - z, y - (eye - 0.075))
    value = np.maximum(np.maximum(forehead, sides), np.maximum(back, sideburn)) + uneven
    value = np.minimum(value, (0.35 - ears) * 0.2)
    return np.where(x < 0.12, np.minimum(value, y - 0.2), -1.0)


def _upper(tights: Layer, look: Look) -> list[Layer]:
    shirt = clip(tights, tights.rest[:, 1] - (TUCKED_HEM if look.tucked else LOOSE_HEM))
    shirt = clip(shirt, neck_value(shirt.rest, look))
    shirt = clip(shirt, look.sleeve - np.abs(shirt.rest[:, 0]))
    short = look.sleeve < 0.5
    cuff = smoothstep(look.sleeve - 0.14, look.sleeve, np.abs(shirt.rest[:, 0])) * (0.012 if short else 0.001)
    belly = 0.0 if look.tucked else 0.006 * smoothstep(-0.15, -0.35, shirt.rest[:, 1])
    sleeve = 0.004 * smoothstep(0.2, 0.35, np.abs(shirt.rest[:, 0]))
    neckline = neck_value(shirt.rest, look)
    edge = 0.0025 * smoothstep(0.03, 0.0, neckline)
    shirt = push_out(shirt, 0.005 - edge + cuff + belly + sleeve, smooth=3)
    parts = [replace(shirt, name="shirt", masks={"neckline": neckline})]
    if look.neckline == "collar":
        ring = neck_value(tights.rest, replace(look, neckline="crew"))
        collar = clip(tights, 0.016 - ring + 0.10 * np.maximum(0.05 - tights.rest[:, 2], 0))
        ring = neck_value(collar.rest, replace(look, neckline="crew"))
        collar = clip(collar, ring + 0.030)
        collar = clip(collar, np.maximum(np.abs(collar.rest[:, 0]) - 0.018, 0.02 - collar.rest[:, 2]))
        ring = neck_value(collar.rest, replace(look, neckline="crew"))
        parts.append(replace(push_out(collar, 0.0085 + 0.10 * np.maximum(ring, -0.01), smooth=1), name="collar"))
    return parts


def _opening(p: np.ndarray) -> np.ndarray:
    """Metres from the front edge of a jacket: a V down to its first button, closed below it."""
    v = 0.35 * np.maximum(p[:, 1] + 0.13, 0) + 0.006
    return np.maximum(np.abs(p[:, 0]) - v, 0.01 - p[:, 2])


def _jacket(tights: Layer, look: Look) -> Layer:
    jacket = clip(tights, tights.rest[:, 1] - JACKET_HEM)
    jacket = clip(jacket, neck_value(jacket.rest, replace(look, neckline="crew")) + 0.006)
    jacket = clip(jacket, look.sleeve - 0.012 - np.abs(jacket.rest[:, 0]))
    jacket = clip(jacket, _opening(jacket.rest))
    edge = _opening(jacket.rest)
    loose = 0.012 + 0.008 * smoothstep(-0.2, -0.42, jacket.rest[:, 1]) + 0.003 * smoothstep(0.3, 0.6, np.abs(jacket.rest[:, 0]))
    jacket = push_out(replace(jacket, masks={"opening": edge}), loose, smooth=6)
    return replace(jacket, name="jacket")


def _drop_covered(shirt: Layer, look: Look) -> Layer:
    """Leave out what a jacket hides of the shirt, with a margin."""
    p = shirt.rest
    seen = (_opening(p) < HIDDEN_MARGIN) | (neck_value(p, replace(look, neckline="crew")) < HIDDEN_MARGIN) | (np.abs(p[:, 0]) > 0.60)
    return select_faces(shirt, seen[shirt.faces].any(1))


def _lower(tights: Layer, look: Look) -> list[Layer]:
    trousers = clip(tights, WAIST - tights.rest[:, 1])
    trousers = clip(trousers, trousers.rest[:, 1] - (ANKLE_CUT - 0.03))
    loose = 0.003 + 0.005 * look.tucked * smoothstep(-0.45, -0.34, trousers.rest[:, 1])  # over a tucked shirt
    wide = 0.011 * smoothstep(-0.55, -1.1, trousers.rest[:, 1])
    trousers = push_out(trousers, loose + wide, smooth=4)
    shoes = push_out(clip(tights, ANKLE_CUT + 0.02 - tights.rest[:, 1]), 0.006, smooth=1)
    return [replace(trousers, name="trousers"), replace(shoes, name="shoes")]


def _bare(p: np.ndarray, look: Look) -> np.ndarray:
    """Skin that shows, with a margin under every edge."""
    above_neckline = neck_value(p, look) < HIDDEN_MARGIN
    return above_neckline | (np.abs(p[:, 0]) > look.sleeve - HIDDEN_MARGIN)


def _hair(skin: Layer, scalp: np.ndarray, look: Look, at: Anatomy) -> list[Layer]:
    head = replace(skin, masks={"scalp": scalp}, uv=None, uv_faces=None, groups=None)
    head = select_faces(head, (skin.groups == "body") & (scalp[skin.faces].max(1) > 0))
    shell = clip(head, head.masks["scalp"])
    value = shell.masks["scalp"]
    volume = {"crop": 0.006, "short": 0.016, "bob": 0.020, "long": 0.018}[look.hair_style]
    top = 0.5 + 0.5 * smoothstep(at.left_eye[1] + 0.02, at.left_eye[1] + 0.09, shell.rest[:, 1])
    if look.hair_style in ("bob", "long"):
        top = 0.8 + 0.2 * top
    thickness = 0.0015 + volume * top * smoothstep(0.0, 0.035, value)
    shell = replace(push_out(shell, thickness, smooth=4), name="hair", masks={})
    if look.hair_style in ("crop", "short"):
        return [shell]
    return [shell, _curtain(shell, look, at)]


def _curtain(shell: Layer, look: Look, at: Anatomy) -> Layer:
    """Hair that hangs straight down from the shell's widest places, behind the ears and round the back."""
    centre = np.array([0.0, 0.025])  # x, z of the head's axis
    columns, rows = 72, 14
    angle = np.linspace(-1.0, 1.0, columns) * np.radians(108)  # from the back
    flat = shell.rest[:, [0, 2]] - centre
    bearing, radius = np.arctan2(flat[:, 0], -flat[:, 1]), np.linalg.norm(flat, axis=1)
    start = at.left_eye[1] + 0.03
    widest = np.zeros(columns)
    nearest = np.zeros(columns, int)
    for k, a in enumerate(angle):
        near = np.flatnonzero((np.abs(bearing - a) < 0.12) & (shell.rest[:, 1] > start - 0.03))
        nearest[k] = near[radius[near].argmax()]
        widest[k] = radius[nearest[k]]
    widest = gaussian_filter1d(maximum_filter1d(widest, 3, mode="nearest"), 3, mode="nearest") + 0.001
    widest *= 1 - 0.14 * smoothstep(80, 108, np.degrees(np.abs(angle)))  # the front edges turn in
    behind = np.cos(angle * 0.75)  # 1 at the back, 0 beside the face
    if look.hair_style == "bob":
        bottom = at.mouth[1] - 0.035 - 0.012 * behind
    else:
        bottom = 0.165 - 0.155 * smoothstep(0.25, 0.8, behind)
    down = np.linspace(0, 1, rows)[:, None]
    height = start * (1 - down) + bottom * down
    swing = 0.006 * np.sin(down * np.pi) + 0.016 * down * smoothstep(0.2, 0.9, behind)
    strands = 0.0035 * down * np.sin(angle * 17 + 2 * np.sin(angle * 5))
    reach = widest * (0.88 + 0.12 * smoothstep(0.0, 0.3, down)) + swing + strands  # the upper edge hides in the shell
    points = np.stack([np.sin(angle) * reach, height, -np.cos(angle) * reach], -1) + [0, 0, centre[1]]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (a, d, c))])
    rest = points.reshape(-1, 3)
    head_share = 0.25 + 0.75 * smoothstep(0.02, 0.24, rest[:, 1])
    weights = np.zeros((len(rest), len(JOINT_NAMES)))
    weights[:, HEAD], weights[:, SPINE3] = head_share, 1 - head_share
    dirs = np.tile(shell.dirs[nearest][None], (rows, 1, 1, 1)).reshape(-1, 3, shell.dirs.shape[-1])
    return Layer("hair-curtain", smoothed(rest, faces, 2), dirs, weights, faces)
