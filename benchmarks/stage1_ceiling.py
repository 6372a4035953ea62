"""What the avatars could show at best: Gaussians fitted to each person's many pictures, against how many there are.

No network is asked: the 14 numbers of every Gaussian that the head would give are optimised for each person on
pictures all round, and judged in other views and in another pose. A network that sees one picture stays below it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage1 import SEED, SIDE, Subject, draw_subject
from configs.schema import Config, Stage1Config
from model.anchors import Anchors
from model.losses import l1_map, mask_l1, scale_penalty, ssim_map
from model.metrics import person_box, psnr
from model.rasterize import Render
from model.stage1 import GaussianHead
from model.types import Camera, GaussianCloud, SmplxParams
from pipelines.body import load_body
from pipelines.steps_stage1 import render_clouds

COUNTS = (3072, 6144, 12288, 24576)
RING, APART = 24, 6  # pictures round a person, of which every sixth is not learned from
PICTURES, STEP = 4, 0.06  # pictures a step and person; Adam's largest step


def fit_people(subjects: list[Subject], count: int, steps: int, device: str) -> tuple[float, float]:
    """PSNR of unseen views and of another pose, dB over the people's boxes, of `count` Gaussians fitted to each person."""
    torch.manual_seed(0)
    config = Stage1Config()
    anchors = Anchors(load_body(Config()), count, config.triplane_radius).to(device)
    head = GaussianHead(config.max_offset, config.max_scale)
    pictures = torch.stack([s.pictures for s in subjects]).to(device)  # [B, V, R, R, 4]
    cameras = Camera.cat([s.cameras[None] for s in subjects]).to(device)
    params = SmplxParams.cat([s.params[None] for s in subjects]).to(device)
    base = torch.full((len(subjects), count, 3), 0.5, device=device)
    y = torch.zeros(len(subjects), count, 14, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([y], STEP, (0.9, 0.98))
    people = torch.arange(len(subjects))[:, None]
    learned = torch.tensor([i for i in range(RING) if i % APART != APART // 2])
    for step in track(range(steps), f"{count} Gaussians", transient=True):
        for group in optimizer.param_groups:
            group["lr"] = STEP * min(1.0, step / 20) * (1 - 0.9 * step / steps)
        index = people, learned[torch.rand(len(subjects), len(learned)).argsort(1)[:, :PICTURES]]
        cloud = head.decode(y, base, anchors)
        seen, true = _draw(anchors, cloud, params[index], cameras[index]), pictures[index]
        loss = l1_map(seen.color, true[..., :3]).mean() + 0.2 * (1 - ssim_map(seen.color, true[..., :3]).mean())
        loss = loss + 0.5 * mask_l1(seen.alpha, true[..., 3:]).mean() + 0.1 * scale_penalty(cloud.scales, anchors.spacing).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        cloud = head.decode(y, base, anchors)
        return tuple(_psnr(anchors, cloud, params[:, k], cameras[:, k], pictures[:, k]) for k in (_unseen(), slice(RING, None)))  # type: ignore[return-value]


def _unseen() -> slice:
    return slice(APART // 2, RING, APART)


def _draw(anchors: Anchors, cloud: GaussianCloud, params: SmplxParams, cameras: Camera) -> Render:
    views = params.transl.shape[1]
    return render_clouds(anchors, cloud.map(lambda x: x.repeat_interleave(views, 0)), params, cameras, "auto", SIDE)


def _psnr(anchors: Anchors, cloud: GaussianCloud, params: SmplxParams, cameras: Camera, pictures: Tensor) -> float:
    drawn, true = _draw(anchors, cloud, params, cameras).color.cpu().numpy(), pictures.cpu().numpy()
    return float(np.mean([psnr(a, b[..., :3], person_box(b[..., 3], 0.1)) for a, b in zip(drawn, true, strict=True)]))


def plot(rows: dict[int, tuple[float, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for k, label in enumerate(("other views", "another pose")):
        axes.plot(list(rows), [row[k] for row in rows.values()], "o-", label=label)
    axes.set(xscale="log", xlabel="Gaussians of a person", ylabel="PSNR over the person's box, dB", title="Gaussians fitted to each person")
    axes.set_xticks(list(rows), [str(count) for count in rows])
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=8, help="how many people (default: 8)")
    parser.add_argument("--steps", type=int, default=400, help="of Adam (default: 400)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--plot", type=Path, default=Path("stage1_ceiling.png"))
    options = parser.parse_args()
    start = time.perf_counter()
    subjects = [draw_subject(SEED + i, RING) for i in track(range(options.people), "people", transient=True)]
    rows = {count: fit_people(subjects, count, options.steps, options.device) for count in COUNTS}
    figures = []
    for count, (views, pose) in rows.items():
        figures += [Figure(f"fitted_psnr_views_{count}", views, "dB"), Figure(f"fitted_psnr_pose_{count}", pose, "dB")]
    plot(rows, options.plot)
    config = {"people": options.people, "steps": options.steps, "pictures": RING}
    seconds = time.perf_counter() - start
    publish("stage1_ceiling", figures, device=device_name(options.device), config=config, seconds=seconds, path=options.json)


if __name__ == "__main__":
    main()
