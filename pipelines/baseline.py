"""The two-stage system on the held-out talks, through the neighbours' own file formats.

`motion`: speech → SMPL-X as EMAGE's npz. `retarget`: npz → LHM's JSON, placed where the pictured person stands.
`video`: the canonical avatar of one picture, posed by that JSON with linear blend skinning, rendered.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import roma
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from configs.schema import Config
from model.audio_to_motion import AudioToMotion, rest_of
from model.motion import motion_vector, params_from_motion
from model.stage1 import Stage1
from model.types import GaussianCloud, SmplxParams
from pipelines import media
from pipelines.body import body_file
from pipelines.checkpoints import load_stage1, weights_file
from pipelines.drawing import draw, sheet
from pipelines.formats import EMAGE_RATE, load_emage, load_lhm, resample, save_emage, save_lhm
from pipelines.formats_hands import HandSpace
from pipelines.held_out import held_out_clips
from pipelines.manifests import read_manifest
from pipelines.motions import Motion, iterate_motions
from pipelines.progress import progress
from pipelines.provenance import provenance
from pipelines.scoring import curves, results, score
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json, writing

CODE_VERSION = "2"  # 2: fingers in EMAGE's files are relative to the mean hand, as EMAGE has them
WINDOW = 64  # frames of a training window


def motion(config: Config, store: Store) -> Record:
    """Train the audio-to-motion network on the training talks and write the held-out talks' motion.

    Outputs: checkpoints/baseline/audio_to_motion.safetensors, baseline/motion/<clip>_output.npz (EMAGE, 30 frames/s).
    """
    manifest = read_manifest(store, "talks")
    if manifest is None:
        raise InputRejected("baseline: expected talk shards, found none; materialise talk_shards first")
    weights = store.checkpoint("baseline") / "audio_to_motion.safetensors"
    inputs = hash_json([manifest["hash"], config.baseline.model_dump(), config.seed])

    def work() -> dict[str, Any]:
        training = list(iterate_motions(store.shards("talks"), "train"))
        if not training:
            raise InputRejected("baseline: the talk shards hold no training clip")
        network, losses = train(config, training)
        with writing(weights) as temporary:
            about = {k: str(v) for k, v in provenance(config, store).items()}
            save_file(network.state_dict(), temporary, {**about, "config": config.baseline.model_dump_json()})
        clips = list(iterate_motions(store.shards("talks"), "test"))
        hands = HandSpace.load(body_file(config))
        with writing(store.baseline("motion")) as folder:
            folder.mkdir()
            for clip in clips:
                with torch.no_grad():
                    vector = network(clip.features[None])[0]
                # no picture is known here, hence no shape and no place: the mean body at the origin
                save_emage(folder / f"{clip.name}_output.npz", params_from_motion(vector, SmplxParams.zeros()), clip.fit.fps, hands)
        counts = {"training_clips": len(training), "clips": len(clips)}
        return {**counts, "metrics": {"loss": losses[-1]}, "path": str(store.baseline("motion"))}

    return store.once("baseline_motion", "all", CODE_VERSION, inputs, [weights, store.baseline("motion")], work)


def train(config: Config, clips: list[Motion]) -> tuple[AudioToMotion, list[float]]:
    """Regression with position and velocity terms on random windows; deterministic in `config.seed`."""
    settings = config.baseline
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vectors = [motion_vector(clip.fit.params, rest_of(clip.fit.params)) for clip in clips]
    network = AudioToMotion(clips[0].features.shape[1], settings.width, settings.layers)
    network.normalise_by(torch.cat(vectors))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1)
    losses = []
    for _ in progress(range(settings.steps), "audio to motion"):
        audio, target = _windows(clips, vectors, settings.batch, rng)
        wanted = (target - network.mean) / network.std
        got = network.normalised(audio)
        loss = F.l1_loss(got, wanted) + F.l1_loss(got.diff(dim=1), wanted.diff(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return network.eval(), losses


def _windows(clips: list[Motion], vectors: list[Tensor], batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    length = min(WINDOW, *map(len, vectors))
    audio, target = [], []
    for _ in range(batch):
        i = int(rng.integers(len(clips)))
        start = int(rng.integers(len(vectors[i]) - length + 1))
        audio.append(clips[i].features[start : start + length])
        target.append(vectors[i][start : start + length])
    return torch.stack(audio), torch.stack(target)


def retarget(config: Config, store: Store) -> Record:
    """EMAGE npz → baseline/retargeted/<clip>/smplx_params/%05d.json, in the camera of the clip's reference picture.

    The root's rest, place and shape are the ones that stage 1 reads from the reference picture.
    """
    source, target = store.baseline("motion"), store.baseline("retargeted")
    weights = weights_file(store, "stage1")
    inputs = hash_json([store.output_hash("baseline_motion"), hash_file(weights), config.evaluation.model_dump()])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        clips = held_out_clips(config, store, stage1)
        hands = HandSpace.load(body_file(config))
        with writing(target) as folder:
            folder.mkdir()
            for clip in clips:
                moved, rate = load_emage(source / f"{clip.name}_output.npz", hands)
                frames = resample(moved, rate, clip.fps, len(clip.truth.transl))
                save_lhm(folder / clip.name / "smplx_params", stage1.body, placed(frames, clip.encoding.params), clip.camera)
        return {"clips": len(clips), "from_rate": str(EMAGE_RATE), "path": str(target)}

    return store.once("baseline_retargeted", "all", CODE_VERSION, inputs, [target], work)


def video(config: Config, store: Store) -> Record:
    """Pose the canonical avatar of each clip's reference picture by its JSON, render, score.

    Outputs: baseline/video/<clip>.mp4 and metrics.json, the `two_stage` row of the comparison.
    """
    source, target = store.baseline("retargeted"), store.baseline("video")
    weights = weights_file(store, "stage1")
    inputs = hash_json([store.output_hash("baseline_retargeted"), hash_file(weights), config.evaluation.model_dump()])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        clips = held_out_clips(config, store, stage1)
        performances = []
        with writing(target) as folder:
            folder.mkdir()
            for clip in progress(clips, "two-stage videos"):
                params, camera = load_lhm(source / clip.name / "smplx_params")
                with torch.no_grad():
                    canonical = stage1.gaussians(stage1.canonical(clip.encoding))
                pictures = list(draw(partial(_pose_frames, stage1, canonical, params), camera, len(params.transl)))
                media.write_video(folder / f"{clip.name}.mp4", iter(pictures), clip.fps, clip.audio)
                performances.append(clip.performance(params, pictures))
            scores = score(config, store, stage1.body, clips, performances)
            lines = {"two_stage": curves(config, stage1.body, performances[0], clips[0])}
            about = results({"two_stage": scores}, curves=lines, provenance=provenance(config, store))
            write_json(folder / "metrics.json", about)
            Image.fromarray(sheet(pictures)).save(folder / "preview.png")
        return {"clips": len(clips), "metrics": scores, "preview": str(target / "preview.png"), "path": str(target)}

    return store.once("baseline_video", "all", CODE_VERSION, inputs, [target], work)


def _pose_frames(stage1: Stage1, canonical: GaussianCloud, params: SmplxParams, index: Tensor) -> GaussianCloud:
    return stage1.pose(canonical, params[index])


def placed(motion: SmplxParams, reference: SmplxParams) -> SmplxParams:
    """Motion [T] of a person at rest at the origin → the frame in which `reference` [1] stands, with its shape."""
    rest = roma.rotvec_to_rotmat(reference.global_orient)
    orient = roma.rotmat_to_rotvec(rest @ roma.rotvec_to_rotmat(motion.global_orient))
    fields = {name: getattr(motion, name) for name in motion.__dataclass_fields__}
    fields |= {
        "global_orient": orient,
        "transl": reference.transl + motion.transl @ rest[0].T,
        "betas": reference.betas.expand_as(motion.betas),
    }
    return SmplxParams(**fields)
