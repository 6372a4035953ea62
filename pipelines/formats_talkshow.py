"""TalkSHOW motion: a plain float npy (T, 265) at 30 frames/s.

Columns: jaw 0:3, eyes 3:9, global 9:12, body 12:75, left hand 75:120, right hand 120:165, expression 165:265. Fingers are
relative to the mean hand; SHOW's fits keep them as principal components instead (12 a hand: T, 199). The person is seen by an
upright camera (y down), at no place: there is no translation, no shape and no camera.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from pipelines.formats_hands import Context, hands_for_writing
from pipelines.formats_take import Take, dropped_coefficients, fitted, resampled
from pipelines.store import InputRejected, writing

RATE = Fraction(30)
EXPRESSIONS = 100
NARROW = 75 + EXPRESSIONS  # columns that are not fingers


def read(path: Path, context: Context) -> Take:
    """Motion turned into the world of the context's camera (default: y up), the root at the origin."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputRejected(f"{path}: expected a plain float npy (T,265), not pickled objects ({error})") from error
    if values.ndim != 2 or values.dtype.kind != "f" or (values.shape[1] - NARROW) % 2 or not 1 <= (values.shape[1] - NARROW) // 2 <= 45:
        raise InputRejected(
            f"{path}: expected TalkSHOW motion (T,265), or (T,175 + 2n) with n components a hand, got {values.shape} {values.dtype}"
        )
    x = torch.from_numpy(values.astype(np.float64))
    count = (x.shape[1] - NARROW) // 2
    jaw, eyes, root, body, left, right, expression = x.split([3, 6, 3, 63, count, count, EXPRESSIONS], 1)
    if count != 45:
        fingers = context.hands.fingers(torch.stack([left, right], 1))
        pose = torch.cat([torch.cat([root, body, jaw, eyes], 1).reshape(-1, 25, 3), fingers], 1)
    else:
        pose = context.hands.from_mean(torch.cat([root, body, jaw, eyes, left, right], 1).reshape(-1, 55, 3))
    take = Take(pose, torch.zeros(len(x), 3).double(), expression, torch.zeros(10).double(), context.rate or RATE)
    return _turned(take, context.given_camera.w2c.double()[:3, :3].T)


def write(path: Path, take: Take, context: Context) -> list[str]:
    """The npy; returns what it cannot hold."""
    said = dropped_coefficients(take, 0, EXPRESSIONS)
    said += ["transl"] * bool(take.transl.any()) + ["camera"] * (take.camera is not None) + ["confidence"] * (take.confidence is not None)
    rate = context.rate or RATE
    if take.fps != rate:
        said.append(f"rate: {take.fps} frames/s resampled to {rate}")
    if rate != RATE:
        said.append(f"rate: the file does not say that it has {rate} frames/s")
    camera = context.camera or take.camera or context.given_camera
    motion = _turned(resampled(take, rate), camera.w2c.double()[:3, :3])
    relative = context.hands.to_mean(motion.pose)
    hands = relative[:, 25:40].flatten(1), relative[:, 40:55].flatten(1)
    if context.hands_pca is not None:
        hands = hands_for_writing(motion.pose, context, said)
    pose = motion.pose
    parts = [pose[:, 22], pose[:, 23:25].flatten(1), pose[:, 0], pose[:, 1:22].flatten(1), *hands, fitted(motion.expression, EXPRESSIONS)]
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, torch.cat(parts, 1).numpy().astype(np.float32))
    return said


def _turned(take: Take, turn: torch.Tensor) -> Take:
    """The root turned by [3, 3]; there is no place to move."""
    import roma

    root = roma.rotmat_to_rotvec(turn @ roma.rotvec_to_rotmat(take.pose[:, 0]))
    return take.replace(pose=torch.cat([root[:, None], take.pose[:, 1:]], 1))
