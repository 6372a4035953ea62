"""Stage 2: a reference picture's encoding and speech → SMPL-X tokens and appearance of each following frame.

Frames of a window attend to each other and to the audio within ±`audio_context` frames. Each frame's SMPL-X tokens are
the reference's plus a change, along the directions that stage 1's decoder reads (`SmplxDecoder.steering`); the decoder
turns both into poses, and the motion between the two is applied to the reference's parameters. So an untrained network
holds the reference pose, and nothing accumulates: root and translation stay within the bounds of `model.motion` of the
reference however long the speech is.
Axes: B batch, T frames of a window, L of a speech, A audio channels, K SMPL-X tokens, d stage 1's width, w own width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Stage2Config
from model.geometry import IDENTITY_6D, full_precision, rotation_from_6d, rotation_to_6d
from model.layers import Block, RMSNorm
from model.motion import MOTION, bounded, params_from_motion, pose_features
from model.smplx_tokens import DUTIES
from model.stage1 import FEATURES, Encoding, Stage1
from model.triplane import sample_planes
from model.types import GaussianCloud, SmplxParams, TensorGroup

BODY_SMOOTHING = 2.5  # frames, standard deviation of the filter on body and hands, which passes gestures and no jitter
FACE_NUMBERS = slice(312, 340)  # jaw, eyes and expression among the decoder's numbers; these are not filtered
STEERING_GAIN = 0.1  # of the head: one step of Adam then turns a joint by a hundredth of a radian
CHANGE_CHANNELS = 16  # channels of the triplane's change


@dataclass(frozen=True)
class FrameTokens(TensorGroup):
    """Generated frames."""

    smplx_tokens: Tensor  # [B, T, K, d]
    params: SmplxParams  # [B, T] in the camera frame of the reference picture
    appearance: Tensor  # [B, T, appearance_tokens] coefficients of the identity triplane's change


class Identity(NamedTuple):
    """What does not change from frame to frame: work it out once for a video."""

    features: Tensor  # [B, N, F] stage 1's anchor features
    changes: Tensor  # [appearance_tokens, N, FEATURES] what one unit of each coefficient adds to them


class Stage2(nn.Module):
    """The speech-to-avatar network; stage 1 is a part of it, so pixels reach both."""

    def __init__(self, config: Stage2Config, stage1: Stage1, audio_dim: int):
        super().__init__()
        if not 0 < 2 * config.seed_frames < config.window:
            raise ValueError(f"stage 2: seed_frames must be 1 to window/2, got {config.seed_frames} of {config.window}")
        self.config, self.stage1, self.audio_dim = config, stage1, audio_dim
        width, tokens, token_width = config.width, stage1.config.smplx_tokens, stage1.config.width
        self.audio_in = nn.Linear(audio_dim, width)
        self.audio_mix = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2, groups=width // 8) for _ in range(2))
        self.audio_norm = RMSNorm(width)
        self.seed_in = nn.Linear(MOTION, width)
        self.seed_flag = nn.Parameter(torch.randn(2, width) * 0.02)  # generated frame, seed frame
        self.token_in = nn.Linear(token_width, 8)
        self.reference_in = nn.Linear(tokens * 8 + MOTION - 3, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, cross=True) for _ in range(config.layers))
        self.norm = RMSNorm(width)
        self.steering = nn.Linear(width, MOTION)
        self.context = nn.Linear(width, width // 4)
        self.context_basis = nn.Parameter(torch.randn(width // 4, tokens - DUTIES, token_width) * 0.1)
        self.appearance = nn.Linear(width, config.appearance_tokens)
        resolution = config.appearance_resolution
        self.appearance_basis = nn.Parameter(
            torch.randn(config.appearance_tokens, 3, CHANGE_CHANNELS, resolution, resolution) * 0.1
        )
        self.appearance_out = nn.Linear(CHANGE_CHANNELS, FEATURES, bias=False)
        for head in (self.steering, self.context, self.appearance):  # the untrained network stays at the reference
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(
        self,
        reference: Encoding,  # [B]; its params may be replaced by better ones, a fit's for example
        audio: Tensor,  # [B, T + 2 · audio_context, A] features at the frame rate, see `audio_window`
        seed: Tensor | None = None,  # [B, seed_frames, 343] motion vectors of the first frames; none: unknown
    ) -> FrameTokens:  # [B, T], the seed frames included
        return self._decode(reference, self._changes(reference, audio, seed))

    def motion(self, reference: Encoding, audio: Tensor, seed: Tensor | None = None) -> Tensor:  # [B, T, 343]
        """The motion vectors that `forward` makes frames of, for a small share of its work."""
        return self._moved(reference, self._changes(reference, audio, seed))[1]

    @torch.no_grad()
    def generate(self, reference: Encoding, audio: Tensor) -> FrameTokens:
        """Frames for a whole speech [L, A] or [B, L, A] → [B, L]; no chance in it.

        Windows follow each other by `window - seed_frames`; each is seeded with the end of the one before (the first
        with the reference pose) and cross-faded with it over the seed frames.
        """
        audio = audio[None] if audio.dim() == 2 else audio
        batch, length = audio.shape[:2]
        people = len(reference.params.transl)
        if batch != people or not length:
            raise ValueError(f"stage 2: expected audio [{people}, L > 0, A], got {tuple(audio.shape)}")
        window, seeds, context = self.config.window, self.config.seed_frames, self.config.audio_context
        seed = audio.new_zeros(batch, seeds, MOTION)
        fade = (torch.arange(seeds, device=audio.device) + 1)[:, None] / (seeds + 1)
        parts: list[Tensor] = []  # windows of [B, frames, motion + context + appearance]
        for start in range(0, max(length - seeds, 1), window - seeds):
            piece = audio_window(audio, start, window, context)
            change = self._changes(reference, piece, seed)
            if parts:
                change[:, :seeds] = torch.lerp(parts[-1][:, -seeds:], change[:, :seeds], fade)
                parts[-1] = parts[-1][:, :-seeds]
            parts.append(change)
            seed = self._moved(reference, change[:, -seeds:])[1]
        return self._decode(reference, torch.cat(parts, 1)[:, :length])

    def identity(self, reference: Encoding) -> Identity:
        table = sample_planes(self.appearance_basis, self.stage1.anchors.coordinates).sum(2)  # [A', N, 16]
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

    def _changes(self, reference: Encoding, audio: Tensor, seed: Tensor | None) -> Tensor:
        """[B, T, MOTION + context + appearance]: the decoder's numbers, then coefficients of the two bases."""
        context = self.config.audio_context
        length = audio.shape[1] - 2 * context
        if length < 1 or audio.shape[-1] != self.audio_dim:
            raise ValueError(
                f"stage 2: expected audio [B, T + {2 * context}, {self.audio_dim}], got {tuple(audio.shape)}"
            )
        heard = self._hear(audio)
        x = heard[:, context : context + length] + self._describe(reference)[:, None]
        x = x + self._seed_embedding(seed, x)
        times = torch.arange(audio.shape[1], device=audio.device)
        own = times[context : context + length]
        near = (own[:, None] - times).abs() <= context
        for block in self.blocks:
            x = block(x, heard, (own, times), near)
        x = self.norm(x)
        motion = STEERING_GAIN * self.steering(x).float()
        filtered = smooth(motion, BODY_SMOOTHING)
        filtered[..., FACE_NUMBERS] = motion[..., FACE_NUMBERS]
        return torch.cat([filtered, self.context(x).float(), self.appearance(x).float()], -1)

    def _decode(self, reference: Encoding, change: Tensor) -> FrameTokens:
        tokens, motion, appearance = self._moved(reference, change)
        return FrameTokens(tokens, params_from_motion(motion, reference.params), appearance)

    def _moved(self, reference: Encoding, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, T, K, d], motion vectors [B, T, 343] and appearance [B, T, A'] of the frames."""
        motion, context, appearance = change.split([MOTION, len(self.context_basis), len(self.appearance_basis)], -1)
        steered = torch.einsum("btm,mkd->btkd", motion, self.stage1.smplx_decoder.steering())
        free = torch.einsum("btr,rkd->btkd", context, self.context_basis.float())
        still = reference.tokens.smplx.float()
        moved = still[:, None] + torch.cat([steered, free], -2)
        focal, principal = reference.focal_over_size, reference.principal
        decoder = self.stage1.smplx_decoder
        before = decoder.read(still, focal, principal)
        after = decoder.read(moved, focal[:, None], principal[:, None])
        with full_precision(still):
            turns = rotation_from_6d(before.pose)[:, None].mT @ rotation_from_6d(after.pose)
            pose = rotation_to_6d(turns) - turns.new_tensor(IDENTITY_6D)
            expression, pelvis = after.expression - before.expression[:, None], after.pelvis - before.pelvis[:, None]
        return moved, bounded(torch.cat([pose.flatten(-2), expression, pelvis], -1)), appearance

    def _hear(self, audio: Tensor) -> Tensor:  # [B, T', A] → [B, T', w]
        x = self.audio_in(audio.to(self.audio_in.weight.dtype)).mT
        for layer in self.audio_mix:
            x = x + F.gelu(layer(x))
        return self.audio_norm(x.mT)

    def _describe(self, reference: Encoding) -> Tensor:  # [B, w]
        dtype = self.reference_in.weight.dtype
        tokens = self.token_in(reference.tokens.smplx.to(dtype)).flatten(1)
        return self.reference_in(torch.cat([tokens.to(dtype), pose_features(reference.params).to(dtype)], -1))

    def _seed_embedding(self, seed: Tensor | None, x: Tensor) -> Tensor:  # [B, T, w]
        if seed is None:
            return self.seed_flag[0].to(x.dtype).expand_as(x)
        if seed.shape[-1] != MOTION or seed.shape[1] > x.shape[1]:
            raise ValueError(f"stage 2: expected seed [B, ≤ {x.shape[1]}, {MOTION}], got {tuple(seed.shape)}")
        known = self.seed_in(seed.to(self.seed_in.weight.dtype)) + self.seed_flag[1]
        unknown = self.seed_flag[0].expand(len(x), x.shape[1] - seed.shape[1], -1)
        return torch.cat([known.to(x.dtype), unknown.to(x.dtype)], 1)


def audio_window(features: Tensor, start: int, frames: int, context: int) -> Tensor:
    """Rows start - context … start + frames + context of features [..., L, A], the ends repeated beyond the speech."""
    rows = torch.arange(start - context, start + frames + context, device=features.device)
    return features.index_select(-2, rows.clamp(0, features.shape[-2] - 1))


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Gaussian filter over the frames of x [B, T, C]; the ends are repeated."""
    reach = int(3 * sigma)
    times = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (times / sigma) ** 2, 0)
    padded = torch.cat([x[:, :1].expand(-1, reach, -1), x, x[:, -1:].expand(-1, reach, -1)], 1)
    return torch.einsum("btck,k->btc", padded.unfold(1, 2 * reach + 1, 1), kernel)
