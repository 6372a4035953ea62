"""How close the fit comes to the truth of the embedded talks, and how fast it is.

Whole talks are fitted (no cutting), each person and camera unknown to the fit. Joint errors in millimetres over the
upper-body joints (`model.body.UPPER_BODY`): after Procrustes alignment of each frame, and with necks laid over each other.
"""

from __future__ import annotations

import time
from fractions import Fraction
from importlib import resources
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config
from model.body import HANDS, UPPER_BODY, Body
from model.types import SmplxParams
from pipelines import media
from pipelines.fit import confidence, fit_landmarks, load_fit_body, observations
from pipelines.formats import load_fit
from pipelines.landmarks import detect

NECK, WRISTS = 12, (20, 21)
TALKS = Path(str(resources.files("samples"))) / "talks"
# name → unit, bar
FIGURES = {
    "pa_upper_body": ("mm", "<= 20"),
    "neck_aligned_upper_body": ("mm", None),
    "neck_aligned_wrist": ("mm", None),
    "pa_hand": ("mm", None),
    "jaw_correlation": ("r", ">= 0.9"),
    "jaw_error": ("rad", None),
    "head_turn_error": ("deg", None),
    "acceleration_ratio": ("of the truth's", None),
    "mean_confidence": ("0..1", None),
    "landmarks_speed": ("frames/s", None),
    "fit_speed": ("frames/s", ">= 8"),
}


def measure_talk(config: Config, talk: str, frames: int | None) -> dict[str, float]:
    """Figures of one talk, over its first `frames` frames."""
    truth = load_fit(TALKS / "truth" / f"{talk}.npz")
    rate = truth.fps
    end = None if frames is None else frames / float(rate)
    fitted = load_fit_body(config)
    start = time.perf_counter()
    found = detect(media.frames(TALKS / f"{talk}.mp4", rate, 0.0, end), rate)
    detected = time.perf_counter()
    result = fit_landmarks(config, fitted, found, talk)
    seconds = time.perf_counter() - detected
    count = len(found)
    # the fit's world is the camera's frame with y up
    world = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])) @ truth.camera.w2c
    true = fitted.body.moved(truth.params[:count], world)
    return {
        **compare(fitted.body, result.params, true, rate),
        "mean_confidence": confidence(result, observations(found)).mean().item(),
        "landmarks_speed": count / (detected - start),
        "fit_speed": count / seconds,
    }


def compare(body: Body, fit: SmplxParams, true: SmplxParams, rate: Fraction) -> dict[str, float]:
    """Errors of parameters [T] against the truth [T], both in the camera's frame."""
    ours, theirs = body.joints(fit), body.joints(true)
    upper, hands = list(UPPER_BODY), [list(h) for h in HANDS.values()]
    off = (ours - ours[:, [NECK]] - theirs + theirs[:, [NECK]]).norm(dim=-1)
    jaws = torch.stack([fit.jaw_pose[:, 0], true.jaw_pose[:, 0]])
    bend = lambda x: (x[2:] - 2 * x[1:-1] + x[:-2])[:, upper].norm(dim=-1).mean()  # noqa: E731
    return {
        "pa_upper_body": 1e3 * aligned_error(ours[:, upper], theirs[:, upper]),
        "neck_aligned_upper_body": 1e3 * off[:, upper].mean().item(),
        "neck_aligned_wrist": 1e3 * off[:, list(WRISTS)].mean().item(),
        "pa_hand": 1e3 * sum(aligned_error(ours[:, h], theirs[:, h]) for h in hands) / len(hands),
        "jaw_correlation": torch.corrcoef(jaws)[0, 1].item(),
        "jaw_error": (jaws[0] - jaws[1]).abs().mean().item(),
        "head_turn_error": np.degrees(head_turn(body, fit, true).mean().item()),
        "acceleration_ratio": (bend(ours) / bend(theirs)).item(),
    }


def aligned_error(ours: Tensor, theirs: Tensor) -> float:
    """Mean distance of joints [T, J, 3] after the best similarity transform of each frame."""
    turn, shift, scale = roma.rigid_points_registration(ours, theirs, compute_scaling=True)
    moved = scale[:, None, None] * ours @ turn.mT + shift[:, None]
    return (moved - theirs).norm(dim=-1).mean().item()


def head_turn(body: Body, fit: SmplxParams, true: SmplxParams) -> Tensor:
    """Angle [T] between the heads' orientations, radians."""
    turns = []
    for params in (fit, true):
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        turns.append(body.kinematics(rotations, params.shape_coefficients, params.transl)[1][:, 15, :, :3])
    return roma.rotmat_geodesic_distance(*turns)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--talk", action="append", help="only this talk; may be repeated")
    parser.add_argument("--frames", type=int, help="at most this many frames of each talk")
    options = parser.parse_args()
    config = Config.model_validate({})
    start = time.perf_counter()
    talks = options.talk or sorted(p.stem for p in (TALKS / "truth").glob("*.npz"))
    rows = {talk: measure_talk(config, talk, options.frames) for talk in talks}
    figures = []
    for name, (unit, bar) in FIGURES.items():
        figures.append(Figure(name, float(np.mean([row[name] for row in rows.values()])), unit, bar))
    for talk, row in rows.items():
        figures += [
            Figure(f"{name}_{talk}", row[name], FIGURES[name][0]) for name in ("pa_upper_body", "jaw_correlation")
        ]
    about = {"talks": talks, "frames": options.frames, **config.fit.model_dump(mode="json")}
    seconds = time.perf_counter() - start
    publish("fit", figures, device=device_name(), config=about, seconds=seconds, path=options.json)


if __name__ == "__main__":
    main()
