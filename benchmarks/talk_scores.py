"""Unseen speakers drawn afresh, and the figures of what a system makes of their speech; benchmarks.stage2 prints them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import roma
import torch
from torch import Tensor

from configs.schema import Config
from model import metrics, metrics_talk
from model.audio_encoders import make_audio_encoder
from model.body import Body
from model.face_motion import FaceMotion
from model.geometry import rotation_to_6d
from model.motion import pose_features
from model.types import SmplxParams

SPEAKER, SECONDS, ORACLE = 900_000, 20.0, 500  # seed of the first unseen speaker; of a clip; added to the take
STRONG = 1.2  # prominence of a strong accent
BLINK, LIDS = 1.0, 8  # half shut; the embedded body's coefficient
MOUTH = (1, 2, 3, 4, 5)
NECK = 12


@dataclass(frozen=True)
class Clip:
    """One unseen speaker's talk."""

    name: str
    truth: SmplxParams  # [T] world, y up
    oracle: SmplxParams  # [T]
    features: np.ndarray  # [T, A]
    audio: np.ndarray  # [S] 16 kHz
    phones: tuple[tuple[float, float, str], ...]
    accents: tuple[float, ...]  # seconds of strong ones


def draw_clips(config: Config, count: int, seconds: float = SECONDS, first: int = SPEAKER, oracle: bool = True) -> list[Clip]:
    """Talks of `count` speakers from `first` on; without `oracle` the second draw is the first again."""
    from samples.builders.gesture import accents
    from samples.builders.talks import make_score, perform, plan_talk

    clips, encoder = [], make_audio_encoder(config.audio)
    for speaker in range(first, first + count):
        score = make_score(plan_talk(speaker, speaker=speaker, seconds=seconds, fps=config.cut.fps))
        strong = tuple(t for t, p in accents(score.phones) if p > STRONG)
        phones = tuple((p.start, p.end, p.name) for p in score.phones)
        features = encoder(score.audio, score.fps, score.frames)
        truth = perform(score)
        second = perform(score, score.plan.take + ORACLE) if oracle else truth
        clips.append(Clip(f"speaker{speaker}", truth, second, features, score.audio, phones, strong))
    return clips


class Scorer:
    """Figures of rows of performances, one a clip."""

    def __init__(self, config: Config, body: Body, clips: list[Clip], training: list[SmplxParams]):
        from pipelines.body import body_hash, face_embedding

        self.clips, self.body, self.fps = clips, body, float(config.cut.fps)
        embedding = face_embedding(body, body_hash(config))
        lips = [0, 17]
        self.face = FaceMotion(body, body.surface(embedding.faces[lips], embedding.barycentric[lips]))
        windows = metrics.motion_windows([_poses(p) for p in training])
        self.autoencoder = metrics.fit_autoencoder(windows)
        self.real = metrics.motion_windows([_poses(c.truth) for c in clips])
        self.seen = [self.look(c.truth) for c in clips]

    def look(self, params: SmplxParams) -> dict[str, Any]:
        """What the figures need of one performance."""
        with torch.no_grad():
            joints = self.body.joints(params).numpy()
            ends = self.face(params.jaw_pose, params.betas[0], params.expression).numpy()
        mouth = np.concatenate([params.jaw_pose[:, :1].numpy(), params.expression[:, list(MOUTH)].numpy()], 1)
        turns = rotation_to_6d(roma.rotvec_to_rotmat(params.body_pose)).numpy()
        return {
            "joints": joints, "opening": np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1), "mouth": mouth, "turns": turns,
            "lids": params.expression[:, LIDS].numpy(), "speed": metrics_talk.wrist_speed(joints, self.fps), "poses": _poses(params),
        }  # fmt: skip

    def row(self, played: list[SmplxParams], shift: int = 0) -> dict[str, float]:
        """Means over clips; with `shift` alignment is measured against the speech and truth of the clip that far on."""
        looks, clips, fps = [self.look(p) for p in played], self.clips, self.fps
        order = np.roll(np.arange(len(clips)), -shift)
        corr, lags, response, closed = [], [], [], np.zeros(4)
        for i, look in enumerate(looks):
            clip, true = clips[order[i]], self.seen[order[i]]
            size = min(len(look["mouth"]), len(true["mouth"]))
            corr.append(metrics_talk.series_correlation(look["mouth"][:size], true["mouth"][:size]))
            lags.append(metrics_talk.lag_profile(look["mouth"][:size, 0], true["mouth"][:size, 0]))
            closed += metrics_talk.closures(look["opening"][:size], true["opening"][:size], clip.phones, fps)
            response.append(metrics_talk.stroke_response(look["speed"][: size - 1], clip.accents, fps))
        mean = lambda f: float(np.mean([f(x) for x in looks]))  # noqa: E731
        around_neck = lambda x: (x["joints"] - x["joints"][:, NECK : NECK + 1])[:, 9:]  # noqa: E731
        return {
            "mouth_corr": float(np.mean(corr)), "mouth_lag_ms": 1000 * metrics_talk.lag_of(np.mean(lags, 0), fps),
            "closed": closed[0] / max(closed[1], 1), "false_closed": closed[2] / max(closed[3], 1),
            "stroke_response": float(np.concatenate(response).mean()), "jitter": mean(lambda x: metrics_talk.jitter(x["turns"])),
            "seam": mean(lambda x: metrics_talk.seam(x["turns"])), "jaw_amplitude": mean(lambda x: x["mouth"][:, 0].std()),
            "hand_speed": mean(lambda x: x["speed"].mean()), "l1div": mean(lambda x: metrics.l1div(around_neck(x))),
            "blink_rate": mean(lambda x: metrics_talk.blink_rate(x["lids"], fps, BLINK)),
            "foot_sliding_mm_s": 1000 * float(np.nanmean([metrics.foot_sliding(x["joints"], fps) for x in looks])),
            "bc": float(np.nanmean([metrics.beat_consistency(x["joints"], clips[order[i]].audio, fps) for i, x in enumerate(looks)])),
            "fgd": metrics.fgd(self.real, metrics.motion_windows([x["poses"] for x in looks]), self.autoencoder),
        }  # fmt: skip


def _poses(params: SmplxParams) -> Tensor:  # [T, 330]
    return pose_features(params)[..., :330]


def ratios(table: dict[str, dict[str, float]], name: str) -> dict[str, float]:
    """The issue's figures of one row: what it measures over what the truth does."""
    row, wrong, true, oracle, frozen = table[name], table[f"{name} mismatched"], table["truth"], table["oracle"], table["frozen"]
    out = {
        "jitter_ratio": row["jitter"] / true["jitter"], "mouth_corr_ratio": row["mouth_corr"] / oracle["mouth_corr"],
        "mouth_corr_mismatched": wrong["mouth_corr"], "mouth_lag_ms": abs(row["mouth_lag_ms"]),
        "closure_ratio": row["closed"] / true["closed"], "false_closure_ratio": row["false_closed"] / true["false_closed"],
        "stroke_response_ratio": row["stroke_response"] / true["stroke_response"],
        "stroke_response_ratio_mismatched": wrong["stroke_response"] / true["stroke_response"],
        "fgd_over_frozen": row["fgd"] / frozen["fgd"], "seam_ratio": row["seam"] / true["seam"],
        "foot_sliding_mm_s": row["foot_sliding_mm_s"], "bc": row["bc"], "bc_mismatched": wrong["bc"],
    }  # fmt: skip
    return out | {n: row[n] / true[n] for n in ("jaw_amplitude", "hand_speed", "l1div", "blink_rate")}
