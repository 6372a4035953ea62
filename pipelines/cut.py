"""Talks become clips: one shot, one person, speech; a square video, its sound, and the person's mask in every frame.

Every frame of the talk is accounted for: it lies in a clip (pipelines/clips.py) or in `rejected.json` with a reason and
a picture (pipelines/rejected.py). An hour costs little more memory than a minute: its sound, as it is heard.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs.schema import Config, CutConfig
from pipelines import ingest, media
from pipelines.clips import OWN_FILES, Source, complete, labels_of, relabel, remove_left_over, write_clip
from pipelines.cut_look import Thumbnails, look
from pipelines.cut_plan import Evidence, Rejected, plan_clips
from pipelines.faults import NotNow, Unchanged, may_pass, tried
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.person import MediapipeFinder, MediapipeMasker
from pipelines.rejected import write_rejected
from pipelines.store import InputRejected, Record, Store, hash_files, hash_json, write_json

STAGE = "cut"
CODE_VERSION = "4"
READ = ("talk", "file", "url", "sha", "seconds", "width", "height")  # of talk.json; labels (pipelines/clips.py) apart
PREVIEWS, PREVIEW_SIDE = 6, 256  # clips shown in the preview, pixels each


def cut_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Cut one ingested talk; the record is rejected, with the reasons, where nothing usable is in it.

    Errors: ValueError for a talk that was never ingested.
    """
    ingested = store.read_record(ingest.STAGE, talk_id)
    if ingested is None:
        raise ValueError(f"talk {talk_id!r}: expected an ingested talk, there is no record of it; run ingest first")
    return tried(store, STAGE, talk_id, CODE_VERSION, lambda: _cut_once(config.cut, store, talk_id, ingested))


def _cut_once(config: CutConfig, store: Store, talk_id: str, ingested: Record) -> Record:
    """Cut unless that was done; where only the person's labels changed, they alone are written anew."""
    folder = store.talk(talk_id)
    refusal = f"not cut, rejected when ingested: {ingested.reason}" if ingested.status == "rejected" else ""
    if may_pass(ingested):
        raise NotNow(refusal)  # the clips of before stay
    talk = {} if refusal else json.loads((folder / "talk.json").read_text())
    source_hash = hash_json([refusal, {k: talk.get(k) for k in READ}, config.model_dump(mode="json")])
    outputs = [folder / "clips.json", folder / "rejected.json"]
    if not _all_clips_complete(folder):
        outputs[0].unlink(missing_ok=True)  # then the work is done again
    before = store.read_record(STAGE, talk_id)

    def work() -> dict[str, Any]:
        same = before is not None and (before.code_version, before.facts.get("source_hash")) == (CODE_VERSION, source_hash)
        if before is not None and same and outputs[0].is_file():
            for clip in store.clips(talk_id):
                relabel(clip, labels_of(talk))
            _list_clips(folder)
            return before.facts
        outputs[0].unlink(missing_ok=True)
        if refusal:
            shutil.rmtree(folder / "clips", ignore_errors=True)
            outputs[1].unlink(missing_ok=True)
            raise InputRejected(refusal)
        return {**_cut(config, store, talk), "source_hash": source_hash}

    return store.once(STAGE, talk_id, CODE_VERSION, hash_json([source_hash, labels_of(talk)]), outputs, work)


def find_speech(audio: Sound) -> list[tuple[float, float]]:
    """Stretches of speech, seconds; `audio` [samples] at 16 kHz."""
    import torch

    threads = torch.get_num_threads()
    import silero_vad  # sets torch to one thread when imported

    torch.set_num_threads(threads)
    model = silero_vad.load_silero_vad(onnx=True)
    found = silero_vad.get_speech_timestamps(torch.from_numpy(audio), model, sampling_rate=SAMPLE_RATE)
    return [(s["start"] / SAMPLE_RATE, s["end"] / SAMPLE_RATE) for s in found]


def _cut(config: CutConfig, store: Store, talk: dict[str, Any]) -> dict[str, Any]:
    video, folder = ingest.video_path(store, talk), store.talk(talk["talk"])
    unchanged, made = Unchanged(video), set[str]()
    remove_left_over(folder)
    try:
        return _cut_video(config, talk, video, folder, made)
    except media.MediaError as error:
        shutil.rmtree(folder / "clips", ignore_errors=True)  # of another video under this name
        raise InputRejected(str(error)) from error
    finally:  # what came of a file that changed meanwhile is worth nothing, a fault in it neither
        try:
            unchanged.check()
        except (NotNow, OSError):
            (folder / "clips.json").unlink(missing_ok=True)
            for clip in made:
                shutil.rmtree(folder / "clips" / clip, ignore_errors=True)
            raise


def _cut_video(config: CutConfig, talk: dict[str, Any], video: Path, folder: Path, made: set[str]) -> dict[str, Any]:
    """The facts of the cut; ids of clips come into `made` as they are written."""
    audio = media.read_audio(video)
    thumbnails = Thumbnails()
    evidence = _evidence(talk, video, find_speech(audio), config, thumbnails)
    planned, rejected = plan_clips(evidence, config)
    source = Source(talk, video, audio, (evidence.width, evidence.height))
    clips: dict[str, dict[str, Any]] = {}
    previews: list[np.ndarray] = []
    masker = MediapipeMasker()
    for clip in planned:
        clip_id = f"{talk['talk']}_{round(clip.start / config.fps * 1000):08d}"
        made.add(clip_id)
        written = write_clip(folder / "clips" / clip_id, source, clip, config, masker)
        if isinstance(written, str):
            rejected.append(Rejected(clip.start, clip.end, written))
            continue
        clips[clip_id], track = written
        if track.preview is not None and len(previews) < PREVIEWS:
            previews.append(cv2.resize(track.preview, (PREVIEW_SIDE, PREVIEW_SIDE), interpolation=cv2.INTER_AREA))
    masker.close()
    for stale in folder.glob("clips/*"):
        if stale.name not in clips:
            shutil.rmtree(stale)

    def picture_at(stretch: Rejected) -> Picture | None:
        kept = thumbnails.of(stretch)
        return _seek(video, stretch, evidence, config) if kept is None else kept

    reasons = write_rejected(folder, rejected, config.fps, picture_at)
    if not clips:
        told = ", ".join(f"{reason} {seconds:g} s" for reason, seconds in reasons.items()) or "no pictures"
        raise InputRejected(f"{video.name!r}: no clip of {config.min_seconds:g} s with one person speaking: {told}")
    preview = folder / "clips_preview.png"
    media.write_picture(preview, np.hstack(previews))
    _list_clips(folder)
    return {
        "clips": len(clips),
        "clip_seconds": round(sum(c["end"] - c["start"] for c in clips.values()), 3),
        "rejected_seconds": round(sum(reasons.values()), 3),
        "rejected": reasons,
        "shots": len(evidence.shots) + 1,
        "frames": sum(c["frames"] for c in clips.values()),
        "mask_share": round(float(np.mean([c["mask_share"] for c in clips.values()])), 4),
        "preview": str(preview),
        **({"rejected_preview": str(folder / "rejected_preview.png")} if reasons else {}),
    }


def _evidence(talk: dict[str, Any], video: Path, speech: list[tuple[float, float]], config: CutConfig, thumbnails: Thumbnails) -> Evidence:
    expected = round(talk["seconds"] * config.fps)
    if not speech:  # nothing to look for where nobody speaks
        return Evidence(expected, talk["width"], talk["height"], [], [], {})
    finder = MediapipeFinder()
    evidence = look(video, speech, config, finder, thumbnails)
    finder.close()
    if evidence.frames >= expected - 1:
        return evidence
    return replace(evidence, frames=expected, decoded=evidence.frames)  # damaged: what is missing is accounted for too


def _seek(video: Path, stretch: Rejected, evidence: Evidence, config: CutConfig) -> Picture | None:
    """The picture in the middle of a stretch, None where there is none."""
    middle = (stretch.start + stretch.end) // 2
    if evidence.decoded is not None and middle >= evidence.decoded:
        return None
    start, end = float(middle / config.fps), float((middle + 1) / config.fps)
    try:
        return next(media.frames(video, config.fps, start, end), None)
    except media.MediaError:
        return None


def _list_clips(folder: Path) -> None:
    """Write clips.json: id → hash of the clip's own files."""
    clips = sorted(p for p in (folder / "clips").iterdir() if complete(p))
    write_json(folder / "clips.json", {c.name: hash_files([c / name for name in OWN_FILES], folder) for c in clips})


def _all_clips_complete(folder: Path) -> bool:
    listed = folder / "clips.json"
    return listed.is_file() and all(complete(folder / "clips" / clip) for clip in json.loads(listed.read_text()))
