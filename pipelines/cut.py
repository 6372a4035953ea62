"""Talks become clips: one shot, one person, speech; a square video, its sound, and the person's mask in every frame.

Every frame of the talk is accounted for: it lies in a clip or in `rejected.json` with a reason. A clip's folder holds
`clip.mp4`, `audio.wav` (16 kHz), `mask.npz` (`mask` packed bits [T, H*W/8], `shape` [T, H, W]) and `clip.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from configs.schema import Config, CutConfig
from pipelines import ingest, media
from pipelines.cut_plan import Crop, Evidence, PlannedClip, Rejected, plan_clips
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.person import Finder, Mask, Masker, MediapipeFinder, MediapipeMasker, Sighting, smooth_masks
from pipelines.store import InputRejected, Record, Store, hash_files, hash_json, write_json

STAGE = "cut"
CODE_VERSION = "1"
OWN_FILES = ("clip.mp4", "audio.wav", "mask.npz", "clip.json")
SHOT_WIDTH = 256  # pixels; shots are found in pictures of this width
FINDER_SIDE = 640  # pixels; people are looked for in pictures of at most this side
LEAST_MASK = 0.02  # share of a clip's pixels; with less, there is no person to learn from
NO_MASK = "person could not be masked"
CRF = 18


def cut_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Cut one ingested talk; the record is rejected, with the reasons, where nothing usable is in it."""
    folder = store.talk(talk_id)
    refusal = _refusal(store, talk_id)
    inputs = refusal or (folder / "talk.json").read_text()
    outputs = [folder / "clips.json", folder / "rejected.json"]
    if not _complete(folder):
        outputs[0].unlink(missing_ok=True)

    def work() -> dict[str, Any]:
        if refusal:
            raise InputRejected(refusal)
        return _cut(config.cut, store, json.loads(inputs))

    input_hash = hash_json([inputs, config.cut.model_dump(mode="json")])
    return store.once(STAGE, talk_id, CODE_VERSION, input_hash, outputs, work)


def read_masks(path: Path) -> Mask:
    """The masks [T, H, W] bool of a clip's mask.npz."""
    with np.load(path, allow_pickle=False) as npz:
        count, height, width = npz["shape"].tolist()
        return np.unpackbits(npz["mask"], axis=1)[:, : height * width].reshape(count, height, width).astype(bool)


def find_speech(audio: Sound) -> list[tuple[float, float]]:
    """Stretches of speech, seconds; `audio` [samples] at 16 kHz."""
    import torch

    threads = torch.get_num_threads()
    import silero_vad  # sets torch to one thread when imported

    torch.set_num_threads(threads)
    model = silero_vad.load_silero_vad(onnx=True)
    found = silero_vad.get_speech_timestamps(torch.from_numpy(audio), model, sampling_rate=SAMPLE_RATE)
    return [(s["start"] / SAMPLE_RATE, s["end"] / SAMPLE_RATE) for s in found]


def look(video: Path, speech: list[tuple[float, float]], config: CutConfig, finder: Finder) -> Evidence:
    """Go through the talk once: shot boundaries at every frame, people `probe_fps` times a second."""
    from scenedetect import ContentDetector, FrameTimecode

    detector = ContentDetector(threshold=config.shot_threshold)
    step = max(round(config.fps / Fraction(config.probe_fps)), 1)
    shots: set[int] = set()
    sightings: dict[int, Sighting] = {}
    count = height = width = 0
    for picture in _progress(media.frames(video, config.fps), f"looking through {video.name}"):
        height, width = picture.shape[:2]
        small = cv2.resize(picture, (SHOT_WIDTH, max(round(SHOT_WIDTH * height / width), 1)), interpolation=cv2.INTER_AREA)
        bgr = np.ascontiguousarray(small[..., ::-1])
        begun = [c.frame_num for c in detector.process_frame(FrameTimecode(count, float(config.fps)), bgr)]
        shots.update(begun)
        if begun or count % step == step // 2:
            sightings[count] = _find(finder, picture)
        count += 1
    shots.update(c.frame_num for c in detector.post_process(FrameTimecode(count, float(config.fps))))
    return Evidence(count, width, height, sorted(shots), speech, sightings)


@dataclass
class _Written:
    """What one clip's writing left behind."""

    share: float = 0.0  # of pixels inside the mask
    masks: list[NDArray[np.uint8]] = field(default_factory=list)  # packed, [H*W/8] each
    middle: Picture | None = None
    middle_mask: Mask | None = None


def _cut(config: CutConfig, store: Store, talk: dict[str, Any]) -> dict[str, Any]:
    video = ingest.video_path(store, talk)
    folder = store.talk(talk["talk"])
    try:
        audio = media.read_audio(video)
        speech = find_speech(audio)
        if speech:
            evidence = look(video, speech, config, MediapipeFinder())
        else:  # no need to look at it
            evidence = Evidence(round(talk["seconds"] * config.fps), talk["width"], talk["height"], [], [], {})
    except media.MediaError as error:
        raise InputRejected(str(error)) from error
    planned, rejected = plan_clips(evidence, config)
    clips, previews = [], []
    masker = MediapipeMasker() if planned else None
    for clip in planned:
        assert masker is not None
        about, written = _write_clip(folder, talk, video, audio, clip, (evidence.width, evidence.height), config, masker)
        if about is None:
            rejected = sorted([*rejected, Rejected(clip.start, clip.end, NO_MASK)], key=lambda r: r.start)
            continue
        clips.append(about)
        previews.append(_preview(written))
    kept = {c["clip"] for c in clips}
    for stale in folder.glob("clips/*"):
        if stale.name not in kept:
            shutil.rmtree(stale)
    seconds_of = {r: round(float((r.end - r.start) / config.fps), 3) for r in rejected}
    rows = [
        {"start": float(r.start / config.fps), "end": float(r.end / config.fps), "reason": r.reason} for r in rejected
    ]
    write_json(folder / "rejected.json", rows)
    reasons: dict[str, float] = {}
    for r, seconds in seconds_of.items():
        reasons[r.reason] = round(reasons.get(r.reason, 0.0) + seconds, 3)
    if not clips:
        told = ", ".join(f"{reason} {seconds:g} s" for reason, seconds in reasons.items()) or "it shows no picture"
        raise InputRejected(f"{video.name!r}: no usable clip of {config.min_seconds:g} s or more in it: {told}")
    preview = folder / "clips_preview.jpg"
    cv2.imwrite(str(preview), np.hstack(previews[:6])[..., ::-1])
    files = {c["clip"]: hash_files([folder / "clips" / c["clip"] / n for n in OWN_FILES], folder) for c in clips}
    write_json(folder / "clips.json", files)
    return {
        "clips": len(clips),
        "clip_seconds": round(sum(c["end"] - c["start"] for c in clips), 3),
        "rejected_seconds": round(sum(seconds_of.values()), 3),
        "rejected": reasons,
        "shots": len(evidence.shots) + 1,
        "frames": sum(c["frames"] for c in clips),
        "mask_share": round(float(np.mean([c["mask_share"] for c in clips])), 4),
        "preview": str(preview),
    }


def _write_clip(
    folder: Path,
    talk: dict[str, Any],
    video: Path,
    audio: Sound,
    clip: PlannedClip,
    source_size: tuple[int, int],
    config: CutConfig,
    masker: Masker,
) -> tuple[dict[str, Any] | None, _Written]:
    """Write one clip's folder; None where the masks show nobody. An equal folder is left alone, with what others put in."""
    start, end = clip.start / config.fps, clip.end / config.fps
    clip_id = f"{talk['talk']}_{round(start * 1000):08d}"
    target, temporary = folder / "clips" / clip_id, folder / "clips" / f".{clip_id}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    first = round(start * SAMPLE_RATE)
    sound = audio[first : first + round(len(clip) * SAMPLE_RATE / config.fps)]
    sound = np.pad(sound, (0, round(len(clip) * SAMPLE_RATE / config.fps) - len(sound)))
    written = _Written()
    pictures = _progress(media.frames(video, config.fps, float(start), float(end)), f"cutting {clip_id}", len(clip))
    cropped = (crop_picture(p, clip.crop, config.size) for p in pictures)
    count = media.write_video(temporary / "clip.mp4", _masked(cropped, masker, len(clip) // 2, written), config.fps, sound, crf=CRF)
    assert count == len(clip), f"{clip_id}: planned {len(clip)} frames, the second reading gave {count}"
    about = {
        **{k: talk[k] for k in ("talk", "speaker", "licence", "language")},
        "clip": clip_id, "start": float(start), "end": float(end), "fps": str(config.fps), "frames": count,
        "size": config.size, "crop": asdict(clip.crop), "source": {"file": talk["file"], "sha": talk["sha"], "size": list(source_size)},
        "sample_rate": SAMPLE_RATE, "masker": masker.name, "mask_share": round(written.share, 4),
    }  # fmt: skip
    if written.share < LEAST_MASK:
        shutil.rmtree(temporary)
        return None, written
    media.write_wav(temporary / "audio.wav", sound)
    shape = np.array([count, config.size, config.size])
    np.savez_compressed(temporary / "mask.npz", mask=np.stack(written.masks), shape=shape)
    write_json(temporary / "clip.json", about)
    old, new = [target / n for n in OWN_FILES], [temporary / n for n in OWN_FILES]
    if all(p.is_file() for p in old) and hash_files(old, target) == hash_files(new, temporary):
        shutil.rmtree(temporary)
    else:
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    return about, written


def crop_picture(picture: Picture, crop: Crop, size: int) -> Picture:
    """The square [size, size, 3] under `crop`; what lies outside the picture takes the colour of its edge."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = crop.x, crop.y, crop.x + crop.side, crop.y + crop.side
    part = picture[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    over = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
    if any(over):
        part = cv2.copyMakeBorder(part, *over, cv2.BORDER_REPLICATE)
    if crop.side != size:
        part = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if crop.side > size else cv2.INTER_CUBIC)
    return np.ascontiguousarray(part)


def _masked(pictures: Iterator[Picture], masker: Masker, middle: int, written: _Written) -> Iterator[Picture]:
    """Pass the pictures on and gather their masks; a mask needs the picture after it, so it comes one later."""
    total = 0.0

    def probabilities() -> Iterator[NDArray[np.float32]]:
        for picture in pictures:
            queue.append(picture)
            yield masker(picture)

    queue: list[Picture] = []
    for index, mask in enumerate(smooth_masks(probabilities())):
        picture = queue.pop(0)
        written.masks.append(np.packbits(mask))
        total += float(mask.mean())
        written.share = total / (index + 1)
        if index == middle:
            written.middle, written.middle_mask = picture, mask
        yield picture


def _find(finder: Finder, picture: Picture) -> Sighting:
    """Look in a smaller picture; the box comes back in the picture's own pixels."""
    scale = max(max(picture.shape[:2]) / FINDER_SIDE, 1.0)
    if scale == 1.0:
        return finder(picture)
    size = round(picture.shape[1] / scale), round(picture.shape[0] / scale)
    found = finder(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    if found.box is None:
        return found
    x0, y0, x1, y1 = (value * scale for value in found.box)
    return Sighting((x0, y0, min(x1, picture.shape[1]), min(y1, picture.shape[0])), found.people, found.score)


def _preview(written: _Written, side: int = 256) -> Picture:
    """The clip's middle picture, what is outside the mask darkened."""
    assert written.middle is not None and written.middle_mask is not None
    shown = np.where(written.middle_mask[..., None], written.middle, written.middle // 3)
    return cv2.resize(shown, (side, side), interpolation=cv2.INTER_AREA)


def _refusal(store: Store, talk_id: str) -> str:
    """Why a talk cannot be cut at all, '' where it can. Errors: ValueError where it was never ingested."""
    record = store.read_record(ingest.STAGE, talk_id)
    if record is None:
        raise ValueError(f"talk {talk_id!r}: expected an ingested talk, there is no record of it; run ingest first")
    return f"not cut, rejected when ingested: {record.reason}" if record.status == "rejected" else ""


def _complete(folder: Path) -> bool:
    """Whether every clip of clips.json still has its files."""
    if not (folder / "clips.json").is_file():
        return False
    names = json.loads((folder / "clips.json").read_text())
    return all((folder / "clips" / clip / name).is_file() for clip in names for name in OWN_FILES)


def _progress(items: Iterator[Picture], text: str, total: int | None = None) -> Iterator[Picture]:
    return iter(track(items, text, total=total, transient=True, disable=not sys.stderr.isatty()))
