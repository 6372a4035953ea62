"""Figures of pictures where both sides have a video beside their motion: PSNR and SSIM of whole frames, flicker, identity.

Identity is told by the picture encoder of the stage-1 weights that ship, so that figures of different runs compare. It sees what
that encoder was trained on, the person cut out on white: by the mask in the clip's folder (mask.npz), else by mediapipe's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from configs.schema import Stage1Config
from model import metrics
from model.image_encoders import SapiensEncoder, ViTEncoder, make_image_encoder
from pipelines.checkpoints import fingerprint, read_about
from pipelines.clip_reading import PackedMasks
from pipelines.crops import crop, person_box, shrink, square_round
from pipelines.media import Picture, frames
from pipelines.store import InputRejected

if TYPE_CHECKING:
    from pipelines.masks import Masker

STEP, MOST = 15, 120  # every 15th of the first 120 frames is compared; flicker looks at all of them
SAMPLES = Path(str(resources.files("samples")))
WEIGHTS, SPEAKERS = SAMPLES / "weights" / "identity.safetensors", SAMPLES / "talks"
PART = "image_encoder."  # what the names of the encoder's tensors begin with


def picture_figures(truth: Path | None, got: Path | None, other: Path | None = None) -> dict[str, float]:
    """Of two videos; `other`: one of the truth's of another speaker, the control of identity.

    Nothing where either video is absent. InputRejected where they differ in size.
    """
    if truth is None or got is None or truth == got:
        return {}
    first, second = (np.stack(list(itertools.islice(frames(path), MOST))) for path in (truth, got))
    if first.shape[1:] != second.shape[1:]:
        raise InputRejected(
            f"{got}: expected pictures of {first.shape[2]}×{first.shape[1]} as in {truth.name}, got {second.shape[2]}×{second.shape[1]}"
        )
    count = min(len(first), len(second))
    a, b = (torch.from_numpy(x[:count]).float() / 255 for x in (first, second))
    found = {"psnr": metrics.psnr(b[::STEP], a[::STEP]), "ssim": metrics.ssim(b[::STEP], a[::STEP])}
    if count >= 3:
        found["flicker"] = metrics.flicker(b)
    seen = embedding(people(got, list(second[:count:STEP]), STEP, picture_encoder()[1]))
    found["identity"] = metrics.identity(seen, _reference(truth))
    if other is not None:
        found["identity_other"] = metrics.identity(seen, _reference(other))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def people(video: Path, pictures: Sequence[Picture], step: int, size: int) -> Tensor:
    """Every `step`-th picture of a video → the person in it on white, [P, size, size, 3]; the whole picture where nobody is found."""
    packed = video.parent / "mask.npz"
    masks = PackedMasks(packed.read_bytes()) if video.name == "clip.mp4" and packed.is_file() else None
    cut = []
    for index, picture in enumerate(pictures):
        at = index * step
        alpha = masks[at] if masks is not None and at < len(masks) else (255 * _masker()(picture)).astype(np.uint8)
        box = person_box(alpha)
        alpha = np.full_like(alpha, 255) if box is None else alpha
        square = square_round(box, picture.shape[1], picture.shape[0])
        cut.append(crop(np.dstack([picture, alpha]), square, size)[..., :3].float() / 255)
    return torch.stack(cut)


def embedding(pictures: Tensor) -> Tensor:
    """Pictures [P, R, R, 3] of people on white → [P, d]: the encoder's mean token, less the mean of those of the embedded speakers.

    What all people have in common would make anybody like anybody.
    """
    return _tokens(pictures) - _usual()


def _tokens(pictures: Tensor) -> Tensor:
    encoder, size = picture_encoder()
    with torch.no_grad():
        return encoder(shrink(pictures, size).movedim(-1, 1)).tokens.float().mean(1)


@cache
def _usual() -> Tensor:  # [d]
    size = picture_encoder()[1]
    first = [people(path, [next(iter(frames(path)))], 1, size) for path in sorted(SPEAKERS.glob("*.mp4"))]
    if not first:
        raise InputRejected(f"identity: expected the embedded talks in {SPEAKERS}, found none; build them (samples.build_talks)")
    return _tokens(torch.cat(first)).mean(0)


@cache
def _masker() -> Masker:
    from pipelines.masks import MediapipeMasker

    return MediapipeMasker()


@cache
def picture_encoder() -> tuple[ViTEncoder | SapiensEncoder, int]:
    """The encoder that judges who is seen, which later weights of stage 1 leave as it is, and the side of its pictures."""
    config = Stage1Config.model_validate(read_about(WEIGHTS)["config"]["stage1"])
    encoder = make_image_encoder(config.image, config.width, config.heads, config.pixel_channels)
    encoder.load_state_dict(_weights())
    return encoder.eval(), config.image.image_size


def encoder_version() -> str:
    """Hash of its weights."""
    return fingerprint(_weights())


def _weights() -> dict[str, Tensor]:
    state = safetensors.torch.load_file(WEIGHTS)
    return {k.removeprefix(PART): v.float() if v.is_floating_point() else v for k, v in state.items() if k.startswith(PART)}


def _reference(video: Path) -> Tensor:
    """The first picture's embedding."""
    return embedding(people(video, [next(iter(frames(video)))], 1, picture_encoder()[1]))[0]
