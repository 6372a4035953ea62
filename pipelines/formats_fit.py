"""Our fit file as a format among the others; a clip's sound, pictures and masks lie beside it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from pipelines.formats import load_fit, save_fit
from pipelines.formats_hands import Context
from pipelines.formats_take import Take, default_camera, dropped_coefficients, resampled
from pipelines.store import InputRejected


def read(path: Path, context: Context) -> Take:
    """A fit file, or the folder of the clip that it belongs to. The context's rate and camera go before the file's."""
    path = path / "fit.npz" if path.is_dir() else path
    try:
        fit = load_fit(path)
    except (ValueError, OSError, EOFError, RuntimeError) as error:
        raise error if isinstance(error, InputRejected) else InputRejected(f"{path}: not a readable fit file ({error})") from error
    take = Take.of(fit.params, context.rate or fit.fps, context.camera or fit.camera, fit.confidence)
    beside = {"audio": "audio.wav", "video": "clip.mp4", "masks": "mask.npz"}
    found = {name: path.parent / file for name, file in beside.items() if path.name == "fit.npz" and (path.parent / file).is_file()}
    return take.replace(**found)


def write(path: Path, take: Take, context: Context) -> list[str]:
    """The fit file; returns what it cannot hold."""
    rate = context.rate or take.fps
    said = dropped_coefficients(take, 10, 10)
    said += [f"rate: {take.fps} frames/s resampled to {rate}"] * (rate != take.fps)
    said += [] if context.camera or take.camera else ["camera: none was given, an upright one at the origin is written"]
    motion = resampled(take, Fraction(rate))
    confidence = torch.ones(motion.frames) if motion.confidence is None else motion.confidence
    save_fit(path, motion.params(), context.camera or take.camera or default_camera(), confidence, Fraction(rate))
    return said
