"""Paint garments: cloth, and on it seams, ribs, plackets, buttons, zips, pockets, belts, soles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samples.builders.fabric import Fabric, cloth, unrolled
from samples.builders.fields import bump, fold, mix, smoothstep
from samples.builders.garments import ANKLE, OVERS, UPPERS, Upper
from samples.builders.looks import Look
from samples.builders.paint import Spots


def garment(name: str, spots: Spots, look: Look) -> np.ndarray:
    """Colours [N, 3] of a clothing layer, by its name."""
    p = spots.position
    if name in ("top", "hood"):
        return _upper(spots, look.top.fabric, UPPERS[look.top.kind], look)
    if name == "collar":
        return _collar(spots, look)
    if name == "over":
        assert look.jacket is not None
        return _upper(spots, look.jacket.fabric, OVERS[look.jacket.kind], look)
    if name == "lower":
        return _lower(spots, look)
    if name == "feet":
        return _feet(spots, look)
    if name == "tie":
        assert look.tie is not None
        return cloth(p, replace(look.tie, size=0.6 * look.tie.size))
    if name == "scarf":
        assert look.scarf is not None
        return _scarf(p, look.scarf)
    raise ValueError(f"garment: no painter for layer {name!r}")


def _upper(spots: Spots, fabric: Fabric, row: Upper, look: Look) -> np.ndarray:
    p, masks = spots.position, spots.masks
    out = cloth(p, fabric)
    far = np.full(len(p), 1.0)
    neck, cuff, hem, front = (masks.get(n, far) for n in ("neck", "cuff", "hem", "front"))
    edge = np.minimum(np.minimum(neck, cuff), hem)
    across = unrolled(p)[1]
    if row.ribbed and "neck" in masks:
        wide = np.where(neck <= np.minimum(cuff, hem), 0.016, 0.036)
        band = smoothstep(wide + 0.002, wide - 0.002, edge)
        ribs = 0.94 + 0.10 * np.cos(across * (2 * np.pi / 0.007))
        out = mix(out, np.array(fabric.main) * ribs[:, None], band)
        out *= 1 - 0.22 * bump(edge - wide, 0.0018)[:, None]
    else:
        out *= 1 - 0.25 * bump(edge - 0.015, 0.0018)[:, None]
    armhole = bump(np.abs(p[:, 0]) - 0.185, 0.002) * (p[:, 1] > 0.01) * (cuff > 0.05)
    out *= 1 - 0.20 * armhole[:, None]
    middle = (p[:, 2] > 0.03) * (np.abs(p[:, 0]) < 0.06) * (neck > 0.004)
    dark = np.array(fabric.main) * 0.45
    light = np.array(fabric.main) * 0.5 + (0.42 if sum(fabric.main) < 1.5 else 0.0)
    if row.front in ("buttons", "placket") and row.opens is None:
        long = 1.0 if row.front == "buttons" else (p[:, 1] > 0.0)
        out *= 1 - 0.22 * (bump(np.abs(p[:, 0]) - 0.014, 0.0014) * middle * long)[:, None]
        button = smoothstep(0.0058, 0.0046, np.hypot(p[:, 0], fold(p[:, 1] - 0.02, 0.075 if row.front == "buttons" else 0.05)))
        out = mix(out, light, button * middle * long)
    if row.opens is not None and row.front in ("buttons", "lapels"):
        period = 0.09 if row.front == "lapels" else 0.065
        button = smoothstep(0.0085, 0.0070, np.hypot(front - 0.014, fold(p[:, 1] - row.opens + 0.03, period)))
        out = mix(out, dark if sum(fabric.main) > 0.6 else light, button * (p[:, 1] < row.opens - 0.01) * (p[:, 0] > 0) * (p[:, 2] > 0.02))
    if row.opens is not None:
        out *= 1 - 0.35 * bump(front - (0.010 if row.front == "zip" else 0.004), 0.0018)[:, None]
    if row.front == "zip":
        teeth = smoothstep(0.0050, 0.0030, front) * (0.75 + 0.25 * np.cos(p[:, 1] * 2200))
        out = mix(out, np.array((0.62, 0.61, 0.58)), teeth)
    if row.front in ("lapels", "zip"):
        pocket = smoothstep(0.003, 0.001, np.abs(p[:, 1] + 0.265)) * smoothstep(0.055, 0.05, np.abs(np.abs(p[:, 0]) - 0.12))
        out *= 1 - 0.4 * (pocket * (p[:, 2] > 0.03))[:, None]
    if "lapel" in masks:
        out *= 1 - 0.30 * smoothstep(0.0, 1.0, masks["lapel"])[:, None] * bump(p[:, 1] - 0.095, 0.004)[:, None]
    if fabric is look.top.fabric and look.top.kind == "hoodie" and "neck" in masks:
        flap = np.maximum(np.abs(p[:, 0]) - 0.075 - 0.3 * np.maximum(-0.22 - p[:, 1], 0), np.abs(p[:, 1] + 0.25) - 0.065)
        out *= 1 - 0.30 * (bump(flap, 0.0022) * (p[:, 2] > 0.03))[:, None]
        cord = smoothstep(0.0032, 0.0020, np.abs(np.abs(p[:, 0]) - 0.024 - 0.004 * np.sin(p[:, 1] * 30))) * (p[:, 2] > 0.03)
        out = mix(out, np.array((0.88, 0.87, 0.84)), cord * (p[:, 1] > -0.03) * (p[:, 1] < 0.10))
    if fabric is look.top.fabric and look.top.kind == "dress" and fabric.seed % 3 == 0:
        out = mix(out, np.array(fabric.accent) * 0.6, smoothstep(-0.232, -0.236, p[:, 1]))
    return out


def _collar(spots: Spots, look: Look) -> np.ndarray:
    fabric, p = look.top.fabric, spots.position
    if look.neckline == "roll":
        ribs = 0.95 + 0.09 * np.cos(np.arctan2(p[:, 0], p[:, 2]) * 62)
        return np.array(fabric.main) * ribs[:, None]
    plain = fabric.seed % 3 == 0 or look.top.kind == "polo"
    out = cloth(p, replace(fabric, pattern="plain") if plain else fabric)
    return out * (1 - 0.22 * bump(spots.masks["hem"] - 0.005, 0.0012))[:, None]


def _lower(spots: Spots, look: Look) -> np.ndarray:
    worn = look.lower or look.skirt
    assert worn is not None
    p, fabric = spots.position, worn.fabric
    out = cloth(p, fabric, skirt=look.skirt is not None)
    hem = spots.masks["hem"]
    out *= 1 - 0.25 * bump(hem - 0.02, 0.0025)[:, None]
    if worn.kind == "dress":
        return out
    band = bump(p[:, 1] + 0.315, 0.002)
    if look.lower is not None and worn.kind != "leggings":
        fly = bump(p[:, 0] - 0.012, 0.002) * (p[:, 1] > -0.42) * (p[:, 1] < -0.32) * (p[:, 2] > 0)
        pocket = (
            bump(p[:, 1] + 0.345 + 0.6 * (np.abs(p[:, 0]) - 0.12), 0.0022) * (np.abs(np.abs(p[:, 0]) - 0.115) < 0.045) * (p[:, 2] > 0.0)
        )
        back = np.maximum(np.abs(np.abs(p[:, 0]) - 0.085) - 0.042, np.abs(p[:, 1] + 0.405) - 0.045)
        seam = bump(np.abs(p[:, 0]) - 0.186, 0.002) * (p[:, 1] < -0.45)
        lines = fly + pocket + bump(back, 0.002) * (p[:, 2] < 0) * (fabric.weave == "denim") + seam
        if fabric.weave == "denim":
            out = mix(out, np.array((0.72, 0.50, 0.25)), 0.45 * np.clip(lines, 0, 1))
        else:
            out *= 1 - 0.30 * np.clip(lines, 0, 1)[:, None]
    out *= 1 - 0.30 * band[:, None]
    belted = look.top.tucked and look.lower is not None and worn.kind != "leggings"
    belt = smoothstep(0.017, 0.015, np.abs(p[:, 1] + 0.295)) * belted
    leather = np.array((0.10, 0.07, 0.06)) if fabric.seed % 2 else np.array((0.33, 0.21, 0.12))
    out = mix(out, leather, belt)
    buckle = (np.abs(p[:, 0]) < 0.019) * (np.abs(np.abs(p[:, 0]) - 0.016) < 0.003) * (p[:, 2] > 0)
    return mix(out, np.array((0.75, 0.70, 0.55)), belt * buckle)


def _feet(spots: Spots, look: Look) -> np.ndarray:
    fabric, kind, p = look.feet.fabric, look.feet.kind, spots.position
    out = cloth(p, replace(fabric, weave="leather" if kind != "sneakers" else "plain"))
    height = p[:, 1] - ANKLE
    if kind == "sneakers":
        x = np.abs(p[:, 0]) - 0.142 - 0.05 * np.maximum(p[:, 2], 0)
        tongue = smoothstep(0.018, 0.015, np.abs(x)) * (p[:, 2] > 0.03) * (p[:, 2] < 0.11) * (height > -0.075)
        lace = bump(fold(p[:, 2], 0.016), 0.003) * tongue
        out = mix(mix(out, np.array(fabric.accent), 0.7 * tongue), np.array((0.93, 0.93, 0.91)), lace)
        stripe = bump(fold(p[:, 2] + 0.5 * height, 0.022), 0.004) * (p[:, 2] > -0.01) * (p[:, 2] < 0.05) * (tongue < 0.1)
        out = mix(out, np.array(fabric.accent), stripe * (fabric.seed % 2))
    edge = ANKLE - 0.066 if kind == "sneakers" else ANKLE - 0.072
    sole = smoothstep(edge + 0.002, edge - 0.002, p[:, 1])
    white = kind == "sneakers" or sum(fabric.main) > 2.0
    return mix(out, np.array((0.88, 0.87, 0.84)) if white else np.array((0.13, 0.11, 0.10)), sole)


def _scarf(p: np.ndarray, fabric: Fabric) -> np.ndarray:
    """Its pattern runs round the neck and down the end."""
    end = p[:, 1] < 0.105
    turn = np.arctan2(p[:, 0], p[:, 2] - 0.012) * 0.085
    along = np.where(end & (p[:, 2] > 0.1), -p[:, 1], turn)
    return cloth(np.stack([np.zeros(len(p)), -along, p[:, 0] * 0 + 0.1], 1), fabric) * (0.9 + 0.12 * np.cos(p[:, 1] * 620))[:, None]
