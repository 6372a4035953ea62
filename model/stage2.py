"""Stage 2: a reference picture's encoding and speech → SMPL-X tokens and appearance of each following frame.

Frames of a window attend to each other and to the audio within ±`audio_context` frames. Each frame's SMPL-X tokens are
the reference's plus a change; stage 1's decoder turns both into poses, and the motion between the two is applied to the
reference's parameters. So an untrained network holds the reference pose, and nothing accumulates: root and translation
stay within the bounds of `model.motion` of the reference however long the speech is.
Axes: B batch, T frames of a window, L of a speech, A audio channels, K SMPL-X tokens, d stage 1's width, w own width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Stage2Config
from model.layers import Block, RMSNorm
from model.motion import MOTION, bounded, motion_vector, params_from_motion, pose_features
from model.smplx_tokens import FACE
from model.stage1 import FEATURES, Encoding, Stage1
from model.triplane import sample_planes
from model.types import GaussianCloud, SmplxParams, TensorGroup

BODY_SMOOTHING = 1.5  # frames, standard deviation of the filter on body and hands, which passes gestures and no jitter
FACE_SHARE = 0.25  # share of the change coefficients that move the face token; these are not filtered
CHANGE_GAIN = 4.0  # of coefficients into tokens: the decoder turns a joint by under 0.1 rad for a token's own size of change
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
        rank = width // 2
        self.face_rank = max(4, int(rank * FACE_SHARE))
        self.coefficients = nn.Linear(width, rank)
        self.change_basis = nn.Parameter(torch.randn(rank, tokens, token_width) * 0.1)
        self.appearance = nn.Linear(width, config.appearance_tokens)
        resolution = config.appearance_resolution
        self.appearance_basis = nn.Parameter(
            torch.randn(config.appearance_tokens, 3, CHANGE_CHANNELS, resolution, resolution) * 0.1
        )
        self.appearance_out = nn.Linear(CHANGE_CHANNELS, FEATURES, bias=False)
        for head in (self.coefficients, self.appearance):  # the untrained network stays at the reference
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(
        self,
        reference: Encoding,  # [B]; its params may be replaced by better ones, a fit's for example
        audio: Tensor,  # [B, T + 2 · audio_context, A] features at the frame rate, see `audio_window`
        seed: Tensor | None = None,  # [B, seed_frames, 343] motion vectors of the first frames; none: unknown
    ) -> FrameTokens:  # [B, T], the seed frames included
        return self._decode(reference, *self._changes(reference, audio, seed))

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
        parts: list[Tensor] = []  # windows of [B, frames, rank + appearance]
        for start in range(0, max(length - seeds, 1), window - seeds):
            piece = audio_window(audio, start, window, context)
            change = torch.cat(self._changes(reference, piece, seed), -1).float()
            if parts:
                change[:, :seeds] = torch.lerp(parts[-1][:, -seeds:], change[:, :seeds], fade)
                parts[-1] = parts[-1][:, :-seeds]
            parts.append(change)
            coefficients, appearance = self._split(change[:, -seeds:])
            seed = motion_vector(self._decode(reference, coefficients, appearance).params, reference.params)
        return self._decode(reference, *self._split(torch.cat(parts, 1)[:, :length]))

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

    def _changes(self, reference: Encoding, audio: Tensor, seed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Coefficients of the token change [B, T, rank] and of the appearance [B, T, A']."""
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
        coefficients = self.coefficients(x)
        face, body = coefficients[..., : self.face_rank], coefficients[..., self.face_rank :]
        return torch.cat([face.float(), smooth(body.float(), BODY_SMOOTHING)], -1), self.appearance(x).float()

    def _decode(self, reference: Encoding, coefficients: Tensor, appearance: Tensor) -> FrameTokens:
        still = reference.tokens.smplx.float()
        moved = still[:, None] + CHANGE_GAIN * torch.einsum("btr,rkd->btkd", coefficients, self._basis())
        focal, principal = reference.focal_over_size, reference.principal
        before = self.stage1.decode_smplx(still, focal, principal)
        after = self.stage1.decode_smplx(moved, focal[:, None], principal[:, None])
        motion = bounded(motion_vector(after, before))
        return FrameTokens(moved, params_from_motion(motion, reference.params), appearance)

    def _basis(self) -> Tensor:
        """[rank, K, d]: the first `face_rank` rows move the face token alone, the others every token but that."""
        mask = self.change_basis.new_zeros(self.change_basis.shape[:2])
        mask[: self.face_rank, FACE] = 1
        mask[self.face_rank :] = 1
        mask[self.face_rank :, FACE] = 0
        return (self.change_basis * mask[..., None]).float()

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

    def _split(self, change: Tensor) -> tuple[Tensor, Tensor]:
        return change[..., : self.coefficients.out_features], change[..., self.coefficients.out_features :]


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
