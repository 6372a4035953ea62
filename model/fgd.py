"""FGD, the Fréchet gesture distance, and the small motion auto-encoder that it is measured with.

Values of different auto-encoders do not compare: `MotionAutoencoder.weights_hash()` belongs beside every figure.
Motion is 6D rotations of 55 joints (330 numbers a frame); a window is 32 frames. EMAGE's auto-encoder has 240 latents
and was fitted to BEAT2; ours has 32 and is fitted to the talks at hand, whose windows would not fill 240 dimensions.
Axes: K windows, T frames, F features (330), L latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fit_threads import one_thread

WINDOW = 32  # frames
STRIDE = 8  # frames between windows
FEATURES = 55 * 6
LATENTS = 32
AUTOENCODER_VERSION = "2"  # of architecture and fitting: part of what the weights depend on
SPREAD_FLOOR = 0.02  # least standard deviation a feature is divided by: feet that never move must not dominate
SUMMED = 768  # frames over which one product sums a weight's gradient
RATE = 2e-3  # of Adam, falling as a cosine to 0


class MotionAutoencoder(nn.Module):
    """Convolutions over time: 32 frames → 32 numbers → 32 frames."""

    mean: Tensor  # [F] of the windows it was fitted to
    spread: Tensor  # [F] their standard deviation

    def __init__(self, features: int = FEATURES, latents: int = LATENTS, width: int = 64):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        down = lambda: [nn.Conv1d(width, width, 4, 2, 1), nn.GELU()]  # noqa: E731
        # normalised only on the way up: the latents must tell how large a motion is
        up = lambda: [nn.ConvTranspose1d(width, width, 4, 2, 1), nn.GroupNorm(1, width), nn.GELU()]  # noqa: E731
        steps = WINDOW // 8
        self.encoder = nn.Sequential(
            nn.Conv1d(features, width, 1), nn.GELU(), *down(), *down(), *down(),
            nn.Flatten(), nn.Linear(width * steps, latents),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latents, width * steps), nn.GELU(), nn.Unflatten(1, (width, steps)),
            *up(), *up(), *up(), nn.Conv1d(width, features, 1),
        )  # fmt: skip

    def encode(self, windows: Tensor) -> Tensor:  # [K, 32, F] → [K, L]
        if windows.shape[-2:] != (WINDOW, len(self.mean)):
            raise ValueError(f"windows: expected [K, {WINDOW}, {len(self.mean)}], got {tuple(windows.shape)}")
        x = (windows - self.mean) / self.spread
        first = self.encoder[0]  # a convolution of width 1, which as a product takes half the time
        assert isinstance(first, nn.Conv1d)
        return self.encoder[1:](_linear(x, first).mT)

    def encode_motion(self, motion: Tensor) -> Tensor:  # [T, F] → [K, L]
        """Latents of the windows of `motion_windows`, whose frames in common are looked at once."""
        if len(motion) < WINDOW:
            return self.encode(motion.new_zeros(0, WINDOW, motion.shape[-1]))
        first = self.encoder[0]
        assert isinstance(first, nn.Conv1d)
        seen = F.linear((motion - self.mean) / self.spread, first.weight[..., 0], first.bias)
        return self.encoder[1:](seen.unfold(0, WINDOW, STRIDE))

    def decode(self, latents: Tensor) -> Tensor:  # [K, L] → [K, 32, F]
        last = self.decoder[-1]
        assert isinstance(last, nn.Conv1d)
        return _linear(self.decoder[:-1](latents).mT, last).mul_(self.spread).add_(self.mean)

    def weights_hash(self) -> str:
        """16 hex digits of all weights: the encoder's name in every FGD figure."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def motion_windows(motions: Iterable[Tensor], stride: int = STRIDE) -> Tensor:
    """Windows [K, 32, F] of every motion [T, F], `stride` frames apart; a motion under 32 frames gives none."""
    pieces = [m.unfold(0, WINDOW, stride).mT for m in motions if len(m) >= WINDOW]
    return torch.cat(pieces).float() if pieces else torch.zeros(0, WINDOW, FEATURES)


def fit_autoencoder(windows: Tensor, seed: int = 0, steps: int = 400, batch: int = 64) -> MotionAutoencoder:
    """Fit to windows [K, 32, F] by reconstruction; on one machine the same arguments give the same weights."""
    if len(windows) < 2:
        raise ValueError(f"fit_autoencoder: expected at least 2 windows of {WINDOW} frames, got {len(windows)}")
    windows = windows.detach().float()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), one_thread():
        torch.manual_seed(seed)
        network = MotionAutoencoder(windows.shape[-1]).to(windows.device)
        network.mean.copy_(windows.mean((0, 1)))
        network.spread.copy_(_spread(windows).clamp(min=SPREAD_FLOOR))
        optimiser = torch.optim.Adam(network.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            sample = windows[torch.randint(len(windows), (min(batch, len(windows)),)).to(windows.device)]
            made = network.decode(network.encode(sample))
            # the gradient of F.mse_loss(made / spread, sample / spread)
            slope = made.detach().div(network.spread).sub_(sample.div_(network.spread)).mul_(2 / sample.numel()).div_(network.spread)
            optimiser.zero_grad()
            made.backward(slope)
            optimiser.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def _linear(x: Tensor, layer: nn.Conv1d) -> Tensor:  # [K, T, in] → [K, T, out]
    made: Tensor = _Linear.apply(x, layer.weight[..., 0], layer.bias)
    return made


class _Linear(torch.autograd.Function):
    """A product over frames; its weight's gradient sums each half of the frames by itself, `SUMMED` at a time.

    So do two threads of MKL, whose weights, and with them FGD, so come out of any number of threads.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (slope,), (x, weight) = slopes, ctx.saved_tensors
        rows, columns = slope.flatten(0, 1), x.flatten(0, 1)
        half = len(rows) // 2
        sums = []
        for start, stop in ((0, half), (half, len(rows))):
            sums.append(torch.zeros_like(weight))
            for k in range(start, stop, SUMMED):
                part = slice(k, min(k + SUMMED, stop))
                sums[-1].addmm_(rows[part].T, columns[part])
        return slope @ weight if ctx.needs_input_grad[0] else None, sums[0] + sums[1], rows.sum(0)


def _spread(windows: Tensor) -> Tensor:  # [K, 32, F] → [F]
    """`windows.std((0, 1))`, which takes ten times as long."""
    centre, count = windows[0].double().mean(0), windows.shape[0] * WINDOW
    sums = torch.zeros(2, *centre.shape, dtype=torch.float64, device=windows.device)
    for part in windows.flatten(0, 1).split(4096):
        away = part.double().sub_(centre)
        sums += torch.stack([away.sum(0), away.square_().sum(0)])
    return ((sums[1] - sums[0].square() / count) / (count - 1)).sqrt().float()


def fgd(real: Tensor, generated: Tensor, autoencoder: MotionAutoencoder) -> float:
    """Fréchet distance of windows [K, 32, F] in the auto-encoder's latents; raw, not the ×10 that some papers print."""
    with torch.no_grad():
        return frechet_distance(autoencoder.encode(real), autoencoder.encode(generated))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) of samples [K, L], in float64 (Heusel et al. 2017; FGD: Yoon et al. 2020)."""
    for samples in (first, second):
        if samples.dim() != 2 or len(samples) < 2:
            raise ValueError(f"frechet_distance: expected at least 2 samples [K, L], got {tuple(samples.shape)}")
    centre = first.detach().double().mean(0)
    return float(frechet_of(Moments.of(first, centre), Moments.of(second, centre)))


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products of samples; those of several sets add up."""

    count: Tensor  # [...]
    sums: Tensor  # [..., L]
    outer: Tensor  # [..., L, L]

    @classmethod
    def of(cls, samples: Tensor, centre: Tensor | None = None) -> Moments:  # [K, L]
        """Of samples less `centre`: with one near their mean no digits are lost; sets to be compared need the same."""
        x = samples.detach().double() - (0 if centre is None else centre.double())
        return cls(torch.tensor(float(len(x)), dtype=torch.float64), x.sum(0), x.T @ x)

    @classmethod
    def stack(cls, parts: list[Moments]) -> Moments:
        return cls(*(torch.stack([getattr(p, n) for p in parts]) for n in ("count", "sums", "outer")))

    def weighted(self, draws: Tensor) -> Moments:
        """Sums over the leading axis [S], each set counted `draws` [R, S] times → [R]."""
        w = draws.double()
        return Moments(w @ self.count, w @ self.sums, torch.einsum("rs,sij->rij", w, self.outer))

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        n = self.count[..., None]
        mean = self.sums / n
        spread = self.outer - n[..., None] * mean[..., :, None] * mean[..., None, :]
        return mean, spread / (n[..., None] - 1)


def frechet_of(first: Moments, second: Moments) -> Tensor:
    """`frechet_distance` of moments [...] → [...].

    The trace of the root is taken as Σ √eig(Σ₁^½ Σ₂ Σ₁^½), which is real even with fewer samples than dimensions. What
    rounding alone can make of it, 10⁻⁹ of both traces (roots of small eigenvalues are exact to 10⁻¹⁰), is 0 on every processor.
    """
    (mean_first, cov_first), (mean_second, cov_second) = first.mean_and_covariance(), second.mean_and_covariance()
    trace = lambda m: m.diagonal(dim1=-2, dim2=-1).sum(-1)  # noqa: E731
    values, vectors = torch.linalg.eigh(cov_first)
    root = vectors * values.clamp(min=0).sqrt()[..., None, :] @ vectors.mT
    shared = torch.linalg.eigvalsh(root @ cov_second @ root).clamp(min=0).sqrt().sum(-1)
    between = (mean_first - mean_second).square().sum(-1)
    spreads = trace(cov_first) + trace(cov_second)
    distance = between + spreads - 2 * shared
    return torch.where(distance > 1e-9 * spreads, distance, 0.0)
