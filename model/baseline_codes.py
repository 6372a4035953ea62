"""Motion as codes, two sequences for each part of the body: the baseline's vocabulary.

Face, upper body, hands and lower body (EMAGE's parts, Liu et al. 2024) are each cut into overlapping windows of eight frames,
four apart; a window's principal components are replaced by the nearest of a codebook, and what that leaves by the nearest of a
second one (residual vector quantisation). Windows are laid over each other with weights that go in and out smoothly, so that a
change of code is no jump. All of it is fitted in closed form or by k-means, in seconds and without gradients: four clips are
enough, and every code is a piece of motion that somebody made.
Axes: B batch, T frames, L = T / 4 codes, N numbers of a part, M of `model.motion`, D components, C codes, K = 8 columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.motion import MOTION
from model.types import JOINTS

STRIDE, SPAN = 4, 8  # frames between codes, and frames of one
COMPONENTS = 32  # D
LEVELS = 2  # codebooks of a part
SMOOTHING = 2.0  # frames: σ over which a change of code is spread, the face's apart (without it jerk is four times the truth's)
ROUNDS = 12  # of k-means
MOST, CHAINS = 20_000, 100  # windows and clips that are looked at
JOINTS_OF = {
    "face": (22, 23, 24), "upper": (3, 6, 9, *range(12, 22)), "hands": tuple(range(25, 55)), "lower": (0, 1, 2, 4, 5, 7, 8, 10, 11),
}  # fmt: skip
PARTS = tuple(JOINTS_OF)
COLUMNS = tuple((part, level) for part in PARTS for level in range(LEVELS))  # of a sequence of codes
EXPRESSION, PLACE = range(JOINTS * 6, JOINTS * 6 + 10), range(JOINTS * 6 + 10, MOTION)


def numbers_of(part: str) -> Tensor:
    """Indices of a part's numbers in a motion vector; the four parts share none and leave none out."""
    found = [6 * j + k for j in JOINTS_OF[part] for k in range(6)]
    return torch.tensor(found + {"face": [*EXPRESSION], "lower": [*PLACE]}.get(part, []))


class PartCodes(nn.Module):
    """One part: [B, T, N] normalised numbers ↔ latents [B, L, D] ↔ codes [B, L, 2]."""

    numbers: Tensor  # [N] indices in a motion vector
    components: Tensor  # [D, 8 N] orthonormal rows
    codebooks: Tensor  # [2, C, D]
    usual: Tensor  # [2] mismatch of codes that follow each other in training, by how many levels are known

    def __init__(self, part: str, codes: int):
        super().__init__()
        self.register_buffer("numbers", numbers_of(part), persistent=False)
        self.register_buffer("components", torch.zeros(COMPONENTS, SPAN * len(self.numbers)))
        self.register_buffer("codebooks", torch.zeros(LEVELS, codes, COMPONENTS))
        self.register_buffer("usual", torch.ones(LEVELS))

    def fit(self, clips: Sequence[Tensor], generator: torch.Generator) -> None:
        """Components and codebooks of normalised clips [T, N]; windows begin at every frame."""
        windows = _some_windows(clips, generator)
        _, vectors = torch.linalg.eigh(windows.mT.double() @ windows.double())
        rows = vectors.mT.flip(0)[:COMPONENTS]
        # the sign of an eigenvector is anybody's: the largest number is positive
        rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
        self.components[: len(rows)] = rows.float()
        left = windows @ self.components.mT
        for level in range(LEVELS):
            self.codebooks[level] = k_means(left, self.codebooks.shape[1], generator)
            left = left - self.codebooks[level][_nearest(left, self.codebooks[level])]
        chains = [self.quantise(self.encode(x[None]))[0] for x in clips[:: -(-len(clips) // CHAINS)]]
        for level in range(LEVELS):
            found = []
            for chain in chains:
                whole = self.latents(chain)
                partly = whole if level else self.codebooks[0][chain[:, 0]]
                found.append(self._mismatch(whole[:-1], partly[1:]))
            self.usual[level] = torch.cat(found).mean().clamp(min=1e-6)

    def coherence(self, before: Tensor, coarse: Tensor | None) -> Tensor:
        """How badly each code fits the latent [D] before it, in units of what is usual, [C]; `coarse`: the first code's latent.

        A window's second half and the next one's first half are the same frames: what they differ by would be seen.
        """
        level = 0 if coarse is None else 1
        after = self.codebooks[level] if coarse is None else coarse + self.codebooks[level]
        return self._mismatch(before.expand_as(after), after) / self.usual[level]

    def _mismatch(self, before: Tensor, after: Tensor) -> Tensor:  # [..., D] twice → [...]
        half = self.components.shape[1] // 2
        return (before @ self.components[:, half:] - after @ self.components[:, :half]).square().mean(-1)

    def encode(self, numbers: Tensor) -> Tensor:  # [B, T, N] → [B, L, D]
        return _padded(numbers).unfold(1, SPAN, STRIDE).mT.flatten(2) @ self.components.mT

    def decode(self, latents: Tensor) -> Tensor:  # [B, L, D] → [B, T, N]
        batch, length = latents.shape[:2]
        windows = (latents @ self.components).unflatten(-1, (SPAN, -1))  # [B, L, 8, N]
        fade = torch.sin(math.pi * (torch.arange(SPAN, device=latents.device) + 0.5) / SPAN).square()  # adds up to 1
        total = (length + 1) * STRIDE
        lay = lambda x: F.fold(x.flatten(2).mT, (total, 1), (SPAN, 1), stride=(STRIDE, 1))[..., 0]  # noqa: E731
        sums = lay((windows * fade[:, None]).transpose(2, 3))  # [B, N, T + 4]
        weights = lay(fade.expand(1, length, 1, SPAN))
        edge = (SPAN - STRIDE) // 2
        return (sums / weights)[..., edge : total - edge].mT.reshape(batch, length * STRIDE, -1)

    def quantise(self, latents: Tensor) -> Tensor:  # [..., D] → [..., 2]
        found, left = [], latents
        for book in self.codebooks:
            found.append(_nearest(left, book))
            left = left - book[found[-1]]
        return torch.stack(found, -1)

    def latents(self, codes: Tensor) -> Tensor:  # [..., 2] → [..., D]
        return sum((book[codes[..., i]] for i, book in enumerate(self.codebooks)), self.codebooks.new_zeros(()))


class MotionCodes(nn.Module):
    """The four parts together, and what motion vectors [B, T, M] are normalised by."""

    mean: Tensor
    std: Tensor

    def __init__(self, codes: int):
        super().__init__()
        self.parts = nn.ModuleDict({part: PartCodes(part, codes) for part in PARTS})
        self.register_buffer("mean", torch.zeros(MOTION))
        self.register_buffer("std", torch.ones(MOTION))

    def __getitem__(self, part: str) -> PartCodes:
        found = self.parts[part]
        assert isinstance(found, PartCodes)
        return found

    def fit(self, clips: Sequence[Tensor], seed: int = 0) -> None:
        """Normalisation and codes of training motion, clips [T, M]."""
        frames = torch.cat(list(clips))
        self.mean.copy_(frames.mean(0))
        self.std.copy_(frames.std(0).clamp(min=5e-3))
        generator = torch.Generator().manual_seed(seed)
        for part in PARTS:
            self[part].fit([self.split(x)[part] for x in clips], generator)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Motion vectors → normalised numbers of each part."""
        normal = (vectors - self.mean) / self.std
        return {part: normal[..., self[part].numbers] for part in PARTS}

    def codes(self, vectors: Tensor) -> Tensor:  # [B, T, M] → [B, L, K]
        return torch.cat([self[n].quantise(self[n].encode(x)) for n, x in self.split(vectors).items()], -1)

    def latents(self, codes: Tensor) -> dict[str, Tensor]:  # [B, L, K] → [B, L, D] of each part
        return {part: self[part].latents(codes[..., LEVELS * i : LEVELS * (i + 1)]) for i, part in enumerate(PARTS)}

    def joined(self, latents: dict[str, Tensor]) -> Tensor:
        """Latents [B, L, D] of each part → motion vectors [B, T, M]."""
        first = latents[PARTS[0]]
        normal = first.new_zeros(len(first), first.shape[1] * STRIDE, MOTION)
        for part, x in latents.items():
            decoded = self[part].decode(x)
            normal[..., self[part].numbers] = decoded if part == "face" else _smoothed(decoded)
        return normal * self.std + self.mean


def k_means(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centres [C, D] of points [P, D]; one that loses all its points becomes a point drawn at random."""
    centres = points[torch.randint(len(points), (count,), generator=generator)].clone()
    for _ in range(ROUNDS):
        nearest = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)
        drawn = points[torch.randint(len(points), (count,), generator=generator)]
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], drawn)
    return centres


def _some_windows(clips: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """At most `MOST` windows [W, 8 N] of clips [T, N], drawn before they are laid out: hours of them fill a memory."""
    views = [_padded(x[None]).unfold(1, SPAN, 1)[0] for x in clips]  # [T, N, 8] of each
    total = sum(map(len, views))
    chosen = torch.randperm(total, generator=generator)[:MOST].sort().values if total > MOST else torch.arange(total)
    ends = torch.tensor([len(v) for v in views]).cumsum(0)
    whose = torch.bucketize(chosen, ends, right=True)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.cat([v[chosen[whose == i] - begins[i]].mT.flatten(1) for i, v in enumerate(views)])


def _smoothed(numbers: Tensor) -> Tensor:
    """[B, T, N] filtered over time, the ends held."""
    reach = math.ceil(3 * SMOOTHING)
    kernel = torch.softmax(-0.5 * ((torch.arange(2 * reach + 1, device=numbers.device) - reach) / SMOOTHING).square(), 0)
    padded = F.pad(numbers.mT, (reach, reach), mode="replicate")
    return (padded.unfold(-1, 2 * reach + 1, 1) @ kernel).mT


def _nearest(points: Tensor, centres: Tensor) -> Tensor:  # [..., D], [C, D] → [...]
    return (centres.square().sum(-1) - 2 * points @ centres.mT).argmin(-1)


def _padded(numbers: Tensor) -> Tensor:
    """[B, T, N] with its ends held for as long as the first and the last window reach out."""
    edge = (SPAN - STRIDE) // 2
    return F.pad(numbers.mT, (edge, edge), mode="replicate").mT
