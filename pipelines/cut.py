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
from pipelines.clips import OWN_FILES, Source, complete, write_clip
from pipelines.cut_look import Thumbnails, look
from pipelines.cut_plan import Evidence, Rejected, plan_clips
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.person import MediapipeFinder, MediapipeMasker
from pipelines.rejected import write_rejected
from pipelines.store import InputRejected, Record, Store, hash_files, hash_json, write_json

STAGE = "cut"
CODE_VERSION = "2"
PREVIEWS, PREVIEW_SIDE = 6, 256  # clips shown in the preview, pixels each
NO_MASK = "person could not be masked"


def cut_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Cut one ingested talk; the record is rejected, with the reasons, where nothing usable is in it.

    Errors: ValueError for a talk that was never ingested.
    """
    folder = store.talk(talk_id)
    refusal = _refusal(store, talk_id)
    about = refusal or (folder / "talk.json").read_text()
    outputs = [folder / "clips.json", folder / "rejected.json"]
    if not _all_clips_complete(folder):
        outputs[0].unlink(missing_ok=True)  # then the work is done again

    def work() -> dict[str, Any]:
        outputs[0].unlink(missing_ok=True)
        if refusal:
            shutil.rmtree(folder / "clips", ignore_errors=True)
            raise InputRejected(refusal)
        return _cut(config.cut, store, json.loads(about))

    input_hash = hash_json([about, config.cut.model_dump(mode="json")])
    return store.once(STAGE, talk_id, CODE_VERSION, input_hash, outputs, work)


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
    try:
        audio = media.read_audio(video)
        thumbnails = Thumbnails()
        evidence = _evidence(talk, video, find_speech(audio), config, thumbnails)
    except media.MediaError as error:
        raise InputRejected(str(error)) from error
    planned, rejected = plan_clips(evidence, config)
    source = Source(talk, video, audio, (evidence.width, evidence.height))
    clips: dict[str, dict[str, Any]] = {}
    previews: list[np.ndarray] = []
    masker = MediapipeMasker()
    for clip in planned:
        clip_id = f"{talk['talk']}_{round(clip.start / config.fps * 1000):08d}"
        written = write_clip(folder / "clips" / clip_id, source, clip, config, masker)
        if written is None:
            rejected.append(Rejected(clip.start, clip.end, NO_MASK))
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
    cv2.imwrite(str(preview), np.hstack(previews)[..., ::-1])
    write_json(
        folder / "clips.json",
        {c: hash_files([folder / "clips" / c / name for name in OWN_FILES], folder) for c in clips},
    )
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


def _refusal(store: Store, talk_id: str) -> str:
    """Why a talk cannot be cut at all, '' where it can."""
    record = store.read_record(ingest.STAGE, talk_id)
    if record is None:
        raise ValueError(f"talk {talk_id!r}: expected an ingested talk, there is no record of it; run ingest first")
    return f"not cut, rejected when ingested: {record.reason}" if record.status == "rejected" else ""


def _all_clips_complete(folder: Path) -> bool:
    listed = folder / "clips.json"
    return listed.is_file() and all(complete(folder / "clips" / clip) for clip in json.loads(listed.read_text()))
