"""All motion that stage 2 learns from, in memory as tensors: windows of it are gathered where they lie, on a GPU too.

Clips come from the motion and the talk shards. A batch is made of numbers alone (`DrawnWindows`): which clip, from which
frame, with which frame as the reference. An hour takes 40 MB. Axes: N frames of all clips, P clips, C flow channels, M mouth
channels, A audio features, B batch, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.flow import Generator, Windows
from model.motion_space import FACE_START, ROOT, MotionSpace, Still
from model.motion_spline import SEED, TAIL
from model.types import SmplxParams, TensorGroup
from pipelines.datasets import Draw
from pipelines.motion_shards import MotionClip

FROM_REFERENCE = 0.2  # share of windows that begin at their reference after standing still, as a talk does
STARTS = 0.06  # share that begin with their clip: before it there is its first frame, of sound too, as when a talk is begun
AT_REST = 0.5  # share whose reference has its face at rest, as when a talk is begun from a picture
FITTED = 100  # clips that constants are fitted to, at most
NOISY, QUIETEST, LOUDEST = 0.5, -4.0, -1.5  # share of windows with another's sound mixed in; how loud, in natural log
TRACT, TILT, HIGHER = 0.08, 1.5, 0.25  # another voice: bands stretched, high ones louder by (natural log of power), octaves; at most
GAINS = (0.05, 5.0)  # of channels that are adapted to data
CHANCES = 7  # numbers that decide on noise, voice and the reference's face


@dataclass(frozen=True)
class MotionCorpus(TensorGroup):
    """Clips one after the other."""

    motion: Tensor  # [N, C]
    mouth: Tensor  # [N, M]
    audio: Tensor  # [N, A] half precision
    confidence: Tensor  # [N] half precision
    style: Tensor  # [P, 3 C] how the clip's speaker moves, by their other clips where there are any
    start: Tensor  # [P] first frame
    count: Tensor  # [P] frames

    @classmethod
    def of(cls, clips: list[MotionClip], space: MotionSpace) -> MotionCorpus:
        device = space.mean.device
        encoded = [space.encode(c.params.to(device)) for c in clips]
        counts = torch.tensor([len(m) for m, _ in encoded])
        styles = [style_of(m, space) for m, _ in encoded]
        groups: dict[str, list[int]] = {}
        for index, clip in enumerate(clips):
            groups.setdefault(clip.group, []).append(index)
        others = [[j for j in groups[c.group] if j != i] or [i] for i, c in enumerate(clips)]
        return cls(
            torch.cat([m for m, _ in encoded]), torch.cat([m for _, m in encoded]), torch.cat([c.features.half() for c in clips]),
            torch.cat([c.confidence for c in clips]).half(), torch.stack([torch.stack([styles[j] for j in o]).mean(0) for o in others]),
            counts.cumsum(0) - counts, counts,
        )  # fmt: skip

    def windows(self, drawn: DrawnWindows, generator: Generator, offline_audio: bool) -> Windows:
        """The windows of a batch, in other voices and with noise in their sound where it is the offline encoder's."""
        first, count, begin = self.start[drawn.clip], self.count[drawn.clip], drawn.begin
        frames = generator.config.window
        rows = lambda low, high: first[:, None] + (begin[:, None] + torch.arange(low, high, device=begin.device)).clamp(min=0).minimum(  # noqa: E731
            count[:, None] - 1
        )
        audio = self.audio[rows(-generator.past_frames, frames + generator.config.look_ahead)].float()
        if offline_audio:
            audio = _with_noise(_in_another_voice(audio, drawn.chance), drawn.chance)
        origin, mouth = self.motion[first + drawn.reference], self.mouth[first + drawn.reference]
        rest, at_rest = generator.space.still(SmplxParams.zeros().to(origin.device)), drawn.chance[:, 6:] < AT_REST
        fades = torch.arange(origin.shape[1], device=origin.device) >= FACE_START
        fades[generator.space.expressions(generator.config.lasting)] = False
        origin = torch.where(at_rest & fades, rest.channels, origin)
        mouth = torch.where(at_rest, rest.mouth, mouth)
        motion = self.motion[rows(-SEED, frames + TAIL)]
        # a window that begins at its reference has stood still before
        still_before = (drawn.reference == begin)[:, None, None]
        motion = torch.cat([torch.where(still_before, origin[:, None], motion[:, :SEED]), motion[:, SEED:]], 1)
        known = torch.cat([torch.zeros_like(origin[:, :ROOT]), origin[:, ROOT:]], -1)
        still = Still(origin[:, :0], mouth[:, :0], known, mouth)
        own = rows(0, frames)
        return Windows(audio, motion, self.mouth[own], still, origin, self.style[drawn.clip], self.confidence[own].float())


def style_of(motion: Tensor, space: MotionSpace) -> Tensor:
    """[T, C] → [3 C]: mean, log deviation and log speed of each channel, in units of the corpus'."""
    scale = space.scale.clamp(min=1e-3)
    x = motion / scale
    mean = torch.cat([torch.zeros_like(x[0, :ROOT]), x.mean(0)[ROOT:]])
    log = lambda v: torch.log(v + 0.05)  # noqa: E731
    return torch.cat([mean, log(x.std(0)), log(10 * x.diff(dim=0).abs().mean(0))])


@dataclass(frozen=True)
class DrawnWindows(TensorGroup):
    """Windows before they are gathered."""

    clip: Tensor  # [B] int64
    begin: Tensor  # [B] int64, first frame within the clip
    reference: Tensor  # [B] int64, frame within the clip
    chance: Tensor  # [B, CHANCES] 0..1, for the noise in the sound, the voice, and the reference's face


def draw_windows(counts: np.ndarray, window: int, rng: np.random.Generator, batch: int) -> DrawnWindows:
    """`counts` [P] frames of the clips; long clips are drawn more often, by their frames."""
    room = np.maximum(counts - window - SEED - TAIL, 0) + 1
    clip = rng.choice(len(counts), batch, p=room / room.sum())
    begin = np.minimum(SEED + (rng.random(batch) * room[clip]).astype(np.int64), np.maximum(counts[clip] - window, 0))
    reference = (rng.random(batch) * counts[clip]).astype(np.int64)
    starts, from_reference = rng.random((2, batch))
    begin = np.where(starts < STARTS, 0, begin)
    reference = np.where(from_reference < np.where(starts < STARTS, 0.5, FROM_REFERENCE), begin, reference)
    chance = rng.random((batch, CHANCES), np.float32)
    return DrawnWindows(*(torch.from_numpy(x) for x in (clip, begin, reference, chance)))


class MotionWindows:
    """Batches of a corpus for a training run, the same whenever it is begun."""

    def __init__(self, corpus: MotionCorpus, window: int, draw: Draw):
        self.counts, self.window, self.draw = corpus.count.cpu().numpy(), window, draw

    def at(self, step: int, batch: int) -> DrawnWindows:
        return draw_windows(self.counts, self.window, self.draw.rng(step, 0), batch)

    def __iter__(self) -> Iterator[DrawnWindows]:
        for step in self.draw.steps():
            yield self.at(step, self.draw.batch)


def _in_another_voice(audio: Tensor, chance: Tensor) -> Tensor:
    """Offline features [B, T, 68] as of a longer or shorter vocal tract, a duller or brighter and a lower or higher voice."""
    from model.audio_offline import BANDS, MEL_SCALE

    tract, tilt, higher = (most * (2 * chance[:, i] - 1) for i, most in ((3, TRACT), (4, TILT), (5, HIGHER)))
    bands = torch.arange(BANDS, device=audio.device)
    place = (bands * (1 + tract[:, None])).clamp(0, BANDS - 1)  # [B, BANDS]
    low = place.long().clamp(max=BANDS - 2)
    at = lambda index: audio[..., :BANDS].gather(-1, index[:, None].expand(-1, audio.shape[1], -1))  # noqa: E731
    mel = torch.lerp(at(low), at(low + 1), (place - low)[:, None])
    mel = mel + (tilt[:, None] * (bands / (BANDS - 1) - 0.5) / MEL_SCALE)[:, None]
    pitch = audio[..., BANDS + 1 : BANDS + 2] + higher[:, None, None] * audio[..., BANDS + 2 : BANDS + 3]
    return torch.cat([mel, audio[..., BANDS : BANDS + 1], pitch, audio[..., BANDS + 2 :]], -1)


def _with_noise(audio: Tensor, chance: Tensor) -> Tensor:
    """Offline features [B, T, 68] with the sound of the batch's next window under some of them, and another loudness."""
    from model.audio_offline import BANDS, ENERGY_SCALE, MEL_SCALE

    other = audio.roll(1, 0)
    level = torch.where(chance[:, :1] < NOISY, QUIETEST + (LOUDEST - QUIETEST) * chance[:, 1:2], torch.full_like(chance[:, :1], -60.0))
    level = 2 * level[:, None]  # of power
    mixed = torch.logaddexp(audio[..., : BANDS + 1] * MEL_SCALE, other[..., : BANDS + 1] * MEL_SCALE + level) / MEL_SCALE
    louder = 2 * (chance[:, 2:3, None] - 0.5) / ENERGY_SCALE  # up to 4 dB
    return torch.cat([mixed + louder, audio[..., BANDS + 1 :]], -1)


def fit_generator(generator: Generator, clips: list[MotionClip]) -> None:
    """Set the generator's constants by clips; where there are many, by some of them."""
    some = clips[:: -(-len(clips) // FITTED)]
    generator.space.fit([c.params for c in some])
    generator.fit([(generator.space.encode(c.params)[0], c.features) for c in some])


def adapt_generator(generator: Generator, clips: list[MotionClip]) -> Tensor:
    """Let each channel move as far as in the clips, their uncertain frames counting less; returns the gains [C]."""
    space, power, weight = generator.space, torch.zeros_like(generator.space.scale), torch.zeros(())
    for clip in clips:
        channels, sure = space.encode(clip.params.to(power.device))[0], clip.confidence.to(power.device)[:, None]
        centred = channels - (sure * channels).sum(0) / sure.sum().clamp(min=1e-6)
        power, weight = power + (sure * centred.square()).sum(0), weight.to(power.device) + sure.sum()
    gain = ((power / weight).sqrt() / space.scale).clamp(*GAINS)
    generator.amplify(gain)
    return gain
