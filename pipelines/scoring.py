"""One way to score any performance of the held-out clips, whoever made it; definitions stand beside the figures.

Joints are compared from the neck up and out (upper body and hands: talks show no legs), after aligning the necks, so that the
camera's depth, which one picture does not tell, is not part of the figure. Alignment with speech is also scored against
another clip's speech (`mouth_r_mismatched`): only the difference counts.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.schema import Config
from model import metrics
from model.body import HANDS, UPPER_BODY, Body
from model.motion import pose_features
from model.types import SmplxParams
from pipelines.body import body_hash, face_embedding
from pipelines.held_out import HeldOutClip, Performance
from pipelines.manifests import read_manifest
from pipelines.media import SAMPLE_RATE
from pipelines.motions import iterate_motions
from pipelines.store import Store, hash_json, writing

NECK = 12
SEEN_JOINTS = sorted({*UPPER_BODY, *HANDS["left"], *HANDS["right"]})
WRISTS = (20, 21)
LIPS = (0, 17)  # mediapipe's ids of the middle of the upper and of the lower lip, outer edge: the inner ones coincide at rest
DEFINITIONS = {
    "psnr": "PSNR inside the person's box, dB ↑",
    "ssim": "SSIM inside the person's box ↑",
    "mpjpe_mm": "mean joint error, necks aligned, upper body and hands, mm ↓",
    "pa_mpjpe_mm": "the same after Procrustes alignment, mm ↓",
    "fgd": "Fréchet distance of motion latents, this workspace's auto-encoder ↓",
    "lvd": "TalkSHOW's velocity difference over face points, ×1e5 ↓",
    "l1div": "L1 diversity of joint positions (truth's value is the goal)",
    "bc": "beat consistency, σ 0.3 s (cannot tell right from wrong speech: never read it alone)",
    "jerk": "mean jerk of wrists and head, m/s³ (truth's value is the goal)",
    "mouth_r": "correlation of mouth opening with speech energy, best lag within ±0.4 s ↑",
    "mouth_lag_ms": "that lag, ms (truth's value is the goal)",
    "mouth_r_mismatched": "the same with another clip's speech: the control",
}


def score(config: Config, store: Store, body: Body, clips: list[HeldOutClip], performances: list[Performance]) -> dict[str, float]:
    """Means over clips of every figure that can be measured; one performance a clip."""
    rows: list[dict[str, float]] = []
    for i, (clip, played) in enumerate(zip(clips, performances, strict=True)):
        other = clips[(i + 1) % len(clips)]
        rows.append(_clip_scores(config, body, clip, played, other.audio if len(clips) > 1 else None))
    scores = {name: float(np.mean([r[name] for r in rows if name in r])) for name in DEFINITIONS if any(name in r for r in rows)}
    distance = fgd(config, store, [c.truth for c in clips], [p.params for p in performances])
    return scores if distance is None else scores | {"fgd": distance}


def _clip_scores(config: Config, body: Body, clip: HeldOutClip, played: Performance, other_audio: np.ndarray | None) -> dict[str, float]:
    fps = float(clip.fps)
    truth, got = body.joints(clip.truth), body.joints(played.params)
    aligned = [(j - j[:, NECK : NECK + 1])[:, SEEN_JOINTS] for j in (got, truth)]
    face = face_points(config, body, played.params)
    opening = _opening(face)
    lips = metrics.mouth_audio_correlation(opening, energy(clip.audio, fps, len(opening)), fps)
    scores = {
        "mpjpe_mm": 1000 * metrics.mpjpe(*aligned),
        "pa_mpjpe_mm": 1000 * metrics.pa_mpjpe(*aligned),
        "lvd": 1e5 * metrics.lvd_talkshow(face, face_points(config, body, clip.truth)),
        "l1div": metrics.l1div(got - got[:, NECK : NECK + 1]),
        "bc": metrics.beat_consistency(got, clip.audio, fps, SAMPLE_RATE),
        "jerk": metrics.jerk(got[:, [15, *WRISTS]], fps),
        "mouth_r": lips.best_r,
        "mouth_lag_ms": 1000 * lips.lag,
    }
    if other_audio is not None:
        count = min(len(opening), int(len(other_audio) * fps / SAMPLE_RATE))
        control = metrics.mouth_audio_correlation(opening[:count], energy(other_audio, fps, count), fps)
        scores["mouth_r_mismatched"] = control.best_r
    if played.pictures is not None:
        scores |= picture_scores(played.pictures, clip.pictures, clip.alpha)
    # a figure that could not be measured (speech without onsets) or has no bound (the truth's own PSNR) is left out
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def picture_scores(got: Tensor, wanted: Tensor, alpha: Tensor) -> dict[str, float]:
    """PSNR and SSIM of pictures [P, R, R, 3] inside the boxes of alpha [P, R, R], means over P."""
    boxes = metrics.person_box(alpha)
    return {"psnr": metrics.psnr(got, wanted, boxes), "ssim": metrics.ssim(got, wanted, boxes)}


def face_points(config: Config, body: Body, params: SmplxParams) -> Tensor:
    """mediapipe's 478 face points on the body, relative to the head joint's place: [T, 478, 3] metres."""
    embedding = face_embedding(body, body_hash(config))
    points = body.posed_points(body.surface(embedding.faces, embedding.barycentric), params)
    return points - points.mean(1, keepdim=True)


def mouth_opening(config: Config, body: Body, params: SmplxParams) -> Tensor:
    """Distance between the outer edges of the lips' middles, [T] metres: its change is the mouth's opening."""
    return _opening(face_points(config, body, params))


def _opening(face: Tensor) -> Tensor:
    return (face[:, LIPS[0]] - face[:, LIPS[1]]).norm(dim=-1)


def energy(audio: np.ndarray, fps: float, frames: int) -> Tensor:
    """Root mean square of the speech over each frame's interval, [frames]."""
    edges = np.clip(np.round(np.arange(frames + 1) * SAMPLE_RATE / fps).astype(int), 0, len(audio))
    square = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    return torch.from_numpy(np.sqrt((square[edges[1:]] - square[edges[:-1]]) / np.maximum(np.diff(edges), 1))).float()


def curves(config: Config, body: Body, played: Performance, clip: HeldOutClip) -> dict[str, list[float]]:
    """Mouth opening (mm) and mean wrist speed (m/s) over time (s), for plots."""
    joints = body.joints(played.params)[:, WRISTS]
    speed = torch.cat([torch.zeros(1), joints.diff(dim=0).norm(dim=-1).mean(1) * float(clip.fps)])
    time = (torch.arange(len(joints)) + 0.5) / float(clip.fps)
    opening = 1000 * mouth_opening(config, body, played.params)
    return {name: [round(float(x), 4) for x in series] for name, series in (("time", time), ("mouth", opening), ("wrist", speed))}


def fgd(config: Config, store: Store, truth: list[SmplxParams], got: list[SmplxParams]) -> float | None:
    """Fréchet distance between latents of 32-frame windows; none where the clips hold too few windows."""
    real, fake = (metrics.motion_windows([pose_features(p)[..., :330] for p in side]) for side in (truth, got))
    if min(len(real), len(fake)) < 2:
        return None
    return metrics.fgd(real, fake, autoencoder(config, store))


def autoencoder(config: Config, store: Store) -> metrics.MotionAutoencoder:
    """FGD's auto-encoder, trained once on the training talks' fits; its file name is its data version."""
    manifest = read_manifest(store, "talks")
    key = hash_json([manifest and manifest["hash"], config.seed, metrics.AUTOENCODER_VERSION])
    path = store.evaluation("autoencoder") / f"{key}.safetensors"
    if not path.is_file():
        motions = [pose_features(m.fit.params)[..., :330] for m in iterate_motions(store.shards("talks"), "train")]
        network = metrics.fit_autoencoder(metrics.motion_windows(motions), seed=config.seed)
        with writing(path) as temporary:
            save_file(network.state_dict(), temporary, {"about": json.dumps({"talks": manifest and manifest["hash"]})})
    network = metrics.MotionAutoencoder()
    network.load_state_dict(load_file(path))
    return network.eval()


def results(rows: dict[str, dict[str, float]], **more: Any) -> dict[str, Any]:
    """What an evaluation's metrics.json holds."""
    return {"rows": rows, "definitions": {n: d for n, d in DEFINITIONS.items() if any(n in r for r in rows.values())}, **more}
