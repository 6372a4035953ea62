"""Dress a body: skin, clothes, hair, beard, glasses as layers over one skeleton, innermost first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from samples.builders.anatomy import BodyArrays, anatomy
from samples.builders.garments import FOOTWEAR, OVERS, UPPERS
from samples.builders.glasses import FRAMES, glasses_layer
from samples.builders.hair import beard_layers, hair_layers, scalp_value
from samples.builders.layers import Layer, carried, select_faces
from samples.builders.looks import Look
from samples.builders.tailor import Field, Garment, collar, collar_covers, footwear, hood, lapels, scarf, skirt, tie, trousers, upper
from samples.builders.wardrobe import Wardrobe

MARGIN = 0.022  # metres of an inner layer kept under the edge of an outer one
LASHES_HIDDEN = ("helper-l-eyelashes-1", "helper-r-eyelashes-1")


def source_layers(body: BodyArrays, wardrobe: Wardrobe) -> tuple[Layer, Layer]:
    """The skin, and the tights from which clothes are cut; both name the skin whose pose directions they take."""
    skin = Layer(
        "skin", body.template, body.dirs, body.weights, body.faces, wardrobe.masks, wardrobe.groups, wardrobe.uv, wardrobe.uv_faces,
        sparse.identity(len(body.template), format="csr"),
    )  # fmt: skip
    bare = select_faces(replace(skin, uv=None, uv_faces=None, masks={}), skin.groups == "body")
    anchors = carried("tights", wardrobe.tights, wardrobe.tights_faces, bare, near=3).anchors
    weights = wardrobe.tights_weights
    tights = Layer("tights", wardrobe.tights, wardrobe.tights_dirs, weights, wardrobe.tights_faces, anchors=anchors)
    return skin, tights


def dressed_layers(skin: Layer, tights: Layer, body: BodyArrays, wardrobe: Wardrobe, look: Look) -> list[Layer]:
    """All layers of a person, innermost first; triangles that clothes hide are left out."""
    at = anatomy(body, wardrobe)
    worn, loose = _garments(tights, look)
    clothes = [_uncovered(g.layer, [h.inside for h in worn[i + 1 :]]) for i, g in enumerate(worn)]
    outer = [*clothes, *loose]
    scalp = scalp_value(body.template, wardrobe.masks["ears"], look, at)
    hair = hair_layers(skin, scalp, look, at, outer)
    beard = beard_layers(skin, look, at)
    glasses = [glasses_layer(skin, FRAMES[look.glasses.frame], at.left_eye, at.ear, at.bridge[2])] if look.glasses else []
    covers = [g.inside for g in worn] + [collar_covers] * (look.neckline == "collar")
    return [_bare(skin, scalp, covers), *outer, *hair, *beard, *glasses]


def _garments(tights: Layer, look: Look) -> tuple[list[Garment], list[Layer]]:
    """Garments that cover what comes before them, and pieces that only lie on top."""
    row, feet_row = UPPERS[look.top.kind], FOOTWEAR[look.feet.kind]
    tucked = look.top.tucked or (look.skirt is not None and look.top.kind != "dress")
    top = upper(tights, replace(look.top, tucked=tucked), row, look.neckline, "top")
    feet = footwear(tights, look.feet)
    below: list[Garment] = []
    if look.skirt is not None:
        below = [feet, skirt(tights, look.skirt, [top.layer])]
    elif look.lower is not None:
        waist = look.top.loose + 0.005 if tucked else 0.0
        leggings = look.lower.kind == "leggings"
        legs = trousers(tights, look.lower, waist, 0.0 if leggings else feet_row.loose + 0.005)
        below = [legs, feet] if leggings else [feet, legs]
    worn = [*below, top] if not tucked and look.skirt is None else [top, *below]
    loose: list[Layer] = []
    off = look.top.loose
    if look.neckline in ("collar", "roll"):
        loose.append(collar(tights, look.neckline, off, None if look.jacket is None else max(look.jacket.loose, off + 0.005)))
    if look.tie is not None:
        loose.append(tie(tights, off))
    if look.jacket is not None:
        over_row = OVERS[look.jacket.kind]
        wider = -0.022 if look.neckline == "collar" else 0.006  # lets a shirt's collar lie on it
        over = upper(tights, look.jacket, over_row, "crew", "over", off, row.arm + row.cuff, wider, look.skirt)
        worn.append(over)
        turned = lapels(over.layer, over_row)
        loose += [turned] if turned is not None else []
    if look.top.kind == "hoodie":
        loose.append(hood(top.layer))
    if look.scarf is not None:
        loose.append(scarf([worn[-1].layer if look.jacket else top.layer, *loose], look.scarf.seed))
    return worn, loose


def _uncovered(layer: Layer, covers: list[Field]) -> Layer:
    """Without what outer garments hide, save a margin."""
    if not covers:
        return layer
    hidden = np.zeros(len(layer.faces), bool)
    for inside in covers:
        hidden |= (inside(layer.rest) > MARGIN)[layer.faces].all(1)
    return select_faces(layer, ~hidden)


def _bare(skin: Layer, scalp: np.ndarray, covers: list[Field]) -> Layer:
    body = skin.face_groups() == "body"
    hidden = body & (scalp > 0.02)[skin.faces].all(1)
    for inside in covers:
        hidden |= body & (inside(skin.rest) > MARGIN)[skin.faces].all(1)
    return select_faces(skin, ~(hidden | np.isin(skin.face_groups(), LASHES_HIDDEN)))
