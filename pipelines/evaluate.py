"""Figures on held-out people and speakers, each beside the rows that tell what it is worth.

Stage 1: one picture of a held-out subject → views it was not shown. Stage 2: one picture and speech of a held-out speaker
→ motion and pictures, beside the truth, another draw of it, the truth of another and of the nearest clip, and a frozen pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from configs.schema import Config
from model import metrics
from model.audio_to_motion import standardised
from model.body import Body
from model.picture_fit import pictured_avatar
from model.rasterize import rasterize
from model.stage1 import Encoding, Stage1
from model.types import Camera, SmplxParams
from pipelines import media
from pipelines.baseline_training import training_clips
from pipelines.checkpoints import load_stage1, load_stage2, weights_file
from pipelines.crops import shrink
from pipelines.drawing import draw, generated, sheet
from pipelines.held_out import HeldOutClip, Performance, flicker, held_out_clips
from pipelines.manifests import read_manifest
from pipelines.nearest import nearest_stretches
from pipelines.people import PersonFrames, iterate_people
from pipelines.placing import placed, unplaced
from pipelines.progress import progress
from pipelines.provenance import provenance
from pipelines.scoring import DEFINITIONS, TRUTH, picture_scores, score
from pipelines.scoring_summary import markdown_rows
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json, writing

CODE_VERSION = "11"  # 10: avatars fitted with more regard for their other sides; 11: corrected by what their picture shows
NEAREST_AMONG = 400  # training clips
SHOWN = 4  # held-out subjects in the preview
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
        table = {name: _figures(values) for name, values in rows.items()}
        with writing(target) as folder:
            folder.mkdir()
            Image.fromarray(np.concatenate(pictures[:SHOWN])).save(folder / "preview.png")
            about = {"rows": table, "definitions": STAGE1_DEFINITIONS, "subjects": len(people), "provenance": provenance(config, store)}
            write_json(folder / "metrics.json", about)
        means = {name: figure["value"] for name, figure in table["stage1"].items()}
        return {"subjects": len(people), "metrics": means, "preview": str(target / "preview.png"), "path": str(target)}

    return store.once("stage1_evaluation", "all", CODE_VERSION, inputs, [target], work)


def _subject(config: Config, stage1: Stage1, person: PersonFrames) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Rows of one held-out subject, and a strip of pictures: the one shown, then truth over rendering a view."""
    size, render = config.stage1.image.image_size, config.evaluation.render_size
    shown = int(person.inputs[0])
    index = [shown] + [i for i in _spread(len(person.images), VIEWS) if i != shown]
    truth = shrink(person.images[index].float() / 255, render)
    cameras = person.cameras[index].resized(render, render)
    picture = shrink(person.images[shown][None].float() / 255, size)
    seen = person.cameras[shown : shown + 1].resized(size, size)
    world = person.params[shown : shown + 1]
    true_body = stage1.body.moved(world, seen.w2c)
    rows, drawn = {}, {}
    for name, given in (("stage1", None), ("stage1_true_body", true_body)):
        encoding = pictured_avatar(stage1, picture, seen, given, exact=given is not None)
        with torch.no_grad():
            drawn[name], alpha = _views(stage1, encoding, seen.w2c[0], cameras)
        rows[name] = _view_scores(drawn[name], alpha, truth) | _joint_scores(stage1.body, encoding.params, true_body)
    # what a constant colour inside the true silhouette scores: a figure under it says nothing
    mask = truth[..., 3:]
    colour = (truth[..., :3] * mask).sum((0, 1, 2)) / mask.sum().clamp(min=1)
    rows["silhouette"] = _view_scores(mask * colour + 1 - mask, mask[..., 0], truth)
    pairs = [torch.cat([truth[i, ..., :3], drawn["stage1"][i], drawn["stage1_true_body"][i]]) for i in range(len(index))]
    return rows, (torch.cat(pairs, 1).clamp(0, 1) * 255).byte().numpy()


def _views(stage1: Stage1, encoding: Encoding, w2c: Tensor, cameras: Camera) -> tuple[Tensor, Tensor]:
    """Pictures [C, R, R, 3] and alpha [C, R, R] of the avatar from world cameras; its body is in the frame of `w2c`."""
    cloud = stage1.pose(stage1.gaussians(stage1.canonical(encoding)), encoding.params)
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


def _figures(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Figure → mean over subjects, its interval, and how many there are."""
    names, found = [str(i) for i in range(len(rows))], {}
    for figure in rows[0]:
        found[figure] = {**asdict(metrics.speaker_bootstrap([r[figure] for r in rows], names)), "clips": len(rows)}
    return found


def evaluate_stage2(config: Config, store: Store) -> Record:
    """Write evaluation/stage2/{metrics.json, videos/<clip>.mp4, truth/<clip>.mp4, preview.png} from the held-out talks."""
    target, weights = store.evaluation("stage2"), weights_file(store, "stage2")
    manifest = read_manifest(store, "talks")
    if manifest is None:
        raise InputRejected("stage2_evaluation: expected talk shards, found none; materialise talk_shards first")
    inputs = hash_json([manifest["hash"], hash_file(weights), config.evaluation.model_dump()])

    def work() -> dict[str, Any]:
        stage2 = load_stage2(config, store)
        clips = held_out_clips(config, store, stage2.stage1)
        rows: dict[str, Sequence[Performance | None]] = {
            TRUTH: [Performance(c.truth, c.pictures, flicker(c.video)) for c in clips],
            "oracle_draw": [oracle(stage2.stage1, c) for c in clips],
            "other_clip": [borrowed(c, clips[(i + 1) % len(clips)]) if len(clips) > 1 else None for i, c in enumerate(clips)],
            "nearest_clip": nearest_clips(config, store, stage2.stage1.body, clips),
            "frozen": [frozen(c) for c in clips],
            "still_avatar": [still_avatar(stage2.stage1, c) for c in clips],
        }
        made: list[Performance] = []
        with writing(target) as folder:
            for name in ("videos", "truth"):
                (folder / name).mkdir(parents=True)
            strips = []
            for i, clip in enumerate(progress(clips, "end-to-end videos")):
                # another draw for each, as the baseline's: with one seed all would turn and gesture alike at the same moments
                tokens = stage2.generate(clip.encoding, clip.features, config.seed + i, pictured=True)
                video = list(draw(generated(stage2, clip.encoding, tokens), clip.camera, len(clip.truth.transl)))
                media.write_video(folder / "videos" / f"{clip.name}.mp4", iter(video), clip.fps, clip.audio)
                media.write_video(folder / "truth" / f"{clip.name}.mp4", iter(clip.video), clip.fps, clip.audio)
                made.append(clip.performance(tokens.params[0], video))
                strips += [sheet(clip.video), sheet(video)]
            scored = score(config, store, stage2.stage1, clips, rows | {"end_to_end": made})
            scored.write(folder, clips=[c.id for c in clips], known=sum(c.known for c in clips), provenance=provenance(config, store))
            Image.fromarray(np.concatenate(strips)).save(folder / "preview.png")
        facts = {"clips": len(clips), "metrics": scored.means("end_to_end"), "table": markdown_rows(scored.table(), DEFINITIONS)}
        return facts | {"preview": str(target / "preview.png"), "path": str(target)}

    return store.once("stage2_evaluation", "all", CODE_VERSION, inputs, [target], work)


def frozen(clip: HeldOutClip) -> Performance:
    """The reference picture and its true pose, held."""
    still = clip.truth.map(lambda t: t[:1].expand_as(t))
    first = clip.reference
    return Performance(still, first.expand(len(clip.frames), *first.shape), 0.0)


def still_avatar(stage1: Stage1, clip: HeldOutClip) -> Performance:
    """The avatar that both systems move, held in the body found in the reference picture: `frozen` less what drawing costs."""
    pictures = _drawn(stage1, clip, clip.encoding.params)
    held = clip.encoding.params.map(lambda t: t[:1].expand(len(clip.truth.transl), *t.shape[1:]))
    return Performance(held, pictures.expand(len(clip.frames), *pictures.shape[1:]), 0.0)


def oracle(stage1: Stage1, clip: HeldOutClip) -> Performance | None:
    """Another draw of the same speech by the same person, drawn with the avatar and the place that both systems have.

    No sampler can expect better pictures: it says what they can still gain. Motion is scored where the truth stands.
    """
    if clip.second is None:
        return None
    moved = placed(unplaced(clip.second, clip.truth[:1]), clip.encoding.params)
    return Performance(clip.second, _drawn(stage1, clip, moved[torch.tensor(clip.frames)]))


def _drawn(stage1: Stage1, clip: HeldOutClip, params: SmplxParams) -> Tensor:
    """Pictures [P, R, R, 3] of the reference picture's avatar in poses [P]."""
    with torch.no_grad():
        canonical = stage1.gaussians(stage1.canonical(clip.encoding))
    pictures = draw(lambda index: stage1.pose(canonical, params[index]), clip.camera, len(params.transl))
    return torch.from_numpy(np.stack(list(pictures))).float() / 255


def borrowed(clip: HeldOutClip, other: HeldOutClip) -> Performance:
    """Another clip's true motion in place of this one's, repeated where it is shorter; nothing is drawn."""
    count, length = len(clip.truth.transl), len(other.truth.transl)
    return Performance(other.truth[torch.arange(count) % length])


def nearest_clips(config: Config, store: Store, body: Body, clips: list[HeldOutClip]) -> list[Performance | None]:
    """For each clip the training motion, with or without pictures, that sounds most like it; none where there is none."""
    training = training_clips(config, store)
    training = training[:: -(-len(training) // NEAREST_AMONG) or 1]
    sounds = {c.id: standardised(c.features).numpy() for c in clips}
    others = {m.id: standardised(m.features).numpy() for m in training}
    like = nearest_stretches(sounds, others, {c.id: c.group for c in clips} | {m.id: m.group for m in training})
    by_id = {m.id: m for m in training}
    found: list[Performance | None] = []
    for clip in clips:
        place = like.get(clip.id)
        if place is None:
            found.append(None)
            continue
        motion = by_id[place.clip]
        index = place.frames(len(clip.truth.transl), len(motion.features))
        found.append(Performance(body.moved(motion.params[torch.from_numpy(index)], motion.w2c)))
    return found
