"""Figures of one clip: motion of any system beside the truth's and the speech, in the truth's shape.

All motion is scored on the truth's betas: a system that does not know the person is not judged by the shape it writes.
`DEFINITIONS` states each figure. Those that say "in place" align pelvises, the others need no alignment.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from model import metrics
from model.body import HANDS, UPPER_BODY, Body
from model.body_scoring import kinematics_of_frames, rotations_of_frames
from model.face_motion import FaceMotion
from model.geometry import IDENTITY_6D
from model.metrics_arrays import Floats, lengths
from pipelines.body import body_hash, face_embedding
from pipelines.formats_take import Take, fitted, resampled
from pipelines.media import SAMPLE_RATE

LIPS = (0, 17)  # mediapipe's ids of the middle of the upper and of the lower lip, outer edge: the inner ones coincide at rest
NECK, UPPER = 12, sorted({*UPPER_BODY, *HANDS["left"], *HANDS["right"]})
VERTICES, VERTEX_RATE = 1000, 2  # PVE looks at so many vertices, so many times a second
JERK_JOINTS = [15, 20, 21]  # head and wrists
MOUTH = (61, 291, 0, 17, 13, 14)  # mediapipe's corners of the mouth, outer and inner middles of the lips
LEAST = 16  # frames under which a clip is not scored
DEFINITIONS = {
    "fgd": "Fréchet distance of latents of 32-frame windows (6D of 55 joints), raw; compares only with the same auto-encoder "
    "and as many speakers: too large with few ↓",
    "bc": "beat consistency against speech onsets, σ 0.3 s, joint speeds relative to the truth's (cannot tell right from wrong speech)",
    "bc_mismatched": "the same with another clip's speech: the control",
    "bc_gain": "bc less bc_mismatched",
    "l1div": "L1 diversity of 55 joint positions in place, m (truth's value is the goal)",
    "mpjpe_mm": "mean error of 55 joints in place, mm ↓",
    "pa_mpjpe_mm": "the same after Procrustes alignment, mm ↓",
    "upper_mpjpe_mm": "mean error of the joints of upper body and hands, necks aligned, mm ↓",
    "upper_pa_mpjpe_mm": "the same after Procrustes alignment, mm ↓",
    "pve_mm": "mean error of 1,000 vertices in place, twice a second, mm ↓",
    "pa_pve_mm": "the same after Procrustes alignment, mm ↓",
    "acceleration_error": "mean error of joint acceleration in place, m/s² ↓",
    "jerk": "mean jerk of head and wrists, m/s³ (truth's value is the goal)",
    "foot_sliding": "mean horizontal speed of toes that stand, m/s ↓",
    "face_mse": "mean squared error of 478 face points, head at rest, ×1e8 m² ↓",
    "lvd_emage": "mean |difference| of coordinates of face points (EMAGE's old trainer: no velocity), ×1e5 m ↓",
    "lvd_evaltools": "mean |difference of velocities| of coordinates of face points (EMAGE's evaltools), ×1e5 m a frame ↓",
    "lvd_talkshow": "mean over frames of Σ |difference of speeds| of face points (TalkSHOW), ×1e5 m a frame ↓",
    "mouth_r": "correlation of mouth opening with speech energy, best lag within ±0.4 s ↑",
    "mouth_lag_ms": "that lag, ms (truth's value is the goal)",
    "mouth_r_mismatched": "the same with another clip's speech: the control",
    "mouth_r_gain": "mouth_r less mouth_r_mismatched ↑",
    "viseme_accuracy": "share of phones whose mouth is nearest to the truth's mean mouth of their kind, mean over kinds ↑",
    "psnr": "PSNR of whole frames, dB ↑",
    "ssim": "SSIM of whole frames ↑",
    "flicker": "mean second difference of pixels over time (truth's value is the goal)",
    "identity": "cosine of frames' embeddings (encoder of samples/weights/identity.safetensors) with that of the truth's first frame ↑",
    "identity_other": "the same with another speaker's first frame: the control",
}
IN_MM = ("mpjpe_mm", "pa_mpjpe_mm", "upper_mpjpe_mm", "upper_pa_mpjpe_mm", "pve_mm", "pa_pve_mm")
LVD = ("lvd_emage", "lvd_evaltools", "lvd_talkshow")
ERRORS = (*IN_MM, "acceleration_error", "face_mse", *LVD)
SCALES = dict.fromkeys((*IN_MM, "mouth_lag_ms"), 1e3) | dict.fromkeys(LVD, 1e5) | {"face_mse": 1e8}


class Scorer:
    """The body and the points that figures look at; holds no clip, and may be used by several threads."""

    def __init__(self, config: Config, body: Body):
        self.body = body
        embedding = face_embedding(body, body_hash(config))
        self.face = FaceMotion(body, body.surface(embedding.faces, embedding.barycentric))
        chosen = np.random.default_rng(0).choice(len(body.faces), VERTICES, replace=False)
        self.surface = body.surface(chosen, np.tile([1.0, 0.0, 0.0], (VERTICES, 1)))

    def measured(self, take: Take, betas: Tensor) -> Measured:
        """What all figures of a clip are computed from."""
        params = take.params(betas)
        with torch.no_grad():
            turns = rotations_of_frames(params.full_pose)
            shape = params.shape_coefficients
            joints, transforms = kinematics_of_frames(self.body, turns, shape, params.transl)
            face = self.face(params.jaw_pose, params.betas[0], params.expression)
            six = turns[:, :, :2].permute(3, 0, 2, 1)  # [T, 55, 2, 3]
            features = six.reshape(take.frames, -1).sub_(torch.tensor(IDENTITY_6D).repeat(len(turns)))  # as `pose_features` has them
            step = max(1, round(float(take.fps) / VERTEX_RATE))
            rest = self.body.shaped(self.surface, turns[..., ::step].permute(3, 0, 1, 2), shape[::step])
            vertices = self.body.skin(rest, self.surface.weights, transforms[::step])[0] - joints[::step, :1]
            return Measured(np.ascontiguousarray(joints, np.float64), face.numpy(), vertices.double().numpy(), features)


@dataclass(frozen=True)
class Measured:
    """One performance of a clip."""

    joints: Floats  # [T, 55, 3] metres, y up
    face: NDArray[np.float32]  # [T, 478, 3] head at rest
    vertices: Floats  # [t, 1000, 3] pelvis at the origin
    features: Tensor  # [T, 330]

    @cached_property
    def usual_step(self) -> Floats:
        """Mean distance that each joint moves in a frame, [55]."""
        return lengths(np.gradient(self.joints, axis=0)).mean(0)

    @cached_property
    def opening(self) -> Floats:
        upper, lower = (self.face[:, i].astype(np.float64) for i in LIPS)
        return lengths(upper - lower)


@dataclass(frozen=True)
class Speech:
    """Sound of a clip, 16 kHz, with its onsets (seconds)."""

    samples: Floats
    onsets: Floats

    @cached_property
    def power(self) -> Floats:
        """Sum of squares of all samples before each, [N + 1]."""
        return np.concatenate([[0.0], np.cumsum(np.square(self.samples, dtype=np.float64))])

    def energy(self, fps: float, frames: int) -> Floats:
        """Root mean square over each frame's interval, [frames]."""
        edges = np.clip(np.round(np.arange(frames + 1) * SAMPLE_RATE / fps).astype(int), 0, len(self.samples))
        return np.sqrt((self.power[edges[1:]] - self.power[edges[:-1]]) / np.maximum(np.diff(edges), 1))

    @classmethod
    def of(cls, samples: Floats) -> Speech:
        return cls(samples, metrics.onset_times(samples, SAMPLE_RATE))


def clip_figures(truth: Measured, got: Measured, fps: float, speech: Speech | None, other: Speech | None) -> dict[str, float]:
    """Every figure that can be measured on this clip, in the units of `DEFINITIONS`."""
    joints = got.joints - got.joints[:, :1]
    found = dict.fromkeys(ERRORS, 0.0) if got is truth else _errors(truth, got, fps)
    found |= {
        "l1div": metrics.l1div(joints),
        "jerk": metrics.jerk(got.joints[:, JERK_JOINTS], fps),
        "foot_sliding": metrics.foot_sliding(got.joints, fps),
    }
    if speech is not None:
        beats, seconds = metrics.motion_beats(got.joints, fps, truth.usual_step * fps), len(joints) / fps
        for suffix, sound in (("", speech), ("_mismatched", other)):
            if sound is None:
                continue
            found[f"bc{suffix}"] = metrics.beat_alignment(beats, sound.onsets, min(seconds, len(sound.samples) / SAMPLE_RATE))
            lips = _lips(got.opening, sound, fps)
            if lips is not None:
                found[f"mouth_r{suffix}"] = lips.best_r
                if not suffix:
                    found["mouth_lag_ms"] = lips.lag
        for name in ("bc", "mouth_r"):
            if name in found and f"{name}_mismatched" in found:
                found[f"{name}_gain"] = found[name] - found[f"{name}_mismatched"]
    return {name: float(value) * SCALES.get(name, 1.0) for name, value in found.items() if math.isfinite(value)}


def _errors(truth: Measured, got: Measured, fps: float) -> dict[str, float]:
    """`ERRORS`, in metres."""
    joints, wanted = (m.joints - m.joints[:, :1] for m in (got, truth))
    upper = [(m.joints - m.joints[:, NECK : NECK + 1])[:, UPPER] for m in (got, truth)]
    return {
        "mpjpe_mm": metrics.mpjpe(joints, wanted),
        "pa_mpjpe_mm": metrics.pa_mpjpe(joints, wanted),
        "upper_mpjpe_mm": metrics.mpjpe(*upper),
        "upper_pa_mpjpe_mm": metrics.pa_mpjpe(*upper),
        "pve_mm": metrics.pve(got.vertices, truth.vertices),
        "pa_pve_mm": metrics.pa_pve(got.vertices, truth.vertices),
        "acceleration_error": metrics.acceleration_error(joints, wanted, fps),
        **asdict(metrics.face_errors(got.face, truth.face)),
    }


def _lips(opening: Floats, sound: Speech, fps: float) -> metrics.LaggedCorrelation | None:
    count = min(len(opening), int(len(sound.samples) * fps / SAMPLE_RATE))
    if count < 2 * round(0.4 * fps) + 3:
        return None
    return metrics.mouth_audio_correlation(opening[:count], sound.energy(fps, count), fps)


def mouth_features(face: NDArray[np.floating[Any]]) -> Floats:  # [T, 478, 3] → [T, 6] metres
    """Outer and inner opening, width, and how far the lips stand forward of the corners."""
    left, right, top, bottom, inner_top, inner_bottom = (face[:, i].astype(np.float64) for i in MOUTH)
    corners = (left + right)[:, 2] / 2
    forward = [top[:, 2] - corners, bottom[:, 2] - corners, bottom[:, 1] - top[:, 1]]
    return np.stack([lengths(top - bottom), lengths(inner_top - inner_bottom), lengths(left - right), *forward], 1)


def at_moments(features: Floats, seconds: Floats, fps: float) -> tuple[Floats, list[int]]:
    """Mouth features at these moments, and which of them lie within the clip."""
    frames = np.floor(seconds * fps).astype(int)
    inside = [i for i, f in enumerate(frames) if 0 <= f < len(features)]
    return features[frames[inside]], inside


def side_by_side(truth: Take, got: Take) -> tuple[Take, Take, list[str]]:
    """Both at the truth's rate and of the shorter one's length; what had to be done is said."""
    said = []
    if got.fps != truth.fps:
        said.append(f"{got.fps} frames/s resampled to {truth.fps}")
        got = resampled(got, truth.fps)
    frames = min(truth.frames, got.frames)
    if got.frames != truth.frames:
        said.append(f"{got.frames} frames where the truth has {truth.frames}: the first {frames} are compared")
    return truth.part(0, frames), got.part(0, frames), said


def shape_of(truth: Take) -> Tensor:  # [10]
    return fitted(truth.betas, 10)
