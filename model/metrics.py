"""Figures of merit: numpy or torch in, floats out. Each states its formula, its unit and where it comes from.

Lengths are metres, times seconds, and so are the results (a table that prints mm or ×1e5 multiplies there). Pictures
are [..., H, W, D] in 0..1. FGD, which needs a fitted encoder, lives in `model.fgd` and is offered here too.
Axes: T frames, J joints, V vertices, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.fgd import AUTOENCODER_VERSION as AUTOENCODER_VERSION
from model.fgd import MotionAutoencoder as MotionAutoencoder
from model.fgd import fgd as fgd
from model.fgd import fit_autoencoder as fit_autoencoder
from model.fgd import frechet_distance as frechet_distance
from model.fgd import motion_windows as motion_windows

Values = Any  # an array, a tensor or nested lists of numbers
Floats = NDArray[np.float64]

# the 13 joints of the body whose beats EMAGE counts: spine, neck, head, collars, shoulders, elbows, wrists
BEAT_JOINTS = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
BEAT_SIGMA = 0.3  # seconds
BEAT_ORDER = 7  # frames each side within which a minimum of speed is the least
BEAT_SPEED = 0.3  # of the joint's mean speed: slower minima are rests
BEAT_MARGIN = 2.0  # seconds dropped at both ends
SSIM_WINDOW = 11  # pixels


# --- pictures


def psnr(image: Values, target: Values, box: Values | None = None) -> float:
    """Mean over pictures of −10 log₁₀ MSE, dB, over all pixels or those inside `box`; inf where equal.

    `box`: (left, top, right, bottom) in pixels, one for all pictures or [n, 4], one each.
    """
    errors = [(a - b).square().mean().item() for a, b in _pairs(image, target, box)]
    return float(np.mean([-10 * math.log10(e) if e > 0 else math.inf for e in errors]))


def ssim(image: Values, target: Values, box: Values | None = None) -> float:
    """Mean structural similarity (Wang et al. 2004; window 11, σ 1.5), of pictures cut to `box` first; −1..1.

    As torchmetrics computes it. Windows that leave the picture are not counted, so 11 pixels a side are the least.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # 3 s: only where it is needed

    scores = []
    for a, b in _pairs(image, target, box):
        if min(a.shape[:2]) < SSIM_WINDOW:
            raise ValueError(f"ssim: expected at least {SSIM_WINDOW} pixels a side, got {tuple(a.shape[:2])}")
        a, b = (t.movedim(-1, 0)[None].float() for t in (a, b))
        scores.append(float(structural_similarity_index_measure(a, b, data_range=1.0)))  # type: ignore[arg-type]
    return float(np.mean(scores))


def person_box(alpha: Values, margin: float = 0.0) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of alpha > .5 in masks [..., H, W], grown by `margin` of their longer side.

    The whole picture where nobody is seen.
    """
    masks = _tensor(alpha)
    height, width = masks.shape[-2:]
    boxes = []
    for mask in masks.reshape(-1, height, width) > 0.5:
        rows, columns = torch.nonzero(mask.any(1))[:, 0], torch.nonzero(mask.any(0))[:, 0]
        if len(rows) == 0:
            boxes.append((0, 0, width, height))
            continue
        left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        grow = round(margin * max(right - left, bottom - top))
        boxes.append((max(left - grow, 0), max(top - grow, 0), min(right + grow, width), min(bottom + grow, height)))
    return boxes


def flicker(frames: Values) -> float:
    """Mean |xₜ₊₁ − 2xₜ + xₜ₋₁| of pixels over time, of 1: what comes and goes at once; steady motion counts little.

    Frames [T, H, W, D] of one camera, T ≥ 3. It has no ideal value but the truth's on the same clip.
    """
    x = _tensor(frames)
    if len(x) < 3:
        raise ValueError(f"flicker: expected at least 3 frames, got {len(x)}")
    return float((x[2:] - 2 * x[1:-1] + x[:-2]).abs().mean())


# --- poses


def mpjpe(predicted: Values, truth: Values) -> float:
    """Mean distance of joints (of vertices: PVE) [..., J, 3], metres."""
    p, t = _same(predicted, truth)
    return float(np.linalg.norm(p - t, axis=-1).mean())


def pa_mpjpe(predicted: Values, truth: Values) -> float:
    """The same after the best similarity (rotation, scale, translation) of each frame [..., J, 3], metres."""
    p, t = _same(predicted, truth)
    return mpjpe(procrustes(p, t), t)


def procrustes(points: Values, target: Values) -> Floats:
    """`points` [..., J, 3] moved onto `target` by the similarity of least squares (Umeyama 1991)."""
    p, t = _same(points, target)
    p_mean, t_mean = p.mean(-2, keepdims=True), t.mean(-2, keepdims=True)
    p, t = p - p_mean, t - t_mean
    u, s, vh = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    mirror = np.sign(np.linalg.det(u @ vh))
    s[..., 2] *= mirror
    vh = vh.copy()
    vh[..., 2, :] *= mirror[..., None]
    size = np.square(p).sum((-2, -1))
    scale = s.sum(-1) / np.maximum(size, np.finfo(np.float64).tiny)
    return scale[..., None, None] * (p @ (u @ vh)) + t_mean


def acceleration_error(predicted: Values, truth: Values, fps: float) -> float:
    """Mean ‖Δ²predicted − Δ²truth‖ · fps² of joints [T, J, 3], m/s² (HMMR, Kanazawa et al. 2019)."""
    p, t = _same(predicted, truth)
    return float(np.linalg.norm(np.diff(p - t, 2, axis=0), axis=-1).mean() * fps**2)


# --- motion


def jerk(joints: Values, fps: float) -> float:
    """Mean ‖Δ³x‖ · fps³ of joints [T, J, 3], m/s³; T ≥ 4."""
    x = _array(joints)
    if len(x) < 4:
        raise ValueError(f"jerk: expected at least 4 frames, got {len(x)}")
    return float(np.linalg.norm(np.diff(x, 3, axis=0), axis=-1).mean() * fps**3)


def l1div(joints: Values) -> float:
    """L1Div = (1/T) Σₜ Σ_d |xₜ,d − mean over t of x_d|, d over all coordinates of joints [T, J, 3], metres (EMAGE)."""
    x = _array(joints)
    return float(np.abs(x - x.mean(0)).sum() / len(x))


def face_mse(predicted: Values, truth: Values) -> float:
    """Mean squared difference of coordinates of face vertices [T, V, 3], m²; papers print it ×1e8."""
    p, t = _same(predicted, truth)
    return float(np.square(p - t).mean())


def lvd_emage(predicted: Values, truth: Values) -> float:
    """Mean |predicted − truth| of coordinates of face vertices [T, V, 3], metres; papers print it ×1e5.

    What EMAGE's trainer prints as LVD: its formula reduces to this, which is no velocity. See `lvd_talkshow`.
    """
    p, t = _same(predicted, truth)
    return float(np.abs(p - t).mean())


def lvd_talkshow(predicted: Values, truth: Values) -> float:
    """Mean over frames of Σ over vertices |‖Δpredicted‖ − ‖Δtruth‖| [T, V, 3], metres a frame; papers print it ×1e5.

    TalkSHOW's landmark velocity difference. It sums over vertices, so only equal vertex sets compare.
    """
    p, t = _same(predicted, truth)
    speeds = [np.linalg.norm(np.diff(x, axis=0), axis=-1) for x in (p, t)]
    return float(np.abs(speeds[0] - speeds[1]).sum(-1).mean())


# --- motion and speech


def beat_consistency(
    joints: Values,  # [T, 55, 3] metres
    audio: Values,  # [S] mono
    fps: float,
    sample_rate: int = 16000,
    mean_speed: Values | None = None,  # [55] m/s of the corpus; none: of this clip
) -> float:
    """BC (EMAGE's): mean over 13 joints of (1/|A|) Σ_a exp(−minₘ (a − m)² / 2σ²), σ = 0.3 s; 0..1.

    A: onsets of the speech; m: times of the joint's beats, the local minima of its speed within ±7 frames whose speed
    is over 0.3 of its mean. The first and the last 2 s are dropped. A joint without beats counts 0. NaN where nothing,
    or no onset, is left in between. It cannot tell right from wrong speech: never read it alone.
    """
    x = _array(joints)
    onsets = onset_times(audio, sample_rate)
    end = len(x) / fps - BEAT_MARGIN
    onsets = onsets[(onsets >= BEAT_MARGIN) & (onsets < end)]
    if len(onsets) == 0:
        return math.nan
    # central differences
    speed = np.linalg.norm(np.gradient(x[:, list(BEAT_JOINTS)], 1 / fps, axis=0), axis=-1)  # [T, 13]
    usual = speed.mean(0) if mean_speed is None else _array(mean_speed)[list(BEAT_JOINTS)]
    first, last = math.ceil(BEAT_MARGIN * fps), math.floor(end * fps)
    beats = _minima(speed[first:last], BEAT_ORDER) & (speed[first:last] > BEAT_SPEED * usual)
    scores = []
    for j in range(len(BEAT_JOINTS)):
        times = (first + np.flatnonzero(beats[:, j]) + 0.5) / fps
        gaps = np.abs(onsets[:, None] - times).min(1) if len(times) else np.full(len(onsets), np.inf)
        scores.append(np.exp(-np.square(gaps) / (2 * BEAT_SIGMA**2)).mean())
    return float(np.mean(scores))


def onset_times(audio: Values, sample_rate: int = 16000) -> Floats:
    """Times at which a sound begins, seconds: peaks of the spectral flux (Böck et al. 2012), 32 ms windows every 10 ms.

    Flux: mean rise of the log power of 40 bands, relative to the clip's largest. A peak is the largest within ±30 ms,
    exceeds the mean over ±100 ms by 0.07, and comes 30 ms after the last: the constants of librosa's onset_detect.
    """
    sound = _array(audio)
    if sound.ndim != 1:
        raise ValueError(f"onset_times: expected mono audio [S], got shape {sound.shape}")
    size, hop = round(0.032 * sample_rate), round(0.010 * sample_rate)
    padded = np.pad(sound, size // 2)
    if len(sound) < size or not np.any(sound):
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=-1)))
    edges = np.unique(np.round(np.geomspace(2, power.shape[1], 41)).astype(int))
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    bands = 10 * np.log10(np.maximum(bands, bands.max() * 1e-8))
    flux = np.maximum(np.diff(bands, axis=0, prepend=bands[:1]), 0).mean(1)
    flux /= max(flux.max(), 1e-12)
    around = lambda radius: np.lib.stride_tricks.sliding_window_view(np.pad(flux, radius), 2 * radius + 1)  # noqa: E731
    peaks = np.flatnonzero((flux == around(3).max(1)) & (flux >= around(10).mean(1) + 0.07))
    kept: list[int] = []
    for peak in peaks:
        if not kept or peak - kept[-1] > 3:
            kept.append(int(peak))
    return np.array(kept, np.float64) * hop / sample_rate


@dataclass(frozen=True)
class LaggedCorrelation:
    """Pearson's r of two series, as they are and at the lag where it is largest."""

    r: float
    best_r: float
    lag: float  # seconds by which the mouth comes after the speech (negative: before)


def mouth_audio_correlation(
    opening: Values,  # [T] of the mouth, any unit
    energy: Values,  # [T] of the speech at the same frames
    fps: float,
    max_lag: float = 0.4,
) -> LaggedCorrelation:
    """Pearson correlation of mouth opening and speech energy at lag 0, and the largest within ±`max_lag` seconds.

    Each lag is judged on the frames that both series have then. A mouth that never moves correlates 0 with anything.
    """
    mouth, speech = _same(opening, energy)
    reach = round(max_lag * fps)
    if mouth.ndim != 1 or len(mouth) < 2 * reach + 3:
        raise ValueError(f"mouth_audio_correlation: expected [T ≥ {2 * reach + 3}], got shape {mouth.shape}")
    # nearest lags first, so that a tie (a frozen mouth) goes to lag 0
    lags = sorted(range(-reach, reach + 1), key=abs)
    rs = [pearson(mouth[max(k, 0) : len(mouth) + min(k, 0)], speech[max(-k, 0) : len(mouth) - max(k, 0)]) for k in lags]
    best = int(np.argmax(rs))
    return LaggedCorrelation(r=rs[0], best_r=rs[best], lag=lags[best] / fps)


def pearson(first: Values, second: Values) -> float:
    """Pearson's r of two series [T], −1..1; 0 where one of them is constant."""
    a, b = _same(first, second)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    noise = 1e-12 * len(a) * (1 + float(np.abs(_array(first)).max()) * float(np.abs(_array(second)).max()))
    return float((a * b).sum() / scale) if scale > noise else 0.0


# --- helpers


def _minima(series: Floats, order: int) -> NDArray[np.bool_]:
    """[T, J]: whether a value is strictly under all others within `order` frames; never so at the ends."""
    result = np.ones(series.shape, bool)
    for shift in range(1, order + 1):
        later = np.concatenate([series[shift:], np.repeat(series[-1:], min(shift, len(series)), 0)])
        earlier = np.concatenate([np.repeat(series[:1], min(shift, len(series)), 0), series[:-shift]])
        result &= (series < later[: len(series)]) & (series < earlier[: len(series)])
    return result


def _pairs(image: Values, target: Values, box: Values | None) -> list[tuple[Tensor, Tensor]]:
    """Pictures [H, W, D] side by side, cut to their boxes."""
    a, b = _tensor(image), _tensor(target)
    if a.shape != b.shape or a.dim() < 3:
        raise ValueError(f"expected pictures [..., H, W, D] of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    pairs = list(zip(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:]), strict=True))
    if box is None:
        return pairs
    boxes: Sequence[Any] = np.broadcast_to(np.asarray(box), (len(pairs), 4)).tolist()
    cut = []
    for (x, y), (left, top, right, bottom) in zip(pairs, boxes, strict=True):
        if not (0 <= left < right <= x.shape[1] and 0 <= top < bottom <= x.shape[0]):
            raise ValueError(f"box: expected (left, top, right, bottom) inside {x.shape[1]}×{x.shape[0]}, got {box}")
        cut.append((x[top:bottom, left:right], y[top:bottom, left:right]))
    return cut


def _array(values: Values) -> Floats:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)


def _tensor(values: Values) -> Tensor:
    return torch.as_tensor(values).detach().float()


def _same(first: Values, second: Values) -> tuple[Floats, Floats]:
    a, b = _array(first), _array(second)
    if a.shape != b.shape:
        raise ValueError(f"expected two arrays of one shape, got {a.shape} and {b.shape}")
    return a, b
