"""Contact sheets for a person to judge: many people from the front with their faces, and every garment and hair style by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
import torch

from model.body import JOINT_NAMES
from model.mesh_raster import render_mesh
from model.types import Camera, SmplxParams
from samples.builders.face_points import camera_at
from samples.builders.garments import FOOTWEAR, LOWERS, OVERS, UPPERS
from samples.builders.glasses import FRAMES
from samples.builders.hairstyles import BEARD_STYLES, HAIR_STYLES
from samples.builders.looks import Glasses, Look, Worn, fabric_of, random_look
from samples.builders.people import Person, dress, embedded_body, embedded_wardrobe, random_betas
from samples.builders.visemes import EXPRESSIONS

BACKGROUND = (0.82, 0.84, 0.87)


def relaxed(person: Person) -> SmplxParams:
    """Arms hanging a little apart from the body, [1]."""
    pose = torch.zeros(1, 21, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[0, JOINT_NAMES.index(f"{side}_shoulder") - 1, 2] = -sign * 1.05
        pose[0, JOINT_NAMES.index(f"{side}_elbow") - 1, 1] = -sign * 0.3
    return person.posing(body_pose=pose)


def portrait(person: Person, vertices: np.ndarray, width: int, height: int, part: str = "whole") -> np.ndarray:
    """A picture [height, width, 3] uint8: 'whole', 'upper', 'lower', 'head' or 'back' (of the head)."""
    middle = (vertices.max(0) + vertices.min(0)) / 2
    top = float(vertices[person.points.weights[:, JOINT_NAMES.index("head")].numpy() > 0.9][:, 1].max())
    target, tall = {
        "whole": (middle, 1.98),
        "upper": (np.array([middle[0], top - 0.42, middle[2]]), 1.0),
        "lower": (np.array([middle[0], vertices[:, 1].min() + 0.55, middle[2]]), 1.2),
        "head": (np.array([middle[0], top - 0.16, middle[2]]), 0.44),
        "mouth": (np.array([middle[0], top - 0.19, middle[2]]), 0.16),
        "back": (np.array([middle[0], top - 0.24, middle[2]]), 0.60),
    }[part]
    eye = target + np.array({"head": (0.5, 0.05, 2.5), "back": (1.5, 0.2, -2.3)}.get(part, (0.45, 0.1, 5.0)))
    distance = float(np.linalg.norm(eye - target))
    camera = camera_at(eye, target, height, distance / tall * height)
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, 2] = width / 2
    camera = Camera(camera.w2c, intrinsics, torch.tensor([width, height]))
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces, "background": BACKGROUND}
    return (np.clip(render_mesh(vertices, person.faces, camera, **look).rgb, 0, 1) * 255).astype(np.uint8)


def person_cell(person: Person, size: int = 300) -> np.ndarray:
    """Whole figure and face, [size, size, 3]."""
    vertices = person.vertices(relaxed(person))[0]
    half = size // 2
    face = portrait(person, vertices, half, half, "head")
    upper = portrait(person, vertices, half, size - half, "upper")
    return np.concatenate([portrait(person, vertices, half, size), np.concatenate([face, upper])], 1)


def open_mouth(person: Person, size: int = 300) -> np.ndarray:
    """The face with its jaw shut, half open and open, then with lips apart, rounded and stretched, [size, 6·size, 3]."""
    jaw = torch.zeros(6, 3)
    jaw[:, 0] = torch.tensor([0.0, 0.15, 0.3, 0.12, 0.15, 0.1])
    expression = torch.zeros(6, 10)
    for row, name in enumerate(("lips_open", "funnel", "stretch"), 3):
        expression[row, EXPRESSIONS.index(name)] = 1.6
    posed = person.vertices(person.posing(jaw_pose=jaw, expression=expression))
    return np.concatenate([portrait(person, vertices, size, size, "mouth") for vertices in posed], 1)


def tiled(cells: Iterable[np.ndarray], columns: int) -> np.ndarray:
    """Cells of one size in rows, padded with the background."""
    pictures = list(cells)
    empty = np.full_like(pictures[0], (np.array(BACKGROUND) * 255).astype(np.uint8))
    pictures += [empty] * (-len(pictures) % columns)
    return np.concatenate([np.concatenate(pictures[k : k + columns], 1) for k in range(0, len(pictures), columns)])


def style_sheet(columns: int = 12, width: int = 150) -> np.ndarray:
    """Every garment, hair style, beard and frame once, named."""
    return tiled((_styled(name, look, part, width) for name, look, part in catalogue()), columns)


def catalogue() -> list[tuple[str, Look, str]]:
    """(name, a look that shows it, what to frame) of every row of the tables."""
    rng = np.random.default_rng(5)
    base = {True: _plain(1), False: _plain(2)}
    out: list[tuple[str, Look, str]] = []
    for n, (name, row) in enumerate(UPPERS.items()):
        look = base[row.worn_by[0] == 0 or n % 2 == 0]
        sleeve = row.sleeves[0]
        top = Worn(name, fabric_of(rng, row.weaves, row.patterns), np.mean(row.hem), np.mean(row.loose), row.flare, np.mean(sleeve))  # type: ignore[arg-type]
        below = replace(look.lower, kind="dress", fabric=top.fabric, hem=-0.66, wide=0.06) if name == "dress" and look.lower else None
        look = replace(look, top=top, neckline=row.necklines[0], skirt=below, lower=None if below else look.lower)
        out.append((name, look, "whole" if below else "upper"))
    for n, (name, row) in enumerate(OVERS.items()):
        worn = Worn(
            name, fabric_of(rng, row.weaves, row.patterns), np.mean(row.hem), np.mean(row.loose), row.flare, np.mean(row.sleeves[0])
        )  # type: ignore[arg-type]
        out.append((name, replace(base[n % 2 == 0], jacket=worn), "upper"))
    for name, low in LOWERS.items():
        worn = Worn(name, fabric_of(rng, low.weaves, low.patterns), np.mean(low.hem), np.mean(low.loose), np.mean(low.wide))  # type: ignore[arg-type]
        look = base[low.worn_by[0] == 0]
        out.append((name, replace(look, lower=None if low.skirt else worn, skirt=worn if low.skirt else None), "lower"))
    for name, shoe in FOOTWEAR.items():
        look = base[shoe.worn_by[0] == 0]
        short = replace(look.lower, kind="shorts", hem=-0.65, wide=0.015) if look.lower else None
        out.append(
            (name, replace(look, lower=short, feet=Worn(name, fabric_of(rng, ("leather",), ("plain",)), shoe.top, shoe.loose)), "lower")
        )
    man = base[False]
    shirt = replace(man, neckline="collar", top=replace(man.top, kind="shirt", sleeve=0.63))
    out.append(("tie", replace(shirt, tie=fabric_of(rng, ("satin",), ("stripes",))), "upper"))
    out.append(("scarf", replace(man, scarf=fabric_of(rng, ("knit",), ("plaid",))), "upper"))
    hairs = [((0.42, 0.27, 0.15), (0.09, 0.07, 0.06), (0.62, 0.45, 0.25))[k % 3] for k in range(len(HAIR_STYLES))]
    for (name, style), color in zip(HAIR_STYLES.items(), hairs, strict=True):
        look = replace(base[style.worn_by[1] > style.worn_by[0]], hair_style=name, hair=color)
        out.append((name, look, "head" if style.tail == "none" else "back"))
    for name, beard in BEARD_STYLES.items():
        out.append((name, replace(man, beard_style=name, beard=0.0 if name == "none" else float(np.mean(beard.dense))), "head"))
    for name in FRAMES:
        out.append((f"{name} frames", replace(base[True], glasses=Glasses(name, (0.08, 0.07, 0.09)), hair_style="bun"), "head"))
    return out


def _plain(seed: int) -> Look:
    look = random_look(seed)
    kinds = Worn("t_shirt", fabric_of(np.random.default_rng(2), ("plain",), ("plain",)), -0.38, 0.006, 0.006, 0.31)
    legs = Worn("trousers", replace(kinds.fabric, main=(0.25, 0.26, 0.30)), -1.17, 0.004, 0.008)
    shoes = Worn("shoes", replace(kinds.fabric, main=(0.15, 0.12, 0.10)), FOOTWEAR["shoes"].top, 0.006)
    return replace(
        look, age=0.2, skin=(0.78, 0.58, 0.46), hair=(0.25, 0.16, 0.10), hair_style="bun" if look.woman else "short", hair_volume=1.0,
        beard_style="none", beard=0.0, freckles=0.0, shadow=None, top=kinds, neckline="crew", jacket=None, lower=legs, skirt=None,
        feet=shoes, scarf=None, tie=None, glasses=None,
    )  # fmt: skip


def _styled(name: str, look: Look, part: str, width: int) -> np.ndarray:
    seed, wardrobe = int(look.woman), embedded_wardrobe()
    person = dress(seed, look, random_betas(seed, wardrobe) * 0.6, embedded_body(), wardrobe, 512)
    picture = portrait(person, person.vertices(relaxed(person))[0], width, width * 5 // 4, part).copy()
    cv2.putText(picture, name, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (30, 30, 30), 1, cv2.LINE_AA)
    return picture
