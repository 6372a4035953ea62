"""What reading the first pose from a picture costs stage 2's motion: FGD from the true first pose, from the pose as read, and steadied.

    python -m benchmarks.first_pose [--weights samples/weights/stage2.safetensors] [--baseline FILE] [--speakers 24] [--draws 4]

Unseen speakers give a talk of 12 s each, as in the comparison, and of each one picture is drawn, that of the first frame, from which the
body is found as `speak` finds it. FGD is judged by two auto-encoders, of other seeds and other talks, and is a mean over draws: of so few
clips that of a single draw tells little. `steadied_ratio` is its FGD over that of the pose as read, with its interval over speakers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage2 import REFERENCE_SPEAKER, REFERENCES
from benchmarks.stage2_pictured import set_scene
from benchmarks.talk_scores import ORACLE, draw_clips
from configs.schema import Config, load_config
from model import metrics
from model.audio_encoders import make_audio_encoder
from model.motion import params_from_motion, pose_features
from model.picture_fit import pictured_avatar
from model.stage1 import Encoding
from model.stage2 import Stage2, at_rest
from model.types import SmplxParams
from pipelines.baseline_training import load_network
from pipelines.checkpoints import load_stage2
from pipelines.crops import crop, crop_camera, person_box, square_round
from pipelines.motion_shards import UPRIGHT
from pipelines.pictured import at_focal
from pipelines.placing import placed
from pipelines.progress import progress
from pipelines.scoring_summary import Latents, fgd_ratio
from pipelines.speak import fit_picture
from samples.builders.talks import perform

SPEAKER, SECONDS, SIDE = 730_000, 12.0, 512  # first speaker; a talk; pixels of the picture
DRAW = 1000  # seeds between draws
GREY = 150  # behind the speaker
JUDGES = 2


@dataclass(frozen=True)
class Beginning:
    """An unseen speaker: what they say and do, and the picture of how they begin, in its camera's frame."""

    name: str
    truth: SmplxParams  # [T]
    second: SmplxParams  # [T] another draw of the same speech
    features: Tensor  # [T, A]
    found: Encoding  # [1] of the picture, with the body that is found there


def begin(config: Config, stage2: Stage2, speaker: int) -> Beginning:
    scene, stage1 = set_scene(config, speaker, SECONDS, SIDE), stage2.stage1
    shown, size = scene.shoot(slice(0, 1))[0], config.stage1.image.image_size
    alpha = shown[..., 3:].astype(np.float32) / 255
    fit, focal, _ = fit_picture(config, (shown[..., :3] * alpha + GREY * (1 - alpha)).round().astype(np.uint8))
    body = None if fit is None else at_focal(stage1.body, fit, focal, float(scene.camera.intrinsics[0, 0]))
    square = square_round(person_box(shown[..., 3]), SIDE, SIDE)
    camera = crop_camera(replace(scene.camera, w2c=torch.eye(4)), square, size).map(lambda x: x[None])
    found = pictured_avatar(stage1, crop(shown, square, size)[None].float() / 255, camera, body)
    features = torch.from_numpy(
        np.asarray(make_audio_encoder(config.audio)(scene.score.audio, scene.score.fps, scene.score.frames))
    ).float()
    second = perform(scene.score, scene.score.plan.take + ORACLE, scene.person.betas.numpy())
    seen = lambda params: stage1.body.moved(params, scene.camera.w2c)[: len(features)]  # noqa: E731
    return Beginning(f"speaker{speaker}", seen(scene.params), seen(second), features, found)


def rows_of(stage2: Stage2, baseline: Path | None, people: list[Beginning]) -> dict[str, Callable[[int], list[SmplxParams]]]:
    """Row → motion [T] of each person, for a seed."""
    lasting = stage2.config.lasting

    def ours(start: Callable[[Beginning], Encoding], pictured: bool) -> Callable[[int], list[SmplxParams]]:
        speak = lambda p, seed: stage2.generate(start(p), p.features, seed, pictured=pictured).params[0]  # noqa: E731
        return lambda seed: [speak(p, seed + i) for i, p in enumerate(people)]

    rows: dict[str, Callable[[int], list[SmplxParams]]] = {
        "true": ours(lambda p: at_rest(replace(p.found, params=p.truth[:1]), lasting), False),
        "read": ours(lambda p: at_rest(p.found, lasting), False),
        "steadied": ours(lambda p: p.found, True),
    }
    if baseline is not None:
        network, _ = load_network(baseline)
        two = lambda p, seed: params_from_motion(network.generate(p.features, seed), SmplxParams.zeros())  # noqa: E731
        rows["two_stage"] = lambda seed: [placed(two(p, seed + i), p.found.params) for i, p in enumerate(people)]
    return rows


def main() -> None:
    parser = arguments("What reading the first pose from a picture costs stage 2's motion")
    parser.add_argument("--config", type=Path, default=Path("configs/small_comparison.yaml"))
    parser.add_argument("--weights", type=Path, default=Path("samples/weights/stage2.safetensors"))
    parser.add_argument("--baseline", type=Path, help="weights of pipelines.baseline_training: adds the row 'two_stage'")
    parser.add_argument("--first", type=int, default=SPEAKER, help="the first speaker")
    parser.add_argument("--speakers", type=int, default=24)
    parser.add_argument("--draws", type=int, default=4)
    options = parser.parse_args()
    start, config = time.perf_counter(), load_config(options.config)
    stage2 = load_stage2(config, options.weights)
    body = stage2.stage1.body
    people = [begin(config, stage2, s) for s in progress(range(options.first, options.first + options.speakers), "speakers")]
    poses = lambda p: pose_features(body.moved(p, UPRIGHT))[..., :330]  # noqa: E731  camera frame → upright
    judges = []
    for i in range(JUDGES):
        talks = draw_clips(config, REFERENCES, first=REFERENCE_SPEAKER + 1000 * i, oracle=False)
        judges.append(metrics.fit_autoencoder(metrics.motion_windows([pose_features(c.truth)[..., :330] for c in talks]), seed=i))
    encoded = lambda judge, motions: [judge.encode(metrics.motion_windows([m])) for m in motions]  # noqa: E731
    truth = [encoded(judge, [poses(p.truth) for p in people]) for judge in judges]
    made = {
        "oracle": [[p.second for p in people]],
        "frozen": [[p.truth[:1].map(lambda x, n=len(p.features): x.expand(n, *x.shape[1:])) for p in people]],
    }
    made |= {name: [row(DRAW * d) for d in range(options.draws)] for name, row in rows_of(stage2, options.baseline, people).items()}
    found, latents = {}, [dict[str, Latents]() for _ in judges]
    for name, draws in made.items():
        motions = [[poses(x) for x in draw] for draw in draws]
        for i, judge in enumerate(judges):
            got = [encoded(judge, motion) for motion in motions]
            found[f"{name}_fgd_{i}"] = float(np.mean([metrics.frechet_distance(torch.cat(truth[i]), torch.cat(g)) for g in got]))
            latents[i][name] = {p.name: (truth[i][k].repeat(len(got), 1), torch.cat([g[k] for g in got])) for k, p in enumerate(people)}
    who = {p.name: p.name for p in people}
    for i, judged in enumerate(latents):
        ratio = fgd_ratio(judged["steadied"], judged["read"], who)
        found |= {
            f"steadied_ratio_{i}{end}": v for end, v in (("", ratio.value), ("_low", ratio.low), ("_high", ratio.high)) if v is not None
        }
    table = Table("figure", "value", title=f"{len(people)} unseen speakers, {options.draws} draws, auto-encoders 0 to {JUDGES - 1}")
    for name, value in found.items():
        table.add_row(name, f"{value:.3f}")
    Console(stderr=True).print(table)
    about = {"speakers": len(people), "first": options.first, "draws": options.draws, "autoencoders": [j.weights_hash() for j in judges]}
    figures = [Figure(name, round(value, 4), "") for name, value in found.items()]
    publish("first_pose", figures, device=device_name(), config=about, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
