"""Colours of skin, face and hair as functions of the place in template space: no seams, any resolution.

N points; positions in metres (T-pose, y up, z forward), colours sRGB 0..1 without lighting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samples.builders.anatomy import Anatomy
from samples.builders.fields import bump, mix, noise, smoothstep
from samples.builders.hair import TIES, beard_value, scalp_value
from samples.builders.hairstyles import HAIR_STYLES
from samples.builders.looks import Look

FLUSH = np.array([0.80, 0.36, 0.32])


@dataclass(frozen=True)
class Spots:
    """Places to be painted."""

    position: np.ndarray  # [N, 3]
    group: np.ndarray  # [N] names
    masks: dict[str, np.ndarray]  # name → [N]
    anatomy: Anatomy

    def only(self, chosen: np.ndarray) -> Spots:
        return Spots(self.position[chosen], self.group[chosen], {k: m[chosen] for k, m in self.masks.items()}, self.anatomy)


def flesh(spots: Spots, look: Look) -> np.ndarray:
    """Colour of every spot of the body itself, [N, 3]: skin, eyes, mouth."""
    painters = {  # the first key that the group's name holds
        "body": skin,
        "lashes": lambda s, look: np.tile(lashes(look), (len(s.position), 1)),
        "eye": eyes,
        "teeth": lambda s, look: teeth(s),
        "tongue": lambda s, look: np.tile((0.66, 0.33, 0.33), (len(s.position), 1)),
    }
    out = np.zeros((len(spots.position), 3))
    for name in np.unique(spots.group):
        painter = next(p for key, p in painters.items() if key in name)
        chosen = spots.group == name
        out[chosen] = painter(spots.only(chosen), look)
    return out


def skin(spots: Spots, look: Look) -> np.ndarray:
    p, at = spots.position, spots.anatomy
    tone = np.array(look.skin)
    out = tone * (1 + 0.04 * noise(p * 60) + 0.03 * noise(p * 250) + 0.03 * noise(p * 900))[:, None]
    out = mix(out, FLUSH * (0.4 + 0.6 * tone), 0.05 * np.clip(noise(p * 35 + 9), 0, 1))
    head = p[:, 1] > at.neck[1] - 0.05  # the rest of the body is plain, and most of the texels
    out[head] = _face(out[head], spots.only(head), look)
    nails = smoothstep(0.3, 0.7, spots.masks["nails"])
    return mix(out, mix(out, np.array([0.93, 0.76, 0.72]), np.full(len(p), 0.35)), nails)


def _face(out: np.ndarray, spots: Spots, look: Look) -> np.ndarray:
    p, at = spots.position, spots.anatomy
    tone = np.array(look.skin)
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = smoothstep(0.055, 0.09, z) * smoothstep(-0.01, 0.01, y - at.chin[1])
    cheek = bump(x - 0.043, 0.020) * bump(y - (at.left_eye[1] - 0.042), 0.019) * front
    nose = bump(p[:, 0], 0.013) * bump(y - at.nose[1], 0.012) * front
    out = mix(out, FLUSH * (0.4 + 0.6 * tone), (0.22 + 0.15 * (look.shadow is not None)) * cheek + 0.16 * nose)
    out = _freckles(out, p, look, front * bump(y - at.left_eye[1] + 0.035, 0.035))
    out = _lines(out, p, look, at, front)
    socket = bump(x - at.left_eye[0], 0.020) * bump(y - at.left_eye[1] + 0.003, 0.012) * front
    out *= 1 - 0.16 * socket[:, None]
    if look.shadow is not None:
        lid = (
            bump(x - at.left_eye[0] - 0.003, 0.015)
            * smoothstep(0.004, 0.008, y - at.left_eye[1])
            * smoothstep(0.017, 0.011, y - at.left_eye[1])
        )
        out = mix(out, np.array(look.shadow), 0.45 * lid * front)
    out *= 1 - 0.4 * (bump(x - 0.0075, 0.0038) * bump(y - (at.nose[1] - 0.0095), 0.0028) * front)[:, None]  # nostrils
    out = _beard(out, spots, look)
    lips = smoothstep(0.30, 0.62, spots.masks["lips"])
    seam = bump(y - at.mouth[1], 0.0016) * lips
    out = mix(out, np.array(look.lips) * (1 + 0.06 * noise(p * [700, 120, 120]))[:, None], 0.9 * lips)
    out *= 1 - 0.35 * seam[:, None]
    out = mix(out, np.array(look.hair) * 0.75, 0.85 * _brows(p, look, at) * front)
    lid = bump(np.hypot((x - at.left_eye[0]) / 1.55, y - at.left_eye[1] - 0.0005) - 0.0088, 0.0016)
    lid *= smoothstep(0.0, 0.004, y - at.left_eye[1])
    out = mix(out, np.array(look.hair) * 0.4, (0.55 if look.shadow is None else 0.8) * lid * front)
    mouth = smoothstep(0.4, 0.8, spots.masks["mouth"]) * (1 - lips)
    depth = 0.35 + 0.65 * smoothstep(0.07, 0.13, z)
    out = mix(out, np.array([0.46, 0.17, 0.16]) * depth[:, None], mouth)
    hairline = scalp_value(p, spots.masks["ears"], look, at)
    covered = smoothstep(-0.004, 0.004, hairline)
    if HAIR_STYLES[look.hair_style].line == "ring":  # the bare top shows where hair was
        top = smoothstep(0.0, 0.02, y - at.left_eye[1] - 0.06) * (1 - covered)
        out = mix(out, out * 0.9 + 0.1 * np.array(look.hair), 0.5 * top)
    return mix(out, hair_color(p, look, at), covered)


def eyes(spots: Spots, look: Look) -> np.ndarray:
    """Iris and pupil look straight ahead when the eye joints rest."""
    p, centre = spots.position, spots.anatomy.left_eye
    x = (np.abs(p[:, 0]) - centre[0]) * np.sign(p[:, 0])
    y = p[:, 1] - centre[1]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    front = p[:, 2] > centre[2]
    shade = (1 - 0.18 * smoothstep(0.006, 0.013, radius)) * (1 - 0.30 * smoothstep(0.001, 0.0065, y))  # the upper lid's shadow
    out = np.tile((0.86, 0.84, 0.82), (len(p), 1)) * shade[:, None]
    fibre = 1 + 0.25 * noise(np.stack([angle * 9, radius * 300, radius * 0], 1))
    iris = np.array(look.iris) * (fibre * (1.25 - 0.75 * smoothstep(0.0045, 0.0064, radius)))[:, None]
    out = mix(out, iris, front * smoothstep(0.0066, 0.0061, radius))
    out = mix(out, np.array([0.02, 0.02, 0.02]), front * smoothstep(0.0030, 0.0026, radius))
    glint = np.hypot(p[:, 0] - np.sign(p[:, 0]) * centre[0] - 0.002, y - 0.0026)
    return mix(out, np.ones(3), front * smoothstep(0.0016, 0.0009, glint))


def lashes(look: Look) -> np.ndarray:
    dark = np.array(look.hair) * 0.35
    return dark if look.woman else 0.45 * dark + 0.35 * np.array(look.skin)


def teeth(spots: Spots) -> np.ndarray:
    p = spots.position
    gaps = 1 - 0.18 * smoothstep(0.75, 1.0, np.abs(np.sin(np.arctan2(p[:, 0], p[:, 2] - 0.075) * 13)))
    out = np.array([0.93, 0.90, 0.84]) * (gaps * (0.30 + 0.70 * smoothstep(0.10, 0.128, p[:, 2])))[:, None]
    mouth = spots.anatomy.mouth[1]
    upper = spots.group == "helper-upper-teeth"
    edge = np.where(upper, p[:, 1] - mouth - 0.0136, mouth - 0.0084 - p[:, 1])
    return mix(out, np.array([0.70, 0.38, 0.38]), smoothstep(-0.001, 0.001, edge))


def hair_color(p: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    """Hair combed from the crown or towards its tie: fine across, slow along; curls are rough everywhere."""
    style, base = HAIR_STYLES[look.hair_style], np.array(look.hair)
    eye = at.left_eye[1]
    if style.tail != "none":
        rise, depth = TIES[style.tail]
        crown = np.array([0.0, eye + rise, depth])
    else:
        crown = np.array([0.012 * look.hair_side, eye + 0.10, -0.01])
    d = p - crown
    reach = np.linalg.norm(d, axis=1)
    azimuth = np.arctan2(d[:, 1], d[:, 0]) if style.tail in ("pony", "bun", "low_pony", "braid") else np.arctan2(d[:, 0], d[:, 2])
    if style.tail != "none":  # hair of a tail runs down
        low = smoothstep(-0.10, -0.12, p[:, 2]) * (style.tail in ("pony", "low_pony", "braid"))
        azimuth = azimuth * (1 - low) + low * p[:, 0] * 22
    if style.strands == "curly":
        fine, coarse = noise(p * 210), noise(p * 80)
        return base * (1 + 0.42 * fine + 0.30 * coarse)[:, None] + (0.05 * np.clip(coarse, 0, 1))[:, None]
    if style.strands == "cropped":
        stubble = np.clip(0.72 + 0.3 * noise(p * 600), 0, 1)
        return mix(np.tile(np.array(look.skin) * 0.8, (len(p), 1)), base, stubble)
    bend = 0.10 * np.sin(p[:, 1] * 85) if style.strands == "wavy" else 0.0
    fine = noise(np.stack([(azimuth + bend) * 45, reach * 18, azimuth * 0], 1))
    coarse = noise(np.stack([(azimuth + bend) * 11, reach * 9, azimuth * 0 + 5], 1))
    shine = 0.18 * bump(p[:, 1] - (eye + 0.055), 0.022) + 0.08 * bump(p[:, 1] - (eye - 0.10), 0.03)
    colors = np.tile(base, (len(p), 1))
    if style.parted:
        side = look.hair_side * (0.028 if style.lean else 0.008)
        parting = bump(p[:, 0] - side, 0.0016) * smoothstep(-0.02, 0.0, p[:, 2]) * (p[:, 1] > eye + 0.05)
        colors = mix(colors, np.array(look.skin) * 0.8, 0.8 * parting)
    return colors * (1 + 0.33 * fine + 0.2 * coarse)[:, None] + (base + 0.12) * (shine * (0.6 + 0.5 * fine))[:, None]


def beard_color(p: np.ndarray, look: Look) -> np.ndarray:
    curls = 0.30 * noise(p * [420, 160, 420]) + 0.18 * noise(p * 120)
    return np.array(look.hair) * (0.9 + curls)[:, None]


# ---- parts of the face


def _beard(out: np.ndarray, spots: Spots, look: Look) -> np.ndarray:
    if look.beard == 0:
        return out
    p = spots.position
    inside = beard_value(p, spots.masks["lips"], spots.masks["mouth"], look, spots.anatomy)
    area = smoothstep(-0.003, 0.006, inside)
    stubble = 0.75 + 0.45 * noise(p * 700)
    color = np.array(look.hair) * 0.8 + np.array(look.skin) * (0.25 if look.beard < 0.5 else 0.08)
    return mix(out, color, np.clip(look.beard * area * stubble, 0, 0.93))


def _brows(p: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    along = (np.abs(p[:, 0]) - 0.011) / 0.043  # 0 at the nose, 1 at the temple
    inside = np.clip(along, 0, 1)
    middle = at.left_eye[1] + 0.0195 + 0.0085 * look.brow_arch * np.sin(inside * 2.5) - 0.005 * inside
    half = 0.0042 * look.brows * (1 - 0.6 * inside**2)
    hairs = 0.78 + 0.3 * noise(np.stack([p[:, 0] * 600 + p[:, 1] * 500, p[:, 1] * 150, p[:, 0] * 0], 1))
    ends = smoothstep(-0.02, 0.08, along) * smoothstep(1.02, 0.9, along)
    return np.clip(ends * smoothstep(1.25, 0.55, np.abs(p[:, 1] - middle) / half) * hairs, 0, 1)


def _freckles(out: np.ndarray, p: np.ndarray, look: Look, area: np.ndarray) -> np.ndarray:
    if not look.freckles:
        return out
    spots = smoothstep(0.30, 0.55, noise(p * 330)) * area
    return mix(out, np.array(look.skin) * [0.72, 0.58, 0.48], 0.6 * look.freckles * spots)


def _lines(out: np.ndarray, p: np.ndarray, look: Look, at: Anatomy, front: np.ndarray) -> np.ndarray:
    """Lines of age: beside nose and mouth, across the forehead, at the corners and under the eyes."""
    strength = smoothstep(0.25, 1.0, np.array(look.age)) * 1.0
    x, y, eye = np.abs(p[:, 0]), p[:, 1], at.left_eye[1]
    fold_x = 0.0165 + 0.55 * np.maximum(at.nose[1] - y, 0)
    nasolabial = (
        bump(x - fold_x, 0.0022) * smoothstep(at.mouth[1] - 0.014, at.mouth[1], y) * smoothstep(at.nose[1] + 0.004, at.nose[1] - 0.006, y)
    )
    wavy = y + 0.002 * noise(p * 45)
    forehead = sum(bump(wavy - (eye + h), 0.0013) for h in (0.040, 0.049, 0.058)) * smoothstep(0.050, 0.030, x)
    crows = (
        sum(bump(y - eye - k * (x - 0.045) * 0.5, 0.0011) for k in (-1.0, 0.0, 1.0))
        * smoothstep(0.044, 0.049, x)
        * smoothstep(0.064, 0.056, x)
    )
    bags = bump(y - (eye - 0.0155 + 6 * (x - at.left_eye[0]) ** 2), 0.0022) * bump(x - at.left_eye[0], 0.014)
    lines = np.clip(nasolabial + 0.55 * forehead + 0.45 * crows + 0.7 * bags, 0, 1.2) * front
    blotches = np.clip(noise(p * 28 + 3), 0, 1) * front
    return out * (1 - strength * (0.26 * lines + 0.06 * blotches))[:, None]
