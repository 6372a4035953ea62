"""Figures of merit: numpy or torch in, floats out. Each states its formula, its unit and where it comes from.

Lengths are metres, times seconds, and so are the results (a table that prints mm or ×1e5 multiplies there). Pictures
are [..., H, W, D] in 0..1. FGD, which needs a fitted encoder, lives in `model.fgd` and is offered here too.
Axes: T frames, J joints, V vertices, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.fgd import AUTOENCODER_VERSION as AUTOENCODER_VERSION
from model.fgd import STRIDE as STRIDE
from model.fgd import WINDOW as WINDOW
from model.fgd import MotionAutoencoder as MotionAutoencoder
from model.fgd import fgd as fgd
from model.fgd import fit_autoencoder as fit_autoencoder
from model.fgd import frechet_distance as frechet_distance
from model.fgd import motion_windows as motion_windows
from model.losses import ssim_map
from model.metrics_arrays import Floats, Values, as_array, as_tensor, lengths, same_shape
from model.metrics_face import face_errors as face_errors
from model.metrics_face import face_mse as face_mse
from model.metrics_face import lvd_emage as lvd_emage
from model.metrics_face import lvd_evaltools as lvd_evaltools
from model.metrics_face import lvd_talkshow as lvd_talkshow
from model.metrics_intervals import Interval as Interval
from model.metrics_intervals import speaker_bootstrap as speaker_bootstrap
from model.metrics_intervals import speaker_jackknife as speaker_jackknife
from model.metrics_speech import BEAT_JOINTS as BEAT_JOINTS
from model.metrics_speech import LaggedCorrelation as LaggedCorrelation
from model.metrics_speech import Visemes as Visemes
from model.metrics_speech import beat_alignment as beat_alignment
from model.metrics_speech import beat_consistency as beat_consistency
from model.metrics_speech import motion_beats as motion_beats
from model.metrics_speech import mouth_audio_correlation as mouth_audio_correlation
from model.metrics_speech import onset_times as onset_times
from model.metrics_speech import pearson as pearson
from model.metrics_speech import viseme_of as viseme_of

SSIM_WINDOW = 11  # pixels
TOES = (10, 11)
CONTACT = 0.05  # metres above the floor under which a toe stands on it


# --- pictures


def psnr(image: Values, target: Values, box: Values | None = None) -> float:
    """Mean over pictures of −10 log₁₀ MSE, dB, over all pixels or those inside `box`; inf where equal.

    `box`: (left, top, right, bottom) in pixels, one for all pictures or [n, 4], one each.
    """
    errors = [(a - b).square().mean().item() for a, b in _pairs(image, target, box)]
    return float(np.mean([-10 * math.log10(e) if e > 0 else math.inf for e in errors]))


def ssim(image: Values, target: Values, box: Values | None = None) -> float:
    """Mean structural similarity (Wang et al. 2004; window 11, σ 1.5), of pictures cut to `box` first; −1..1.

    The border is continued by reflection, as torchmetrics does, which gives the same; 11 pixels a side are the least.
    """
    scores = []
    for a, b in _pairs(image, target, box):
        if min(a.shape[:2]) < SSIM_WINDOW:
            raise ValueError(f"ssim: expected at least {SSIM_WINDOW} pixels a side, got {tuple(a.shape[:2])}")
        scores.append(float(ssim_map(a, b).mean()))
    return float(np.mean(scores))


def person_box(alpha: Values, margin: float = 0.0) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of alpha > .5 in masks [..., H, W], grown by `margin` of their longer side.

    The whole picture where nobody is seen.
    """
    masks = as_tensor(alpha)
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
    x = as_tensor(frames)
    if len(x) < 3:
        raise ValueError(f"flicker: expected at least 3 frames, got {len(x)}")
    return float((x[2:] - 2 * x[1:-1] + x[:-2]).abs().mean())


# --- poses


def mpjpe(predicted: Values, truth: Values) -> float:
    """Mean distance of joints (of vertices: PVE) [..., J, 3], metres."""
    p, t = same_shape(predicted, truth)
    return float(lengths(p - t).mean())


def pa_mpjpe(predicted: Values, truth: Values) -> float:
    """The same after the best similarity (rotation, scale, translation) of each frame [..., J, 3], metres."""
    p, t = same_shape(predicted, truth)
    return mpjpe(procrustes(p, t), t)


def procrustes(points: Values, target: Values) -> Floats:
    """`points` [..., J, 3] moved onto `target` by the similarity of least squares (Umeyama 1991)."""
    p, t = same_shape(points, target)
    even = np.full(p.shape[-2], 1 / p.shape[-2])
    p_mean, t_mean = (even @ p)[..., None, :], (even @ t)[..., None, :]
    p, t = p - p_mean, t - t_mean
    u, s, vh = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    mirror = np.sign(np.linalg.det(u @ vh))
    s[..., 2] *= mirror
    vh[..., 2, :] *= mirror[..., None]
    size = np.einsum("...ji,...ji->...", p, p)
    scale = s.sum(-1) / np.maximum(size, np.finfo(np.float64).tiny)
    return p @ (scale[..., None, None] * (u @ vh)) + t_mean


# PVE, the mean distance of vertices, and its aligned kind are the same means over other points
pve, pa_pve = mpjpe, pa_mpjpe


def acceleration_error(predicted: Values, truth: Values, fps: float) -> float:
    """Mean ‖Δ²predicted − Δ²truth‖ · fps² of joints [T, J, 3], m/s² (HMMR, Kanazawa et al. 2019)."""
    p, t = same_shape(predicted, truth)
    return float(lengths(np.diff(p - t, 2, axis=0)).mean() * fps**2)


# --- motion


def jerk(joints: Values, fps: float) -> float:
    """Mean ‖Δ³x‖ · fps³ of joints [T, J, 3], m/s³; T ≥ 4."""
    x = as_array(joints)
    if len(x) < 4:
        raise ValueError(f"jerk: expected at least 4 frames, got {len(x)}")
    return float(lengths(np.diff(x, 3, axis=0)).mean() * fps**3)


def l1div(joints: Values) -> float:
    """L1Div = (1/T) Σₜ Σ_d |xₜ,d − mean over t of x_d|, d over all coordinates of joints [T, J, 3], metres (EMAGE)."""
    x = as_array(joints)
    return float(np.abs(x - x.mean(0)).sum() / len(x))


def foot_sliding(joints: Values, fps: float) -> float:
    """Mean horizontal speed of toes that stand on the floor, m/s, of joints [T, 55, 3] with y up; NaN where none stands.

    A toe stands over a step where it is under the floor + 5 cm before and after (the height of GMD's skating ratio,
    Karunratanakul et al. 2023); the floor is where the lowest toe of the clip is.
    """
    toes = as_array(joints)[:, list(TOES)]
    low = toes[..., 1] < toes[..., 1].min() + CONTACT
    standing = low[1:] & low[:-1]
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * fps
    return float(speed[standing].mean()) if standing.any() else math.nan


def identity(embeddings: Values, reference: Values) -> float:
    """Mean cosine of each frame's embedding [T, D] with the reference's [D] (CSIM), −1..1.

    The embedding is the caller's (ArcFace in the literature): figures of different networks do not compare.
    """
    x, r = as_array(embeddings), as_array(reference)
    if x.ndim != 2 or r.shape != x.shape[1:]:
        raise ValueError(f"identity: expected embeddings [T, D] and a reference [D], got {x.shape} and {r.shape}")
    return float((x @ r / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(r), 1e-12)).mean())


# --- helpers


def _pairs(image: Values, target: Values, box: Values | None) -> list[tuple[Tensor, Tensor]]:
    """Pictures [H, W, D] side by side, cut to their boxes."""
    a, b = as_tensor(image), as_tensor(target)
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
