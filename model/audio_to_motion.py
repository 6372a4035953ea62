"""The baseline's first stage: audio features → SMPL-X motion in the person's own frame, without any picture.

A masked transformer over the codes of `model.baseline_codes` that hears the speech: it learns to fill in codes that are hidden
(MaskGIT, Chang et al. 2022), and speaks window after window, each seeded with the last codes of the one before. Arms, hands and
legs are drawn, code after code; the face, which the speech decides, is the mean of its codes under their probabilities, with
what a network of convolutions adds frame by frame. Motion vectors are those of `model.motion`, relative to `rest_of` the clip:
the T-pose at the clip's mean place and root.
Axes: B batch, T frames, L = T / 4 codes of K columns, A audio features, C codes of a codebook.
"""

from __future__ import annotations

import math

import roma
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.baseline_codes import COLUMNS, COMPONENTS, LEVELS, PARTS, STRIDE, MotionCodes, numbers_of
from model.layers import Block, RMSNorm
from model.types import SmplxParams

WINDOW = 64  # frames of a window
SEED = 2  # codes of a window that are known from the one before
# how codes of each part are drawn: a coarse code that best fits what was before hardly moves, a fine one takes the seam away
TEMPERATURE = {"upper": 1.1, "hands": 1.1, "lower": 0.7}
COHERENCE = {"upper": (0.0, 3.0), "hands": (0.0, 3.0), "lower": (1.0, 3.0)}  # of coarse and fine, in units of what is usual
AMPLITUDE = 1.1  # of what is drawn: the centre of a heap lies nearer to the mean than what it stands for
SMOOTHED = 0.05  # share of probability that training spreads over all codes; when they are drawn it is taken away again
NOISE, DROPOUT, DEAF = 0.3, 0.1, 0.3  # in training: on features (of spread 1), on what is heard; share of windows without sound
FACE = slice(0, LEVELS)  # its columns
FACE_WEIGHT = 2.0  # of the face's own loss, beside the cross entropies of codes


def rest_of(params: SmplxParams) -> SmplxParams:
    """What a clip's motion [T] is told relative to, without leading axes: mean root and place, all else zero, its betas."""
    root = roma.special_procrustes(roma.rotvec_to_rotmat(params.global_orient).mean(0))
    rest = params[0].map(lambda t: t * 0)
    fields = {name: getattr(rest, name) for name in rest.__dataclass_fields__}
    fields |= {"global_orient": roma.rotmat_to_rotvec(root), "transl": params.transl.mean(0), "betas": params.betas[0]}
    return SmplxParams(**fields)


def standardised(audio: Tensor) -> Tensor:
    """Features [T, A] of a clip less their mean, of spread 1: what differs between voices and rooms is no part of speech."""
    return (audio - audio.mean(0)) / audio.std(0, unbiased=False).clamp(min=1e-2)


class LipReader(nn.Module):
    """What codes of four frames cannot tell of the face, frame by frame: features [B, T, A] → normalised numbers [B, T, N]."""

    def __init__(self, audio_dim: int, width: int, numbers: int):
        super().__init__()
        self.read = nn.Conv1d(audio_dim, width, 5, padding=2)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(3))
        self.mixes = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, padding=2**i, dilation=2**i) for i in range(3))
        self.out = nn.Conv1d(width, numbers, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, audio: Tensor) -> Tensor:
        x = self.read(audio.mT)
        for norm, mix in zip(self.norms, self.mixes, strict=True):
            x = x + F.glu(mix(norm(x)), dim=1)
        return self.out(x).mT


class AudioToMotion(nn.Module):
    """[T, A] → [T, M]; the codes and the normalisation are part of the weights."""

    def __init__(self, audio_dim: int, width: int, layers: int, codes: int, styles: int, heads: int = 4):
        super().__init__()
        self.motion = MotionCodes(codes)
        self.count = codes
        self.hear = nn.Sequential(
            nn.Conv1d(audio_dim, width, 5, 1, 2), nn.GELU(), nn.Conv1d(width, width, 4, 2, 1), nn.GELU(), nn.Conv1d(width, width, 4, 2, 1)
        )
        self.drop = nn.Dropout(DROPOUT)
        self.style = nn.Embedding(styles, width)  # of the speakers it was trained on
        self.known = nn.ModuleList(nn.Embedding(codes + 1, width) for _ in COLUMNS)  # the last stands for a hidden code
        self.blocks = nn.ModuleList(Block(width, heads, cross=True) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.lips = LipReader(audio_dim, width, len(numbers_of("face")))
        self.heads = nn.ModuleList(nn.Linear(width, codes) for _ in COLUMNS)

    def forward(self, audio: Tensor, codes: Tensor, style: Tensor) -> Tensor:
        """Standardised features [B, T, A], codes [B, L, K] (hidden ones: C) and whose style [B] → logits [B, L, K, C]."""
        if self.training:
            audio = audio + NOISE * torch.randn_like(audio)
        heard = self.drop(self.hear(audio.mT).mT)
        x = heard + self.style(style)[:, None] + torch.stack([known(codes[..., i]) for i, known in enumerate(self.known)]).sum(0)
        times = torch.arange(x.shape[1], device=x.device)
        for block in self.blocks:
            x = block(x, heard, (times, times))
        x = self.norm(x)
        return torch.stack([head(x) for head in self.heads], 2)

    def loss(self, audio: Tensor, vectors: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of hidden codes; what the face misses when its expected latents are decoded."""
        with torch.no_grad():
            true = self.motion.codes(vectors)
        batch = len(true)
        # half of the windows hide what comes after a moment, as when speaking; half a share at random, by MaskGIT's cosine
        chance = lambda *shape: torch.rand(*shape, device=true.device)  # noqa: E731
        times = torch.arange(true.shape[1], device=true.device)[:, None]
        after = times >= torch.randint(true.shape[1], (batch, 1, 1), device=true.device)
        scattered = chance(*true.shape) < torch.cos(chance(batch, 1, 1) * math.pi / 2)
        hidden = torch.where(chance(batch, 1, 1) < 0.5, after, scattered)
        hidden[..., FACE] = True  # the face is told by the speech alone
        deaf = chance(batch, 1, 1) < DEAF
        logits = self(audio * ~deaf, true.masked_fill(hidden, self.count), style)
        entropy = F.cross_entropy(logits[hidden], true[hidden], label_smoothing=SMOOTHED)
        coarse, wanted = self.motion["face"].decode(self._expected_face(logits)), self.motion.split(vectors)["face"]
        got = coarse * ~deaf + self.lips(audio)
        return entropy, FACE_WEIGHT * (F.l1_loss(got, wanted) + F.l1_loss(got.diff(dim=1), wanted.diff(dim=1)))

    @torch.no_grad()
    def generate(self, audio: Tensor, seed: int = 0) -> Tensor:
        """Features [T, A] → motion [T, M] in the manner of one of the speakers; the same seed gives the same motion."""
        generator = torch.Generator().manual_seed(seed)
        style = torch.randint(self.style.num_embeddings, (1,), generator=generator)
        frames, window = len(audio), WINDOW // STRIDE
        length = max(-(-frames // STRIDE), window)
        padded = F.pad(standardised(audio).mT, (0, length * STRIDE - frames), mode="replicate").mT
        codes = torch.full((1, length, len(COLUMNS)), self.count)
        mean_face, weight = torch.zeros(1, length, COMPONENTS), torch.zeros(length, 1)
        start = 0
        while True:
            place = slice(start, start + window)
            heard = padded[None, start * STRIDE : (start + window) * STRIDE]
            codes[:, place], logits = self._filled(heard, codes[:, place], style, generator)
            ramp = torch.ones(window, 1)
            if start:  # the face of the overlap goes over smoothly
                ramp[: SEED + 1] = (torch.arange(SEED + 1) + 1)[:, None] / (SEED + 2)
            mean_face[:, place] += ramp * self._expected_face(logits)
            weight[place] += ramp
            if start + window >= length:
                break
            start = min(start + window - SEED, length - window)
        latents = self.motion.latents(codes)
        latents = {part: AMPLITUDE * x for part, x in latents.items()} | {"face": mean_face / weight}
        found = self.motion.joined(latents)
        face = numbers_of("face")
        found[..., face] += self.lips(padded[None]) * self.motion.std[face]
        return found[0, :frames]

    def _filled(self, audio: Tensor, codes: Tensor, style: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Hidden codes [1, L, K] of a window drawn one after the other, a part's coarse code first; also the last logits."""
        codes = codes.clone()
        codes[..., FACE] = self.count
        temperature, coherence = (torch.tensor([x[p] for p in PARTS[1:]]) for x in (TEMPERATURE, COHERENCE))
        for time in range(codes.shape[1]):
            for level in range(LEVELS):
                columns = slice(LEVELS + level, None, LEVELS)
                if (codes[0, time, columns] != self.count).all():
                    continue
                learned = torch.softmax(self(audio, codes, style)[0, time, columns], -1) - SMOOTHED / self.count
                scores = learned.clamp(min=1e-9).log() / temperature[:, None]
                if time:
                    scores = scores - coherence[:, level, None] * self._misfits(codes[0, time - 1 : time + 1], level)
                chance = torch.softmax(scores, -1)
                codes[0, time, columns] = torch.multinomial(chance, 1, generator=generator)[:, 0]
        logits = self(audio, codes, style)
        codes[..., FACE] = logits[..., FACE, :].argmax(-1)
        return codes, logits

    def _misfits(self, codes: Tensor, level: int) -> Tensor:
        """Codes [2, K] of a moment and the next, of which those before `level` are known → misfit of each next code, [parts, C]."""
        found = []
        for i, part in enumerate(PARTS):
            if i:
                space, own = self.motion[part], codes[:, LEVELS * i : LEVELS * (i + 1)]
                coarse = space.codebooks[0][own[1, 0]] if level else None
                found.append(space.coherence(space.latents(own[0]), coarse))
        return torch.stack(found)

    def _expected_face(self, logits: Tensor) -> Tensor:  # [B, L, K, C] → [B, L, D]
        books = self.motion["face"].codebooks
        return torch.einsum("blkc,kcd->bld", torch.softmax(logits[..., FACE, :], -1), books)
