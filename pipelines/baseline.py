"""The two-stage system on the held-out talks, through the neighbours' own file formats.

`motion`: speech → SMPL-X as EMAGE's npz, by a network trained here or by EMAGE itself. `retarget`: npz → LHM's JSON, placed
where the pictured person stands. `video`: the canonical avatar of one picture, posed by that JSON with linear blend skinning,
rendered; or LHM's video. What a check-out gets wrong is an error (`CheckoutFailed`), never a recorded rejection.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from configs.places import from_project
from configs.schema import Config
from model.motion import params_from_motion
from model.stage1 import Stage1
from model.types import GaussianCloud, SmplxParams
from pipelines import media
from pipelines.baseline_accumulation import ROWS, fitted_avatar
from pipelines.baseline_checkouts import Checkout, Home, at_rate, emage_motion, lhm_pictures
from pipelines.baseline_training import data_version, learned_from, load_network, save_network, training_clips
from pipelines.baseline_training import train as train
from pipelines.body import body_file
from pipelines.checkpoints import load_stage1, weights_file
from pipelines.convert import context_of
from pipelines.drawing import draw, sheet
from pipelines.formats import load_emage, load_lhm, resample, save_emage, save_lhm
from pipelines.formats_emage import RATE as EMAGE_RATE
from pipelines.formats_hands import HandSpace
from pipelines.held_out import REFERENCE, HeldOutClip, Performance, held_out_clips
from pipelines.manifests import read_manifest
from pipelines.media import Picture
from pipelines.motions import iterate_motions
from pipelines.placing import placed, unplaced
from pipelines.progress import progress
from pipelines.provenance import provenance
from pipelines.scoring import DEFINITIONS, TRUTH, score
from pipelines.scoring_summary import markdown_rows
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, writing

CODE_VERSION = "11"  # 10: avatars fitted with more regard for their other sides; 11: corrected by what their picture shows


def motion(config: Config, store: Store, home: Home | None = None) -> Record:
    """Write the held-out talks' motion: by the own network, trained first on what stage 2 learns from, or by EMAGE's check-out.

    Outputs: baseline/motion/<clip>_output.npz (EMAGE, 30 frames/s) and, of the own network,
    checkpoints/baseline/audio_to_motion.safetensors.
    """
    manifest = read_manifest(store, "talks")
    if manifest is None:
        raise InputRejected("baseline: expected talk shards, found none; materialise talk_shards first")
    if config.baseline.motion == "emage":
        return _emage_motion(config, store, manifest["hash"], home or Home())
    weights = store.checkpoint("baseline") / "audio_to_motion.safetensors"
    inputs = hash_json([manifest["hash"], data_version(config, store), config.baseline.model_dump(), config.seed])

    def work() -> dict[str, Any]:
        start, loss = config.baseline.start_from, {}
        if start is not None and not config.baseline.steps:
            network, learned = load_network(start)
            with writing(weights) as temporary:
                shutil.copyfile(from_project(start), temporary)
        else:
            training = training_clips(config, store)
            if not training:
                raise InputRejected("baseline: expected training clips in the talk or motion shards, got none")
            network, losses = train(config, training)
            learned, loss = learned_from(config, training, len(losses)), {"loss": losses[-1]}
            save_network(weights, network, config, learned, provenance(config, store))
        clips = list(iterate_motions(store.shards("talks"), "test"))
        hands = HandSpace.load(body_file(config))
        with writing(store.baseline("motion")) as folder:
            folder.mkdir()
            for i, clip in enumerate(clips):
                vector = network.generate(clip.features, config.seed + i)  # another draw for each, also of whose manner
                # no picture is known here, hence no shape and no place: the mean body at the origin
                save_emage(folder / f"{clip.name}_output.npz", params_from_motion(vector, SmplxParams.zeros()), clip.fit.fps, hands)
        counts = {"training_clips": learned["clips"], "clips": len(clips), "learned_from": learned}
        return {**counts, "by": "own", "metrics": loss, "path": str(store.baseline("motion"))}

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

    Outputs: baseline/video/<clip>.mp4 and metrics.json: the row `two_stage` and those of `baseline_accumulation`.
    """
    source, target = store.baseline("retargeted"), store.baseline("video")
    weights = weights_file(store, "stage1")
    lhm = Checkout.find(config.baseline, "lhm") if config.baseline.avatar == "lhm" else None
    by = f"LHM {lhm.version}" if lhm else "own"
    inputs = hash_json([store.output_hash("baseline_retargeted"), hash_file(weights), config.evaluation.model_dump(), by])

    def work() -> dict[str, Any]:
        stage1 = load_stage1(config, store)
        clips = held_out_clips(config, store, stage1)
        hands = HandSpace.load(body_file(config))
        truth = [Performance(c.truth, c.pictures) for c in clips]
        rows: dict[str, list[Performance]] = {"two_stage": [], **{name: [] for name in ROWS}}
        with writing(target) as folder:
            folder.mkdir()
            for clip in progress(clips, "two-stage videos"):
                players = _Players(config, stage1, clip, lhm is not None, home or Home())
                params, pictures = players.retargeted(source / clip.name / "smplx_params")
                media.write_video(folder / f"{clip.name}.mp4", iter(pictures), clip.fps, clip.audio)
                rows["two_stage"].append(clip.performance(params, pictures))
                moved, rate = load_emage(store.baseline("motion") / f"{clip.name}_output.npz", hands)
                predicted = resample(moved, rate, clip.fps, len(clip.truth.transl))
                for name, performance in players.with_truth(predicted).items():
                    rows[name].append(performance)
            scored = score(config, store, stage1, clips, {TRUTH: truth, **rows})
            scored.write(folder, clips=[c.id for c in clips], by=by, provenance=provenance(config, store))
            Image.fromarray(sheet(pictures)).save(folder / "preview.png")
        facts = {"clips": len(clips), "by": by, "metrics": scored.means("two_stage"), "table": markdown_rows(scored.table(), DEFINITIONS)}
        return facts | {"preview": str(target / "preview.png"), "path": str(target)}

    return store.once("baseline_video", "all", CODE_VERSION, inputs, [target], work)


class _Players:
    """What moves the person of one clip: the canonical avatar of the reference picture (ours or LHM's), and a fitted one."""

    def __init__(self, config: Config, stage1: Stage1, clip: HeldOutClip, lhm: bool, home: Home):
        self.config, self.stage1, self.clip, self.lhm, self.home = config, stage1, clip, lhm, home
        with torch.no_grad():
            self.canonical = stage1.gaussians(stage1.canonical(clip.encoding))

    def retargeted(self, motion: Path) -> tuple[SmplxParams, list[Picture]]:
        """Motion [T] of LHM's JSON files at the clip's rate, and all T pictures of the predicted avatar."""
        clip, frames = self.clip, len(self.clip.truth.transl)
        params, camera = load_lhm(motion)
        if not self.lhm:
            return params, list(draw(self._posed(self.canonical, params), camera, frames))
        seen = list(lhm_pictures(self.config.baseline, clip.video[REFERENCE], motion, len(clip.video[0]), self.home))
        return resample(params, EMAGE_RATE, clip.fps, frames), at_rate(seen, clip.fps, frames)

    def with_truth(self, predicted: SmplxParams) -> dict[str, Performance]:
        """The rows in which one stage or both are replaced by the truth; `predicted` motion [T] is at rest at the origin."""
        clip, first = self.clip, self.clip.truth[:1]
        fitted = fitted_avatar(self.stage1, clip, self.canonical, self.config.baseline.avatar_steps)
        mine = placed(predicted, first)
        theirs = placed(unplaced(clip.truth, first), clip.encoding.params)
        return {
            "true_both": self._performance(fitted, clip.truth),
            "true_avatar": self._performance(fitted, mine),
            "true_motion": self._by_lhm(theirs) if self.lhm else self._performance(self.canonical, theirs),
        }

    def _performance(self, cloud: GaussianCloud, params: SmplxParams) -> Performance:
        """Only the compared frames are drawn."""
        pictures = list(draw(self._posed(cloud, params), self.clip.camera, self.clip.frames))
        return Performance(params, torch.from_numpy(np.stack(pictures)).float() / 255)

    def _by_lhm(self, params: SmplxParams) -> Performance:
        clip = self.clip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / clip.name / "smplx_params"
            frames = round(len(params.transl) * EMAGE_RATE / clip.fps)
            save_lhm(folder, self.stage1.body, resample(params, clip.fps, EMAGE_RATE, frames), clip.camera)
            return clip.performance(params, self.retargeted(folder)[1])

    def _posed(self, cloud: GaussianCloud, params: SmplxParams) -> Callable[[Tensor], GaussianCloud]:
        return lambda index: self.stage1.pose(cloud, params[index])
