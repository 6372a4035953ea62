"""Videos of the inbox become talks: found, checked and described, never changed.

`talks.csv` in the inbox (columns file, speaker, licence, language) says who speaks; a file without a row is its own
speaker.
"""

from __future__ import annotations

import csv
import importlib.resources
import shutil
from pathlib import Path

from configs.schema import Config
from pipelines import media
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, safe_name, write_json, writing

STAGE = "ingest"
CODE_VERSION = "1"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v")
SAMPLES = Path(str(importlib.resources.files("samples"))) / "talks"
STATES_LENGTH = ("mp4", "matroska", "avi")  # containers whose header says how long they are; others are estimates
MISSING_SECONDS = 0.5  # a file that holds this much less than its header says is truncated


def discover(config: Config, store: Store) -> list[str]:
    """Talk ids of all videos in the inbox, sorted; creates the inbox (with the embedded talks) at first use."""
    return sorted(_videos(config, store))


def describe(config: Config, store: Store) -> dict[str, tuple[Path, dict[str, str]]]:
    """Talk id → its video and its row of talks.csv: what decides how it is ingested, for those who watch the inbox."""
    videos = _videos(config, store)
    rows = _read_csv(store.inbox / "talks.csv")
    return {talk_id: (path, rows.get(path.name, {})) for talk_id, path in videos.items()}


def ingest_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Check one video and write `talks/<id>/talk.json`; the record is rejected where the video cannot be used.

    Errors: ValueError for a talk id that no video in the inbox has.
    """
    path = _videos(config, store).get(talk_id)
    if path is None:
        raise ValueError(f"talk {talk_id!r}: no video in {store.inbox} has this id; `discover` lists them")
    row = _read_csv(store.inbox / "talks.csv").get(path.name, {})
    sha = hash_file(path)
    who = {
        "speaker": row.get("speaker") or talk_id,
        "licence": row.get("licence") or config.talks.default_licence,
        "language": row.get("language") or "unknown",
    }
    target = store.talk(talk_id) / "talk.json"

    def work() -> dict[str, object]:
        target.unlink(missing_ok=True)
        talk = {"talk": talk_id, "file": path.name, "sha": sha, **who, **_check(path)}
        write_json(target, talk)
        return talk

    return store.once(STAGE, talk_id, CODE_VERSION, hash_json([path.name, sha, who]), [target], work)


def video_path(store: Store, talk: dict[str, object]) -> Path:
    """The inbox file that a talk.json speaks of. Errors: InputRejected where it is gone."""
    path = store.inbox / str(talk["file"])
    if not path.is_file():
        raise InputRejected(f"{path.name!r}: ingested before, but no longer in the inbox {store.inbox}")
    return path


def _check(path: Path) -> dict[str, object]:
    """Facts of a usable video. Errors: InputRejected, one line, for any other file."""
    try:
        info = media.probe(path)
        if not info.has_video:
            raise InputRejected(f"{path.name!r}: expected a video, it holds only {info.audio_codec} audio")
        if not info.has_audio:
            raise InputRejected(f"{path.name!r}: expected a video with sound, it has no audio track")
        video_seconds, audio_seconds = media.measure(path)
    except media.MediaError as error:
        raise InputRejected(str(error)) from error
    stated = any(kind in info.container for kind in STATES_LENGTH)
    if stated and info.seconds - video_seconds > max(MISSING_SECONDS, 0.02 * info.seconds):
        there = f"{video_seconds:.1f} of {info.seconds:.1f} s of video are there"
        raise InputRejected(f"{path.name!r}: truncated, {there}; copy the file again")
    return {
        "width": info.width,
        "height": info.height,
        "fps": str(info.fps),
        "frames": info.frames,
        "seconds": round(video_seconds, 3),
        "audio_seconds": round(audio_seconds, 3),
        "has_audio": info.has_audio,
        "sample_rate": info.sample_rate,
        "rotation": info.rotation,
        "video_codec": info.video_codec,
        "audio_codec": info.audio_codec,
        "container": info.container,
    }


def _videos(config: Config, store: Store) -> dict[str, Path]:
    """Talk id → file. Of files that share a stem, the first keeps it as its id and the others get their full name's."""
    if not store.inbox.exists():
        _create_inbox(config, store)
    found: dict[str, Path] = {}
    for path in sorted(store.inbox.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            talk_id = safe_name(path.stem)
            found[safe_name(path.name) if talk_id in found else talk_id] = path
    return found


def _create_inbox(config: Config, store: Store) -> None:
    samples = sorted([*SAMPLES.glob("*.mp4"), *SAMPLES.glob("talks.csv")]) if config.talks.include_samples else []
    if config.talks.include_samples and not samples:
        raise ValueError(f"no embedded talks in {SAMPLES}; build them, or set talks.include_samples to false")
    with writing(store.inbox) as temporary:
        temporary.mkdir()
        for path in samples:
            shutil.copyfile(path, temporary / path.name)


def _read_csv(path: Path) -> dict[str, dict[str, str]]:
    """Rows of talks.csv by file name. Errors: ValueError where the column `file` is missing."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if "file" not in (reader.fieldnames or []):
            raise ValueError(f"{path}: expected columns file,speaker,licence,language, got {reader.fieldnames}")
        return {row["file"].strip(): {k: (v or "").strip() for k, v in row.items() if k} for row in reader}
