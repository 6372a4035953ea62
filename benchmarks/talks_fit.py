"""How close the fit comes to the truth of embedded talks of speakers it was not calibrated on, and how fast it is.

Talks that ship and talks drawn from seeds (espeak-ng), not cut; person and camera unknown to the fit. Joint errors in
millimetres over the upper-body joints (`model.body.UPPER_BODY`): after Procrustes alignment of each frame (`pa`), and
with necks laid over each other. Hands count in the frames where the detector saw them. `seated_`: the drawn talks again,
with a desk in front of all that is below the chest. `--real FOLDER` adds videos without truth: the mean distance of body
landmarks from the fit's, in percent of the person's box.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config
from model.body import HANDS, UPPER_BODY, Body
from model.fit_layout import BODY_PART
from model.fit_windows import plan_windows
from model.fitting import FitResult
from model.types import SmplxParams
from pipelines import media
from pipelines.fit import FitBody, confidence, fit_landmarks, load_fit_body, observations
from pipelines.formats import load_fit
from pipelines.landmarks import Landmarks, detect
from samples.builders.people import make_person
from samples.builders.strangers import behind_desk
from samples.builders.talks import make_score, plan_talk, render_talk

NECK, SHOULDERS, WRISTS = 12, (16, 17), (20, 21)
TALKS = Path(str(resources.files("samples"))) / "talks"
SEEDS = (20_001, 20_002, 20_003, 20_004)  # calibration draws its people from 30001 on and from 50001 to 77999
SIDE = 448  # pixels of drawn talks
FRAMES = 125  # of each talk
SPEED_FRAMES = (60, 300)
DESK = 0.62  # of the picture's height, from the top, that a desk leaves to be seen
SEAM_WINDOW = 90  # frames; as short as a long clip's windows never are
# name → unit, bar
FIGURES = {
    "upper_pa_mpjpe_mm": ("mm", "<= 14"),
    "upper_neck_mpjpe_mm": ("mm", "<= 25"),
    "wrist_neck_mm": ("mm", "<= 38"),
    "hand_pa_mpjpe_mm": ("mm", "<= 5.5"),
    "jaw_corr": ("r", ">= 0.96"),
    "accel_error_mm": ("mm a frame²", "<= 1.8"),
    "jaw_error": ("rad", None),
    "head_turn_error": ("deg", None),
    "size_ratio": ("of the truth's", None),
    "mean_confidence": ("0..1", None),
    "landmark_fps": ("frames/s", ">= 20"),
    "fit_fps": ("frames/s", None),
}
SEATED = {  # figures of people behind desks → unit
    "upper_pa_mpjpe_mm": "mm", "upper_neck_mpjpe_mm": "mm", "shoulder_neck_mm": "mm", "shoulder_width_ratio": "of the truth's",
    "shoulder_drop_mm": "mm lower than the truth's, neck on neck", "mean_confidence": "0..1",
}  # fmt: skip


def figures(
    seeds: Sequence[int] = SEEDS, talks: Sequence[str] | None = None, frames: int = FRAMES, real: Path | None = None
) -> list[Figure]:
    """Means over the shipped `talks` (none: all) and drawn talks of `seeds`; `frames` of each."""
    config = Config.model_validate({})
    fitted = load_fit_body(config)
    names = sorted(p.stem for p in (TALKS / "truth").glob("*.npz")) if talks is None else talks
    pairs = [(TALKS / f"{name}.mp4", TALKS / "truth" / f"{name}.npz") for name in names]
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            plan = plan_talk(seed, seconds=frames / 25, fps=Fraction(25), framing="half")
            video = Path(folder) / f"{seed}.mp4"
            pairs.append((video, render_talk(make_score(plan), make_person(plan.look), video, SIDE)))
        rows = [measure_talk(config, fitted, *pair, frames) for pair in pairs]
        behind_desks = [measure_talk(config, fitted, *pair, frames, DESK) for pair in pairs[len(names) :]]
        longest = detect_some(pairs[0][0], load_fit(pairs[0][1]).fps, max(SPEED_FRAMES))
    out = [Figure(name, round(float(np.mean([row[name] for row in rows])), 4), unit, bar) for name, (unit, bar) in FIGURES.items()]
    if behind_desks:
        mean = lambda name: round(float(np.mean([row[name] for row in behind_desks])), 4)  # noqa: E731
        out += [Figure(f"seated_{name}", mean(name), unit) for name, unit in SEATED.items()]
    for n in SPEED_FRAMES:
        wall, processor = fit_speed(config, fitted, longest, n)
        out.append(Figure(f"fit_fps_t{n}", round(wall, 2), "frames/s", ">= 25"))
        out.append(Figure(f"fit_fps_t{n}_processor", round(processor, 2), "frames/s of processor time, all threads together"))
    out += seams(config, fitted, longest)
    return out + (real_footage(config, fitted, real) if real else [])


def measure_talk(
    config: Config, fitted: FitBody, video: Path, beside: Path, frames: int, desk: float | None = None
) -> dict[str, float]:
    """Figures of one talk, over its first `frames` frames; `desk`: share of the picture above a desk (none: no desk)."""
    truth = load_fit(beside)
    start = time.perf_counter()
    found = detect_some(video, truth.fps, frames, desk)
    detected = time.perf_counter()
    result = fit_landmarks(config, fitted, found, video.stem)
    seconds = time.perf_counter() - detected
    # the fit's world is the camera's frame with y up
    world = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])) @ truth.camera.w2c
    true = fitted.body.moved(truth.params[: len(found)], world)
    return {
        **compare(fitted.body, result.params, true, found),
        "mean_confidence": confidence(result, observations(found)).mean().item(),
        "landmark_fps": len(found) / (detected - start),
        "fit_fps": len(found) / seconds,
    }


def detect_some(video: Path, rate: Fraction, frames: int, desk: float | None = None) -> Landmarks:
    pictures = islice(media.frames(video, rate), frames)
    return detect(pictures if desk is None else (behind_desk(picture, desk) for picture in pictures), rate)


def fit_speed(config: Config, fitted: FitBody, found: Landmarks, frames: int) -> tuple[float, float]:
    """Frames a second, by the clock and by processor time, of a clip of `frames` frames; a shorter talk runs forth and back."""
    turn = list(range(len(found))) + list(range(len(found) - 2, 0, -1))
    pick = [turn[i % len(turn)] for i in range(frames)]
    kept = {f.name: getattr(found, f.name)[pick] for f in fields(found) if f.name not in ("size", "fps")}
    clip = replace(found, **kept)
    start, used = time.perf_counter(), time.process_time()
    fit_landmarks(config, fitted, clip)
    return frames / (time.perf_counter() - start), frames / (time.process_time() - used)


def seams(config: Config, fitted: FitBody, found: Landmarks) -> list[Figure]:
    """A clip fitted in short windows against the same clip fitted at once, in the frames where windows overlap."""
    short = config.model_copy(update={"fit": config.fit.model_copy(update={"window": SEAM_WINDOW})})
    whole, parts = (fitted.body.joints(fit_landmarks(c, fitted, found).params)[:, list(UPPER_BODY)] for c in (config, short))
    spans = plan_windows(len(found), SEAM_WINDOW)
    whole, parts = (x - x[:, [UPPER_BODY.index(NECK)]] for x in (whole, parts))
    at = [t for (_, end), (begin, _) in pairwise(spans) for t in range(begin, end - 2)]
    bend = lambda x: (x[2:] - 2 * x[1:-1] + x[:-2]).norm(dim=-1)[at].mean().item()  # noqa: E731
    return [
        Figure("seam_accel_ratio", round(bend(parts) / bend(whole), 3), "acceleration where windows overlap, of the same in one window"),
        Figure("seam_shift_mm", round(1e3 * (parts - whole)[at].norm(dim=-1).mean().item(), 2), "mm from that fit, neck on neck"),
    ]


def real_footage(config: Config, fitted: FitBody, folder: Path) -> list[Figure]:
    """Reprojection of every video in the folder, percent of the box around the body landmarks seen."""
    out = []
    for video in sorted(p for p in folder.iterdir() if p.suffix in (".mpg", ".mp4", ".mov", ".webm", ".mkv")):
        found = detect_some(video, Fraction(25), FRAMES)
        result = fit_landmarks(config, fitted, found, video.stem)
        out.append(Figure(f"reprojection_{video.stem}", round(reprojection(result, found), 3), "% of the box", "<= 2.5"))
    return out


def reprojection(result: FitResult, found: Landmarks) -> float:
    """Median distance of seen body landmarks from the fit's, percent of the longer side of the person's box.

    The box holds all landmarks of body and face, as far as they are in the picture.
    """
    points = np.concatenate([found.pose, found.face], 1)[..., :2].clip(0, found.size)
    box = (np.nanmax(points, 1) - np.nanmin(points, 1)).max(1, keepdims=True)
    depth = -result.params.transl[:, 2]
    pixels = (result.residual[:, BODY_PART] * (result.focal / depth)[:, None]).numpy()
    return float(100 * np.nanmedian(pixels / box))


def compare(body: Body, fit: SmplxParams, true: SmplxParams, found: Landmarks) -> dict[str, float]:
    """Errors of parameters [T] against the truth [T], both in the camera's frame."""
    ours, theirs = body.joints(fit), body.joints(true)
    upper = list(UPPER_BODY)
    off = ours - ours[:, [NECK]] - theirs + theirs[:, [NECK]]
    width = lambda x: (x[:, SHOULDERS[0]] - x[:, SHOULDERS[1]]).norm(dim=-1).mean()  # noqa: E731
    jaws = torch.stack([fit.jaw_pose[:, 0], true.jaw_pose[:, 0]])
    bend = lambda x: x[2:] - 2 * x[1:-1] + x[:-2]  # noqa: E731
    arms = lambda x: sum((x[:, a] - x[:, b]).norm(dim=-1).mean() for a, b in ((16, 18), (18, 20), (17, 19), (19, 21)))  # noqa: E731
    return {
        "upper_pa_mpjpe_mm": 1e3 * aligned_error(ours[:, upper], theirs[:, upper]),
        "upper_neck_mpjpe_mm": 1e3 * off[:, upper].norm(dim=-1).mean().item(),
        "wrist_neck_mm": 1e3 * off[:, list(WRISTS)].norm(dim=-1).mean().item(),
        "shoulder_neck_mm": 1e3 * off[:, list(SHOULDERS)].norm(dim=-1).mean().item(),
        "shoulder_drop_mm": -1e3 * off[:, list(SHOULDERS), 1].mean().item(),
        "shoulder_width_ratio": (width(ours) / width(theirs)).item(),
        "hand_pa_mpjpe_mm": 1e3 * float(np.mean(list(hand_errors(ours, theirs, found)) or [np.nan])),
        "jaw_corr": torch.corrcoef(jaws)[0, 1].item(),
        "accel_error_mm": 1e3 * (bend(ours) - bend(theirs))[:, upper].norm(dim=-1).mean().item(),
        "jaw_error": (jaws[0] - jaws[1]).abs().mean().item(),
        "head_turn_error": np.degrees(head_turn(body, fit, true).mean().item()),
        "size_ratio": (arms(ours) / arms(theirs)).item(),
    }


def hand_errors(ours: Tensor, theirs: Tensor, found: Landmarks) -> Iterator[float]:
    """Mean aligned error of each hand over the frames in which it was seen."""
    for joints, marks in zip(HANDS.values(), (found.left_hand, found.right_hand), strict=True):
        seen = torch.from_numpy(~np.isnan(marks[:, 0, 0]))
        if seen.any():
            yield aligned_error(ours[seen][:, list(joints)], theirs[seen][:, list(joints)])


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
    parser.add_argument("--talk", action="append", help="only this shipped talk; may be repeated")
    parser.add_argument("--drawn", type=int, default=len(SEEDS), help="talks drawn from seeds")
    parser.add_argument("--frames", type=int, default=FRAMES, help="at most this many frames of each talk")
    parser.add_argument("--real", type=Path, help="folder of real videos, for their reprojection")
    options = parser.parse_args()
    start = time.perf_counter()
    seeds = [SEEDS[0] + i for i in range(options.drawn)]
    measured = figures(seeds, options.talk, options.frames, options.real)
    about = {"frames": options.frames, "seeds": seeds, **Config.model_validate({}).fit.model_dump(mode="json")}
    seconds = time.perf_counter() - start
    publish("talks_fit", measured, device=device_name(), config=about, seconds=seconds, path=options.json)


if __name__ == "__main__":
    main()
