"""`python -m samples.build_people`: samples/people.zip, eight dressed people in THuman2.1's layout.

`<subject>/<subject>.obj` (metres, standing on y = 0) with `material0.mtl` and `material0.jpeg`, and
`smplx/<subject>/smplx_param.pkl`, a dict of arrays [1, n]; hands are relative to the body file's mean hands, as in
THuman2.1. `--sheet FILE` also draws them. The same bytes each time; about a minute.

With `--count N` the archive is left alone: `--sheet FILE` is a contact sheet of the people of seeds 0 .. N-1, and
`<FILE>-styles.png` beside it shows every garment, hair style, beard and frame by name (about a second a person).
"""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from model.body import JOINT_NAMES
from model.mesh_raster import render_mesh
from model.types import SMPLX_SHAPES, SmplxParams
from samples.builders.face_points import camera_at
from samples.builders.people import FOLDER, Person, make_person
from samples.builders.sheets import person_cell, style_sheet, tiled
from samples.ids import SUBJECTS

ARCHIVE = Path(__file__).parent / "people.zip"
JPEG_QUALITY = 82
MATERIAL = "newmtl material0\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd material0.jpeg\n"


def standing(person: Person) -> SmplxParams:
    """A relaxed stance [1], arms hanging apart from the body, a little different for each seed; feet on the ground."""
    rng = np.random.default_rng([person.seed, 31])
    pose = torch.zeros(len(JOINT_NAMES), 3)

    def turn(joint: str, *rotation: float) -> None:
        pose[JOINT_NAMES.index(joint)] = torch.tensor(rotation)

    near = lambda middle, spread: float(rng.uniform(middle - spread, middle + spread))  # noqa: E731
    turn("spine1", near(0, 0.04), near(0, 0.06), near(0, 0.03))
    turn("spine3", near(0.02, 0.04), near(0, 0.06), near(0, 0.03))
    turn("neck", near(0, 0.06), near(0, 0.1), near(0, 0.05))
    turn("head", near(0, 0.06), near(0, 0.15), near(0, 0.05))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        turn(f"{side}_collar", 0, 0, -sign * near(0.04, 0.04))
        turn(f"{side}_shoulder", near(0, 0.12), -sign * near(0.1, 0.15), -sign * near(0.98, 0.12))
        turn(f"{side}_elbow", 0, -sign * near(0.35, 0.2), 0)
        turn(f"{side}_wrist", near(0, 0.1), 0, near(0, 0.1))
        turn(f"{side}_hip", near(-0.03, 0.05), sign * near(0.08, 0.08), sign * near(0.02, 0.03))
        turn(f"{side}_knee", near(0.06, 0.04), 0, 0)
        for finger in ("index", "middle", "ring", "pinky"):
            for k in (1, 2, 3):
                turn(f"{side}_{finger}{k}", 0, 0, -sign * near(0.3, 0.12))
    parts = SmplxParams.from_pose(pose[None], person.betas[None], torch.zeros(1, 10), torch.zeros(1, 3))
    fields = {name: getattr(parts, name) for name in SMPLX_SHAPES}
    fields["global_orient"] = torch.tensor([[0.0, near(0, 0.3), 0.0]])
    fields["expression"][:, 0] = near(0.3, 0.3)  # smile
    fields["expression"][:, 6] = near(0.2, 0.2)  # raised brows
    ground = float(person.vertices(SmplxParams(**fields))[0, :, 1].min())
    fields["transl"] = torch.tensor([[near(0, 0.1), -ground, near(0, 0.1)]])
    return SmplxParams(**fields)


def obj_text(person: Person, vertices: np.ndarray) -> str:
    """OBJ with 0.1 mm vertices; faces 'vertex/texture'."""
    lines = ["mtllib material0.mtl", "usemtl material0"]
    lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices]
    lines += [f"vt {u:.4f} {v:.4f}" for u, v in person.uv]
    corners = np.stack([person.faces, person.uv_faces], -1).reshape(-1, 6) + 1
    lines += ["f {}/{} {}/{} {}/{}".format(*row) for row in corners.tolist()]
    return "\n".join(lines) + "\n"


def fit_pickle(params: SmplxParams) -> bytes:
    """smplx_param.pkl as THuman2.1 has it: plain arrays [1, n], hands relative to the mean."""
    arrays = {name: getattr(params, name).reshape(1, -1).numpy() for name in SMPLX_SHAPES}
    with np.load(FOLDER / "SMPLX_NEUTRAL.npz", allow_pickle=False) as npz:
        for name in ("left", "right"):
            arrays[f"{name}_hand_pose"] = arrays[f"{name}_hand_pose"] - npz[f"hands_mean{name[0]}"].astype(np.float32)
    return pickle.dumps({**arrays, "scale": np.ones(1, np.float32)}, protocol=4)


def jpeg(texture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(texture).save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return stream.getvalue()


def view(person: Person, vertices: np.ndarray, size: int = 320) -> np.ndarray:
    """A picture [size, 3·size, 3] uint8 for a person to judge: front, back, face."""
    middle = (vertices.max(0) + vertices.min(0)) / 2
    face = np.array([middle[0], vertices[:, 1].max() - 0.13, middle[2]])
    spots = [(middle + [0, 0.1, 4.2], middle, 2.0), (middle + [-2.4, 0.1, -3.4], middle, 2.0), (face + [0.25, 0, 1.3], face, 3.2)]
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces, "background": (0.82, 0.84, 0.87)}
    cameras = [camera_at(eye, target, size, focal * size) for eye, target, focal in spots]
    pictures = [render_mesh(vertices, person.faces, camera, **look).rgb for camera in cameras]
    return (np.concatenate(pictures, 1) * 255).astype(np.uint8)


def contact_sheets(sheet: Path, count: int, columns: int = 10) -> None:
    """Draw `count` people, and beside them the styles."""
    people = track(range(count), description="people")
    Image.fromarray(tiled((person_cell(make_person(seed, texture_size=512)) for seed in people), columns)).save(sheet)
    styles = sheet.with_name(f"{sheet.stem}-styles.png")
    Image.fromarray(style_sheet()).save(styles)
    print(f"{sheet}: {count} people; {styles}: garments and styles")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet here (PNG)")
    parser.add_argument("--count", type=int, help="only draw so many people on the sheet, and leave the archive alone")
    arguments = parser.parse_args()
    sheet = arguments.sheet
    if arguments.count is not None:
        if sheet is None or arguments.count < 1:
            parser.error(
                f"--count draws a contact sheet of at least one person: got --count {arguments.count} --sheet {sheet}; add --sheet FILE.png"
            )
        contact_sheets(sheet, arguments.count)
        return
    pictures = []
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:

        def add(name: str, content: str | bytes) -> None:
            entry = zipfile.ZipInfo(name)  # dated 1980, so that equal content gives equal bytes
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content, compresslevel=9)

        for seed, subject in track(list(enumerate(SUBJECTS)), description="people"):
            person = make_person(seed)
            params = standing(person)
            vertices = person.vertices(params)[0]
            add(f"{subject}/{subject}.obj", obj_text(person, vertices))
            add(f"{subject}/material0.mtl", MATERIAL)
            add(f"{subject}/material0.jpeg", jpeg(person.texture))
            add(f"smplx/{subject}/smplx_param.pkl", fit_pickle(params))
            if sheet:
                pictures.append(view(person, vertices))
    print(f"{ARCHIVE.name}: {ARCHIVE.stat().st_size / 1e6:.2f} MB, {len(SUBJECTS)} people")
    if sheet:
        rows = [np.concatenate(pictures[k : k + 2], 1) for k in range(0, len(pictures), 2)]
        Image.fromarray(np.concatenate(rows)).save(sheet)


if __name__ == "__main__":
    main()
