"""Pictures of one still person from several cameras: the form that scans and HuGe100K samples share.

A view set is `render/%03d.<png|webp>` (RGBA, straight alpha), `cameras.json` and `smplx.npz` (the SMPL-X body in the
world of the cameras, or that of each picture; metres, hands relative to the flat hand); scans add `points.npz`, points
of their surface.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import roma
import torch
from torch import Tensor

from model.types import SMPLX_SHAPES, Camera, SmplxParams
from pipelines.store import InputRejected

# names under which files in the wild keep a parameter
ALIASES = {"translation": "transl", "left_eye_pose": "leye_pose", "right_eye_pose": "reye_pose"}


@dataclass(frozen=True)
class View:
    """One picture of a view set."""

    file: str
    kind: Literal["full", "half"]
    azimuth: float  # degrees round the person, 0 in front, positive towards the person's left
    camera: Camera  # no leading axes


def params_from_arrays(arrays: Any, hands_mean: np.ndarray | None, source: str) -> SmplxParams:
    """SMPL-X parameters without leading axes from a dict of arrays [1, n] or [n], axis-angle.

    `hands_mean` [90] (left, right) is added to the hands: fits made with `flat_hand_mean=False` are relative to it.
    InputRejected names `source` and what is missing. Parts that files may lack (face, eyes, hands) are zero.
    """
    if not isinstance(arrays, dict):
        raise InputRejected(f"{source}: expected a dict of SMPL-X arrays, got {type(arrays).__name__}")
    given = {ALIASES.get(k, k): v for k, v in arrays.items()}
    missing = [k for k in ("global_orient", "body_pose", "betas", "transl") if k not in given]
    if missing:
        raise InputRejected(f"{source}: SMPL-X parameters lack {missing}")
    fields = {}
    for name, shape in SMPLX_SHAPES.items():
        count = math.prod(shape)
        value = torch.as_tensor(np.asarray(given.get(name, np.zeros(count)), np.float32)).reshape(-1)
        if name in ("betas", "expression") and len(value) > count:
            value = value[:count]
        if len(value) != count or not torch.isfinite(value).all():
            raise InputRejected(f"{source}: expected {name} of {count} finite numbers, got {len(value)}")
        fields[name] = value.reshape(shape).clone()
    if hands_mean is not None:
        for i, name in enumerate(("left_hand_pose", "right_hand_pose")):
            fields[name] += torch.from_numpy(hands_mean[45 * i : 45 * i + 45].astype(np.float32)).reshape(15, 3)
    return SmplxParams(**fields)


def hands_mean_of(body_file: Path) -> np.ndarray | None:
    """Mean hand poses [90] (left, right; axis-angle) of a body file; none where it has none."""
    with np.load(body_file, allow_pickle=False) as npz:
        if "hands_meanl" not in npz.files or "hands_meanr" not in npz.files:
            return None
        return np.concatenate([npz["hands_meanl"].reshape(-1), npz["hands_meanr"].reshape(-1)])


def azimuth_of(
    w2c: Tensor,  # [..., 4, 4]
    global_orient: Tensor,  # [3]
    pelvis: Tensor,  # [3] world, metres
) -> Tensor:  # [...] degrees
    """Where a camera stands round the person: 0 in front, 90 at the person's left hand."""
    centre = -(w2c[..., :3, :3].mT @ w2c[..., :3, 3:])[..., 0]
    towards = (centre - pelvis) @ roma.rotvec_to_rotmat(global_orient)  # in the pelvis' axes: x left, y up, z front
    return torch.rad2deg(torch.atan2(towards[..., 0], towards[..., 2]))


def _short(matrix: Tensor) -> list[list[float]]:
    """Rows with the decimals that float32 holds."""
    return [[round(x, 8) for x in row] for row in matrix.tolist()]


def cameras_json(views: list[View]) -> dict[str, Any]:
    """What `cameras.json` holds."""
    rows = [
        {
            "file": view.file,
            "kind": view.kind,
            "azimuth": round(view.azimuth, 3),
            "size": view.camera.size.tolist(),
            "w2c": _short(view.camera.w2c),
            "intrinsics": _short(view.camera.intrinsics),
        }
        for view in views
    ]
    return {"convention": "OpenCV, w2c, pixel centres at +0.5", "views": rows}


def params_npz(params: SmplxParams) -> bytes:
    """An npz of the parameters without leading axes."""
    stream = io.BytesIO()
    np.savez(stream, **{name: getattr(params, name).float().numpy() for name in SMPLX_SHAPES})  # type: ignore[arg-type]
    return stream.getvalue()


def parse_cameras(text: bytes | str) -> list[View]:
    """Read `cameras.json`."""
    views = []
    for row in json.loads(text)["views"]:
        camera = Camera(torch.tensor(row["w2c"]), torch.tensor(row["intrinsics"]), torch.tensor(row["size"]))
        views.append(View(row["file"], row["kind"], row["azimuth"], camera))
    return views


def parse_params(data: bytes) -> SmplxParams:
    """Read `smplx.npz`: parameters without leading axes, or of each picture [F]."""
    with np.load(io.BytesIO(data), allow_pickle=False) as npz:
        return SmplxParams(**{name: torch.from_numpy(npz[name]).float() for name in SMPLX_SHAPES})
