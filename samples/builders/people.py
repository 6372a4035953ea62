"""Dressed people, each made from a seed: `make_person(seed)` gives surfaces, one baked texture, and posing.

The talks and the scans show the same kind of person; talks use seeds 100–105, scans 0–7. Units: metres, radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.body import Body, SurfacePoints
from model.types import SmplxParams
from samples.builders import atlas
from samples.builders.dress import BodyArrays, anatomy, dressed_layers, scalp_value
from samples.builders.layers import Layer
from samples.builders.looks import Look, random_look
from samples.builders.paint import Spots, paint
from samples.builders.wardrobe import Wardrobe, load_wardrobe

FOLDER = Path(__file__).parent.parent / "body"
TEXTURE_SIZE = 1024
CHUNK = 24  # frames posed at once

# texels per UV unit of the skin's islands, by MakeHuman group or by place; per metre for clothes and hair
EYE_DENSITY, TEETH_DENSITY, LASH_DENSITY, SKIN_DENSITY, HEAD_DENSITY, HAND_DENSITY = 3200, 700, 500, 380, 1400, 800
CLOTH_DENSITY = {"shirt": 430, "jacket": 430, "collar": 700, "trousers": 230, "shoes": 400, "hair": 620, "hair-curtain": 480}


@dataclass(frozen=True)
class Person:
    """A dressed person: P points in several layers, F triangles, one texture."""

    seed: int
    look: Look
    betas: Tensor  # [10]
    faces: np.ndarray  # [F, 3]
    uv: np.ndarray  # [U, 2] 0..1, v upwards
    uv_faces: np.ndarray  # [F, 3]
    texture: np.ndarray  # [1024, 1024, 3] uint8
    points: SurfacePoints  # [P] all layers, on the body's skeleton

    def vertices(self, params: SmplxParams) -> np.ndarray:
        """Posed surfaces [T, P, 3] float32 for parameters [T] (their betas count; `posing` fills in this person's)."""
        frames = len(params.transl)
        out = np.empty((frames, len(self.points.rest), 3), np.float32)
        with torch.no_grad():
            for start in range(0, frames, CHUNK):
                part = slice(start, min(start + CHUNK, frames))
                out[part] = embedded_body().posed_points(self.points, params[part]).numpy()
        return out

    def posing(self, **fields: Tensor) -> SmplxParams:
        """Parameters [T] with this person's betas; fields that are left out are zero."""
        frames = len(next(iter(fields.values()))) if fields else 1
        base = SmplxParams.zeros(frames)
        values = {name: getattr(base, name) for name in base.__dataclass_fields__}
        return SmplxParams(**{**values, "betas": self.betas.expand(frames, -1), **fields})


@cache
def embedded_body() -> Body:
    return Body.load(FOLDER / "SMPLX_NEUTRAL.npz")


def make_person(seed: int, texture_size: int = TEXTURE_SIZE) -> Person:
    """The person of a seed, always the same; a few seconds."""
    wardrobe, look = load_wardrobe(FOLDER / "wardrobe.npz"), random_look(seed)
    return dress(seed, look, random_betas(seed, wardrobe), embedded_body(), wardrobe, texture_size)


def random_betas(seed: int, wardrobe: Wardrobe) -> Tensor:
    """An average woman or man, and half a standard deviation of chance."""
    average = wardrobe.betas["woman" if seed % 2 else "man"]
    chance = np.random.default_rng([seed, 23]).normal(0, 0.55, len(average))
    return torch.from_numpy(np.clip(0.85 * average + chance, -2.5, 2.5)).float()


def dress(seed: int, look: Look, betas: Tensor, body: Body, wardrobe: Wardrobe, texture_size: int) -> Person:
    arrays = BodyArrays(
        body.template.numpy(), body.shape_dirs.numpy(), body.skin_weights.numpy(), body.faces, body.joint_template.numpy()
    )
    layers = dressed_layers(arrays, wardrobe, look)
    starts = np.cumsum([0, *(len(layer.rest) for layer in layers)])
    faces = np.concatenate([layer.faces + start for layer, start in zip(layers, starts, strict=False)])
    join = lambda name: torch.from_numpy(np.concatenate([getattr(layer, name) for layer in layers])).float()  # noqa: E731
    weights = join("weights")
    points = SurfacePoints(join("rest"), join("dirs"), torch.zeros(0, 0), weights / weights.sum(1, keepdim=True))
    layout = atlas.pack(charts(layers), len(faces), texture_size)
    texture = bake(layout, layers, faces, look, arrays, wardrobe)
    return Person(seed, look, betas, faces, layout.uv.astype(np.float32), layout.uv_faces, texture, points)


def charts(layers: list[Layer]) -> list[atlas.Chart]:
    out: list[atlas.Chart] = []
    first = 0
    for layer in layers:
        if layer.uv is not None and layer.uv_faces is not None:
            out += atlas.island_charts(layer.uv, layer.uv_faces, first, _skin_density(layer))
        else:
            out += atlas.projected_charts(layer.rest, layer.faces, first, CLOTH_DENSITY[layer.name])
        first += len(layer.faces)
    return out


def _skin_density(layer: Layer) -> np.ndarray:
    """Texels per UV unit, [F]: faces and hands are looked at closely, mouths and arms are not."""
    groups, middle = layer.face_groups(), layer.rest[layer.faces].mean(1)
    out = np.full(len(groups), float(SKIN_DENSITY))
    mouth = layer.masks["mouth"][layer.faces].mean(1) > 0.5
    out[(groups == "body") & (middle[:, 1] > 0.15)] = HEAD_DENSITY
    out[mouth] = TEETH_DENSITY
    out[np.abs(middle[:, 0]) > 0.75] = HAND_DENSITY
    for part, density in (("eye", EYE_DENSITY), ("teeth", TEETH_DENSITY), ("tongue", TEETH_DENSITY), ("lashes", LASH_DENSITY)):
        out[np.char.find(groups, part) >= 0] = density
    return out


def bake(layout: atlas.Atlas, layers: list[Layer], faces: np.ndarray, look: Look, body: BodyArrays, wardrobe: Wardrobe) -> np.ndarray:
    """Paint the texture: every texel from its place in template space."""
    found = atlas.texels(layout)
    corners = faces[found.face]
    mixed = lambda x: np.einsum("nk,nk...->n...", found.barycentric, x[corners])  # noqa: E731
    names = sorted({name for layer in layers for name in layer.masks})
    zero = lambda layer: np.zeros(len(layer.rest))  # noqa: E731
    masks = {n: mixed(np.concatenate([layer.masks.get(n, zero(layer)) for layer in layers])) for n in names}
    groups = np.concatenate([layer.face_groups().astype("U24") for layer in layers])
    position = mixed(np.concatenate([layer.rest for layer in layers]))
    at = anatomy(body, wardrobe)
    spots = Spots(position, groups[found.face], masks, at)
    return atlas.fill(layout, found, paint(spots, look, scalp_value(position, masks["ears"], look, at)))
