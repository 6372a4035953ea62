"""Cut garments from the layer of tights: where each covers the body, how far it stands off, collars, hoods, skirts, shoes.

Places are given in the template (T-pose, metres; y up, z forward); the numbers fit the embedded body's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates

from model.body import JOINT_NAMES
from model.winding import grid_faces, hull_reach, wound
from samples.builders.fields import noise, smoothstep
from samples.builders.garments import ANKLE, FOOTWEAR, TUCKED_HEM, WAIST, Neckline, Upper
from samples.builders.layers import Layer, carried, clip, hemmed, push_out, refine, select_faces
from samples.builders.lofts import lying_on, spline, tube
from samples.builders.looks import Worn

Field = Callable[[np.ndarray], np.ndarray]  # places [P, 3] → metres inside a garment's edge [P]
RISES: dict[str, float] = {
    "crew": 0.0,
    "v": 0.002,
    "deep_v": 0.002,
    "scoop": 0.0,
    "boat": 0.004,
    "collar": 0.004,
    "high": 0.040,
    "roll": 0.050,
}
POINTS: dict[str, float] = {"v": 0.015, "deep_v": -0.035, "collar": 0.075}  # heights of a V's point
SKIRT_AXIS, SKIRT_TOP = (0.0, 0.02), WAIST + 0.018  # x, z of the axis
FINE = (0.016, 0.006)  # metres from a cut within which triangles are split, and split again


@dataclass(frozen=True)
class Garment:
    layer: Layer
    inside: Field


def neck_value(p: np.ndarray, neckline: Neckline) -> np.ndarray:
    """Metres below the neckline; negative above it. Sleeves count as far below."""
    x, behind = np.abs(p[:, 0]), 0.02 - p[:, 2]
    plane = 0.140 + RISES[neckline] - 0.27 * (p[:, 2] - 0.012) - p[:, 1]
    # rounder than shoulders slope, so that the edge is sharp there
    value = plane + (2.0 * x**2 + 1.6 * np.maximum(x - 0.085, 0) if neckline == "boat" else 2.0 * x**2 + 450 * x**4 - 0.005)
    if neckline in POINTS:
        value = np.minimum(value, np.maximum(np.abs(p[:, 0]) - 0.42 * (p[:, 1] - POINTS[neckline]), behind))
    if neckline == "scoop":
        round_ = (np.hypot(p[:, 0] / 0.088, (p[:, 1] - 0.145) / 0.085) - 1) * 0.08
        value = np.minimum(value, np.maximum(round_, behind))
    return value


def opening_value(p: np.ndarray, row: Upper) -> np.ndarray:
    """Metres from the front edges of something open; a V down to its first button, closed below it."""
    if row.opens is None:
        return np.full(len(p), 1.0)
    if row.front == "open":
        v = 0.050 + 0.10 * np.abs(p[:, 1] - 0.1)
    else:
        v = 0.35 * np.maximum(p[:, 1] - row.opens, 0) - 0.002
    return np.maximum(np.abs(p[:, 0]) - v, 0.01 - p[:, 2])


def edges(worn: Worn, row: Upper, neckline: Neckline, wider: float) -> dict[str, Field]:
    """The fields whose zero lines are a garment's edges: neck, sleeve ends, hem, front."""
    hem = TUCKED_HEM if worn.tucked else worn.hem

    def sleeve(p: np.ndarray) -> np.ndarray:
        armhole = 0.25 * (p[:, 1] - 0.088) if worn.sleeve < 0.21 else 0.0
        return worn.sleeve - np.abs(p[:, 0]) - armhole + 4 * np.maximum(-0.01 - p[:, 1], 0)

    return {
        "neck": lambda p: neck_value(p, neckline) + wider,
        "cuff": sleeve,
        "hem": lambda p: p[:, 1] - hem,
        "front": lambda p: opening_value(p, row),
    }


def cut(cloth: Layer, name: str, fields: dict[str, Field]) -> tuple[Layer, Field]:
    """Cut along every field's zero line; the distances stay in the layer's masks."""
    out = replace(cloth, name=name)
    values = np.stack([f(out.rest) for f in fields.values()])
    out = select_faces(out, (values.min(0)[out.faces].max(1) > -0.03))
    for near in FINE:
        out = refine(out, np.abs(np.stack([f(out.rest) for f in fields.values()]).min(0)) < near)
    for field in fields.values():
        out = clip(out, field(out.rest))
    masks = {n: f(out.rest) for n, f in fields.items()}
    return replace(out, masks=masks), lambda p: np.stack([f(p) for f in fields.values()]).min(0)


def upper(
    tights: Layer, worn: Worn, row: Upper, neckline: Neckline, name: str, under: float = 0.0, under_arm: float = 0.0, wider: float = 0.0,
    below: Worn | None = None,
) -> Garment:  # fmt: skip
    """A top, or something over a top that stands off `under` metres already (`under_arm` more along the arms) and a skirt `below`."""
    fields = edges(worn, row, neckline, wider)
    layer = cut(tights, name, fields)[0]
    # covers more than it spans: skin bulges at the neck when arms are raised, and what a top is tucked into covers below its hem
    below_hem = 0.06 if worn.tucked else 0.0
    covers = {**fields, "neck": lambda p: fields["neck"](p) + 0.010, "hem": lambda p: fields["hem"](p) + below_hem}
    inside = lambda p: np.stack([f(p) for f in covers.values()]).min(0)  # noqa: E731
    p, masks = layer.rest, layer.masks
    arm = smoothstep(0.18, 0.30, np.abs(p[:, 0])) * smoothstep(-0.05, 0.0, p[:, 1])
    off = max(worn.loose, under + 0.005) + max(row.arm, under_arm) * arm + row.cuff * smoothstep(0.14, 0.0, masks["cuff"]) * arm
    if row.ribbed:  # bands draw in, the cloth above them blouses
        close = min(worn.loose, max(under + 0.006, 0.010))
        off = off + (close - off) * smoothstep(0.055, 0.02, np.minimum(masks["cuff"] + 1 - (arm > 0), masks["hem"]))
    if not worn.tucked:
        off = off + worn.wide * smoothstep(-0.15, -0.35, p[:, 1]) * (1 - 0.8 * row.ribbed)
    bust = 0.006 * np.exp(-(((p[:, 1] + 0.06) / 0.06) ** 2)) * (np.abs(p[:, 0]) < 0.09) * (p[:, 2] > 0.05) * (neckline != "roll")
    folds = 1 + 0.25 * noise(np.stack([p[:, 0] * 22, p[:, 1] * 12 + np.abs(p[:, 0]) * 18, p[:, 2] * 18], 1))
    off = off * folds + 0.5 * bust - 0.0025 * smoothstep(0.03, 0.0, masks["neck"])
    layer = push_out(layer, off, smooth=row.smooth)
    if not worn.tucked and row.opens is not None:  # long enough to hang over the hips, and over a skirt
        layer = replace(layer, rest=_hung(layer.rest, tights, p[:, 1], skirt_off(below, p[:, 1])[:, None] + 0.006 if below else 0.0))
    return Garment(hemmed(layer, np.minimum(off * 0.8, 0.008)), inside)


def _hung(rest: np.ndarray, tights: Layer, height: np.ndarray, off: np.ndarray | float) -> np.ndarray:
    """Points [P, 3] below the waist moved out to the hull round both legs and `off` metres further, as cloth hangs."""
    angle, levels = np.linspace(-np.pi, np.pi, 73), np.linspace(-0.28, -0.46, 10)
    trunk = tights.rest[np.abs(tights.rest[:, 0]) < 0.30]
    reach = np.stack([hull_reach(trunk[np.abs(trunk[:, 1] - h) < 0.03], angle, SKIRT_AXIS) for h in levels])
    flat = rest[:, [0, 2]] - SKIRT_AXIS
    radius = np.linalg.norm(flat, axis=1)
    column, row = np.interp(np.arctan2(flat[:, 0], flat[:, 1]), angle, np.arange(73)), np.interp(-height, -levels, np.arange(10))
    hull = map_coordinates(reach, [row, column], order=1)[:, None] + 0.004 + off
    grown = np.maximum(hull / np.maximum(radius, 1e-3)[:, None], 1)
    share = smoothstep(-0.29, -0.34, height)[:, None]
    out = rest.copy()
    out[:, [0, 2]] = SKIRT_AXIS + flat * (1 + (grown - 1) * share)
    return out


def collar(tights: Layer, neckline: Neckline, off: float, over: float | None) -> Layer:
    """A turned-down shirt collar, or a rolled one; it lies on what is worn over the shirt and stands off `over` metres."""
    if neckline == "roll":
        ring: dict[str, Field] = {"neck": lambda p: neck_value(p, "roll") + 0.001, "hem": lambda p: 0.042 - neck_value(p, "roll")}
        layer = cut(tights, "collar", ring)[0]
        roll = 0.012 + 0.005 * np.sin(np.clip(layer.masks["neck"] / 0.042, 0, 1) * np.pi)
        return hemmed(push_out(layer, roll, smooth=1), 0.009)
    crew = lambda p: neck_value(p, "crew")  # noqa: E731
    fields: dict[str, Field] = {
        "hem": lambda p: (0.040 if over is None else 0.030) - crew(p),
        "neck": lambda p: crew(p) + 0.028,
        "front": lambda p: np.maximum(np.abs(p[:, 0]) - 0.016 - 0.5 * np.maximum(0.150 - p[:, 1], 0), 0.02 - p[:, 2]),
    }
    layer = cut(tights, "collar", fields)[0]
    ring = crew(layer.rest)
    lift = off + 0.0045 + 0.10 * np.maximum(ring, -0.01)
    if over is not None:
        lift = np.maximum(lift, (over + 0.003) * smoothstep(0.006, 0.018, ring))
    return hemmed(push_out(layer, lift, smooth=1), 0.002)


def collar_covers(p: np.ndarray) -> np.ndarray:
    """Metres inside the edges of a shirt collar and what continues it below, [P]."""
    spread = np.maximum(np.abs(p[:, 0]) - 0.016 - 0.5 * np.maximum(0.150 - p[:, 1], 0), 0.02 - p[:, 2])
    return np.minimum(np.minimum(neck_value(p, "crew") + 0.028, spread), 0.15 - np.abs(p[:, 0])) - 10 * (p[:, 1] < 0.05)


def lapels(over: Layer, row: Upper) -> Layer | None:
    """The turned-back front edges of a blazer, as a second thin layer over it."""
    if row.front != "lapels" or row.opens is None:
        return None
    edge, height = over.masks["front"], over.rest[:, 1]
    wide = 0.050 * smoothstep(row.opens, 0.04, height) * (1 - 0.45 * (height > 0.095)) * (over.rest[:, 2] > 0.0)
    part = clip(over, np.minimum(wide - edge, height - row.opens))
    return replace(push_out(part, 0.0035, smooth=0), name="over", masks={**part.masks, "lapel": np.ones(len(part.rest))})


def tie(tights: Layer, off: float) -> Layer:
    """A knot under the collar and a blade down to the belt."""

    def blade(p: np.ndarray) -> np.ndarray:
        down = 0.125 - p[:, 1]
        wide = 0.0145 - 0.005 * smoothstep(0.012, 0.04, down) + 0.028 * smoothstep(0.03, 0.34, down)
        return np.minimum(wide - np.abs(p[:, 0]), p[:, 2] - 0.02)

    ends: dict[str, Field] = {"side": blade, "hem": lambda p: p[:, 1] + 0.235 - 0.6 * np.abs(p[:, 0]), "neck": lambda p: 0.137 - p[:, 1]}
    layer = cut(tights, "tie", ends)[0]
    knot = 0.006 * smoothstep(0.10, 0.115, layer.rest[:, 1])
    return hemmed(push_out(layer, off + 0.0045 + knot, smooth=1), 0.005)


def trousers(tights: Layer, worn: Worn, under_waist: float, under_ankle: float) -> Garment:
    """Trousers, shorts; they stand off more than what is tucked in (`under_waist`, metres) and than the shoes."""
    fields: dict[str, Field] = {"waist": lambda p: WAIST - p[:, 1], "hem": lambda p: p[:, 1] - worn.hem}
    layer, inside = cut(tights, "lower", fields)
    y = layer.rest[:, 1]
    off = worn.loose + worn.wide * smoothstep(-0.50 if worn.hem > -0.8 else -0.55, max(worn.hem, -1.1), y)
    off = np.maximum(off, under_waist * smoothstep(-0.45, -0.36, y))
    off = np.maximum(off, under_ankle * smoothstep(-0.95, -1.02, y))
    layer = push_out(layer, off, smooth=4)
    return Garment(hemmed(layer, np.minimum(off * 0.7, 0.008)), inside)


def skirt(tights: Layer, worn: Worn, under: list[Layer], columns: int = 72) -> Garment:
    """Cloth that hangs from the waist, wound round both legs, in folds that grow towards the hem."""
    top = SKIRT_TOP
    heights = np.concatenate([np.linspace(top, -0.42, 10), np.linspace(-0.42, worn.hem, 16)[1:]])
    angle, centre = np.linspace(0, 2 * np.pi, columns, endpoint=False), SKIRT_AXIS
    trunk = tights.rest[np.abs(tights.rest[:, 0]) < 0.30]
    reach = np.stack([hull_reach(trunk[np.abs(trunk[:, 1] - h) < 0.035], angle, centre) for h in heights])
    for k in range(1, len(heights)):
        reach[k] = np.maximum(reach[k], reach[k - 1] * 0.985)
    slow = (np.clip((top - heights) / (top - worn.hem), 0, 1) ** 1.5)[:, None]
    off, number = skirt_off(worn, heights)[:, None], 7 + worn.fabric.seed % 5
    waves = (0.004 + 0.10 * worn.wide) * slow * np.sin(number * angle + 0.6 * np.sin(3 * angle + worn.fabric.seed))
    points = wound(angle, heights[:, None], reach + off + waves, centre)
    layer = carried("lower", points, grid_faces(len(heights), columns, closed=True), tights)
    layer = lying_on(layer, under, 0.003, smooth=0) if under else layer
    y, pelvis = layer.rest[:, 1], JOINT_NAMES.index("pelvis")
    left, right = (JOINT_NAMES.index(f"{s}_hip") for s in ("left", "right"))
    legs = 0.55 * smoothstep(-0.40, -0.65, y)
    side = smoothstep(-0.16, 0.16, layer.rest[:, 0])
    hang = np.zeros_like(layer.weights)
    hang[:, pelvis], hang[:, left], hang[:, right] = 1 - legs, legs * side, legs * (1 - side)
    share = smoothstep(-0.30, -0.40, y)[:, None]
    masks = {"hem": y - worn.hem, "waist": top - y}
    layer = replace(layer, weights=layer.weights * (1 - share) + hang * share, masks=masks)
    return Garment(hemmed(layer, 0.006), lambda p: np.minimum(WAIST - p[:, 1], p[:, 1] - worn.hem - 0.04))


def skirt_off(worn: Worn, height: np.ndarray) -> np.ndarray:
    """Metres that a skirt stands off the hull round both legs."""
    down = np.clip((SKIRT_TOP - height) / (SKIRT_TOP - worn.hem), 0, 1)
    return 0.008 + 0.004 * smoothstep(0.0, 0.3, down) + worn.wide * down**1.5


def footwear(tights: Layer, worn: Worn) -> Garment:
    row = FOOTWEAR[worn.kind]

    def top(p: np.ndarray) -> np.ndarray:
        low = 0.028 * smoothstep(0.02, 0.07, p[:, 2]) if worn.kind == "flats" else 0.0
        return row.top - low - p[:, 1]

    layer, inside = cut(tights, "feet", {"hem": top})
    p = layer.rest
    sole = smoothstep(ANKLE - 0.045, ANKLE - 0.075, p[:, 1])
    out = push_out(layer, row.loose + 0.004 * sole, smooth=2)
    flat = np.minimum(out.rest[:, 1], p[:, 1])
    ground = p[:, 1].min() - row.sole
    down = out.rest.copy()
    down[:, 1] = flat * (1 - sole) + (ground + 0.25 * np.maximum(flat - p[:, 1].min(), 0)) * sole + 0.012 * sole * (p[:, 2] > 0.165)
    return Garment(hemmed(replace(out, rest=down), row.loose * 0.8), inside)


def hood(top: Layer) -> Layer:
    """A hood that lies behind the neck, its rim running down to the chest."""
    half = np.array([[0.030, 0.075, 0.098], [0.066, 0.124, 0.068], [0.086, 0.160, 0.008], [0.068, 0.158, -0.058], [0.0, 0.145, -0.096]])
    knots = np.concatenate([half * [-1, 1, 1], half[-2::-1]])
    path = spline(knots, 44)
    back = np.sin(np.linspace(0, np.pi, 44))
    radius = np.stack([0.010 + 0.026 * back**1.5, 0.010 + 0.018 * back**1.5], 1)
    points, faces = tube(path, radius, 12, flat=np.array([0.0, 1.0, 0.0]))
    points = (
        points
        - np.array([0, 0.9, 0.25]) * (np.maximum(points[:, 2] + 0.085, -1) < 0)[:, None] * np.maximum(-0.085 - points[:, 2], 0)[:, None]
    )
    return lying_on(carried("hood", points, faces, top), [top], 0.004, smooth=1)


def scarf(below: list[Layer], seed: int) -> Layer:
    """A loop round the neck; most have an end hanging down in front."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    path = np.stack([0.082 * np.sin(turn), 0.150 - 0.030 * np.cos(turn) + 0.004 * np.sin(3 * turn + seed), 0.012 + 0.075 * np.cos(turn)], 1)
    radius = np.stack([0.022 + 0.004 * np.sin(5 * turn + seed), 0.028 + 0.005 * np.sin(4 * turn)], 1)
    points, faces = tube(path, radius, 14, closed=True, flat=np.array([0.0, 1.0, 0.0]))
    if seed % 4:
        side = 1.0 if seed % 2 else -1.0
        end = spline(
            np.array(
                [[0.02, 0.120, 0.105], [0.045, 0.06, 0.130], [0.055, -0.05, 0.160], [0.058, -0.05 - 0.12 - 0.0001 * (seed % 700), 0.165]]
            ),
            20,
        )
        more, more_faces = tube(end * [side, 1, 1], np.tile([[0.038, 0.007]], (20, 1)), 12, flat=np.array([0.0, 0, 1.0]))
        points, faces = np.concatenate([points, more]), np.concatenate([faces, more_faces + len(points)])
    ripples = 0.0025 * noise(points * [60, 25, 60] + seed)[:, None]
    everything = below[0]
    return lying_on(carried("scarf", points + ripples, faces, everything), below, 0.005, smooth=1)
