"""Held-out clips as both systems and the scores see them: a reference picture, speech, and the truth that follows.

Both systems begin at the same body, found in the reference picture as `speak` finds it (pipelines/pictured.py). The truth is that of
the clip's truth file (pipelines/held_out_truth.py), else the clip's fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.picture_fit import pictured_avatar
from model.stage1 import Encoding, Stage1
from model.types import Camera, SmplxParams
from pipelines.crops import shrink
from pipelines.held_out_truth import truth_of
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.motions import iterate_motions
from pipelines.people import decode
from pipelines.pictured import pictured_body
from pipelines.progress import progress
from pipelines.scoring_rows import Phones
from pipelines.store import InputRejected, Store

REFERENCE = 0  # the frame both systems are shown


@dataclass(frozen=True)
class Performance:
    """One clip as a system (or the truth) plays it, in the camera's frame."""

    params: SmplxParams  # [T]
    pictures: Tensor | None = None  # [P, R, R, 3] 0..1 of the clip's `frames`; none: nothing was drawn
    flicker: float | None = None  # of all its pictures


@dataclass(frozen=True)
class HeldOutClip:
    """One clip of a speaker whom no network has seen."""

    id: str
    name: str  # the id as a file name
    group: str  # speaker
    encoding: Encoding  # [1] of the reference picture, with the body that `speak` finds in it
    camera: Camera  # of the pictures below, R × R; w2c is the identity
    truth: SmplxParams  # [T] camera frame
    known: bool  # whether a truth file told it; else it is the clip's fit
    features: Tensor  # [T, A]
    audio: Sound  # 16 kHz, as long as the frames
    fps: Fraction
    frames: list[int]  # frames whose pictures are compared
    pictures: Tensor  # [P, R, R, 3] 0..1, person on white
    alpha: Tensor  # [P, R, R] 0..1
    video: list[Picture]  # all T frames, person on white, R × R
    second: SmplxParams | None = None  # [T] another draw of the same speech, where a truth file holds one
    phones: Phones | None = None  # where a truth file lists them

    @property
    def reference(self) -> Tensor:
        """The picture that both systems are shown, [R, R, 3] 0..1."""
        return torch.from_numpy(self.video[REFERENCE]).float() / 255

    def performance(self, params: SmplxParams, video: Sequence[Picture]) -> Performance:
        """What a system made of this clip: motion [T] and all T pictures."""
        chosen = np.stack([video[i] for i in self.frames])
        return Performance(params, torch.from_numpy(chosen).float() / 255, flicker(video))


def flicker(video: Sequence[Picture]) -> float | None:
    """`metrics.flicker` of pictures uint8, without a float copy of all of them; none with fewer than three."""
    if len(video) < 3:
        return None
    changes = [np.abs(a.astype(np.int16) - 2 * b.astype(np.int16) + c).mean() for a, b, c in zip(video, video[1:], video[2:], strict=False)]
    return float(np.mean(changes) / 255)


def held_out_clips(config: Config, store: Store, stage1: Stage1) -> list[HeldOutClip]:
    """At most `evaluation.max_clips` clips, `evaluation.max_frames` frames each. InputRejected where none is held out."""
    settings, size = config.evaluation, config.stage1.image.image_size
    motions = list(iterate_motions(store.shards("talks"), "test"))[: settings.max_clips]
    if not motions:
        raise InputRejected("evaluation: the talk shards hold no held-out clip; add talks of more speakers or raise shards.held_out")
    clips = []
    for motion in progress(motions, "reading held-out clips"):
        person = decode(motion.sample, max(size, settings.render_size))
        told = truth_of(config, stage1.body, motion)
        fit = motion.fit if told is None else told.fit
        count = min(settings.max_frames, len(person.images), len(motion.features))
        truth = stage1.body.moved(fit.params[:count], fit.camera.w2c)
        pictures = shrink(person.images[:count].float() / 255, settings.render_size)
        frames = np.linspace(1, count - 1, min(settings.image_frames, count - 1)).round().astype(int).tolist()
        # the crop's camera, of what saw the clip instead of what the fit took for it
        found = person.cameras[REFERENCE]
        camera = Camera(found.w2c, found.intrinsics @ torch.linalg.inv(motion.fit.camera.intrinsics) @ fit.camera.intrinsics, found.size)
        shown = camera.resized(settings.render_size, settings.render_size)
        reference = shrink(person.images[REFERENCE : REFERENCE + 1].float() / 255, size)
        body = pictured_body(config, store, stage1.body, motion, float(fit.camera.intrinsics[0, 0]))
        encoding = pictured_avatar(stage1, reference, camera.map(lambda x: x[None]).resized(size, size), body)
        second, phones = (None, None) if told is None else (told.second, told.phones)
        clips.append(HeldOutClip(
            motion.id, motion.name, motion.group, encoding, shown.at_origin(), truth, told is not None,
            motion.features[:count], motion.audio[: round(count * SAMPLE_RATE / motion.fit.fps)], motion.fit.fps, frames,
            pictures[frames][..., :3], pictures[frames][..., 3],
            list((pictures[..., :3] * 255).round().byte().numpy()), None if second is None else second[:count], phones,
        ))  # fmt: skip
    return clips
