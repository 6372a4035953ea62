"""EMAGE and BEAT2 motion: one npz with `poses (T,165) expressions (T,100) trans (T,3) betas (300)`, 30 frames/s.

A y-up world; fingers relative to the mean hand.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from pipelines.formats_hands import Context
from pipelines.formats_take import Take, dropped_coefficients, fitted, resampled
from pipelines.store import InputRejected, writing

RATE = Fraction(30)
KEYS = ("poses", "betas", "expressions", "trans")
BETAS, EXPRESSIONS = 300, 100


def read(path: Path, context: Context) -> Take:
    """InputRejected names what is missing or of a wrong shape."""
    try:
        with np.load(path, allow_pickle=False) as npz:
            missing = [k for k in KEYS if k not in npz.files]
            if missing:
                raise InputRejected(f"{path}: expected EMAGE motion with {', '.join(KEYS)}, it lacks {', '.join(missing)}")
            poses, betas, expressions, trans = (np.asarray(npz[k], np.float64) for k in KEYS)
            rate = next((npz[k] for k in ("mocap_frame_rate", "mocap_framerate") if k in npz.files), None)
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, InputRejected):
            raise
        raise InputRejected(f"{path}: expected an npz of plain arrays ({error})") from error
    if poses.ndim not in (2, 3) or poses.size != len(poses) * 165:
        raise InputRejected(f"{path}: expected poses (T,165), 55 joints as axis-angle, got {poses.shape}")
    frames = len(poses)
    if expressions.ndim != 2 or trans.shape != (frames, 3) or len(expressions) != frames:
        raise InputRejected(f"{path}: expected expressions ({frames},E) and trans ({frames},3), got {expressions.shape} and {trans.shape}")
    shape = betas if betas.ndim == 1 else betas.reshape(-1, betas.shape[-1])[0]
    fps = context.rate or (RATE if rate is None else Fraction(str(float(rate.reshape(-1)[0]))).limit_denominator(1001))
    pose = context.hands.from_mean(torch.from_numpy(poses.reshape(frames, 55, 3)))
    return Take(pose, torch.from_numpy(trans), torch.from_numpy(expressions), torch.from_numpy(shape), fps)


def write(path: Path, take: Take, context: Context) -> list[str]:
    """The npz; returns what it cannot hold."""
    rate = context.rate or RATE
    said = dropped_coefficients(take, BETAS, EXPRESSIONS)
    said += ["camera"] * (take.camera is not None) + ["confidence"] * (take.confidence is not None)
    if take.fps != rate:
        said.append(f"rate: {take.fps} frames/s resampled to {rate}")
    motion = resampled(take, rate)
    arrays = {
        "betas": fitted(motion.betas, BETAS), "poses": context.hands.to_mean(motion.pose).flatten(1),
        "expressions": fitted(motion.expression, EXPRESSIONS), "trans": motion.transl,
    }  # fmt: skip
    about = {"model": "smplx2020", "gender": "neutral", "mocap_frame_rate": int(rate) if rate.denominator == 1 else float(rate)}
    with writing(path) as temporary:
        np.savez(temporary, **{k: v.numpy().astype(np.float32) for k, v in arrays.items()}, **about)
    return said
