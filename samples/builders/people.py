"""Dressed people, each made from a seed: `make_person(seed)` gives surfaces, one baked texture, and posing.

The talks and the scans show the same kind of person; talks use seeds 100–105, scans 0–7. Units: metres, radians.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import roma
import torch
from scipy import sparse
from torch import Tensor

from model.body import Body, SurfacePoints
from model.types import SmplxParams
from samples.builders import atlas
from samples.builders.anatomy import BodyArrays, anatomy
from samples.builders.dress import dressed_layers, source_layers
from samples.builders.layers import Layer
from samples.builders.looks import Look, random_look
from samples.builders.paint import Spots, beard_color, flesh, hair_color
from samples.builders.trimmings import garment
from samples.builders.wardrobe import Wardrobe, load_wardrobe

FOLDER = Path(__file__).parent.parent / "body"
TEXTURE_SIZE = 1024
CHUNK = 24  # frames posed at once
SPREAD = 0.95  # standard deviation of a person's betas about the average woman or man

# texels per UV unit of the skin's islands, by MakeHuman group or by place; per metre for clothes and hair
EYE_DENSITY, TEETH_DENSITY, LASH_DENSITY, SKIN_DENSITY, HEAD_DENSITY, HAND_DENSITY = 3200, 700, 500, 380, 1400, 800
CLOTH_DENSITY = {
    "top": 430, "over": 430, "collar": 600, "lower": 250, "feet": 380, "hair": 560, "beard": 500, "glasses": 300, "scarf": 350,
    "hood": 350, "tie": 480,
}  # fmt: skip

# what `Person.part_ids` says of each triangle
PARTS = (
    "skin", "eyes", "lashes", "teeth", "tongue", "hair", "beard", "glasses", "top", "collar", "hood", "tie", "over", "lower", "feet",
    "scarf",
)  # fmt: skip


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
    anchors: Tensor  # [P, V] sparse: the skin whose pose directions the points take
    part_ids: np.ndarray  # [F] uint8 into PARTS

    def vertices(self, params: SmplxParams, body: Body | None = None) -> np.ndarray:
        """Posed surfaces [T, P, 3] float32 for parameters [T] (their betas count; `posing` fills in this person's).

        `body` is the one the person was dressed on; none: the embedded one.
        """
        frames = len(params.transl)
        out = np.empty((frames, len(self.points.rest), 3), np.float32)
        with torch.no_grad():
            for start in range(0, frames, CHUNK):
                part = slice(start, min(start + CHUNK, frames))
                out[part] = self._posed(params[part], body or embedded_body()).numpy()
        return out

    def _posed(self, params: SmplxParams, body: Body) -> Tensor:  # [B] → [B, P, 3]
        rotations, coefficients = roma.rotvec_to_rotmat(params.full_pose), params.shape_coefficients
        rest = body.shaped(self.points, rotations, coefficients)
        skin = body.shaped(body.all_vertices(), rotations, torch.zeros_like(coefficients)) - body.template  # [B, V, 3]
        if skin.any():
            moved = self.anchors @ skin.permute(1, 2, 0).flatten(1)
            rest = rest + moved.reshape(len(self.points.rest), 3, -1).permute(2, 0, 1)
        _, transforms = body.kinematics(rotations, coefficients, params.transl)
        return body.skin(rest, self.points.weights, transforms)[0]

    def posing(self, **fields: Tensor) -> SmplxParams:
        """Parameters [T] with this person's betas; fields that are left out are zero."""
        frames = len(next(iter(fields.values()))) if fields else 1
        base = SmplxParams.zeros(frames)
        values = {name: getattr(base, name) for name in base.__dataclass_fields__}
        return SmplxParams(**{**values, "betas": self.betas.expand(frames, -1), **fields})


@cache
def embedded_body() -> Body:
    return Body.load(FOLDER / "SMPLX_NEUTRAL.npz")


@cache
def embedded_wardrobe() -> Wardrobe:
    return load_wardrobe(FOLDER / "wardrobe.npz")


def make_person(seed: int, texture_size: int = TEXTURE_SIZE) -> Person:
    """The person of a seed, always the same; about two seconds at 1024 texels, one at 512."""
    wardrobe = embedded_wardrobe()
    return dress(seed, random_look(seed), random_betas(seed, wardrobe), embedded_body(), wardrobe, texture_size)


def random_betas(seed: int, wardrobe: Wardrobe) -> Tensor:
    """An average woman or man, and chance."""
    average = wardrobe.betas["woman" if seed % 2 else "man"]
    chance = np.random.default_rng([seed, 23]).normal(0, SPREAD, len(average))
    return torch.from_numpy(np.clip(0.85 * average + chance, -2.5, 2.5)).float()


def dress(seed: int, look: Look, betas: Tensor, body: Body, wardrobe: Wardrobe, texture_size: int) -> Person:
    arrays, skin, tights = _sources(body, wardrobe)
    layers = dressed_layers(skin, tights, arrays, wardrobe, look)
    starts = np.cumsum([0, *(len(layer.rest) for layer in layers)])
    faces = np.concatenate([layer.faces + start for layer, start in zip(layers, starts, strict=False)])
    join = lambda name: torch.from_numpy(np.concatenate([getattr(layer, name) for layer in layers])).float()  # noqa: E731
    weights = join("weights")
    points = SurfacePoints(join("rest"), join("dirs"), torch.zeros(0, 0), weights / weights.sum(1, keepdim=True))
    layout = atlas.pack(charts(layers), len(faces), texture_size)
    texture = bake(layout, layers, look, arrays, wardrobe)
    uv = layout.uv.astype(np.float32)
    return Person(seed, look, betas, faces, uv, layout.uv_faces, texture, points, _sparse(layers), part_ids(layers))


def part_ids(layers: list[Layer]) -> np.ndarray:
    """What each triangle belongs to, [F] uint8 into PARTS."""
    out = []
    for layer in layers:
        if layer.name != "skin":
            out.append(np.full(len(layer.faces), PARTS.index(layer.name), np.uint8))
            continue
        groups, index = np.unique(layer.face_groups(), return_inverse=True)
        kinds = {"lashes": "lashes", "eye": "eyes", "teeth": "teeth", "tongue": "tongue"}  # the first that the group's name holds
        found = [next((part for key, part in kinds.items() if key in group), "skin") for group in groups]
        out.append(np.array([PARTS.index(part) for part in found], np.uint8)[index])
    return np.concatenate(out)


_SOURCES: list[tuple[Body, Wardrobe, tuple[BodyArrays, Layer, Layer]]] = []  # of the last body dressed


def _sources(body: Body, wardrobe: Wardrobe) -> tuple[BodyArrays, Layer, Layer]:
    """What is the same for all people of one body, kept from one to the next."""
    if not _SOURCES or _SOURCES[0][0] is not body or _SOURCES[0][1] is not wardrobe:
        arrays = BodyArrays(
            body.template.numpy(), body.shape_dirs.numpy(), body.skin_weights.numpy(), body.faces, body.joint_template.numpy()
        )
        _SOURCES[:] = [(body, wardrobe, (arrays, *source_layers(arrays, wardrobe)))]
    return _SOURCES[0][2]


def _sparse(layers: list[Layer]) -> Tensor:
    joined = sparse.vstack([layer.anchors for layer in layers], "csr").astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse tensors a beta
        index, column = torch.from_numpy(joined.indptr.astype(np.int64)), torch.from_numpy(joined.indices.astype(np.int64))
        return torch.sparse_csr_tensor(index, column, torch.from_numpy(joined.data), joined.shape)


def charts(layers: list[Layer]) -> list[atlas.Chart]:
    out: list[atlas.Chart] = []
    first = 0
    for layer in layers:
        if layer.uv is not None and layer.uv_faces is not None:
            out += atlas.island_charts(layer.uv, layer.uv_faces, first, _skin_density(layer))
        else:
            out += atlas.projected_charts(
                layer.rest, layer.faces, first, CLOTH_DENSITY[layer.name], layer.name in ("hair", "beard", "feet")
            )
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


def bake(layout: atlas.Atlas, layers: list[Layer], look: Look, body: BodyArrays, wardrobe: Wardrobe) -> np.ndarray:
    """Paint the texture: every texel from its place in template space."""
    found, at = atlas.texels(layout), anatomy(body, wardrobe)
    owner = np.repeat(np.arange(len(layers)), [len(layer.faces) for layer in layers])[found.face]
    starts = np.cumsum([0, *(len(layer.faces) for layer in layers)])
    colors = np.zeros((len(found.face), 3))
    for k, layer in enumerate(layers):
        mine = np.flatnonzero(owner == k)
        face = found.face[mine] - starts[k]
        corners, shares = layer.faces[face], found.barycentric[mine]
        mixed = lambda x, c=corners, b=shares: sum(b[:, i, None] * x.reshape(len(x), -1)[c[:, i]] for i in range(3))  # noqa: E731
        position = mixed(layer.rest)
        masks = {name: mixed(values)[:, 0] for name, values in layer.masks.items()}
        colors[mine] = _paint(layer, Spots(position, layer.face_groups()[face], masks, at), look)
    return atlas.fill(layout, found, np.clip(colors, 0, 1))


def _paint(layer: Layer, spots: Spots, look: Look) -> np.ndarray:
    if layer.name == "skin":
        return flesh(spots, look)
    if layer.name == "hair":
        return hair_color(spots.position, look, spots.anatomy)
    if layer.name == "beard":
        return beard_color(spots.position, look)
    if layer.name == "glasses":
        assert look.glasses is not None
        return np.tile(np.array(look.glasses.color), (len(spots.position), 1))
    return garment(layer.name, spots, look)
