"""HuGe100K parameters: one body a file, an npy dict of `smpl_params` (189 numbers) and `poses`, one camera a view.

Fingers are relative to the mean hand; `scale` is 1 in what we write.
The dict is a pickle by its format: it is read by the restricted unpickler, which admits nothing but arrays.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from model.types import Camera
from pipelines.formats_hands import Context
from pipelines.formats_pickle import load_pickle_arrays
from pipelines.formats_take import Take, default_camera, dropped_coefficients, fitted, make_camera
from pipelines.store import InputRejected, writing

PARTS = (
    ("scale", 1), ("transl", 3), ("global_orient", 3), ("body_pose", 63), ("betas", 10), ("left_hand_pose", 45),
    ("right_hand_pose", 45), ("jaw_pose", 3), ("leye_pose", 3), ("reye_pose", 3), ("expression", 10),
)  # fmt: skip
POSE = ("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose")


def read(path: Path, context: Context) -> Take:
    """One frame, with the first view's camera."""
    value = load_pickle_arrays(path)
    if not isinstance(value, dict) or "smpl_params" not in value:
        raise InputRejected(f"{path}: expected a dict with smpl_params (189 numbers) and poses")
    flat = np.asarray(value["smpl_params"], np.float64).reshape(-1)
    if len(flat) != 189:
        raise InputRejected(f"{path}: expected smpl_params of 189 numbers, got {len(flat)}")
    parts = dict(zip((n for n, _ in PARTS), np.split(flat, np.cumsum([n for _, n in PARTS])[:-1]), strict=True))
    scale = float(parts["scale"][0])
    if not scale > 0:
        raise InputRejected(f"{path}: expected a positive scale, got {scale}")
    pose = context.hands.from_mean(torch.from_numpy(np.concatenate([parts[n] for n in POSE])).reshape(1, 55, 3))
    camera = context.camera
    if camera is None and len(value.get("poses", ())):
        extrinsic, (fx, fy, cx, cy) = np.asarray(value["poses"][0][0], np.float32).reshape(4, 4).copy(), value["poses"][0][1]
        extrinsic[:3, 3] /= scale
        size = torch.tensor([round(2 * float(cx)), round(2 * float(cy))])
        focal, principal = torch.tensor([float(fx), float(fy)]), torch.tensor([float(cx), float(cy)])
        camera = make_camera(torch.from_numpy(extrinsic), focal, principal, size)
    f = lambda n: torch.from_numpy(parts[n])  # noqa: E731
    return Take(pose, f("transl")[None] / scale, f("expression")[None], f("betas"), context.rate or Fraction(1), camera)


def write(path: Path, take: Take, context: Context, frame: int = 0, cameras: list[Camera] | None = None) -> list[str]:
    """One frame of the take, seen by `cameras` (default: its own); returns what the file cannot hold."""
    said = dropped_coefficients(take, 10, 10) + ["confidence"] * (take.confidence is not None)
    said += [f"frames: all {take.frames} but number {frame}, and their rate"] * (take.frames > 1)
    views = cameras or [context.camera or take.camera or default_camera()]
    relative = dict(zip(POSE, context.hands.to_mean(take.pose)[frame].split([1, 21, 1, 1, 1, 15, 15]), strict=True))
    values = {"scale": torch.ones(1), "transl": take.transl[frame], "betas": fitted(take.betas, 10)}
    values |= {"expression": fitted(take.expression[frame], 10), **relative}
    flat = np.concatenate([values[n].reshape(-1).numpy() for n, _ in PARTS]).astype(np.float32)
    poses = [(c.w2c.numpy(), np.array([c.intrinsics[i].item() for i in ((0, 0), (1, 1), (0, 2), (1, 2))], np.float32)) for c in views]
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array({"smpl_params": flat, "poses": poses}, dtype=object), allow_pickle=True)
    return said
