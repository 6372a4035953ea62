"""What the pixel loss adds to stage 2: the same weights, data, windows and steps with and without pixel terms.

    python -m benchmarks.stage2_pixels [--config FILE] [--weights FILE] [--steps 40] [--speakers 6] [--device cuda]

Talks are drawn with pictures here (needs espeak-ng). Both arms begin with the given weights, or else with the same random
ones, and learn motion alike; one of them also from L1, SSIM and mask of rendered clean estimates against the pictures.
Both are then looked at on speakers never seen, clip by clip: the estimates' pictures over the whole, and over the head.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage2_pictured import clip_of, draw_all, drawn_batch
from configs.schema import Config, LossConfig, load_config
from model import metrics
from model.metrics_intervals import speaker_bootstrap
from pipelines.checkpoints import PROJECT, load_stage1, load_stage2
from pipelines.datasets import Draw
from pipelines.motion_corpus import MotionWindows
from pipelines.people import PersonFrames
from pipelines.progress import progress
from pipelines.steps_stage1 import joints_of
from pipelines.steps_stage2 import Stage2Batch, Stage2Task

LEARNED, HELD_OUT = 950_000, 960_000  # first speakers
LOOKS = 6  # windows of a held-out talk that are looked at
HEAD, NECK_TO_CROWN = 15, 0.14  # joint; metres from the head's middle that the head reaches
PIXELS = ("l1", "ssim", "mask")
UNITS = {"psnr": "dB", "psnr_head": "dB", "joints_mm": "mm"}


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
    """Figures of the clean estimates of some windows of a talk, means over their frames."""
    network = task.network.eval()
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    batch = drawn_batch([person], np.random.default_rng(seed), task.shape, LOOKS).to(device)
    seen, reference, true, windows = task.seen_windows(batch)
    drawn = network.learn(windows, 1)
    frames = network.estimated(reference.params, drawn)
    made, wanted = task.render(reference, frames, seen).color.clamp(0, 1), seen.views
    boxes = _heads(joints_of(network.stage1, true)[..., HEAD, :], seen.view_camera.intrinsics, seen.frames, made.shape[2])
    flat = lambda x: x.flatten(0, 1).cpu().numpy()  # noqa: E731
    return {
        "psnr": metrics.psnr(flat(made), flat(wanted)), "ssim": metrics.ssim(flat(made), flat(wanted)),
        "psnr_head": metrics.psnr(flat(made), flat(wanted), boxes), "ssim_head": metrics.ssim(flat(made), flat(wanted), boxes),
        "joints_mm": 1000 * float((joints_of(network.stage1, frames.params) - joints_of(network.stage1, true)).norm(dim=-1).mean()),
        "lips": float(task.lips.errors(drawn.mouth + windows.still.mouth[:, None], windows.mouth).mean()),
    }  # fmt: skip


def _heads(heads: Tensor, intrinsics: Tensor, frames: Tensor, side: int) -> np.ndarray:
    """Boxes [B · P, 4] in pixels round heads [B, T, 3], metres in the camera's frame."""
    at = heads[torch.arange(len(frames), device=frames.device)[:, None], frames]  # [B, P, 3]
    focal, middle = intrinsics[:, None, 0, 0], intrinsics[:, None, :2, 2]
    centre = focal[..., None] * at[..., :2] / at[..., 2:] + middle
    reach = (focal * NECK_TO_CROWN / at[..., 2])[..., None].clamp(min=8.0)
    boxes = torch.cat([centre - reach, centre + reach], -1).flatten(0, 1).round().long()
    low = boxes[:, :2].clamp(0, side - 12)
    return torch.cat([low, boxes[:, 2:].clamp(max=side).maximum(low + 12)], 1).cpu().numpy()


def arm(config: Config, weights: Path | None, stage1: Path, pixels: bool, learned: list[PersonFrames], device: str) -> Stage2Task:
    """A task ready to learn, with pixel terms or without."""
    loss = LossConfig(token=0.0, **({} if pixels else dict.fromkeys(PIXELS, 0.0)))
    training = config.stage2_training.model_copy(update={"loss": loss, "start_from": str(weights) if weights else None})
    config = config.model_copy(update={"stage2_training": training})
    clips = [clip_of(config, p) for p in learned]
    torch.manual_seed(config.seed)
    if weights is None:
        return Stage2Task(config, load_stage1(config, stage1), clips, [], {}).to(device)
    trained = load_stage2(config, weights)
    config = config.model_copy(update={"stage2": trained.config})
    task = Stage2Task(config, copy.deepcopy(trained.stage1), clips, [], {})
    task.network.load_state_dict(trained.state_dict())
    return task.to(device)


def main() -> None:
    parser = arguments("What the pixel loss adds to stage 2")
    parser.add_argument("--config", type=Path, default=PROJECT / "configs" / "small_stage2.yaml")
    parser.add_argument("--weights", type=Path, help="stage 2 safetensors that both arms begin with; default: random ones")
    parser.add_argument("--stage1", type=Path, default=PROJECT / "samples" / "weights" / "stage1.safetensors")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=2, help="windows with pictures a step")
    parser.add_argument("--speakers", type=int, default=6, help="talks to learn from; half as many are held out")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a talk")
    parser.add_argument("--rate", type=float, default=3e-4, help="AdamW step size")
    parser.add_argument("--size", type=int, default=128, help="side of rendered pictures, pixels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    start, config = time.perf_counter(), load_config(options.config)
    own = {"learning_rate": options.rate, "windows": 4, "draws": 2, "pixel_frames": 2, "render_size": options.size, "own_share": 0.0}
    config = config.model_copy(update={"stage2_training": config.stage2_training.model_copy(update=own)})
    side = load_stage1(config, options.stage1).config.image.image_size
    learned = draw_all(config, LEARNED, options.speakers, options.seconds, side)
    unseen = draw_all(config, HELD_OUT, max(2, options.speakers // 2), options.seconds, side)
    rows: dict[str, list[dict[str, float]]] = {}
    for name, pixels in (("before", False), ("motion", False), ("pixels", True)):
        task = arm(config, options.weights, options.stage1, pixels, learned, options.device)
        if name != "before":
            learn(task, learned, options.steps, options.batch, config.seed)
        rows[name] = [look(task, person, seed) for seed, person in enumerate(unseen)]
    found = [figure for name, row in rows.items() for figure in _means(row, name)]
    found += _gains(rows["pixels"], rows["motion"], [p.group for p in unseen])
    about, spent = {n: str(v) for n, v in vars(options).items() if n != "json"}, time.perf_counter() - start
    publish("stage2_pixels", found, device=device_name(options.device), config=about, seconds=spent, path=options.json)


def _means(row: list[dict[str, float]], name: str) -> list[Figure]:
    return [Figure(f"{k}_{name}", round(float(np.mean([r[k] for r in row])), 4), UNITS.get(k, "")) for k in row[0]]


def _gains(with_pixels: list[dict[str, float]], without: list[dict[str, float]], speakers: list[str]) -> list[Figure]:
    """Differences paired by clip, with where they lie with 95 % confidence."""
    out = []
    for k in without[0]:
        gain = speaker_bootstrap(np.array([a[k] - b[k] for a, b in zip(with_pixels, without, strict=True)]), speakers)
        named = {f"{k}_gain": gain.value, f"{k}_gain_low": gain.low, f"{k}_gain_high": gain.high}
        out += [Figure(n, round(v, 4), UNITS.get(k, "")) for n, v in named.items() if v is not None]
    return out


if __name__ == "__main__":
    main()
