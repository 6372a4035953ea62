"""Where trunk and arms point and how long their bones are, learned from what the detector says of a clip.

Mediapipe's world landmarks bend forearms, turn shoulders and lean trunks the same wrong way in everybody. Small learned
maps do better: a network gives directions of bones per frame, a linear map gives bone lengths of the clip from
proportions and the shape of the face, another mends them by how far wrists reach (`fit_arms`). All were trained on
embedded people who are in no sample talk: `python -m samples.build_fit_lift`.

Axis legend: `T` frames, `F` features, `N` networks, `H` hidden units, `D` bones, `P` proportions, `K` face points, `L` lengths, `S` sides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from model.fit_arms import upper_arm
from model.fit_features import MIRROR, Array, Detected, clip_features, face_shape, proportions, unit

# directed bones of the left side, by the body's joints: what the network gives, in this order
BONES = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "left_shoulder"), ("pelvis", "neck"),
    ("neck", "left_shoulder"), ("right_hip", "left_hip"),
)  # fmt: skip
# how far its directions are off in people it was not trained on (root mean square along x, y, z)
SIGMA = ((0.05, 0.035, 0.1), (0.055, 0.06, 0.045), (0.01, 0.015, 0.05), (0.012, 0.01, 0.03), (0.015, 0.027, 0.055), (0.02, 0.03, 0.06))
# bones whose lengths in a body at rest the linear map gives, by joints
LENGTHS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("left_shoulder", "right_shoulder"), ("neck", "left_shoulder"),
    ("neck", "head"), ("pelvis", "neck"), ("left_eye_smplhf", "right_eye_smplhf"), ("left_wrist", "left_middle1"),
)  # fmt: skip
UPPER, EYES = 0, 6  # of these, the upper arm and the distance of the eyes
FARTHEST = 3.0  # standard deviations; features further out are taken to lie there
SMOOTHED = 0.04  # seconds, standard deviation of the kernel over time


@dataclass(frozen=True)
class Lift:
    """Standardised features → `N` networks of two hidden layers → their mean's directions; proportions → logarithms of lengths."""

    mean: Array  # [F]
    scale: Array  # [F]
    first: Array  # [N, H, F]
    first_bias: Array  # [N, H]
    second: Array  # [N, H, H]
    second_bias: Array  # [N, H]
    out: Array  # [N, 3 D, H]
    out_bias: Array  # [N, 3 D]
    usual: Array  # [P] proportions of the people trained on
    face: Array  # [K, 3] the usual shape of a face, about its middle
    spread: Array  # [P + 3 K] standard deviations of proportions and faces
    length: Array  # [L, P + 3 K]
    length_bias: Array  # [L]
    length_covariance: Array  # [L, L] of the error in people it was not trained on
    arm_usual: Array  # [] how much longer wrists say the upper arm is than the linear map does, logarithm: mean,
    arm_spread: Array  # [] and standard deviation
    arm: Array  # [L] what a standard deviation of it adds to the lengths
    arm_bias: Array  # [L]
    arm_covariance: Array  # [L, L] of the error that is left

    @classmethod
    def load(cls, path: Path) -> Lift:
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: npz[f.name].astype(np.float32) for f in fields(cls)})

    def __call__(self, found: Detected) -> tuple[Array, Array, Array]:
        """Unit directions [T, S, D, 3] in world axes (NaN where nobody was found), log lengths [L], their covariance [L, L]."""
        directions = self.directions(found)
        lengths = self.lengths(proportions(found, directions), face_shape(found, self.face))
        longer = longer_arm(found, directions, lengths)
        if np.isnan(longer):
            return directions, lengths, self.length_covariance
        off: Array = np.clip((longer - self.arm_usual) / self.arm_spread, -FARTHEST, FARTHEST)
        return directions, lengths + self.arm * off + self.arm_bias, self.arm_covariance

    def directions(self, found: Detected) -> Array:  # [T, S, D, 3]
        both = np.stack([self.read(x) for x in clip_features(found)], 1)
        there = np.isfinite(found.pose[:, 0, 0])
        both = gaussian_filter1d(both, SMOOTHED * found.fps[0] / found.fps[1], axis=0, mode="nearest")
        both[:, 1] *= MIRROR
        both[~there] = np.nan
        return unit(both)

    def read(self, features: Array) -> Array:  # [..., F] → [..., D, 3]
        """Unit directions of a left side; features that are unknown count as usual ones."""
        x = np.nan_to_num(np.clip((features - self.mean) / self.scale, -FARTHEST, FARTHEST))
        said = []
        for first, first_bias, second, second_bias, out, out_bias in zip(
            self.first, self.first_bias, self.second, self.second_bias, self.out, self.out_bias, strict=True
        ):
            hidden = _silu(_silu(x @ first.T + first_bias) @ second.T + second_bias)
            said.append(hidden @ out.T + out_bias)
        mean = np.mean(said, 0)
        return unit(mean.reshape(*mean.shape[:-1], -1, 3))

    def lengths(self, found: Array, face: Array) -> Array:  # [P], [3 K] → [L]
        """Logarithms of lengths in metres; what is unknown counts as usual, what is further out than `FARTHEST` as that far."""
        off = np.nan_to_num(np.concatenate([found - self.usual, face]))
        return self.length @ np.clip(off, -FARTHEST * self.spread, FARTHEST * self.spread) + self.length_bias


def longer_arm(found: Detected, directions: Array, lengths: Array) -> float:
    """How much longer wrists say the upper arm is than `lengths` [L] do, beside the eyes; logarithm, NaN where unseen."""
    return float(upper_arm(found, directions) - (lengths[UPPER] - lengths[EYES]))


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))
