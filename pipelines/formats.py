"""Files of SMPL-X motion: the project's fit file, EMAGE's npz, LHM's JSON; and pickles read without trust.

Keys and shapes of the neighbours' formats: EMAGE/BEAT2 npz holds `poses (T,165)` in smplx's joint order, 300 betas,
100 expressions, 30 frames/s; LHM reads one JSON a frame with the camera at the origin (c2w = identity).
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from torch import Tensor

from model.body import Body
from model.types import SMPLX_SHAPES, Camera, SmplxParams
from pipelines.store import InputRejected, writing

EMAGE_RATE = Fraction(30)
LHM_KEYS = {
    "root_pose": "global_orient", "body_pose": "body_pose", "jaw_pose": "jaw_pose", "leye_pose": "leye_pose",
    "reye_pose": "reye_pose", "lhand_pose": "left_hand_pose", "rhand_pose": "right_hand_pose", "trans": "transl",
    "betas": "betas", "expr": "expression",
}  # fmt: skip


@dataclass(frozen=True)
class FitFile:
    """A clip's bodies: y-up world, one fixed camera, one shape."""

    params: SmplxParams  # [T]
    camera: Camera  # no leading axes
    confidence: Tensor  # [T] 0..1
    fps: Fraction


def save_fit(path: Path, params: SmplxParams, camera: Camera, confidence: Tensor, fps: Fraction) -> None:
    """Write the fit file; `params` [T] must share their betas."""
    if not torch.allclose(params.betas, params.betas[:1].expand_as(params.betas)):
        raise ValueError("a fit file holds one shape per clip, got betas that change over time")
    arrays = {name: getattr(params, name).float().cpu().numpy() for name in SMPLX_SHAPES}
    arrays["betas"] = arrays["betas"][0]
    focal = torch.stack([camera.intrinsics[0, 0], camera.intrinsics[1, 1]])
    arrays |= {
        "focal": focal.numpy(), "principal": camera.intrinsics[:2, 2].numpy(), "image_size": camera.size.numpy(),
        "w2c": camera.w2c.numpy(), "confidence": confidence.float().numpy(), "fps": np.array([fps.numerator, fps.denominator]),
    }  # fmt: skip
    with writing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_fit(path: Path | io.BytesIO) -> FitFile:
    """Read a fit file. InputRejected names what is missing or of a wrong shape."""
    with np.load(path, allow_pickle=False) as npz:
        missing = [k for k in (*SMPLX_SHAPES, "focal", "principal", "image_size", "w2c", "fps") if k not in npz.files]
        if missing:
            raise InputRejected(f"{path}: not a fit file, it lacks {missing}")
        arrays = {k: torch.from_numpy(npz[k]) for k in npz.files if npz[k].dtype.kind in "fiu"}
    frames = len(arrays["global_orient"])
    fields = {k: arrays[k].float() for k in SMPLX_SHAPES if k != "betas"}
    params = SmplxParams(betas=arrays["betas"].float().expand(frames, 10), **fields)
    camera = make_camera(arrays["w2c"].float(), arrays["focal"].float(), arrays["principal"].float(), arrays["image_size"].long())
    confidence = arrays.get("confidence", torch.ones(frames)).float()
    numerator, denominator = arrays["fps"].tolist()
    return FitFile(params, camera, confidence, Fraction(int(numerator), int(denominator)))


def make_camera(w2c: Tensor, focal: Tensor, principal: Tensor, size: Tensor) -> Camera:
    """[4,4], [2], [2], [2] (w, h) → one camera."""
    intrinsics = torch.eye(3)
    intrinsics[0, 0], intrinsics[1, 1] = focal[0], focal[1]
    intrinsics[:2, 2] = principal
    return Camera(w2c, intrinsics, size)


def resample(params: SmplxParams, source: Fraction, target: Fraction, frames: int | None = None) -> SmplxParams:
    """Motion [T] at another rate: rotations by spherical interpolation, the rest linearly; ends are held."""
    if source == target and frames in (None, len(params.transl)):
        return params
    count = len(params.transl)
    frames = frames or max(1, round(count * target / source))
    # sample i stands for the time (i + 1/2) / rate, as video frames do
    time = ((torch.arange(frames) + 0.5) * float(source / target) - 0.5).clamp(0, count - 1)
    low = time.floor().long().clamp(max=max(count - 2, 0))
    high = (low + 1).clamp(max=count - 1)
    weight = (time - low)[:, None]
    lerp = lambda x: x[low] + (x[high] - x[low]) * weight  # noqa: E731
    quaternions = roma.rotvec_to_unitquat(params.full_pose)
    step = roma.unitquat_to_rotvec(roma.quat_product(roma.quat_conjugation(quaternions[low]), quaternions[high]))
    turned = roma.quat_product(quaternions[low], roma.rotvec_to_unitquat(step * weight[..., None]))
    pose = roma.unitquat_to_rotvec(turned)
    return SmplxParams.from_pose(pose, lerp(params.betas), lerp(params.expression), lerp(params.transl))


def save_emage(path: Path, params: SmplxParams, fps: Fraction = EMAGE_RATE) -> None:
    """EMAGE's `<stem>_output.npz`; motion [T] at `fps` is resampled to 30 frames/s."""
    motion = resample(params, fps, EMAGE_RATE)
    frames = len(motion.transl)
    pad = lambda x, n: np.pad(x.numpy().astype(np.float32), [(0, 0)] * (x.dim() - 1) + [(0, n - x.shape[-1])])  # noqa: E731
    with writing(path) as temporary:
        np.savez(
            temporary, betas=pad(motion.betas[0], 300), poses=motion.full_pose.reshape(frames, 165).numpy().astype(np.float32),
            expressions=pad(motion.expression, 100), trans=motion.transl.numpy().astype(np.float32),
            model="smplx2020", gender="neutral", mocap_frame_rate=int(EMAGE_RATE),
        )  # fmt: skip


def load_emage(path: Path) -> tuple[SmplxParams, Fraction]:
    """Read EMAGE/BEAT2 motion → [T] and its rate; coefficients beyond 10 are dropped."""
    with np.load(path, allow_pickle=False) as npz:
        missing = [k for k in ("poses", "betas", "expressions", "trans") if k not in npz.files]
        if missing or npz["poses"].ndim != 2 or npz["poses"].shape[1] != 165:
            raise InputRejected(f"{path}: expected EMAGE motion with poses (T,165), betas, expressions, trans; missing {missing}")
        poses = torch.from_numpy(npz["poses"]).float().reshape(-1, 55, 3)
        expression = torch.from_numpy(npz["expressions"]).float()[:, :10]
        betas = torch.from_numpy(npz["betas"]).float().reshape(-1)[:10].expand(len(poses), 10)
        transl = torch.from_numpy(npz["trans"]).float()
        rate = Fraction(str(npz["mocap_frame_rate"])) if "mocap_frame_rate" in npz.files else EMAGE_RATE
    return SmplxParams.from_pose(poses, betas, expression, transl), rate


def save_lhm(folder: Path, body: Body, params: SmplxParams, camera: Camera) -> None:
    """LHM's `smplx_params/%05d.json`: motion [T] is moved into the camera's frame, as LHM has its camera at the origin."""
    seen = body.moved(params, camera.w2c)
    width, height = camera.size.tolist()
    k = camera.intrinsics
    shared = {
        "focal": [k[0, 0].item(), k[1, 1].item()], "princpt": [k[0, 2].item(), k[1, 2].item()],
        "img_size_wh": [width, height], "pad_ratio": 0.0,
    }  # fmt: skip
    with writing(folder) as temporary:
        temporary.mkdir()
        for i in range(len(seen.transl)):
            frame = {key: getattr(seen, name)[i].tolist() for key, name in LHM_KEYS.items()}
            (temporary / f"{i:05d}.json").write_text(json.dumps(frame | shared))


def load_lhm(folder: Path) -> tuple[SmplxParams, Camera]:
    """Read LHM motion → [T] in the camera's frame and the camera (identity w2c); betas of frame 0 are used, as LHM does."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputRejected(f"{folder}: expected LHM motion as %05d.json files, found none")
    frames = [json.loads(f.read_text()) for f in files]
    column = lambda key, name: torch.tensor([f.get(key, [0.0] * 10) for f in frames]).reshape(len(frames), *SMPLX_SHAPES[name])  # noqa: E731
    fields = {name: column(key, name) for key, name in LHM_KEYS.items()}
    fields["betas"] = fields["betas"][:1].expand_as(fields["betas"])
    first = frames[0]
    size = torch.tensor(first["img_size_wh"]).long()
    camera = make_camera(torch.eye(4), torch.tensor(first["focal"]), torch.tensor(first["princpt"]), size)
    return SmplxParams(**fields), camera


class _ArraysOnly(pickle.Unpickler):
    """Admits numpy arrays, plain containers and CPU tensors; anything else in the file is refused by name."""

    _numpy = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        root = module.split(".")[0]
        if root == "numpy" and name in self._numpy:
            return super().find_class(module, name)
        if (module, name) in {("collections", "OrderedDict"), ("_codecs", "encode"), ("torch._utils", "_rebuild_tensor_v2")}:
            return super().find_class(module, name)
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        raise InputRejected(f"pickle refers to {module}.{name}; only numpy arrays, plain containers and CPU tensors are read")


def load_pickle_arrays(path: Path) -> Any:
    """A `.pkl`, or an object `.npy`, that holds only arrays and containers; InputRejected for anything else."""
    with path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            version = np.lib.format.read_magic(_rewound(stream))
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read_header(stream)
            if not dtype.hasobject:
                return np.load(path, allow_pickle=False)
        else:
            stream.seek(0)
        try:
            value = _ArraysOnly(stream, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise InputRejected(f"{path}: not a readable pickle of arrays ({error})") from error
    return value.item() if isinstance(value, np.ndarray) and value.shape == () and value.dtype == object else value


def _rewound(stream: Any) -> Any:
    stream.seek(0)
    return stream
