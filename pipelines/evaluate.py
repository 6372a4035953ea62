"""Figures on held-out people and speakers, each beside the rows that tell what it is worth.

Stage 1: one picture of a held-out subject → views it was not shown. Stage 2: one picture and speech of a held-out speaker
→ motion and pictures, beside the truth, the truth of another clip and a frozen pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from configs.schema import Config
from model import metrics
from model.body import Body
from model.rasterize import rasterize
from model.stage1 import Encoding, Stage1
from model.types import Camera, SmplxParams
from pipelines import media
from pipelines.checkpoints import load_stage1, load_stage2, weights_file
from pipelines.crops import shrink
from pipelines.drawing import draw, generated, sheet
from pipelines.held_out import HeldOutClip, Performance, held_out_clips
from pipelines.manifests import read_manifest
from pipelines.people import PersonFrames, iterate_people
from pipelines.progress import progress
from pipelines.provenance import provenance
from pipelines.scoring import curves, picture_scores, results, score
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json, writing

CODE_VERSION = "1"
VIEWS = 6  # views of a held-out subject that are compared, the reference among them
STAGE1_DEFINITIONS = {
    "psnr": "PSNR inside the person's box, views not shown, dB ↑",
    "ssim": "SSIM inside the person's box, views not shown ↑",
    "psnr_input": "PSNR of the view that was shown, dB ↑",
    "iou": "silhouette overlap (alpha > 0.5), views not shown ↑",
    "mpjpe_mm": "mean joint error of the predicted SMPL-X, pelvis aligned, mm ↓",
    "pa_mpjpe_mm": "the same after Procrustes alignment, mm ↓",
}


def evaluate_stage1(config: Config, store: Store) -> Record:
    """Write evaluation/stage1/{metrics.json, preview.png} from the held-out scans (idol samples where there are no scans)."""
    kind = next((k for k in ("scans", "idol") if (read_manifest(store, k) or {}).get("splits", {}).get("test")), None)  # type: ignore[arg-type]
    if kind is None:
        raise InputRejected("stage1_evaluation: no held-out subject in the shards; add scans or raise shards.held_out")
    target, weights = store.evaluation("stage1"), weights_file(store, "stage1")
    manifest = read_manifest(store, kind)  # type: ignore[arg-type]
    inputs = hash_json([manifest and manifest["hash"], hash_file(weights), config.evaluation.model_dump()])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        size = max(config.stage1.image.image_size, config.evaluation.render_size)
        people = list(iterate_people(store.shards(kind), "test", size))  # type: ignore[arg-type]
        rows: dict[str, list[dict[str, float]]] = {"stage1": [], "stage1_true_body": [], "silhouette": []}
        pictures = []
        for person in progress(people, "stage 1 on held-out subjects"):
            found, strip = _subject(config, stage1, person)
            for name, values in found.items():
                rows[name].append(values)
            pictures.append(strip)
        table = {name: _means(values) for name, values in rows.items()}
        with writing(target) as folder:
            folder.mkdir()
            Image.fromarray(np.concatenate(pictures)).save(folder / "preview.png")
            about = {"rows": table, "definitions": STAGE1_DEFINITIONS, "subjects": len(people), "provenance": provenance(config, store)}
            write_json(folder / "metrics.json", about)
        return {"subjects": len(people), "metrics": table["stage1"], "preview": str(target / "preview.png"), "path": str(target)}

    return store.once("stage1_evaluation", "all", CODE_VERSION, inputs, [target], work)


def _subject(config: Config, stage1: Stage1, person: PersonFrames) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Rows of one held-out subject, and a strip of pictures: the one shown, then truth over rendering a view."""
    size, render = config.stage1.image.image_size, config.evaluation.render_size
    shown = int(person.inputs[0])
    index = [shown] + [i for i in _spread(len(person.images), VIEWS) if i != shown]
    truth = shrink(person.images[index].float() / 255, render)
    cameras = person.cameras[index].resized(render, render)
    image = shrink(person.images[shown][None, ..., :3].float() / 255, size).movedim(-1, 1)
    seen = person.cameras[shown : shown + 1].resized(size, size)
    world = person.params[shown : shown + 1]
    true_body = stage1.body.moved(world, seen.w2c)
    rows, drawn = {}, {}
    with torch.no_grad():
        for name, given in (("stage1", None), ("stage1_true_body", true_body)):
            encoding = stage1.encode(image, seen, given)
            params = encoding.params if given is None else given
            drawn[name], alpha = _views(stage1, encoding, params, seen.w2c[0], cameras)
            rows[name] = _view_scores(drawn[name], alpha, truth) | _joint_scores(stage1.body, params, true_body)
    # what a constant colour inside the true silhouette scores: a figure under it says nothing
    mask = truth[..., 3:]
    colour = (truth[..., :3] * mask).sum((0, 1, 2)) / mask.sum().clamp(min=1)
    rows["silhouette"] = _view_scores(mask * colour + 1 - mask, mask[..., 0], truth)
    pairs = [torch.cat([truth[i, ..., :3], drawn["stage1"][i], drawn["stage1_true_body"][i]]) for i in range(len(index))]
    return rows, (torch.cat(pairs, 1).clamp(0, 1) * 255).byte().numpy()


def _views(stage1: Stage1, encoding: Encoding, params: SmplxParams, w2c: Tensor, cameras: Camera) -> tuple[Tensor, Tensor]:
    """Pictures [C, R, R, 3] and alpha [C, R, R] of the avatar from world cameras; `params` are in the frame of `w2c`."""
    cloud = stage1.pose(stage1.gaussians(stage1.canonical(encoding)), params)
    relative = cameras.w2c @ torch.linalg.inv(w2c)
    views = Camera(relative[None], cameras.intrinsics[None], cameras.size[None])
    render = rasterize(cloud, views, torch.ones(3), antialiased=True)
    return render.color[0], render.alpha[0, ..., 0]


def _view_scores(got: Tensor, alpha: Tensor, truth: Tensor) -> dict[str, float]:
    inside, true_inside = alpha[1:] > 0.5, truth[1:, ..., 3] > 0.5
    overlap = (inside & true_inside).sum() / (inside | true_inside).sum().clamp(min=1)
    shown = picture_scores(got[:1], truth[:1, ..., :3], truth[:1, ..., 3])
    return picture_scores(got[1:], truth[1:, ..., :3], truth[1:, ..., 3]) | {"psnr_input": shown["psnr"], "iou": float(overlap)}


def _joint_scores(body: Body, got: SmplxParams, truth: SmplxParams) -> dict[str, float]:
    a, b = (joints - joints[:, :1] for joints in (body.joints(got), body.joints(truth)))
    return {"mpjpe_mm": 1000 * float(metrics.mpjpe(a, b)), "pa_mpjpe_mm": 1000 * float(metrics.pa_mpjpe(a, b))}


def _spread(count: int, wanted: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}


def evaluate_stage2(config: Config, store: Store) -> Record:
    """Write evaluation/stage2/{metrics.json, videos/<clip>.mp4, truth/<clip>.mp4, preview.png} from the held-out talks."""
    target, weights = store.evaluation("stage2"), weights_file(store, "stage2")
    manifest = read_manifest(store, "talks")
    if manifest is None:
        raise InputRejected("stage2_evaluation: expected talk shards, found none; materialise talk_shards first")
    inputs = hash_json([manifest["hash"], hash_file(weights), config.evaluation.model_dump()])

    def work() -> dict[str, Any]:
        stage2 = load_stage2(config, store)
        body = stage2.stage1.body
        clips = held_out_clips(config, store, stage2.stage1)
        rows: dict[str, list[Performance]] = {
            "ground_truth": [Performance(c.truth, c.pictures) for c in clips],
            "frozen": [frozen(c) for c in clips],
            "end_to_end": [],
        }
        if len(clips) > 1:
            rows["other_clip"] = [borrowed(c, clips[(i + 1) % len(clips)]) for i, c in enumerate(clips)]
        with writing(target) as folder:
            for name in ("videos", "truth"):
                (folder / name).mkdir(parents=True)
            strips = []
            for clip in progress(clips, "end-to-end videos"):
                tokens = stage2.generate(clip.encoding, clip.features)
                video = list(draw(generated(stage2, clip.encoding, tokens), clip.camera, len(clip.truth.transl)))
                media.write_video(folder / "videos" / f"{clip.name}.mp4", iter(video), clip.fps, clip.audio)
                media.write_video(folder / "truth" / f"{clip.name}.mp4", iter(clip.video), clip.fps, clip.audio)
                rows["end_to_end"].append(clip.performance(tokens.params[0], video))
                strips += [sheet(clip.video), sheet(video)]
            table = {name: score(config, store, body, clips, played) for name, played in rows.items()}
            lines = {n: curves(config, body, rows[n][0], clips[0]) for n in ("ground_truth", "end_to_end")}
            about = results(table, clips=[c.id for c in clips], curves=lines, provenance=provenance(config, store))
            write_json(folder / "metrics.json", about)
            Image.fromarray(np.concatenate(strips)).save(folder / "preview.png")
        return {"clips": len(clips), "metrics": table["end_to_end"], "preview": str(target / "preview.png"), "path": str(target)}

    return store.once("stage2_evaluation", "all", CODE_VERSION, inputs, [target], work)


def frozen(clip: HeldOutClip) -> Performance:
    """The reference picture and its true pose, held."""
    still = clip.truth.map(lambda t: t[:1].expand_as(t))
    first = torch.from_numpy(clip.video[0]).float() / 255
    return Performance(still, first.expand(len(clip.frames), *first.shape))


def borrowed(clip: HeldOutClip, other: HeldOutClip) -> Performance:
    """Another clip's true motion in place of this one's, repeated where it is shorter; nothing is drawn."""
    count, length = len(clip.truth.transl), len(other.truth.transl)
    return Performance(other.truth[torch.arange(count) % length])
