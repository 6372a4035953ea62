"""Videos of the inbox become talks: found, checked and described, never changed.

A table in the inbox (pipelines/talk_table.py) says who speaks, and names URLs; a file without a row is its own speaker.
Whatever cannot become a talk has a record that says why. What may be otherwise the next time (a file that still
grows, a server that is down, a full disk) is marked `try_again` in the record's facts, and is tried at the next run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs.schema import Config, TalksConfig
from pipelines import inbox, media
from pipelines.downloads import DownloadFailed, fetch, folder_of
from pipelines.faults import NotNow, Unchanged, tried
from pipelines.inbox import Item
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json

STAGE = "ingest"
CODE_VERSION = "2"
STATES_LENGTH = ("mp4", "matroska", "avi")  # containers whose header says how long they are; others are estimates
MISSING_SECONDS = 0.5  # a file that holds this much less than its header says is truncated
LONGEST_GAP = 60.0  # seconds without a picture or sound; time stamps that jump further are wrong

def discover(config: Config, store: Store) -> list[str]:
    """Talk ids of the inbox, sorted: videos, URLs, and what cannot become a talk; creates the inbox at first use.

    Errors: ValueError where the table cannot be read.
    """
    return sorted(_items(config, store))


def describe(config: Config, store: Store) -> dict[str, tuple[Path, dict[str, str]]]:
    """Talk id → a file and a row: what decides how it is ingested, for those who watch the inbox.

    The file is the video, or, where there is none in the inbox, one that says what was asked for.
    """
    found = {}
    for talk, item in _items(config, store).items():
        row = item.row.model_dump(exclude_defaults=True) if item.row is not None else {}
        path = store.inbox / item.file
        if item.url or item.fault:
            path, asked = store.inside("requests", f"{talk}.json"), {**row, "fault": item.fault}
            if not path.is_file() or path.read_text().strip() != _json(asked):
                write_json(path, asked)
        found[talk] = (path, row)
    return found


def ingest_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Check one video and write `talks/<id>/talk.json`; the record is rejected where the video cannot be used.

    Errors: ValueError for a talk id that nothing in the inbox has; InputRejected where not even the record can be kept.
    """
    item = _items(config, store).get(talk_id)
    if item is None:
        raise ValueError(f"talk {talk_id!r}: no video in {store.inbox} has this id; `discover` lists them")

    def work() -> Record:
        return _refused(store, item) if item.fault else _ingest(config.talks, store, item)

    return tried(store, STAGE, talk_id, CODE_VERSION, work, lambda: _target(store, item).unlink(missing_ok=True))


def video_path(store: Store, talk: dict[str, Any]) -> Path:
    """The video that a talk.json speaks of. Errors: NotNow where it is gone or no longer the one ingested."""
    name = str(talk["file"])
    path = folder_of(store, talk["talk"]) / name if talk.get("url") else store.inbox / name
    if not path.is_file():
        place = "the downloads" if talk.get("url") else f"the inbox {store.inbox}"
        raise NotNow(f"{name!r}: ingested before, but no longer in {place}; ingest again")
    if hash_file(path) != talk["sha"]:
        raise NotNow(f"{name!r}: expected the file that was ingested, got one that has changed since; ingest again")
    return path


def _items(config: Config, store: Store) -> dict[str, Item]:
    inbox.create(config, store)
    return inbox.items(store)


def _target(store: Store, item: Item) -> Path:
    return store.talk(item.talk) / "talk.json"


def _refused(store: Store, item: Item) -> Record:
    def work() -> dict[str, Any]:
        _target(store, item).unlink(missing_ok=True)
        raise InputRejected(item.fault)

    return store.once(STAGE, item.talk, CODE_VERSION, hash_json(["fault", item.fault]), [], work)


def _ingest(config: TalksConfig, store: Store, item: Item) -> Record:
    source: dict[str, Any] = {}
    licence = item.row.licence if item.row is not None else ""
    if item.url:
        try:
            download = fetch(config, folder_of(store, item.talk), item.talk, item.url)
        except DownloadFailed as error:
            raise NotNow(f"{item.talk}: {error}") from error
        path, source, licence = download.path, {"url": item.url}, licence or download.licence
        name = path.name
    else:
        path, name = store.inbox / item.file, item.file
    unchanged = Unchanged(path)
    sha = hash_file(path)
    row = item.row.model_dump() if item.row is not None else {}
    who = {
        "speaker": row.get("speaker") or item.talk,
        "licence": licence or config.default_licence,
        "language": row.get("language") or "unknown",
        "split": row.get("split") or "",
    }
    target = _target(store, item)

    def work() -> dict[str, Any]:
        target.unlink(missing_ok=True)
        try:
            talk = {"talk": item.talk, "file": name, "sha": sha, **source, **who, **_check(path, config)}
        finally:  # a file that was written to while it was read may seem broken as well
            unchanged.check()
        write_json(target, talk)
        return talk

    unchanged.check()
    inputs = [name, sha, source, who, config.min_side, config.max_megapixels]
    return store.once(STAGE, item.talk, CODE_VERSION, hash_json(inputs), [target], work)


def _check(path: Path, config: TalksConfig) -> dict[str, Any]:
    """Facts of a usable video. Errors: InputRejected, one line, for any other file."""
    name = repr(path.name)
    try:
        info = media.probe(path)
        if not info.has_video:
            sound = f"only {info.audio_codec} audio; take the video itself"
            kind = "pictures that cannot be decoded; convert them to H.264" if info.video_tracks else sound
            raise InputRejected(f"{name}: expected a video, it holds {kind}")
        if not info.has_audio:
            kind = "an audio track that cannot be decoded" if info.audio_tracks else "no audio track"
            raise InputRejected(f"{name}: expected a video with sound, it has {kind}; take a copy with sound")
        if min(info.width, info.height) < config.min_side:
            got = f"{info.width} × {info.height}"
            raise InputRejected(f"{name}: expected pictures of at least {config.min_side} pixels a side, got {got}; take a larger copy")
        if info.width * info.height > config.max_megapixels * 1e6:
            got = f"{info.width} × {info.height}"
            raise InputRejected(f"{name}: expected pictures of at most {config.max_megapixels:g} megapixels, got {got}; scale them down")
        found = media.survey(path)
        heard = media.sounds(path)
    except media.MediaError as error:
        raise InputRejected(str(error)) from error
    stated = any(kind in info.container for kind in STATES_LENGTH)
    # FFmpeg believes the header of an avi only if its end is there; the count of frames it passes on
    seconds = max(info.seconds, float(info.frames / info.fps)) if "avi" in info.container else info.seconds
    if stated and seconds - found.video_seconds > max(MISSING_SECONDS, 0.02 * seconds):
        there = f"{found.video_seconds:.1f} of {seconds:.1f} s of video are there"
        raise InputRejected(f"{name}: truncated, {there}; copy the file again")
    if not heard:
        raise InputRejected(f"{name}: expected a video with sound, none of its {info.audio_codec} track decodes; take another copy")
    if found.longest_gap > LONGEST_GAP:
        jump = f"a jump of {found.longest_gap:.0f} s in their time"
        raise InputRejected(f"{name}: expected pictures and sound without gaps of {LONGEST_GAP:g} s, got {jump}; remux the file")
    return {
        "width": info.width,
        "height": info.height,
        "fps": str(info.fps),
        "variable_rate": found.variable_rate,
        "frames": found.pictures,
        "seconds": round(found.video_seconds, 3),
        "audio_seconds": round(found.audio_seconds, 3),
        "has_audio": info.has_audio,
        "sample_rate": info.sample_rate,
        "rotation": info.rotation,
        "video_codec": info.video_codec,
        "audio_codec": info.audio_codec,
        "pixel_format": info.pixel_format,
        "container": info.container,
        "video_tracks": info.video_tracks,
        "audio_tracks": info.audio_tracks,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str)
