"""HuGe100K (IDOL): 24-view turntable videos with SMPL-X and cameras, read as view sets.

Layout: `{flux_batch1..9,deepfashion}/images*/{videos/<name>.mp4, param/<name>.npy}`. The npy is a dict: `smpl_params`
(189) = scale 1, transl 3, global_orient 3, body 63, betas 10, left hand 45, right hand 45, jaw 3, left eye 3, right
eye 3, expression 10 (hands relative to the mean hand), and `poses`, one (4×4 extrinsic, [fx, fy, cx, cy]) a frame.
The videos carry no mask: people stand before a plain backdrop, so alpha is the part that a fill from the border cannot
reach. Whether an extrinsic maps world to camera or back is read off the data: the person must stand in the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from configs.schema import Config
from model.types import Camera, SmplxParams
from pipelines.formats import load_pickle_arrays
from pipelines.formats_huge100k import PARTS
from pipelines.store import InputRejected, safe_name
from pipelines.view_sets import View, azimuth_of, params_from_arrays

BACKDROP_TOLERANCE = 14  # grey levels by which the backdrop may differ from its own colour at the border


def list_samples(config: Config) -> dict[str, tuple[Path, Path]]:
    """Sample id → (video, param file), at most `idol.limit`, in order; ValueError where `idol.root` is no folder."""
    if config.idol.root is None:
        return {}
    root = Path(config.idol.root).expanduser()
    if not root.is_dir():
        raise ValueError(f"idol.root: expected a folder in HuGe100K's layout, got {root} which is not a folder")
    found = {}
    for video in sorted(root.glob("*/images*/videos/*.mp4")):
        param = video.parent.parent / "param" / f"{video.stem}.npy"
        if param.is_file():
            found[safe_name("-".join((*video.relative_to(root).parts[:2], video.stem)))] = (video, param)
        if config.idol.limit is not None and len(found) >= config.idol.limit:
            break
    return found


def read_sample(
    video: Path, param: Path, hands_mean: np.ndarray | None
) -> tuple[list[View], list[np.ndarray], SmplxParams]:
    """Views, RGBA pictures [H, W, 4] uint8 and the body. InputRejected says what is wrong with the files."""
    arrays = load_pickle_arrays(param)
    if not isinstance(arrays, dict) or "smpl_params" not in arrays or "poses" not in arrays:
        raise InputRejected(f"{param}: expected a dict with smpl_params and poses")
    params, scale = _body(arrays["smpl_params"], hands_mean, str(param))
    frames = _frames(video)
    poses = [(_array(e, 16).reshape(4, 4), _array(k, 4)) for e, k in arrays["poses"]]
    if len(poses) != len(frames):
        raise InputRejected(f"{video}: expected {len(poses)} frames as in {param.name}, got {len(frames)}")
    height, width = frames[0].shape[:2]
    w2c = _world_to_camera(torch.from_numpy(np.stack([e for e, _ in poses])), params, scale)
    views = []
    for i, (_, focal) in enumerate(poses):
        fx, fy, cx, cy = focal.tolist()
        intrinsics = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        azimuth = float(azimuth_of(w2c[i], params.global_orient, params.transl))
        views.append(View(f"{i:03d}.webp", "full", azimuth, Camera(w2c[i], intrinsics, torch.tensor([width, height]))))
    return views, [np.concatenate([f, foreground(f)[..., None]], -1) for f in frames], params


def _body(values: Any, hands_mean: np.ndarray | None, source: str) -> tuple[SmplxParams, float]:
    flat = np.asarray(values, np.float32).reshape(-1)
    if len(flat) != sum(n for _, n in PARTS):
        raise InputRejected(f"{source}: expected smpl_params of 189 numbers, got {len(flat)}")
    ends = np.cumsum([n for _, n in PARTS])
    arrays = {name: flat[end - n : end] for (name, n), end in zip(PARTS, ends, strict=True)}
    scale = float(arrays.pop("scale")[0])
    if not scale > 0:
        raise InputRejected(f"{source}: expected a positive scale, got {scale}")
    arrays["transl"] = arrays["transl"] / scale
    return params_from_arrays(arrays, hands_mean, source), scale


def _world_to_camera(extrinsics: torch.Tensor, params: SmplxParams, scale: float) -> torch.Tensor:
    """[V, 4, 4] of a metric world; of the matrix and its inverse, the one with the person in front of every camera."""
    for candidate in (extrinsics, torch.linalg.inv(extrinsics)):
        metric = candidate.clone()
        metric[:, :3, 3] = candidate[:, :3, 3] / scale
        place = metric[:, :3, :3] @ params.transl + metric[:, :3, 3]  # the pelvis lies near transl
        if (place[:, 2] > 0.3).all() and (place[:, :2].abs() < place[:, 2:]).all():
            return metric
    raise InputRejected(
        "the cameras of the param file do not see the person, neither as world-to-camera nor as its inverse"
    )


def _array(value: Any, count: int) -> np.ndarray:
    array = np.asarray(value, np.float32).reshape(-1)
    if len(array) != count or not np.isfinite(array).all():
        raise InputRejected(f"expected {count} finite numbers in a camera, got {len(array)}")
    return array


def _frames(video: Path) -> list[np.ndarray]:
    import av

    try:
        with av.open(str(video)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise InputRejected(f"{video}: not a readable video ({error})") from error
    if not frames:
        raise InputRejected(f"{video}: expected frames, got none")
    return frames


def foreground(image: np.ndarray) -> np.ndarray:
    """Alpha [H, W] uint8 of a person before a plain backdrop: what a fill from the picture's border does not reach."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colour = np.median(border, 0)
    plain = (np.abs(image.astype(np.int16) - colour).max(-1) <= BACKDROP_TOLERANCE) | (image.min(-1) >= 250)
    regions, _ = ndimage.label(plain)
    outside = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    mask = ~np.isin(regions, outside[outside > 0])
    mask = ndimage.binary_opening(mask, iterations=1)
    return np.round(ndimage.uniform_filter(mask.astype(np.float32), 3) * 255).astype(np.uint8)
