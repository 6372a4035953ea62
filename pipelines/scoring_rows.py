"""One clip of the truth and everything that is scored beside it, wherever it comes from: folders of files, or the graph.

`ClipScorer` adds any performance of its clip to a row; `still` and `looped` (with `pipelines.nearest`) make the reference rows
that need nothing but the truth, `second_draw` and `phones_of` read what only a truth file can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model import metrics
from model.metrics_arrays import Floats
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.formats_take import Take
from pipelines.media import SAMPLE_RATE
from pipelines.nearest import forth_and_back
from pipelines.scoring_clips import LEAST, Measured, Scorer, Speech, at_moments, clip_figures, mouth_features, shape_of, side_by_side
from pipelines.scoring_summary import Row

BANDS, BAND_RATE, BAND_SECONDS = 8, 25, 10.0  # of the sound, by which the nearest clip is found
Phones = tuple[list[str], Floats]  # kinds of mouth, seconds of their middles


class ClipScorer:
    """The truth of a clip, measured once, with its speech and another clip's (the control)."""

    def __init__(
        self,
        scorer: Scorer,
        network: metrics.MotionAutoencoder | None,  # none: no FGD
        name: str,
        truth: Take,
        speech: Speech | None,
        control: Speech | None,
        phones: Phones | None,
    ):
        self.scorer, self.network, self.name, self.truth = scorer, network, name, truth
        self.speech, self.control, self.phones = speech, control, phones
        self.betas, self.fps = shape_of(truth), float(truth.fps)
        self.whole = scorer.measured(truth, self.betas)
        self.latents = None if network is None else encoded(network, self.whole)

    def add(self, row: Row, got: Take, more: Mapping[str, float] | None = None, said: bool = True) -> None:
        """Score `got` at the truth's rate, over the frames that both have; `more`: figures found elsewhere (of pictures)."""
        a, b, notes = side_by_side(self.truth, got)
        row.notes += [f"{self.name}: {line}" for line in notes if said]
        if a.frames < LEAST:
            row.notes.append(f"{self.name}: only {a.frames} frames in common; not scored")
            return
        mine = self.whole if got is self.truth else self.scorer.measured(b, self.betas)
        wanted = self.whole if a.frames == self.truth.frames else _first(self.whole, a.frames, len(mine.vertices))
        row.clips[self.name] = clip_figures(wanted, mine, self.fps, self.speech, self.control) | dict(more or {})
        if self.phones is not None:
            inside = [i for i, t in enumerate(self.phones[1]) if t * self.fps < a.frames]
            sides = [at_moments(mouth_features(m.face), self.phones[1][inside], self.fps)[0] for m in (wanted, mine)]
            row.mouths[self.name] = (np.array(self.phones[0])[inside], np.stack(sides))
        if a.frames >= metrics.WINDOW and self.network is not None and self.latents is not None:
            real = self.latents[: (a.frames - metrics.WINDOW) // metrics.STRIDE + 1]
            row.latents[self.name] = (real, real if mine is self.whole else encoded(self.network, mine))


def encoded(network: metrics.MotionAutoencoder, measured: Measured) -> Tensor:  # [K, L]
    with torch.no_grad():
        return network.encode_motion(measured.features)


def still(truth: Take) -> Take:
    """The first frame, held."""
    return truth.replace(**{n: getattr(truth, n)[:1].expand_as(getattr(truth, n)) for n in ("pose", "transl", "expression")})


def looped(take: Take, like: Take, seconds: float = 0.0) -> Take:
    """From `seconds` on, played forth and back until it is as long as `like`, at its own rate."""
    count = max(1, round(like.frames * take.fps / like.fps))
    index = forth_and_back(round(seconds * take.fps), count, take.frames)
    return take.replace(pose=take.pose[index], transl=take.transl[index], expression=take.expression[index], confidence=None)


def sound_shape(samples: Floats) -> Floats:
    """What a clip sounds like over its first ten seconds, [T, 8]: log energy of eight bands 25 times a second, z-scored.

    T is a whole number of seconds, so that clips of about one length are searched for together.
    """
    size = SAMPLE_RATE // BAND_RATE
    count = min(len(samples) // size, int(BAND_SECONDS * BAND_RATE))
    count = count // BAND_RATE * BAND_RATE or count
    power = np.square(np.abs(np.fft.rfft(samples[: count * size].reshape(count, size) * np.hanning(size))))
    edges = np.unique(np.round(np.geomspace(2, power.shape[1], BANDS + 1)).astype(int))
    bands = np.log10(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) + 1e-6)
    return ((bands - bands.mean(0)) / np.maximum(bands.std(0), 1e-6)).astype(np.float32)


def second_draw(path: Path, truth: Take) -> Take | None:
    """Another draw of the same person saying the same, where the truth's file holds one (`oracle_*`, as the embedded talks' do)."""
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as npz:
        if "oracle_body_pose" not in npz.files:
            return None
        fields = {n: torch.from_numpy(npz[f"oracle_{n}"]).float() for n in SMPLX_SHAPES if n != "betas"}
    frames = len(fields["transl"])
    params = SmplxParams(betas=truth.betas[:10].float().expand(frames, 10), **fields)
    return Take.of(params, truth.fps, truth.camera)


def phones_of(path: Path) -> Phones | None:
    """Kinds of mouth and the seconds of their middles, where a truth file lists its phones."""
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as npz:
        if any(k not in npz.files for k in ("phones", "phones_start", "phones_end")):
            return None
        return [metrics.viseme_of(str(p)) for p in npz["phones"]], (npz["phones_start"] + npz["phones_end"]) / 2


def _first(measured: Measured, frames: int, vertices: int) -> Measured:
    return replace(
        measured, joints=measured.joints[:frames], face=measured.face[:frames],
        vertices=measured.vertices[:vertices], features=measured.features[:frames],
    )  # fmt: skip
