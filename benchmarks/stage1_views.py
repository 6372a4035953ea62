"""How much more pictures of a person help stage 1, how many Gaussians an avatar needs, and a sheet of people it has never seen.

Each person is pictured from eight sides; the network is given one to four of them (front, back, sides) and judged in the
four between. The plot's other half is what `benchmarks.stage1_ceiling` measured. The sheet shows the input, four novel views
and another pose, the truth on the left of each pair; its people are read with the refined body, as `speak` reads its picture.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage1 import SEED, WEIGHTS, Subject, draw_subject, refine
from configs.places import PROJECT
from configs.schema import Config
from model.metrics import person_box, psnr
from model.picture_fit import pictured_avatar
from model.rasterize import Render
from model.stage1 import Stage1
from model.types import GaussianCloud
from pipelines.checkpoints import load_stage1
from pipelines.steps_stage1 import in_camera, render_views

RING, GIVEN, JUDGED, POSE = 8, (0, 4, 2, 6), slice(1, 8, 2), slice(8, 9)  # pictures round a person; the order they are given in
CEILING = PROJECT / "benchmarks" / "results" / "stage1_ceiling.json"
Curve = dict[int, float]


@torch.no_grad()
def of_pictures(network: Stage1, subject: Subject, count: int, given: bool) -> GaussianCloud:
    """The avatar from `count` pictures, read with the true bodies (`given`) or with the predicted ones."""
    index = list(GIVEN[:count])
    pictures, cameras = subject.pictures[None, index, ..., :3].movedim(-1, 2).contiguous(), subject.cameras[None, index]
    true = in_camera(network, subject.params[index], subject.cameras.w2c[index])[None]
    return network.gaussians(network.canonical(network.encode_several(pictures, cameras, true if given else None)))


@torch.no_grad()
def refined_avatar(network: Stage1, subject: Subject) -> GaussianCloud:
    encoding = pictured_avatar(network, subject.pictures[:1], subject.cameras[:1], refine(network, subject))
    return network.gaussians(network.canonical(encoding))


def judge(network: Stage1, cloud: GaussianCloud, subject: Subject, part: slice) -> tuple[float, Render]:
    """PSNR over the person's box, dB, and what is drawn of pictures `part`."""
    params, cameras = (x.map(lambda t: t[part][None]) for x in (subject.params, subject.cameras))
    with torch.no_grad():
        drawn = render_views(network, cloud, params, cameras, "auto").map(lambda x: x[0])
    return psnr(drawn.color.numpy(), subject.color[part], person_box(subject.alpha[part], 0.1)), drawn


def sheet_row(network: Stage1, subject: Subject) -> np.ndarray:
    cloud = refined_avatar(network, subject)
    cells = [subject.color[0]]
    for part in (JUDGED, POSE):
        drawn = judge(network, cloud, subject, part)[1].color.numpy()
        cells += [x for pair in zip(subject.color[part], drawn, strict=True) for x in pair]
    return np.concatenate(cells, 1)


def ceiling() -> dict[str, Curve]:
    """PSNR against the number of Gaussians fitted to each person, as last measured; empty where it was not."""
    if not CEILING.is_file():
        return {}
    figures = {f["name"]: f["value"] for f in json.loads(CEILING.read_text())["figures"]}
    labels = {"views": "fitted to each person: other views", "pose": "fitted to each person: another pose"}
    return {label: {int(n.rsplit("_", 1)[1]): v for n, v in figures.items() if f"_{kind}_" in n} for kind, label in labels.items()}


def plot(curves: dict[str, Curve], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, lines, label in zip(panels, (curves, ceiling()), ("input pictures", "Gaussians of a person"), strict=True):
        for name, curve in lines.items():
            axes.plot(list(curve), list(curve.values()), "o-", label=name)
        axes.set(xlabel=label, ylabel="PSNR over the person's box, dB")
        if label.startswith("Gaussians"):
            axes.set_xscale("log")
        ticks = sorted({x for curve in lines.values() for x in curve})
        axes.set_xticks(ticks, [str(x) for x in ticks])
        axes.minorticks_off()
        if lines:
            axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=16, help="how many unseen people (default: 16)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="stage 1's safetensors (default: the shipped ones)")
    parser.add_argument("--plot", type=Path, default=Path("stage1_views.png"), help="PSNR against input pictures and Gaussians")
    parser.add_argument("--sheet", type=Path, default=Path("stage1_sheet.png"), help="input; truth and ours of 4 views, a new pose")
    options = parser.parse_args()
    start = time.perf_counter()
    network = load_stage1(Config(), options.weights)
    rows, sheet = [], []
    for index in track(range(options.people), "people", transient=True):
        subject = draw_subject(SEED + index, RING)
        rows.append([[judge(network, of_pictures(network, subject, k, g), subject, JUDGED)[0] for k in range(1, 5)] for g in (True, False)])
        sheet += [sheet_row(network, subject)] if index < 16 else []
    Image.fromarray((np.concatenate(sheet, 0).clip(0, 1) * 255).astype(np.uint8)).save(options.sheet)
    means = np.mean(rows, 0).tolist()
    names = {"": "true SMPL-X reads the pictures", "_read": "predicted SMPL-X reads them"}
    plot({label: dict(enumerate(row, 1)) for label, row in zip(names.values(), means, strict=True)}, options.plot)
    figures = [
        Figure(f"psnr_of_{count}_pictures{suffix}", value, "dB")
        for suffix, row in zip(names, means, strict=True)
        for count, value in enumerate(row, 1)
    ]
    config = {"people": options.people, "weights": options.weights.name}
    publish("stage1_views", figures, device=device_name(), config=config, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
