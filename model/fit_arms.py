"""How long arms are, from where wrists are seen: of all that the detector says of an arm, the wrist is the least off.

Elbows are put into the cloth of sleeves, the same way in all of a clip. Wrists are not, and with the directions of both
bones known (`fit_lift`) the path of the wrists alone tells both lengths, by least squares over the clip: the upper arm's
well, the forearm's, which points at the camera, less so. What is nearer to the camera looks larger; that is undone with
a usual focal length.

Axis legend: `T` frames, `S` sides, `D` bones of `fit_lift.BONES`, `N` equations (two a frame and side).
"""

from __future__ import annotations

import numpy as np

from model.fit_features import LIKELY, Array, Detected

FOCAL = 1.8  # of the picture's longer side
USUAL = np.array([4.3, 3.9])  # upper arm and forearm, in distances of the eyes
SHOULDER = 2.7  # from the neck to a shoulder, likewise
PULL = 0.01  # towards the usual lengths: an equation's weight in so many parts of one
LEAST = 16  # equations without which nothing is told
ROUNDS, REWEIGHED, SPREAD = 3, 3, 2.0  # of depths; of the robust weights, which are half at so many deviations
IRISES = (468, 473)


def upper_arm(found: Detected, directions: Array) -> float:  # [T, S, D, 3]
    """Logarithm of the upper arm over the distance of the eyes; NaN where face or arms are not seen."""
    eyes = _median(np.linalg.norm(found.face[:, IRISES[0]] - found.face[:, IRISES[1]], axis=-1))
    shoulders, wrists, seen = _ends(found, directions)
    if not np.isfinite(eyes) or 2 * seen.sum() < LEAST:
        return float("nan")
    upper, fore, out = (directions[:, :, bone].astype(np.float64)[seen] for bone in (0, 1, 4))
    depth = FOCAL * found.size.max() / eyes
    lengths = USUAL
    for _ in range(ROUNDS):
        begin = SHOULDER * out[:, 2]
        end = begin + lengths[0] * upper[:, 2] + lengths[1] * fore[:, 2]
        reach = wrists[seen] * (1 - end / depth)[:, None] - shoulders[seen] * (1 - begin / depth)[:, None]
        sides = np.stack([upper[:, :2], fore[:, :2]], -1).reshape(-1, 2)
        lengths = _least_squares(sides, (reach / eyes).ravel())
    return float(np.log(max(lengths[0], 0.1)))


def _ends(found: Detected, directions: Array) -> tuple[Array, Array, Array]:
    """Shoulders and wrists [T, S, 2] from the picture's middle, y up, and where an arm is seen [T, S]."""
    at = found.pose[:, 11:17, :2].astype(np.float64)
    inside = (found.visibility[:, 11:17] > LIKELY) & ((at > 0) & (at < found.size)).all(-1)
    seen = inside.reshape(len(at), 3, 2).all(1) & np.isfinite(directions[..., 0]).all(-1)
    hands = np.stack([found.left_hand[:, 0, :2], found.right_hand[:, 0, :2]], 1)  # nearer to the truth than the body's wrist
    wrists = np.where(np.isfinite(hands), hands, at[:, 4:])
    centred = lambda x: (x - found.size / 2) * [1, -1]  # noqa: E731
    return centred(at[:, :2]), centred(wrists), seen


def _least_squares(sides: Array, values: Array) -> Array:  # [N, 2], [N] → [2]
    weights = np.ones(len(values))
    for _ in range(REWEIGHED):
        square = (sides * weights[:, None]).T @ sides / len(values) + PULL * np.eye(2)
        solved = np.linalg.solve(square, (sides * weights[:, None]).T @ values / len(values) + PULL * USUAL)
        off: Array = values - sides @ solved
        weights = 1 / (1 + (off / (SPREAD * 1.48 * np.median(np.abs(off)) + 1e-3)) ** 2)
    return solved


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
