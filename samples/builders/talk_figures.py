"""What can be measured of a talk without its pictures: does the mouth follow this speech, do lips close, do arms stay outside.

`mouth_corr(score)` against `mouth_corr(score, heard=other)`, `closed_share(score)`, `arms_inside(seeds)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from model.body import JOINT_NAMES, SurfacePoints
from model.types import SmplxParams
from samples.builders.contact import DEEP, arm_clearance
from samples.builders.people import FOLDER, embedded_body
from samples.builders.performance import perform
from samples.builders.plans import plan_talk
from samples.builders.score import Score, make_score
from samples.builders.speech import SAMPLE_RATE

OUTER_LIPS = slice(31, 43)  # among the body file's 51 landmarks
MIDLINE, LIPS_MEET = 0.002, 0.003  # metres: from the face's middle; between the edges of closed lips
BILABIALS, LIP_TO_TEETH = ("p", "b", "m"), ("f", "v")
SHUT = 0.2  # of the way from the talk's closed mouth to its open one (quantile OPEN)
OPEN = 0.9


def mouth_corr(score: Score, heard: Score | None = None, params: SmplxParams | None = None) -> float:
    """Pearson's correlation of the mouth's opening with the log envelope of the speech.

    `heard`: the talk whose sound is compared (none: its own); the shorter of both counts. `params`: the motion [T]
    (none: the plan's take).
    """
    opening = mouth_opening(perform(score) if params is None else params)
    loud = envelope(heard or score, score.fps)
    count = min(len(opening), len(loud))
    return float(np.corrcoef(opening[:count], loud[:count])[0, 1])


def closed_share(score: Score, params: SmplxParams | None = None, names: Sequence[str] = BILABIALS) -> float:
    """Share of the phones `names` during which the lips come within SHUT of shut; NaN where there is none."""
    opening = mouth_opening(perform(score) if params is None else params)
    shut, wide = opening.min(), np.quantile(opening, OPEN)
    rate = float(score.fps)
    lowest = []
    for phone in score.phones:
        if phone.name.rstrip("ʲʰ̩ː") in names:
            first = int(np.clip(np.floor(phone.start * rate), 0, len(opening) - 1))
            lowest.append(opening[first : max(first + 1, int(np.ceil(phone.end * rate)))].min())
    return float(np.mean(np.array(lowest) < shut + SHUT * (wide - shut))) if lowest else float("nan")


def mouth_opening(params: SmplxParams) -> NDArray[np.float64]:
    """Distance between the inner edges of the lips' middles [T], metres."""
    zeros = SmplxParams.zeros(len(params.transl))
    still = {n: getattr(zeros, n) for n in zeros.__dataclass_fields__}
    face = SmplxParams(**{**still, "jaw_pose": params.jaw_pose, "expression": params.expression, "betas": params.betas})
    with torch.no_grad():
        lips = embedded_body().posed_points(_lips(), face)
    return (lips[:, 0] - lips[:, 1]).norm(dim=-1).double().numpy()


@cache
def _lips() -> SurfacePoints:
    """The middles of the upper and the lower lip's edge: next to each other in the template, foremost, only one on the jaw."""
    body, jaw = embedded_body(), JOINT_NAMES.index("jaw")
    with np.load(FOLDER / "SMPLX_NEUTRAL.npz", allow_pickle=False) as npz:
        mouth = body.surface(npz["lmk_faces_idx"], npz["lmk_bary_coords"]).rest[OUTER_LIPS].mean(0)
    away = (body.template - mouth).abs()
    near = torch.nonzero((away[:, 0] < MIDLINE) & (away[:, 1:] < 0.03).all(1))[:, 0]
    lower, upper = (near[w] for w in (body.skin_weights[near, jaw] > 0.5, body.skin_weights[near, jaw] < 0.2))
    gaps = torch.cdist(body.template[upper], body.template[lower])
    front = body.template[upper, 2][:, None] + body.template[lower, 2]
    first, second = divmod(int(torch.where(gaps < LIPS_MEET, front, -torch.inf).argmax()), len(lower))
    pick = torch.stack([upper[first], lower[second]])
    return SurfacePoints(body.template[pick], body.shape_dirs[pick], torch.zeros(0, 0), body.skin_weights[pick])


def envelope(score: Score, fps: Fraction, floor_db: float = -45.0) -> NDArray[np.float64]:
    """Log of the root mean square of the sound in each frame, [T]; what is quieter than the floor counts as it."""
    audio = score.audio.astype(np.float64)
    count = round(len(audio) * fps / SAMPLE_RATE)
    edges = np.round(np.arange(count + 1) * SAMPLE_RATE / float(fps)).astype(int).clip(0, len(audio))
    square = np.concatenate([[0.0], np.cumsum(audio**2)])
    level = np.sqrt((square[edges[1:]] - square[edges[:-1]]) / np.maximum(np.diff(edges), 1))
    return np.log(np.maximum(level, np.quantile(level, 0.98) * 10 ** (floor_db / 20)) + 1e-9)


def arms_inside(seeds: Sequence[int] = tuple(range(30))) -> dict[str, float]:
    """How deep arms are in the body and in each other over the talks of `seeds`; bodies differ from talk to talk.

    `trunk_mm`, `arms_mm`: the deepest overlap of all frames; `deep_share`: frames with an overlap over contact.DEEP.
    """
    found = []
    for seed in seeds:
        betas = np.clip(np.random.default_rng([seed, 71]).normal(0, 0.8, 10), -2, 2)
        found.append(arm_clearance(perform(make_score(plan_talk(seed)), betas=betas), embedded_body()))
    overlaps = np.maximum(*(np.concatenate([getattr(c, n) for c in found]) for n in ("trunk", "arms")))
    return {
        "trunk_mm": 1000 * max(float(c.trunk.max()) for c in found),
        "arms_mm": 1000 * max(float(c.arms.max()) for c in found),
        "deep_share": float((overlaps > DEEP).mean()),
    }
