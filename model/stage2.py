"""Stage 2: a reference picture's encoding and speech → motion, appearance and SMPL-X tokens of each following frame.

`model.flow` draws the motion, as residuals to the reference's body in the person's own frame; feet stay where they are.
What is heard also moves a few coefficients of appearance, which add to the identity's triplane, and of the context tokens.
The untrained network holds the reference pose, and nothing accumulates however long the speech is.
Axes: B batch, T frames, A audio channels, K SMPL-X tokens, d stage 1's width, w own width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import roma
import torch
from torch import Tensor, nn

from configs.schema import Stage2Config
from model.feet import plant_feet
from model.flow import Drawn, Generator, Windows
from model.geometry import full_precision, rotation_from_6d, rotation_to_6d
from model.motion_spline import CHUNK
from model.smplx_tokens import BODY_TOKENS, DUTIES, VISIBLE_METRES
from model.stage1 import FEATURES, Encoding, Stage1
from model.talking import Ending, Motion, Talk, talk_whole
from model.triplane import PlaneSampler
from model.types import GaussianCloud, SmplxParams, TensorGroup

CHANGE_CHANNELS = 16  # channels of the triplane's change
CONTEXT = 16  # coefficients of the context tokens' change


@dataclass(frozen=True)
class FrameTokens(TensorGroup):
    """Generated frames; `Stage2.smplx_tokens` makes their tokens."""

    params: SmplxParams  # [B, T] in the camera frame of the reference picture
    appearance: Tensor  # [B, T, appearance_tokens] coefficients of the identity triplane's change
    context: Tensor  # [B, T, CONTEXT] coefficients of the context tokens' change


class Identity(NamedTuple):
    """What does not change from frame to frame: work it out once for a video."""

    features: Tensor  # [B, N, F] stage 1's anchor features
    changes: Tensor  # [appearance_tokens, N, FEATURES] what one unit of each coefficient adds to them


class Stage2(nn.Module):
    """The speech-to-avatar network; stage 1 is a part of it, so pixels reach both."""

    def __init__(self, config: Stage2Config, stage1: Stage1, audio_dim: int):
        super().__init__()
        self.config, self.stage1, self.audio_dim = config, stage1, audio_dim
        width, tokens, token_width = config.width, stage1.config.smplx_tokens, stage1.config.width
        self.generator = Generator(config, audio_dim)
        self.context = nn.Linear(width, CONTEXT)
        self.context_basis = nn.Parameter(torch.randn(CONTEXT, tokens - DUTIES, token_width) * 0.1)
        self.appearance = nn.Linear(width, config.appearance_tokens)
        resolution = config.appearance_resolution
        self.sample_planes = PlaneSampler(stage1.anchors.coordinates, resolution)
        self.appearance_basis = nn.Parameter(
            torch.randn(config.appearance_tokens, 3, CHANGE_CHANNELS, resolution, resolution) * 0.1
        )
        self.appearance_out = nn.Linear(CHANGE_CHANNELS, FEATURES, bias=False)
        for head in (self.context, self.appearance):  # the untrained network stays at the reference
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def learn(self, windows: Windows, draws: int, own: float = 0.0) -> Drawn:
        """The generator's losses and clean estimates, see `Generator.learn`."""
        return self.generator.learn(windows, draws, own)

    def estimated(self, reference: SmplxParams, drawn: Drawn) -> FrameTokens:
        """Frames [B, T] of the clean estimates of a learning step, for losses on what they look like."""
        flow = self.generator.surprises.frames(drawn.knots).flatten(1, 2)
        params = plant_feet(self.stage1.body, self.generator.space.decode(flow, drawn.mouth, reference), reference)
        return self.frames(Motion(params, drawn.heard))

    def begin(
        self, reference: Encoding, seed: int = 0, style: Tensor | None = None, ending: Ending | None = None, pictured: bool = False
    ) -> Talk:
        """A talk of the person in the picture, to be fed with audio features as they come.

        `pictured`: the body was found in the picture, see `from_picture`; else it is a true one.
        """
        params, start = self.from_picture(reference.params) if pictured else (reference.params, None)
        return Talk(self.generator, self.stage1.body, params, style, seed, ending, start)

    @torch.no_grad()
    def from_picture(self, found: SmplxParams) -> tuple[SmplxParams, SmplxParams]:
        """Bodies [B] found in pictures → the reference of a talk, and the pose that it begins in, both with their faces at rest.

        Motion is residual to its reference: what was misread there would stay on the person for the whole talk.
        """
        start = face_at_rest(found, self.config.lasting)
        return self.generator.space.steadied(start), start

    @torch.no_grad()
    def generate(
        self, reference: Encoding, audio: Tensor, seed: int = 0, style: Tensor | None = None, end: SmplxParams | None = None,
        pictured: bool = False,
    ) -> FrameTokens:  # fmt: skip
        """Frames for a whole speech [L, A] or [B, L, A] → [B, L]; same seed, same frames, on any device to float rounding.

        `end` [B]: the pose that the last frame is in, in the camera frame of the reference picture; legs follow the feet.
        `pictured`: as of `begin`.
        """
        audio = audio[None] if audio.dim() == 2 else audio
        people = len(reference.params.transl)
        if len(audio) != people or not audio.shape[1]:
            raise ValueError(f"stage 2: expected audio [{people}, L > 0, A], got {tuple(audio.shape)}")
        params, start = self.from_picture(reference.params) if pictured else (reference.params, None)
        return self.frames(talk_whole(self.generator, self.stage1.body, params, audio, style, seed, end, start))

    def frames(self, motion: Motion) -> FrameTokens:
        heard = motion.heard.to(self.appearance.weight.dtype)
        return FrameTokens(motion.params, self.appearance(heard).float(), self.context(heard).float())

    def identity(self, reference: Encoding) -> Identity:
        table = self.sample_planes(self.appearance_basis).sum(2)  # [A', N, 16]
        changes = self.appearance_out(table.to(self.appearance_out.weight.dtype))
        return Identity(self.stage1.canonical(reference), changes.float())

    def render_cloud(
        self,
        reference: Encoding,  # [B]
        frames: FrameTokens,  # [B, T]
        index: int | Tensor,  # one frame for all, or [B] one for each
        identity: Identity | None = None,  # from `identity(reference)`, to save its work in a loop
    ) -> GaussianCloud:  # [B, N] posed, in the camera frame of the reference picture
        """Gaussians of one frame: the identity's, with the frame's change of appearance, posed by its parameters."""
        features, changes = identity or self.identity(reference)
        rows = torch.arange(len(features), device=features.device)
        frame = frames[rows, index]
        added = torch.einsum("ba,anf->bnf", frame.appearance.float(), changes)
        learned, picture = features[..., :FEATURES], features[..., FEATURES:]
        cloud = self.stage1.gaussians(torch.cat([learned + added, picture], -1))
        return self.stage1.pose(cloud, frame.params)

    def smplx_tokens(self, reference: Encoding, frames: FrameTokens) -> Tensor:
        """[B, T, K, d]: the reference's tokens moved so that stage 1's decoder reads the frames' motion from them.

        The motion from the reference's parameters to a frame's is applied to what the reference's tokens say.
        """
        decoder, still = self.stage1.smplx_decoder, reference.tokens.smplx.float()
        before = decoder.read(still, reference.focal_over_size, reference.principal)
        with full_precision(still):
            said = rotation_from_6d(before.pose)[:, None]  # [B, 1, 55, 3, 3]
            first, now = (roma.rotvec_to_rotmat(p.full_pose.float()) for p in (reference.params, frames.params))
            turned = rotation_to_6d(said @ first[:, None].mT @ now) - rotation_to_6d(said)
            body, face, hands = turned.split([BODY_TOKENS, 3, 30], -2)
            expression = frames.params.expression - reference.params.expression[:, None]
            pelvis = before.pelvis[:, None] + frames.params.transl - reference.params.transl[:, None]
            focal = reference.focal_over_size[:, None]
            place = _place(pelvis, focal) - _place(before.pelvis[:, None], focal)
            numbers = torch.cat([body.flatten(-2), hands.flatten(-2), face.flatten(-2), expression, place], -1)
            steered = torch.einsum("btm,mkd->btkd", numbers, decoder.steering())
            free = torch.einsum("btr,rkd->btkd", frames.context, self.context_basis.float())
            return still[:, None] + torch.cat([steered, free], -2)


def _place(pelvis: Tensor, focal: Tensor) -> Tensor:
    """The decoder's numbers of a pelvis [..., 3] in the camera frame, but for a constant; `focal` [...] over the side."""
    extent = (pelvis[..., 2] / focal).clamp(min=1e-3)
    return torch.cat([pelvis[..., :2] / extent[..., None], torch.log(extent / VISIBLE_METRES)[..., None]], -1)


def audio_window(features: Tensor, start: int, frames: int, before: int, after: int) -> Tensor:
    """Rows start - before … start + frames + after of features [..., L, A], the ends repeated beyond the speech."""
    rows = torch.arange(start - before, start + frames + after, device=features.device)
    return features.index_select(-2, rows.clamp(0, features.shape[-2] - 1))


__all__ = ["CHUNK", "FrameTokens", "Identity", "Stage2", "audio_window"]


def at_rest(reference: Encoding, lasting: tuple[int, ...]) -> Encoding:
    """The same person with closed lips, looking ahead: how a talk begins from a picture.

    Motion is residual to its reference: what a picture shows of a face at one moment would stay on it for the whole talk,
    as lips that never meet. What does last, a smile, stays: expression coefficients `lasting` of the configuration.
    """
    return replace(reference, params=face_at_rest(reference.params, lasting))


def face_at_rest(params: SmplxParams, lasting: tuple[int, ...] = ()) -> SmplxParams:
    rest = {name: torch.zeros_like(getattr(params, name)) for name in ("jaw_pose", "leye_pose", "reye_pose", "expression")}
    rest["expression"][..., list(lasting)] = params.expression[..., list(lasting)]
    return replace(params, **rest)
