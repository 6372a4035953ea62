"""Where upper arms and forearms point, from what the detector says: a small network instead of its raw directions.

Mediapipe's world landmarks bend forearms the same wrong way in everybody (by some 20 degrees). What it says of both arms
and the trunk, in the picture and in depth, tells the true directions better than twice as well. The right arm is read as
the mirror image of a left one. Trained on embedded people who are in no sample talk: `python -m samples.build_fit_arms`.

Axis legend: `T` frames, `F` features, `H` hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from model.fit_layout import LIMBS, Observations

FEATURES, OUTPUTS = 44, 6
FARTHEST_FEATURE = 3.0  # standard deviations; what is further out is taken to lie there
_UP = np.array([1.0, -1.0, -1.0])  # camera axes → world axes
_MIRROR = np.array([-1.0, 1.0, 1.0])
ARMS = ((11, 13, 15), (12, 14, 16))  # shoulder, elbow, wrist of the left and the right arm


@dataclass(frozen=True)
class ArmDirections:
    """The network: standardised features → tanh-like layer → directions of upper arm and forearm."""

    mean: np.ndarray  # [F]
    scale: np.ndarray  # [F]
    hidden: np.ndarray  # [H, F]
    hidden_bias: np.ndarray  # [H]
    out: np.ndarray  # [6, H]
    out_bias: np.ndarray  # [6]

    @classmethod
    def load(cls, path: Path) -> ArmDirections:
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: npz[f.name].astype(np.float32) for f in fields(cls)})

    def __call__(self, features: np.ndarray) -> np.ndarray:  # [..., F] → [..., 2, 3]
        """Unit directions of upper arm and forearm, world axes of a left arm."""
        x = np.clip((features - self.mean) / self.scale, -FARTHEST_FEATURE, FARTHEST_FEATURE)
        x = x @ self.hidden.T + self.hidden_bias
        x = x / (1 + np.exp(-x))
        return unit((x @ self.out.T + self.out_bias).reshape(*x.shape[:-1], 2, 3))

    def correct(self, seen: Observations, pose: np.ndarray, pose_world: np.ndarray) -> Observations:
        """`seen` with the arms' directions replaced."""
        arms = torch.from_numpy(self(arm_features(pose, pose_world)).astype(np.float32))  # [T, 2, 2, 3]
        limbs, weights = seen.limbs.clone(), seen.limb_weights.clone()
        for side, chain in enumerate(ARMS):
            for part in range(2):
                index = next(i for i, (a, b, _) in enumerate(LIMBS) if (a, b) == chain[part : part + 2])
                found = arms[:, side, part] * torch.from_numpy(_MIRROR if side else np.ones(3)).float()
                limbs[:, index] = found.nan_to_num()
                weights[:, index] *= ~found.isnan().any(-1)
        return replace(seen, limbs=limbs, limb_weights=weights)


def arm_features(pose: np.ndarray, pose_world: np.ndarray) -> np.ndarray:  # [T, 33, 3] twice → [T, 2, F]
    """Features of the left arm, and of the right arm in a mirror."""
    return np.stack([_features(pose * _UP, pose_world * _UP, side) for side in (0, 1)], 1)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def _features(pose: np.ndarray, world: np.ndarray, side: int) -> np.ndarray:  # [T, F]
    mirror = _MIRROR if side else np.ones(3)
    own = [i + side for i in (11, 13, 15, 23, 19)]  # shoulder, elbow, wrist, hip, index finger
    other = [i - side for i in (12, 14, 16, 24)]
    at, bone = lambda i: pose[:, i] * mirror, lambda i, j: (world[:, j] - world[:, i]) * mirror
    width = np.linalg.norm(pose[:, 11, :2] - pose[:, 12, :2], axis=-1, keepdims=True)
    width = np.maximum(width, 1e-3)
    step = lambda i, j: (at(j) - at(i)) / width  # noqa: E731
    middle = (at(own[0]) + at(other[0])) / 2
    return np.concatenate(
        [
            unit(bone(other[0], own[0])), unit(bone(own[0], own[1])), unit(bone(own[1], own[2])),
            unit(bone(own[3], own[0])), unit(bone(other[3], other[0])), unit(bone(other[0], other[1])),
            unit(bone(other[1], other[2])), unit(bone(own[2], own[4])),
            step(own[0], own[1])[:, :2], step(own[1], own[2])[:, :2], step(own[0], own[2])[:, :2],
            step(other[0], other[1])[:, :2], step(other[1], other[2])[:, :2],
            step(own[0], own[1])[:, 2:], step(own[1], own[2])[:, 2:],
            ((at(0) - middle) / width)[:, :2], bone(own[1], own[2]), bone(own[0], own[1]),
        ],
        axis=1,
    )  # fmt: skip
