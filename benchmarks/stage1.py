"""How well stage 1 rebuilds people whom it has never seen from one picture: views, poses and bodies against the truth.

Each person is drawn afresh: an input picture within ±50° of the front, views 90°, 180° and 270° away, and the input view
of another pose. `uncorrected` are avatars before the drawing beside the picture corrects them; where the body is read, it is
moved into the picture as `speak` does it. Picture figures are of the person's box (bounding box + 10 %) at 256²; controls
stand beside them.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from configs.places import PROJECT
from configs.schema import Config, ScansConfig
from model.mesh_raster import Lights
from model.metrics import mpjpe, pa_mpjpe, person_box, psnr, ssim
from model.picture_fit import pictured_avatar
from model.rasterize import Render
from model.stage1 import Stage1
from model.types import Camera, GaussianCloud, SmplxParams
from pipelines import crops
from pipelines.checkpoints import load_stage1, read_about
from pipelines.landmarks import detect
from pipelines.refine import STILL, refined_body
from pipelines.steps_stage1 import in_camera, joints_of, render_views
from samples.builders.corpus import photograph
from samples.builders.people import make_person
from samples.builders.stances import random_stance

SIDE, TURN = 256, 50.0  # pixels; degrees from the front within which the input picture is taken
SEED = 77_000_000  # of the first person; corpora draw theirs elsewhere
SHEET = 16  # people on the sheet
BODY = 22  # joints of SMPL-X's body, which the pose figures are of
WEIGHTS = PROJECT / "samples" / "weights" / "stage1.safetensors"
FIGURES = {  # name → unit, bar
    "psnr_input": ("dB", None), "psnr_novel": ("dB", ">= 31.5"), "ssim_novel": ("", ">= 0.97"), "silhouette_iou": ("", ">= 0.98"),
    "psnr_novel_read": ("dB", ">= 28"), "psnr_new_pose": ("dB", ">= 30.5"),
    "psnr_novel_uncorrected": ("dB", None), "psnr_new_pose_uncorrected": ("dB", None),
    "psnr_sides": ("dB", None), "psnr_sides_of_two_pictures": ("dB", None),
    "pa_mpjpe_mm": ("mm", "<= 25"), "mpjpe_mm": ("mm", "<= 45"), "pa_mpjpe_refined_mm": ("mm", "<= 17"), "mpjpe_refined_mm": ("mm", None),
    "psnr_novel_refined": ("dB", None), "refine_seconds": ("s", "<= 3"),
    "control_one_colour": ("dB", None), "control_other_person": ("dB", None), "avatar_seconds": ("s", "<= 3"),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One person: the input picture, three views round it, and another pose from the input's side."""

    pictures: Tensor  # [5, SIDE, SIDE, 4] 0..1, colours on white, then alpha; as many more as views are asked for
    cameras: Camera  # [5]
    params: SmplxParams  # [5] world

    @property
    def color(self) -> np.ndarray:
        return self.pictures[..., :3].numpy()

    @property
    def alpha(self) -> np.ndarray:
        return self.pictures[..., 3].numpy()


def draw_subject(seed: int, views: int = 4) -> Subject:
    """`views` level pictures round a person, the first from about the front, then one of another pose."""
    person, rng = make_person(seed, 512), np.random.default_rng([seed, 43])
    first, second = random_stance(person, rng), random_stance(person, rng)
    lights = Lights(ambient=rng.uniform(0.45, 0.6), key_intensity=rng.uniform(0.4, 0.6))
    ring = ScansConfig.model_validate({"views": views, "half_body_views": 0, "azimuth": rng.uniform(-TURN, TURN), "size": SIDE})
    photos = photograph(person, first, lights, ring) + photograph(person, second, lights, ring.model_copy(update={"views": 1}))
    pictures, cameras = [], []
    for view, picture in photos:
        square = crops.square_round(crops.person_box(picture[..., 3]), SIDE, SIDE)
        pictures.append(crops.crop(picture, square, SIDE).float() / 255)
        cameras.append(crops.crop_camera(view.camera, square, SIDE)[None])
    return Subject(torch.stack(pictures), Camera.cat(cameras), SmplxParams.cat([first] * views + [second]))


@torch.no_grad()
def measure(network: Stage1, subject: Subject, other: GaussianCloud | None) -> tuple[dict[str, float], GaussianCloud, np.ndarray]:
    """Figures of one person, the avatar made with the true pose, and its row of the sheet; `other`: someone else's avatar."""
    picture, camera = subject.pictures[:1], subject.cameras[:1]
    true = in_camera(network, subject.params[:1], camera.w2c)
    avatar = lambda encoding: network.gaussians(network.canonical(encoding))  # noqa: E731
    image = picture[..., :3].movedim(-1, 1).contiguous()
    before = network.encode(image, camera, true, corrected=False)
    given, alone = avatar(pictured_avatar(network, picture, camera, true, exact=True)), avatar(before)
    start = time.perf_counter()
    encoding = pictured_avatar(network, picture, camera)
    read = avatar(encoding)
    seconds = time.perf_counter() - start
    shown, shown_alone, shown_read = (_draw(network, cloud, subject) for cloud in (given, alone, read))
    boxes = person_box(subject.alpha, 0.1)
    compare = lambda render, part: psnr(render.color[part].numpy(), subject.color[part], boxes[part])  # noqa: E731
    novel, pose, sides = slice(1, 4), slice(4, 5), slice(1, 4, 2)
    both = slice(0, 3, 2)  # from the front and from behind
    two = network.encode_several(
        subject.pictures[None, both, ..., :3].movedim(-1, 2).contiguous(), subject.cameras[None, both],
        in_camera(network, subject.params[both], subject.cameras.w2c[both])[None],
    )  # fmt: skip
    shown_two = _draw(network, avatar(two), subject)
    solid = (shown.alpha[novel, ..., 0] > 0.5).numpy(), subject.alpha[novel] > 0.5
    joints, target = (joints_of(network, p)[0, :BODY].numpy() for p in (before.params, true))
    figures = {
        "psnr_input": compare(shown, slice(0, 1)), "psnr_novel": compare(shown, novel),
        "psnr_novel_uncorrected": compare(shown_alone, novel), "psnr_new_pose_uncorrected": compare(shown_alone, pose),
        "psnr_novel_read": compare(shown_read, novel),
        "ssim_novel": ssim(shown.color[novel].numpy(), subject.color[novel], boxes[novel]),
        "silhouette_iou": float((solid[0] & solid[1]).sum() / (solid[0] | solid[1]).sum()),
        "psnr_new_pose": compare(shown, pose), "psnr_sides": compare(shown, sides), "psnr_sides_of_two_pictures": compare(shown_two, sides),
        "pa_mpjpe_mm": 1e3 * pa_mpjpe(joints, target), "mpjpe_mm": 1e3 * mpjpe(joints - joints[:1], target - target[:1]),
        "control_one_colour": psnr(_one_colour(subject), subject.color[novel], boxes[novel]), "avatar_seconds": seconds,
    }  # fmt: skip
    if find_spec("mediapipe") is not None:
        start = time.perf_counter()
        refined = pictured_avatar(network, picture, camera, refine(network, subject))
        figures["refine_seconds"] = time.perf_counter() - start
        joints = joints_of(network, refined.params)[0, :BODY].numpy()
        figures["pa_mpjpe_refined_mm"] = 1e3 * pa_mpjpe(joints, target)
        figures["mpjpe_refined_mm"] = 1e3 * mpjpe(joints - joints[:1], target - target[:1])
        figures["psnr_novel_refined"] = compare(_draw(network, avatar(refined), subject), novel)
    if other is not None:
        figures["control_other_person"] = compare(_draw(network, other, subject), novel)
    row = np.concatenate([subject.color[0], *(x for i in (1, 2, 3, 4) for x in (subject.color[i], shown_read.color[i].numpy()))], 1)
    return figures, given, row


def refine(network: Stage1, subject: Subject) -> SmplxParams:
    """The body [1] in the input picture, refined as `speak` does it: against landmarks and silhouette of that picture alone."""
    picture = (subject.pictures[0] * 255).round().to(torch.uint8)
    found = detect([picture[..., :3].contiguous().numpy()] * STILL, Fraction(25))
    return refined_body(network, picture, subject.cameras[0], found, subject.cameras.intrinsics[0])


def _draw(network: Stage1, cloud: GaussianCloud, subject: Subject) -> Render:
    shown = render_views(network, cloud, subject.params.map(lambda x: x[None]), subject.cameras.map(lambda x: x[None]), "auto")
    return shown.map(lambda x: x[0])


def _one_colour(subject: Subject) -> np.ndarray:
    """The true silhouettes of the novel views, filled with the person's mean colour in the input picture."""
    color, alpha = subject.color, subject.alpha[..., None]
    inside = alpha[0] > 0.5
    mean = color[0][inside[..., 0]].mean(0)
    return alpha[1:4] * mean + 1 - alpha[1:4]


def measure_all(weights: Path, people: np.ndarray) -> tuple[list[dict[str, float]], list[np.ndarray]]:
    """Figures of people by number, and the first ones' rows of the sheet."""
    network = load_stage1(Config(), weights)
    figures: list[dict[str, float]] = []
    sheet: list[np.ndarray] = []
    other: GaussianCloud | None = None
    for index in track(people.tolist(), "people", transient=True):
        row, other, pictures = measure(network, draw_subject(SEED + index), other)
        figures.append(row)
        sheet += [pictures] if len(sheet) < SHEET else []
    return figures, sheet


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=100, help="how many unseen people (default: 100)")
    parser.add_argument("--processes", type=int, default=1, help="that share the people; their seconds are then longer (default: 1)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="stage 1's safetensors (default: the shipped ones)")
    parser.add_argument("--sheet", type=Path, default=Path("stage1_people.png"), help="input; truth and ours of 3 views, a new pose")
    options = parser.parse_args()
    start = time.perf_counter()
    people = np.array_split(np.arange(options.people), options.processes)
    if options.processes == 1:
        shares = [measure_all(options.weights, people[0])]
    else:
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            shares = list(pool.map(measure_all, [options.weights] * len(people), people))
    rows, sheet = ([x for share in shares for x in share[k]] for k in (0, 1))
    Image.fromarray((np.concatenate(sheet[:SHEET], 0).clip(0, 1) * 255).astype(np.uint8)).save(options.sheet)
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in FIGURES if any(name in row for row in rows)}
    figures_out = [Figure(name, value, *FIGURES[name]) for name, value in means.items()]
    about = read_about(options.weights)
    config = {"people": options.people, "weights": str(options.weights.name), "commit": about["commit"], "step": about["step"]}
    publish("stage1", figures_out, device=device_name(), config=config, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
