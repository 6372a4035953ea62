"""Hand poses of people who talk and handle things, and the basis that SMPL-X's files call the hand's PCA.

A hand is 15 joints: index, middle, pinky, ring, thumb; three each; axis-angle, radians, left hand (fingers bend about −z).
"""

from __future__ import annotations

import numpy as np

# per finger (index, middle, pinky, ring, thumb) bend of the knuckle, 0 straight .. 1 closed, spread −1..1
GRASPS: dict[str, tuple[tuple[float, ...], float]] = {
    "relaxed": ((0.25, 0.30, 0.38, 0.34, 0.25), 0.1),
    "flat": ((0.02, 0.02, 0.04, 0.02, 0.05), 0.0),
    "spread": ((0.0, 0.0, 0.0, 0.0, 0.0), 1.0),
    "fist": ((0.95, 1.0, 1.0, 1.0, 0.9), -0.2),
    "point": ((0.03, 0.9, 1.0, 0.95, 0.75), 0.0),
    "two": ((0.03, 0.05, 1.0, 0.95, 0.85), 0.6),
    "thumb up": ((0.95, 1.0, 1.0, 1.0, 0.0), -0.1),
    "pinch": ((0.55, 0.30, 0.20, 0.25, 0.65), 0.3),
    "ring": ((0.60, 0.12, 0.05, 0.08, 0.70), 0.7),
    "hold a ball": ((0.45, 0.45, 0.45, 0.45, 0.40), 0.7),
    "hold a stick": ((0.70, 0.75, 0.80, 0.78, 0.60), -0.1),
    "cup": ((0.40, 0.42, 0.48, 0.45, 0.10), -0.2),
    "purse": ((0.62, 0.60, 0.62, 0.60, 0.60), -0.3),
    "hook": ((0.60, 0.65, 0.65, 0.65, 0.10), -0.1),
    "claw": ((0.50, 0.50, 0.55, 0.52, 0.30), 0.8),
}
SAMPLES = 2000
RELAXED_SHARE = 0.35  # of the sampled hands
KNUCKLES = np.array([1.30, 1.55, 1.05])  # radians of a finger's three joints when closed
THUMB = np.array([[0.35, 0.45, -0.25], [0.10, 0.55, 0.0], [0.05, 0.90, 0.0]])  # axis-angle of its joints when closed
SPREAD = np.array([0.18, 0.03, -0.28, -0.12, 0.25])  # radians about y at spread 1; the index leans forward


def sample_grasps(count: int, seed: int) -> np.ndarray:
    """Left hands [count, 45]: grasps, loosened, partly done, with fingers that go their own way."""
    rng = np.random.default_rng(seed)
    names = list(GRASPS)
    others = (1 - RELAXED_SHARE) / (len(names) - 1)
    drawn = rng.choice(len(names), count, p=[RELAXED_SHARE, *[others] * (len(names) - 1)])
    bends = np.array([GRASPS[n][0] for n in names])
    spreads = np.array([GRASPS[n][1] for n in names])
    done = rng.beta(3, 1.2, (count, 1))
    bend = done * bends[drawn] + (1 - done) * bends[0] + rng.normal(0, 0.06, (count, 5)) + rng.normal(0, 0.05, (count, 1))
    spread = done[:, 0] * spreads[drawn] + (1 - done[:, 0]) * spreads[0] + rng.normal(0, 0.2, count)
    hooked = rng.normal(0, 0.12, (count, 5)) + 0.5 * (drawn == names.index("hook"))[:, None]  # outer joints before the knuckle
    thumb_turn = rng.normal(0, 0.12, (count, 3))
    return hand_poses(np.clip(bend, -0.1, 1.05), spread, hooked, thumb_turn)


def hand_poses(
    bend: np.ndarray,  # [N, 5]
    spread: np.ndarray,  # [N]
    hooked: np.ndarray,  # [N, 5] outer joints bend more, the knuckle less
    thumb_turn: np.ndarray,  # [N, 3] radians at the thumb's root
) -> np.ndarray:  # [N, 45]
    pose = np.zeros((len(bend), 5, 3, 3))
    share = np.stack([1 - hooked, 1 + hooked, 1 + hooked], -1)[:, :4]
    pose[:, :4, :, 2] = -bend[:, :4, None] * KNUCKLES * share
    pose[:, 4] = bend[:, 4, None, None] * THUMB
    pose[:, 4, 0] += thumb_turn
    pose[:, :, 0, 1] -= SPREAD * (spread[:, None] * np.clip(1 - 0.7 * bend, 0, 1))
    return pose.reshape(-1, 45)


def relaxed_hand() -> np.ndarray:
    """Mean pose [45] of the left hand in the body file."""
    bend, spread = GRASPS["relaxed"]
    return hand_poses(np.array([bend]), np.array([spread]), np.zeros((1, 5)), np.zeros((1, 3)))[0]


def hand_pca() -> tuple[np.ndarray, np.ndarray]:
    """Relaxed mean [45] and principal components [45, 45] (orthonormal rows, largest first) of sampled left hands."""
    mean = relaxed_hand()
    difference = sample_grasps(SAMPLES, seed=0) - mean
    components = np.linalg.eigh(difference.T @ difference).eigenvectors[:, ::-1].T
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return mean.astype(np.float32), (components * np.sign(largest)).astype(np.float32)
