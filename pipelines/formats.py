"""The project's fit file, and the neighbours' formats as the baseline uses them: motion [T] in and out.

Every format has its own file, which reads and writes a `Take` (formats_take.py): formats_emage, formats_lhm,
formats_talkshow, formats_huge100k; out only: formats_bvh, formats_gltf. `pipelines.convert` goes from any to any.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.body import Body
from model.types import SMPLX_SHAPES, Camera, SmplxParams
from pipelines import formats_emage, formats_lhm
from pipelines.formats_hands import Context, HandSpace
from pipelines.formats_pickle import load_pickle_arrays as load_pickle_arrays
from pipelines.formats_take import Take, make_camera, resampled
from pipelines.store import InputRejected, writing

NO_MEAN = HandSpace(torch.zeros(2, 45).double(), None)
AT_CAMERA = make_camera(torch.eye(4), torch.ones(2), torch.zeros(2), torch.ones(2).long())


@dataclass(frozen=True)
class FitFile:
    """A clip's bodies: y-up world, one fixed camera, one shape."""

    params: SmplxParams  # [T]
    camera: Camera  # no leading axes
    confidence: Tensor  # [T] 0..1
    fps: Fraction


def save_fit(
    path: Path, params: SmplxParams, camera: Camera, confidence: Tensor, fps: Fraction, parts: dict[str, Tensor] | None = None
) -> None:
    """Write the fit file; `params` [T] must share their betas; `parts`: confidence [T] of each part, as `confidence_<part>`."""
    if not torch.allclose(params.betas, params.betas[:1].expand_as(params.betas)):
        raise ValueError("a fit file holds one shape per clip, got betas that change over time")
    arrays = {name: getattr(params, name).float().cpu().numpy() for name in SMPLX_SHAPES}
    arrays["betas"] = arrays["betas"][0]
    focal = torch.stack([camera.intrinsics[0, 0], camera.intrinsics[1, 1]])
    arrays |= {
        "focal": focal.numpy(), "principal": camera.intrinsics[:2, 2].numpy(), "image_size": camera.size.numpy(),
        "w2c": camera.w2c.numpy(), "confidence": confidence.float().numpy(), "fps": np.array([fps.numerator, fps.denominator]),
    }  # fmt: skip
    arrays |= {f"confidence_{name}": sure.float().numpy() for name, sure in (parts or {}).items()}
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


def resample(params: SmplxParams, source: Fraction, target: Fraction, frames: int | None = None) -> SmplxParams:
    """Motion [T] at another rate: rotations by spherical interpolation, the rest linearly; ends are held."""
    if source == target and frames in (None, len(params.transl)):
        return params
    return resampled(Take.of(params, source), target, frames).params()


def save_emage(path: Path, params: SmplxParams, fps: Fraction, hands: HandSpace) -> None:
    """EMAGE's `<stem>_output.npz`; motion [T] at `fps` is resampled to 30 frames/s. `hands`: the mean that EMAGE's body adds
    (of the body that is to be moved; `NO_MEAN` for a body without)."""
    formats_emage.write(path, Take.of(params, fps), Context(None, hands))  # type: ignore[arg-type]


def load_emage(path: Path, hands: HandSpace) -> tuple[SmplxParams, Fraction]:
    """Read EMAGE/BEAT2 motion → [T] and its rate; coefficients beyond 10 are dropped."""
    take = formats_emage.read(path, Context(None, hands))  # type: ignore[arg-type]
    return take.params(), take.fps


def save_lhm(folder: Path, body: Body, params: SmplxParams, camera: Camera) -> None:
    """LHM's `smplx_params/%05d.json`: motion [T] is moved into the camera's frame, as LHM has its camera at the origin."""
    formats_lhm.write(folder, Take.of(params, formats_lhm.RATE, camera), Context(body, NO_MEAN))


def load_lhm(folder: Path) -> tuple[SmplxParams, Camera]:
    """Read LHM motion → [T] in the camera's frame and the camera (identity w2c); betas of frame 0 are used, as LHM does."""
    rows = formats_lhm.read_seen(folder, Context(None, NO_MEAN, AT_CAMERA))  # type: ignore[arg-type]
    return rows.params(), rows.camera or AT_CAMERA
