"""Where trunk and arms point and how long their bones are, learned from what the detector says of a clip.

Mediapipe's world landmarks bend forearms, turn shoulders and lean trunks the same wrong way in everybody. Two small
learned maps do better: a network gives directions of bones per frame, a linear map gives bone lengths of the clip. Both
were trained on embedded people who are in no sample talk: `python -m samples.build_fit_lift`.

Axis legend: `T` frames, `F` features, `H` hidden units, `D` bones, `P` proportions, `L` lengths, `S` sides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from model.fit_features import MIRROR, Array, Detected, clip_features, proportions, unit

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
FARTHEST = 3.0  # standard deviations; features further out are taken to lie there
SMOOTHED = 0.04  # seconds, standard deviation of the kernel over time


@dataclass(frozen=True)
class Lift:
    """Standardised features → one hidden layer → directions; proportions → logarithms of lengths."""

    mean: Array  # [F]
    scale: Array  # [F]
    hidden: Array  # [H, F]
    hidden_bias: Array  # [H]
    out: Array  # [3 D, H]
    out_bias: Array  # [3 D]
    usual: Array  # [P] proportions of the people trained on
    length: Array  # [L, P]
    length_bias: Array  # [L]
    length_covariance: Array  # [L, L] of the error in people it was not trained on

    @classmethod
    def load(cls, path: Path) -> Lift:
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: npz[f.name].astype(np.float32) for f in fields(cls)})

    def __call__(self, found: Detected) -> tuple[Array, Array, Array]:
        """Unit directions [T, S, D, 3] in world axes (NaN where nobody was found), log lengths [L], their covariance [L, L]."""
        directions = self.directions(found)
        return directions, self.lengths(proportions(found, directions)), self.length_covariance

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
        x = x @ self.hidden.T + self.hidden_bias
        x = x / (1 + np.exp(-x))
        return unit((x @ self.out.T + self.out_bias).reshape(*x.shape[:-1], -1, 3))

    def lengths(self, found: Array) -> Array:  # [P] → [L]
        """Logarithms of lengths in metres."""
        return self.length @ np.where(np.isnan(found), 0.0, found - self.usual) + self.length_bias
