"""Colours of skin, face, hair and cloth as functions of the place in template space: no seams, any resolution.

N points; positions in metres (T-pose, y up, z forward), colours sRGB 0..1 without lighting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from samples.builders.looks import Look


@dataclass(frozen=True)
class Anatomy:
    """Places in the template that the painting refers to, [3] each."""

    left_eye: np.ndarray
    mouth: np.ndarray
    nose: np.ndarray
    chin: np.ndarray
    neck: np.ndarray
    ankle: np.ndarray
    pelvis: np.ndarray


@dataclass(frozen=True)
class Spots:
    """Places to be painted."""

    position: np.ndarray  # [N, 3]
    group: np.ndarray  # [N] names
    masks: dict[str, np.ndarray]  # name → [N]
    anatomy: Anatomy

    def only(self, chosen: np.ndarray) -> Spots:
        return Spots(self.position[chosen], self.group[chosen], {k: m[chosen] for k, m in self.masks.items()}, self.anatomy)


def paint(spots: Spots, look: Look, hairline: np.ndarray) -> np.ndarray:
    """Colour of every spot, [N, 3]; `hairline` [N] is positive under hair (metres from its edge)."""
    painters = {  # the first key that the group's name holds
        "body": lambda s, h: skin(s, look, h),
        "lashes": lambda s, h: np.tile(lashes(look), (len(s.position), 1)),
        "eye": lambda s, h: eyes(s, look),
        "teeth": lambda s, h: teeth(s),
        "tongue": lambda s, h: np.tile((0.66, 0.33, 0.33), (len(s.position), 1)),
        "hair": lambda s, h: hair(s, look),
        "shirt": lambda s, h: shirt(s, look),
        "collar": lambda s, h: shirt(s, look),
        "jacket": lambda s, h: jacket(s, look),
        "trousers": lambda s, h: trousers(s, look),
        "shoes": lambda s, h: shoes(s, look),
    }
    out = np.zeros((len(spots.position), 3))
    for name in np.unique(spots.group):
        painter = next(p for key, p in painters.items() if key in name)
        chosen = spots.group == name
        out[chosen] = painter(spots.only(chosen), hairline[chosen])
    return np.clip(out, 0, 1)


def skin(spots: Spots, look: Look, hairline: np.ndarray) -> np.ndarray:
    p, at = spots.position, spots.anatomy
    tone = np.array(look.skin)
    out = tone * (1 + 0.05 * noise(p * 60) + 0.03 * noise(p * 250) + 0.03 * noise(p * 900))[:, None]
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = smoothstep(0.055, 0.09, z) * smoothstep(-0.01, 0.01, y - at.chin[1])
    flush = np.array([0.80, 0.36, 0.32])
    cheek = bump(x - 0.043, 0.020) * bump(y - (at.left_eye[1] - 0.042), 0.019) * front
    nose = bump(p[:, 0], 0.013) * bump(y - at.nose[1], 0.012) * front
    out = mix(out, flush * (0.4 + 0.6 * tone), 0.22 * cheek + 0.16 * nose)
    socket = bump(x - at.left_eye[0], 0.020) * bump(y - at.left_eye[1] + 0.003, 0.012) * front
    out *= 1 - 0.16 * socket[:, None]
    out *= 1 - 0.4 * (bump(x - 0.0075, 0.0038) * bump(y - (at.nose[1] - 0.0095), 0.0028) * front)[:, None]  # nostrils
    out = _beard(out, spots, look, front)
    lips = smoothstep(0.30, 0.62, spots.masks["lips"])
    seam = bump(y - at.mouth[1], 0.0016) * lips
    out = mix(out, np.array(look.lips) * (1 + 0.06 * noise(p * [700, 120, 120]))[:, None], 0.9 * lips)
    out *= 1 - 0.35 * seam[:, None]
    out = mix(out, np.array(look.hair) * 0.75, 0.85 * _brows(p, look, at) * front)
    lid = bump(np.hypot((x - at.left_eye[0]) / 1.55, y - at.left_eye[1] - 0.0005) - 0.0088, 0.0016)
    lid *= smoothstep(0.0, 0.004, y - at.left_eye[1])
    out = mix(out, np.array(look.hair) * 0.4, 0.55 * lid * front)
    mouth = smoothstep(0.4, 0.8, spots.masks["mouth"]) * (1 - lips)
    depth = 0.35 + 0.65 * smoothstep(0.07, 0.13, z)
    out = mix(out, np.array([0.46, 0.17, 0.16]) * depth[:, None], mouth)
    out = mix(out, mix(out, np.array([0.93, 0.76, 0.72]), np.full(len(p), 0.35)), smoothstep(0.3, 0.7, spots.masks["nails"]))
    return mix(out, _strands(p, look, at), smoothstep(-0.004, 0.004, hairline))


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
    upper = spots.group == "helper-upper-teeth"
    edge = np.where(upper, p[:, 1] - 0.2665, 0.2445 - p[:, 1])
    return mix(out, np.array([0.70, 0.38, 0.38]), smoothstep(-0.001, 0.001, edge))


def hair(spots: Spots, look: Look) -> np.ndarray:
    return _strands(spots.position, look, spots.anatomy)


def shirt(spots: Spots, look: Look) -> np.ndarray:
    p = spots.position
    main, accent = np.array(look.shirt), np.array(look.accent)
    sleeve = np.abs(p[:, 0]) > 0.19
    along = np.where(sleeve, np.abs(p[:, 0]), p[:, 1])  # down the body, down the sleeve
    across = np.where(sleeve, np.arctan2(p[:, 1] - 0.088, p[:, 2] - 0.02) * 0.05, p[:, 0])
    share = {
        "plain": np.zeros(len(p)),
        "stripes": _wide(along / 0.055, 0.4),
        "checks": 0.45 * _wide(along / 0.07, 0.35) + 0.45 * _wide(across / 0.07, 0.35),
        "dots": smoothstep(0.0105, 0.0085, np.hypot(_fold(along, 0.045), _fold(across, 0.045))),
        "block": (p[:, 1] > -0.04) * 1.0,
    }[look.pattern]
    out = _cloth(mix(np.tile(main, (len(p), 1)), accent, share), p)
    if look.neckline == "collar":
        placket = bump(np.abs(p[:, 0]) - 0.014, 0.0015) * (p[:, 2] > 0.03) * (~sleeve)
        out *= 1 - 0.25 * placket[:, None]
        button = smoothstep(0.0060, 0.0048, np.hypot(p[:, 0], _fold(p[:, 1], 0.085))) * (p[:, 2] > 0.03)
        out = mix(out, 0.6 * main + 0.32, button)
    seam = bump(np.abs(p[:, 0]) - look.sleeve + 0.022, 0.0022) * sleeve
    if look.neckline in ("crew", "high", "v"):
        seam += bump(spots.masks["neckline"] - 0.014, 0.0020)
    return out * (1 - 0.28 * seam)[:, None]


def jacket(spots: Spots, look: Look) -> np.ndarray:
    p = spots.position
    assert look.jacket is not None
    out = _cloth(np.tile(np.array(look.jacket), (len(p), 1)), p, fold=0.08)
    lapel = smoothstep(0.004, 0.0, np.abs(spots.masks["opening"] - 0.032)) * (p[:, 1] > -0.16)
    out *= 1 - 0.35 * lapel[:, None]
    pocket = smoothstep(0.003, 0.001, np.abs(p[:, 1] + 0.265)) * smoothstep(0.055, 0.05, np.abs(np.abs(p[:, 0]) - 0.12))
    pocket *= p[:, 2] > 0.03
    button = smoothstep(0.0085, 0.0070, np.hypot(spots.masks["opening"] - 0.014, _fold(p[:, 1] + 0.18, 0.09)))
    button *= p[:, 1] < -0.12
    return mix(out * (1 - 0.4 * pocket)[:, None], np.array(look.jacket) * 0.35, button * (p[:, 0] > 0))


def trousers(spots: Spots, look: Look) -> np.ndarray:
    p = spots.position
    out = _cloth(np.tile(np.array(look.trousers), (len(p), 1)), p, fold=0.12)
    belt = smoothstep(0.017, 0.015, np.abs(p[:, 1] - (spots.anatomy.pelvis[1] + 0.062)))
    return mix(out, np.array([0.13, 0.09, 0.07]), belt * look.tucked)


def shoes(spots: Spots, look: Look) -> np.ndarray:
    y = spots.position[:, 1]
    out = np.array(look.shoes) * (1 + 0.06 * noise(spots.position * 120))[:, None]
    sole = smoothstep(0.018, 0.014, y - spots.anatomy.ankle[1] + 0.072)
    return mix(out, np.array([0.82, 0.81, 0.78]) if sum(look.shoes) > 1.5 else np.array([0.16, 0.14, 0.13]), sole)


# ---- parts


def _beard(out: np.ndarray, spots: Spots, look: Look, front: np.ndarray) -> np.ndarray:
    if look.beard == 0:
        return out
    p, at = spots.position, spots.anatomy
    x, y = np.abs(p[:, 0]), p[:, 1]
    jaw = smoothstep(0.012, -0.006, y - (at.mouth[1] + 0.35 * np.maximum(x - 0.02, 0))) * smoothstep(0.02, 0.045, p[:, 2])
    jaw *= smoothstep(-0.034, -0.016, y - at.chin[1])
    upper = bump(y - (at.mouth[1] + 0.013), 0.007) * smoothstep(0.032, 0.024, x) * front
    area = np.clip(jaw + upper, 0, 1) * (1 - smoothstep(0.2, 0.5, spots.masks["lips"])) * (1 - spots.masks["mouth"])
    stubble = 0.75 + 0.45 * noise(p * 700)
    color = np.array(look.hair) * 0.8 + np.array(look.skin) * (0.25 if look.beard < 0.5 else 0.08)
    return mix(out, color, np.clip(look.beard * area * stubble, 0, 0.93))


def _brows(p: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    along = (np.abs(p[:, 0]) - 0.011) / 0.043  # 0 at the nose, 1 at the temple
    inside = np.clip(along, 0, 1)
    middle = at.left_eye[1] + 0.0195 + 0.0085 * np.sin(inside * 2.5) - 0.005 * inside
    half = 0.0042 * look.brows * (1 - 0.6 * inside**2)
    hairs = 0.78 + 0.3 * noise(np.stack([p[:, 0] * 600 + p[:, 1] * 500, p[:, 1] * 150, p[:, 0] * 0], 1))
    ends = smoothstep(-0.02, 0.08, along) * smoothstep(1.02, 0.9, along)
    return np.clip(ends * smoothstep(1.25, 0.55, np.abs(p[:, 1] - middle) / half) * hairs, 0, 1)


def _strands(p: np.ndarray, look: Look, at: Anatomy) -> np.ndarray:
    """Hair combed from the crown: fine across, slow along."""
    crown = np.array([0.012, at.left_eye[1] + 0.10, -0.01])
    d = p - crown
    azimuth = np.arctan2(d[:, 0], d[:, 2])
    reach = np.linalg.norm(d, axis=1)
    fine = noise(np.stack([azimuth * 45, reach * 18, azimuth * 0], 1))
    coarse = noise(np.stack([azimuth * 11, reach * 9, azimuth * 0 + 5], 1))
    shine = 0.18 * bump(p[:, 1] - (at.left_eye[1] + 0.055), 0.022)
    base = np.array(look.hair)
    if look.hair_style in ("bob", "long"):  # a parting
        parting = bump(p[:, 0] - 0.014, 0.0016) * smoothstep(-0.02, 0.0, p[:, 2]) * (p[:, 1] > at.left_eye[1] + 0.05)
        base = mix(base, np.array(look.skin) * 0.8, 0.8 * parting)
    return base * (1 + 0.33 * fine + 0.2 * coarse)[:, None] + (base + 0.12) * (shine * (0.6 + 0.5 * fine))[:, None]


def _cloth(color: np.ndarray, p: np.ndarray, fold: float = 0.10) -> np.ndarray:
    """Weave and soft folds; folds lie across sleeves and trouser legs."""
    weave = noise(p * 900)
    folds = noise(np.stack([p[:, 0] * 26, p[:, 1] * 14 + np.abs(p[:, 0]) * 20, p[:, 2] * 20], 1))
    return color * (1 + 0.03 * weave + fold * folds)[:, None]


# ---- shapes and noise


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a * (1 - share[:, None]) + b * share[:, None]


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2))


def _fold(x: np.ndarray, period: float) -> np.ndarray:
    """Distance from the nearest multiple of the period, signed."""
    return x - np.round(x / period) * period


def _wide(x: np.ndarray, share: float) -> np.ndarray:
    """1 on a share of each unit, soft edges."""
    return smoothstep(share / 2 + 0.02, share / 2 - 0.02, np.abs(_fold(x, 1.0)))



_LATTICE = np.random.default_rng(7).uniform(-1, 1, (64, 64, 64))


def noise(q: np.ndarray) -> np.ndarray:
    """Smooth value noise of [N, 3] in −1..1, one unit a cell."""
    return _noise(np.ascontiguousarray(q, np.float64), _LATTICE)


@njit(cache=True)
def _noise(q, lattice):
    out = np.zeros(len(q))
    for i in range(len(q)):
        x, y, z = np.floor(q[i, 0]), np.floor(q[i, 1]), np.floor(q[i, 2])
        u, v, w = q[i, 0] - x, q[i, 1] - y, q[i, 2] - z
        u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
            out[i] += weight * lattice[(int(x) + a) % 64, (int(y) + b) % 64, (int(z) + c) % 64]
    return out
