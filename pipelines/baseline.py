"""The two-stage system on the held-out talks, through the neighbours' own file formats.

`motion`: speech → SMPL-X as EMAGE's npz, by a network trained here or by EMAGE itself. `retarget`: npz → LHM's JSON, placed
where the pictured person stands. `video`: the canonical avatar of one picture, posed by that JSON with linear blend skinning,
rendered; or LHM's video. What a check-out gets wrong is an error (`CheckoutFailed`), never a recorded rejection.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import roma
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from configs.schema import Config
from model.motion import params_from_motion
from model.stage1 import Stage1
from model.types import GaussianCloud, SmplxParams
from pipelines import media
from pipelines.baseline_checkouts import Checkout, Home, at_rate, emage_motion, lhm_pictures
from pipelines.baseline_training import train as train
from pipelines.body import body_file
from pipelines.checkpoints import load_stage1, weights_file
from pipelines.convert import context_of
from pipelines.drawing import draw, sheet
from pipelines.formats import EMAGE_RATE, load_emage, load_lhm, resample, save_emage, save_lhm
from pipelines.formats_hands import HandSpace
from pipelines.held_out import REFERENCE, held_out_clips
from pipelines.manifests import read_manifest
from pipelines.motions import iterate_motions
from pipelines.progress import progress
from pipelines.provenance import provenance
from pipelines.scoring import curves, results, score
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json, writing

CODE_VERSION = "3"  # 2: fingers in EMAGE's files are relative to the mean hand, as EMAGE has them; 3: EMAGE and LHM themselves


def motion(config: Config, store: Store, home: Home | None = None) -> Record:
    """Write the held-out talks' motion: by the own network, trained first on the training talks, or by EMAGE's check-out.

    Outputs: baseline/motion/<clip>_output.npz (EMAGE, 30 frames/s) and, of the own network,
    checkpoints/baseline/audio_to_motion.safetensors.
    """
    manifest = read_manifest(store, "talks")
    if manifest is None:
        raise InputRejected("baseline: expected talk shards, found none; materialise talk_shards first")
    if config.baseline.motion == "emage":
        return _emage_motion(config, store, manifest["hash"], home or Home())
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
        return {**counts, "by": "own", "metrics": {"loss": losses[-1]}, "path": str(store.baseline("motion"))}

    return store.once("baseline_motion", "all", CODE_VERSION, inputs, [weights, store.baseline("motion")], work)


def _emage_motion(config: Config, store: Store, data: str, home: Home) -> Record:
    checkout = Checkout.find(config.baseline, "pantomatrix")
    inputs = hash_json([data, "emage", checkout.version, str(checkout.python)])

    def work() -> dict[str, Any]:
        sounds = {clip.name: clip.audio for clip in iterate_motions(store.shards("talks"), "test")}
        if not sounds:
            raise InputRejected("baseline: the talk shards hold no held-out clip; add talks of more speakers or raise shards.held_out")
        with writing(store.baseline("motion")) as folder:
            emage_motion(config.baseline, sounds, folder, context_of(config), home)
        return {"clips": len(sounds), "by": f"EMAGE {checkout.version}", "path": str(store.baseline("motion"))}

    return store.once("baseline_motion", "all", CODE_VERSION, inputs, [store.baseline("motion")], work)


def retarget(config: Config, store: Store) -> Record:
    """EMAGE npz → baseline/retargeted/<clip>/smplx_params/%05d.json, in the camera of the clip's reference picture.

    The root's rest, place and shape are the ones that stage 1 reads from the reference picture. LHM plays 30 frames/s, so
    for its check-out the files have that rate, else the clip's.
    """
    source, target = store.baseline("motion"), store.baseline("retargeted")
    weights = weights_file(store, "stage1")
    rated = config.baseline.avatar == "lhm"
    inputs = hash_json([store.output_hash("baseline_motion"), hash_file(weights), config.evaluation.model_dump(), rated])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        clips = held_out_clips(config, store, stage1)
        hands = HandSpace.load(body_file(config))
        with writing(target) as folder:
            folder.mkdir()
            for clip in clips:
                moved, rate = load_emage(source / f"{clip.name}_output.npz", hands)
                wanted = EMAGE_RATE if rated else clip.fps
                frames = resample(moved, rate, wanted, round(len(clip.truth.transl) * wanted / clip.fps))
                save_lhm(folder / clip.name / "smplx_params", stage1.body, placed(frames, clip.encoding.params), clip.camera)
        return {"clips": len(clips), "from_rate": str(EMAGE_RATE), "path": str(target)}

    return store.once("baseline_retargeted", "all", CODE_VERSION, inputs, [target], work)


def video(config: Config, store: Store, home: Home | None = None) -> Record:
    """Pose the canonical avatar of each clip's reference picture by its JSON, render, score.

    Outputs: baseline/video/<clip>.mp4 and metrics.json, the `two_stage` row of the comparison.
    """
    source, target = store.baseline("retargeted"), store.baseline("video")
    weights = weights_file(store, "stage1")
    lhm = Checkout.find(config.baseline, "lhm") if config.baseline.avatar == "lhm" else None
    by = f"LHM {lhm.version}" if lhm else "own"
    inputs = hash_json([store.output_hash("baseline_retargeted"), hash_file(weights), config.evaluation.model_dump(), by])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        clips = held_out_clips(config, store, stage1)
        performances = []
        with writing(target) as folder:
            folder.mkdir()
            for clip in progress(clips, "two-stage videos"):
                motion_folder = source / clip.name / "smplx_params"
                params, camera = load_lhm(motion_folder)
                if lhm is not None:
                    seen = list(lhm_pictures(config.baseline, clip.video[REFERENCE], motion_folder, len(clip.video[0]), home or Home()))
                    frames = len(clip.truth.transl)
                    pictures, params = at_rate(seen, clip.fps, frames), resample(params, EMAGE_RATE, clip.fps, frames)
                else:
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
        return {"clips": len(clips), "by": by, "metrics": scores, "preview": str(target / "preview.png"), "path": str(target)}

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
