"""Overlay videos: the shaded mesh of a fit over the clip's pictures, with the clip's sound.

The mesh is half transparent, so that shoulders, hands and lips can be compared with the picture; it turns amber in
frames whose confidence is below `DOUBTFUL`. Axes: T frames, V vertices, S the clip's side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.body import Body
from model.mesh_raster import DAYLIGHT, render_frames
from pipelines import media
from pipelines.formats import FitFile
from pipelines.media import Picture
from pipelines.progress import progress

DOUBTFUL = 0.3  # confidence 0..1 below which a frame is shown as not to be trusted
OPACITY = 0.65
BLUE, AMBER = (0.66, 0.83, 1.0), (0.98, 0.72, 0.25)
CHUNK = 32  # frames posed at once
LIGHTS = replace(DAYLIGHT, occlusion=0.0, shadow=0.0)  # no shadows: three times as fast


def write_overlay(path: Path, clip: Path, fit: FitFile, body: Body, threads: int | None = None) -> int:
    """Write the mp4 for the clip's folder `clip`; returns its frames. `threads`: none for one a processor."""
    pictures = media.frames(clip / "clip.mp4", fit.fps)
    drawn = progress(overlaid(pictures, fit, body, threads), f"overlay {clip.name}", len(fit.params.transl))
    return media.write_video(path, drawn, fit.fps, media.read_audio(clip / "audio.wav"))


def overlaid(pictures: Iterator[Picture], fit: FitFile, body: Body, threads: int | None = None) -> Iterator[Picture]:
    """Pictures [S, S, 3] uint8, one a frame of the fit, with its mesh drawn over them. Ends with the shorter of the two."""
    for number, picture, rgb, alpha in _meshes(pictures, fit, body, threads):
        tint = AMBER if fit.confidence[number] < DOUBTFUL else BLUE
        share = OPACITY * alpha[..., None]
        mixed = (1 - share) * picture + share * 255 * rgb * np.array(tint, np.float32)
        yield np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _meshes(
    pictures: Iterator[Picture], fit: FitFile, body: Body, threads: int | None
) -> Iterator[tuple[int, Picture, np.ndarray, np.ndarray]]:
    """Number, picture, and the mesh's colour [S, S, 3] 0..1 and cover [S, S] of each frame."""
    white = np.ones((len(body.template), 3), np.float32)
    rendered = render_frames(_vertices(fit, body), body.faces, fit.camera, vertex_colors=white, lights=LIGHTS, threads=threads)
    for number, (picture, mesh) in enumerate(zip(pictures, rendered, strict=False)):
        yield number, picture, mesh.rgb, mesh.alpha


def _vertices(fit: FitFile, body: Body) -> Iterator[np.ndarray]:  # T of [V, 3]
    for start in range(0, len(fit.params.transl), CHUNK):
        with torch.no_grad():
            yield from body.vertices(fit.params[start : start + CHUNK]).numpy()
