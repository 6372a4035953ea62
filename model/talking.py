"""A talk in progress: audio features in, as many as there are; frames of motion out, as soon as their look-ahead has come.

The same code makes a talk whole and as a stream; what comes out is the same to float rounding however the features were
cut up. What is kept is of constant size. Axes: B people, T frames, A audio features, w width, C and M channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.body import Body
from model.feet import plant_feet
from model.flow import Generator
from model.motion_spline import CHUNK
from model.types import SmplxParams, TensorGroup

AT_ONCE = 32  # chunks that are heard at once


@dataclass(frozen=True)
class Motion(TensorGroup):
    """Generated frames."""

    params: SmplxParams  # [B, T] in the space of the reference
    heard: Tensor  # [B, T, w]


@dataclass(frozen=True)
class Ending:
    """The pose that a talk of known length ends in; its mouth is the speech's, its legs follow from the feet."""

    pose: SmplxParams  # [B] in the space of the reference
    frames: int  # of the talk


class Talk:
    """People in rows, who begin standing still at their references or, where it is given, in `start` [B].

    Row i of a talk draws its chance from `seed` + i.
    """

    def __init__(
        self, generator: Generator, body: Body, reference: SmplxParams, style: Tensor | None = None, seed: int = 0,
        ending: Ending | None = None, start: SmplxParams | None = None,
    ):  # fmt: skip
        self.generator, self.body, self.reference = generator, body, reference.map(lambda x: x.float())
        with torch.no_grad():
            self.still = generator.space.still(self.reference)
            end, chunks, self.early = None, 0, 0  # frames made before the first one, so that the last ends a chunk
            if ending is not None:
                if len(ending.pose.transl) != len(self.still.raw) or ending.frames < 1:
                    expected = f"{len(self.still.raw)} poses for a talk of 1 frame or more"
                    raise ValueError(f"stage 2: expected as its end {expected}, got {len(ending.pose.transl)} for {ending.frames}")
                end, chunks = generator.space.residual(ending.pose, self.reference, self.still), -(-ending.frames // CHUNK)
                self.early = CHUNK * chunks - ending.frames
            self.state = generator.begin(self.still, style, seed, end, chunks)
            if start is not None:
                stood = generator.space.residual(start, self.reference, self.still)
                self.state.knots = stood[:, None].expand_as(self.state.knots)
        self.waiting: Tensor | None = None  # [B, past_frames + …, A] features from `past_frames` before the next frame on
        self.came, self.made = 0, 0  # frames

    @torch.no_grad()
    def push(self, features: Tensor) -> Motion | None:
        """Features of the next frames [B, n, A] → the frames that they settle, none where there are none."""
        if features.dim() != 3 or features.shape[0] != len(self.still.raw) or features.shape[2] != self.generator.audio_dim:
            expected = f"[{len(self.still.raw)}, n, {self.generator.audio_dim}]"
            raise ValueError(f"stage 2: expected audio features {expected}, got {tuple(features.shape)}")
        if not features.shape[1]:
            return None
        if self.waiting is None:  # before the sound there is its first frame
            self.waiting = features[:, :1].expand(-1, self.generator.past_frames + self.early, -1)
            self.came = self.early
        self.waiting = torch.cat([self.waiting, features], 1)
        self.came += features.shape[1]
        return self._shown(self._make())

    @torch.no_grad()
    def finish(self) -> Motion | None:
        """The frames that wait for sound after them: there is the last one's."""
        left = self.came - self.made
        if self.waiting is None or left <= 0:
            return None
        more = -(-left // CHUNK) * CHUNK - left + self.generator.config.look_ahead
        self.waiting = torch.cat([self.waiting, self.waiting[:, -1:].expand(-1, more, -1)], 1)
        made = self._make()
        assert made is not None
        return self._shown(made.map(lambda x: x[:, :left]))

    def _shown(self, made: Motion | None) -> Motion | None:
        """Without the early frames."""
        if made is None or not self.early:
            return made
        early, count = self.early, made.heard.shape[1]
        self.early = max(0, early - count)
        return made.map(lambda x: x[:, early:]) if count > early else None

    def _make(self) -> Motion | None:
        assert self.waiting is not None
        before, ahead = self.generator.past_frames, self.generator.config.look_ahead
        parts = []
        while (ready := (self.waiting.shape[1] - before - ahead) // CHUNK) > 0:
            frames = CHUNK * min(ready, AT_ONCE)
            heard = self.generator.hear(self.waiting[:, : before + frames + ahead])
            chunks = [self.generator.proceed(self.state, heard[:, i : i + CHUNK]) for i in range(0, frames, CHUNK)]
            flow, mouth = (torch.cat([getattr(c, n) for c in chunks], 1) for n in ("flow", "mouth"))
            params = self.generator.space.decode(flow, mouth, self.reference, self.still)
            parts.append(Motion(plant_feet(self.body, params, self.reference), heard))
            self.waiting = self.waiting[:, frames:]
            self.made += frames
        return Motion.cat(parts, 1) if parts else None


def talk_whole(
    generator: Generator, body: Body, reference: SmplxParams, features: Tensor, style: Tensor | None = None, seed: int = 0,
    end: SmplxParams | None = None, start: SmplxParams | None = None,
) -> Motion:  # fmt: skip
    """The talk for a whole speech [B, T, A]; `start`, `end` [B]: the poses before its first and of its last frame."""
    talk = Talk(generator, body, reference, style, seed, None if end is None else Ending(end, features.shape[1]), start)
    parts = [part for part in (talk.push(features), talk.finish()) if part is not None]
    if not parts:
        raise ValueError(f"stage 2: expected audio [B, T > 0, A], got {tuple(features.shape)}")
    return Motion.cat(parts, 1)
