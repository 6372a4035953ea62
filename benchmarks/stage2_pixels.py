"""What the pixel loss adds to stage 2: the same weights, data, windows and steps with and without pixel terms.

    python -m benchmarks.stage2_pixels [--config FILE] [--weights FILE] [--steps 40] [--speakers 6] [--device cuda]

Talks are drawn with pictures here (needs espeak-ng). All arms begin with the given weights, or else with the same random ones:
`motion` learns motion alone; `pixels` also from L1 (round the lips once more), SSIM and mask of rendered clean estimates;
`appearance` moves nothing but what is heard in the looks, by true bodies' pictures, so its motion stays as it began.
Each is then looked at on speakers never seen, clip by clip, over the whole, the head and the mouth: the estimates' pictures,
and those of the true bodies with the change of appearance that is heard (`worn`) and without it (`bare`). `--save` keeps the weights.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage2_pictured import clip_of, draw_all, drawn_batch
from configs.places import PROJECT
from configs.schema import Config, LossConfig, load_config
from model import metrics
from model.metrics_intervals import speaker_bootstrap
from pipelines.checkpoints import load_stage1, load_stage2, read_about, save_weights
from pipelines.datasets import Draw
from pipelines.motion_corpus import MotionWindows
from pipelines.people import PersonFrames
from pipelines.progress import progress
from pipelines.steps_stage1 import joints_of
from pipelines.steps_stage2 import Stage2Batch, Stage2Task
from pipelines.tasks import learn_parts

LEARNED, HELD_OUT = 950_000, 960_000  # first speakers
LOOKS = 6  # windows of a held-out talk that are looked at
HEAD, NECK_TO_CROWN, MOUTH = 15, 0.14, 0.045  # joint; metres from the head's middle that the head reaches, from the lips' the mouth
PIXELS = ("l1", "ssim", "mask", "face")
ARMS = ("before", "motion", "pixels", "appearance")  # the first learns nothing
APPEARANCE = ("appearance", "appearance_basis", "appearance_out")  # of Stage2
EAGER = 20.0  # times the step size with which appearance is learned alone: it begins at nothing
TRIED = 5  # steps by which the time of one is told
UNITS = {"psnr": "dB", "joints": "mm"}


def learn(task: Stage2Task, people: list[PersonFrames], steps: int, batch: int, seed: int) -> None:
    """Steps of both kinds of windows, the same for the same seed."""
    device = next(task.parameters()).device
    windows = MotionWindows(task.corpus, task.config.stage2.window, Draw(seed, batch))
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], task.settings.learning_rate, (0.9, 0.95))
    task.network.train()
    for step in progress(range(steps), "with pixels" if task.settings.loss.l1 else "motion alone", steps):
        seen = drawn_batch(people, np.random.default_rng([seed, step]), task.shape, batch)
        both = Stage2Batch(windows.at(step, batch * task.settings.windows), seen).to(device)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = task.settings.learning_rate * min(1.0, (step + 1) / 10) * (1 - 0.9 * step / steps)
        optimizer.zero_grad()
        task(both, step / steps)["total"].backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def look(task: Stage2Task, person: PersonFrames, seed: int) -> dict[str, float]:
    """Figures of the clean estimates of some windows of a talk, and of true bodies in their appearance, means over frames."""
    network = task.network.eval()
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    batch = drawn_batch([person], np.random.default_rng(seed), task.shape, LOOKS).to(device)
    seen, reference, true, windows = task.seen_windows(batch)
    drawn = network.learn(windows, 1)
    frames = network.estimated(reference.params, drawn)
    joints = joints_of(network.stage1, true)
    mouths = network.stage1.body.posed_points(task.lip_points, true.map(lambda x: x.flatten(0, 1))).mean(1).unflatten(0, joints.shape[:2])
    side = seen.views.shape[2]
    boxes = {
        "": None, "_head": _boxes(joints[..., HEAD, :], NECK_TO_CROWN, seen.view_camera.intrinsics, seen.frames, side),
        "_mouth": _boxes(mouths, MOUTH, seen.view_camera.intrinsics, seen.frames, side),
    }  # fmt: skip
    worn = replace(frames, params=true)
    shown = {"": frames, "_worn": worn, "_bare": replace(worn, appearance=torch.zeros_like(worn.appearance))}
    flat, found = (lambda x: x.flatten(0, 1).cpu().numpy()), {}
    for how, made in shown.items():
        picture = flat(task.render(reference, made, seen).color.clamp(0, 1))
        for place, box in boxes.items():
            found[f"psnr{place}{how}"] = metrics.psnr(picture, flat(seen.views), box)
            if place or not how:
                found[f"ssim{place}{how}"] = metrics.ssim(picture, flat(seen.views), box)
    found["joints_mm"] = 1000 * float((joints_of(network.stage1, frames.params) - joints).norm(dim=-1).mean())
    found["lips"] = float(task.lips.errors(drawn.mouth + windows.still.mouth[:, None], windows.mouth).mean())
    return found


def _boxes(middles: Tensor, metres: float, intrinsics: Tensor, frames: Tensor, side: int) -> np.ndarray:
    """Boxes [B · P, 4] in pixels as far round `middles` [B, T, 3], metres in the camera's frame."""
    at = middles[torch.arange(len(frames), device=frames.device)[:, None], frames]  # [B, P, 3]
    focal, middle = intrinsics[:, None, 0, 0], intrinsics[:, None, :2, 2]
    centre = focal[..., None] * at[..., :2] / at[..., 2:] + middle
    reach = (focal * metres / at[..., 2])[..., None].clamp(min=8.0)
    boxes = torch.cat([centre - reach, centre + reach], -1).flatten(0, 1).round().long()
    low = boxes[:, :2].clamp(0, side - 12)
    return torch.cat([low, boxes[:, 2:].clamp(max=side).maximum(low + 12)], 1).cpu().numpy()


def arm(config: Config, weights: Path | None, stage1: Path, name: str, learned: list[PersonFrames], device: str) -> Stage2Task:
    """A task ready to learn as that arm does."""
    loss, training = LossConfig(token=0.0, face=1.0), config.stage2_training
    changed = {"start_from": str(weights) if weights else None, "loss": loss}
    if name == "motion":
        changed["loss"] = loss.model_copy(update=dict.fromkeys(PIXELS, 0.0))
    if name == "appearance":
        changed |= {"pixel_pose": "true", "windows": 1, "draws": 1, "learning_rate": EAGER * training.learning_rate}
    config = config.model_copy(update={"stage2_training": training.model_copy(update=changed)})
    clips = [clip_of(config, p) for p in learned]
    torch.manual_seed(config.seed)
    if weights is None:
        task = Stage2Task(config, load_stage1(config, stage1), clips, [], {})
    else:
        trained = load_stage2(config, weights)
        config = config.model_copy(update={"stage2": trained.config})
        task = Stage2Task(config, copy.deepcopy(trained.stage1), clips, [], {})
        task.network.load_state_dict(trained.state_dict())
    if name == "appearance":
        learn_parts(task.network, APPEARANCE)
    return task.to(device)


def affordable(task: Stage2Task, people: list[PersonFrames], batch: int, seconds: float) -> int:
    """Steps that a copy of the task does in so long, at least one."""
    trial = copy.deepcopy(task)
    spent = []
    for _ in range(2):  # the first are slower
        start = time.perf_counter()
        learn(trial, people, TRIED, batch, 1)
        _ = [p.sum().item() for p in trial.network.appearance.parameters()]  # waits for the device
        spent.append(time.perf_counter() - start)
    return max(1, int(TRIED * seconds / spent[-1]))


def compare(
    config: Config, weights: Path | None, stage1: Path, arms: tuple[str, ...], learned: list[PersonFrames], unseen: list[PersonFrames],
    steps: int, batch: int, device: str, seconds: float | None = None, save: Path | None = None,
) -> tuple[list[Figure], int]:  # fmt: skip
    """Figures of each arm, and how many steps it learned: `steps`, or those that the last one does in `seconds`."""
    if seconds is not None:
        steps = affordable(arm(config, weights, stage1, arms[-1], learned, device), learned, batch, seconds)
    rows: dict[str, list[dict[str, float]]] = {}
    for name in arms:
        task = arm(config, weights, stage1, name, learned, device)
        if name != "before":
            learn(task, learned, steps, batch, config.seed)
            if save is not None and weights is not None:
                about = {k: v for k, v in read_about(weights).items() if k not in ("stage1_beside", "precision")}
                save_weights(save / f"{name}.safetensors", task.network, about | {"pixels": {"arm": name, "steps": steps, "batch": batch}})
        rows[name] = [look(task, person, seed) for seed, person in enumerate(unseen)]
    groups = [p.group for p in unseen]
    found = [figure for name, row in rows.items() for figure in _means(row, name)]
    if "motion" in arms and "pixels" in arms:
        found += paired_gains(rows["pixels"], rows["motion"], groups)
    for name in (a for a in arms if a != "before"):
        worn, bare = ([{k.replace(how, ""): v for k, v in r.items() if how in k} for r in rows[name]] for how in ("_worn", "_bare"))
        found += paired_gains(worn, bare, groups, f"_of_{name}_worn")
    return found, steps


def main() -> None:
    parser = arguments("What the pixel loss adds to stage 2")
    parser.add_argument("--config", type=Path, default=PROJECT / "configs" / "small_stage2.yaml")
    parser.add_argument("--weights", type=Path, help="stage 2 safetensors that all arms begin with; default: random ones")
    parser.add_argument("--stage1", type=Path, default=PROJECT / "samples" / "weights" / "stage1.safetensors")
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=2, help="windows with pictures a step")
    parser.add_argument("--speakers", type=int, default=6, help="talks to learn from; half as many are held out")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a talk")
    parser.add_argument("--rate", type=float, default=3e-4, help="AdamW step size")
    parser.add_argument("--size", type=int, default=128, help="side of rendered pictures, pixels")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write <arm>.safetensors there")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    start, config = time.perf_counter(), with_pictures(load_config(options.config), options.rate, options.size)
    side = load_stage1(config, options.stage1).config.image.image_size
    learned = draw_all(config, LEARNED, options.speakers, options.seconds, side)
    unseen = draw_all(config, HELD_OUT, max(2, options.speakers // 2), options.seconds, side)
    arms, who = tuple(options.arms), (learned, unseen)
    found, _ = compare(config, options.weights, options.stage1, arms, *who, options.steps, options.batch, options.device, save=options.save)
    about, spent = {n: str(v) for n, v in vars(options).items() if n != "json"}, time.perf_counter() - start
    publish("stage2_pixels", found, device=device_name(options.device), config=about, seconds=spent, path=options.json)


def with_pictures(config: Config, rate: float, size: int) -> Config:
    """Settings that all arms share."""
    own = {"learning_rate": rate, "windows": 4, "draws": 2, "pixel_frames": 2, "render_size": size, "own_share": 0.0}
    return config.model_copy(update={"stage2_training": config.stage2_training.model_copy(update=own)})


def _means(row: list[dict[str, float]], name: str) -> list[Figure]:
    return [Figure(f"{k}_{name}", round(float(np.mean([r[k] for r in row])), 4), UNITS.get(k.split("_")[0], "")) for k in row[0]]


def paired_gains(with_pixels: list[dict[str, float]], without: list[dict[str, float]], speakers: list[str], what: str = "") -> list[Figure]:
    """Differences paired by clip, with where they lie with 95 % confidence."""
    out = []
    for k in without[0]:
        gain = speaker_bootstrap(np.array([a[k] - b[k] for a, b in zip(with_pixels, without, strict=True)]), speakers)
        named = {f"{k}{what}_gain": gain.value, f"{k}{what}_gain_low": gain.low, f"{k}{what}_gain_high": gain.high}
        out += [Figure(n, round(v, 4), UNITS.get(k.split("_")[0], "")) for n, v in named.items() if v is not None]
    return out


if __name__ == "__main__":
    main()
