"""`speech-avatar fit`: any video → SMPL-X of every clip in it, by the same functions as the graph, without Dagster.

Writes under `out`, for each clip of a talk, `<talk>/<clip>/` with `fit.npz` (the project's fit file), `emage.npz`
(EMAGE and BEAT2 read it), `lhm/` (one JSON a frame) and `overlay.mp4`; for the talk `summary.json`, and what was left
out with a picture of every stretch (`rejected.json`, `rejected_preview.png`). Records and intermediate files lie in
`out/.work`, so that a second call does only what is new.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from configs.schema import Config
from pipelines import fit, inbox, ingest
from pipelines.body import body_file
from pipelines.cut import cut_talk
from pipelines.fit_quality import clip_quality, fitted_clips, percent, speeds
from pipelines.formats import load_fit, save_emage, save_lhm
from pipelines.formats_hands import HandSpace
from pipelines.overlay import write_overlay
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json, write_json, writing

STAGE = "fit_outputs"
CODE_VERSION = "1"
WORK = ".work"
REJECTED = ("rejected.json", "rejected_preview.png")
WRITTEN = ("fit.npz", "emage.npz", "lhm", "overlay.mp4")


@dataclass(frozen=True)
class Summary:
    """What became of one video; `facts` is the content of summary.json."""

    folder: Path
    facts: dict[str, Any]


def fit_video(config: Config, video: Path, out: Path, tell: Callable[[str], None] = lambda line: None) -> Summary:
    """Cut and fit one video; `tell` is given a line as each stage ends.

    The workspace and the inbox of `config` are not used, all else is. Errors: InputRejected, one line, where the video
    cannot be used or nobody in it can be fitted; OSError where `out` cannot be written.
    """
    if not video.is_file():
        what = "a folder" if video.is_dir() else "nothing there"
        raise InputRejected(f"{str(video)!r}: expected a video file, got {what}")
    config = own_workspace(config, out)
    store = Store(config)
    _no_other_video(store.root.parent, video)
    talk = adopt(config, store, video)
    folder = store.root.parent / talk
    facts = _usable(ingest.ingest_talk(config, store, talk), video).facts
    tell(f"{video.name}: {facts['seconds']:.1f} s, {facts['width']}x{facts['height']}, {float(Fraction(facts['fps'])):.4g} frames/s")
    cut = cut_talk(config, store, talk)
    _show_rejected(store.talk(talk), folder)
    _usable(cut, video)
    tell(f"clips: {cut.facts['clips']}, {cut.facts['clip_seconds']:.1f} s; left out: {cut.facts['rejected_seconds']:.1f} s")
    fits = _usable(fit.fit_talk(config, store, talk), video)
    tell(f"fitted: {fits.facts['clips']}, {fits.facts['frames']} frames")
    fitted = cache(lambda: fit.load_fit_body(config))
    records = {clip.name: _write_clip(config, store, talk, clip, folder / clip.name, fitted) for clip in fitted_clips(store, talk)}
    for stale in folder.glob(f"{talk}_*"):
        if stale.name not in records:
            shutil.rmtree(stale)
    summary = _summary(config, store, talk, video, cut, records)
    write_json(folder / "summary.json", summary)
    return Summary(folder, summary)


def own_workspace(config: Config, out: Path) -> Config:
    """`config` with its workspace in `out` and an empty inbox there."""
    talks = config.talks.model_copy(update={"inbox": "inbox", "include_samples": False})
    return config.model_copy(update={"workspace": str(work_folder(out)), "talks": talks})


def work_folder(out: Path) -> Path:
    """Where records and intermediate files lie. Errors: ValueError where `out` is a file."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{str(out)!r}: expected a folder to write to, got a file")
    return out.expanduser().resolve() / WORK


def log_path(out: Path) -> Path:
    """What the libraries have to say."""
    return work_folder(out) / "log.txt"


def adopt(config: Config, store: Store, video: Path) -> str:
    """Put a video into the inbox, as a hard link where the file system can, and return its talk id."""
    name = _inbox_name(video)
    store.inbox.mkdir(parents=True, exist_ok=True)
    target, source = store.inbox / name, video.resolve()
    if not _same_file(target, source):
        with writing(target) as temporary:
            try:
                os.link(source, temporary)
            except OSError:  # another file system, or a file of another user
                shutil.copy2(source, temporary)
    for talk, (path, _) in ingest.describe(config, store).items():
        if path.name == name:
            return talk
    raise InputRejected(f"{str(video)!r}: expected a video file, got something that the inbox does not take")


def _write_clip(config: Config, store: Store, talk: str, clip: Path, target: Path, fitted: Callable[[], fit.FitBody]) -> Record:
    """Export one fitted clip to `target`, unless the same fit was exported there before."""
    unit = f"{talk}/{clip.name}"

    def work() -> dict[str, Any]:
        found, body, quality = load_fit(clip / "fit.npz"), fitted().body, clip_quality(fitted(), clip)
        target.mkdir(parents=True, exist_ok=True)
        save_emage(target / "emage.npz", found.params, found.fps, HandSpace.load(body_file(config)))
        save_lhm(target / "lhm", body, found.params, found.camera)
        frames = write_overlay(target / "overlay.mp4", clip, found, body)
        with writing(target / "fit.npz") as temporary:
            shutil.copyfile(clip / "fit.npz", temporary)
        return {"frames": frames, "reprojection_percent": percent(quality.median_reprojection())}

    if not all((target / name).exists() for name in WRITTEN):
        store.record_path(STAGE, unit).unlink(missing_ok=True)
    inputs = [hash_file(clip / name) for name in ("fit.npz", "clip.mp4")]
    return store.once(STAGE, unit, CODE_VERSION, hash_json([str(target), inputs]), [], work)


def _show_rejected(talk: Path, folder: Path) -> None:
    """Copy what the cut left out, and why, to where the results lie."""
    for name in REJECTED:
        (folder / name).unlink(missing_ok=True)
        if (talk / name).is_file():
            folder.mkdir(exist_ok=True)
            with writing(folder / name) as temporary:
                shutil.copyfile(talk / name, temporary)


def _summary(config: Config, store: Store, talk: str, video: Path, cut: Record, written: dict[str, Record]) -> dict[str, Any]:
    clips = {}
    for name, record in written.items():
        about = json.loads((store.clip(talk, name) / "clip.json").read_text())
        fitted = store.read_record(fit.STAGE, f"{talk}/{name}")
        assert fitted is not None, f"the fit of {name} has no record"
        clips[name] = {
            "start": about["start"], "end": about["end"], **record.facts,
            **{key: fitted.facts.get(key) for key in ("confidence", "body_mm", "face_mm")},
        }  # fmt: skip
    lost = {c.name: r.reason for c in store.clips(talk) if (r := store.read_record(fit.STAGE, f"{talk}/{c.name}")) and r.reason}
    return {
        "video": str(video.absolute()), "sha": json.loads((store.talk(talk) / "talk.json").read_text())["sha"],
        "talk": talk, "clips": clips, "not_fitted": lost,
        "clip_seconds": cut.facts["clip_seconds"], "rejected_seconds": cut.facts["rejected"],
        "frames_per_second": {**speeds(store, talk), **_overlay_speed(written)}, "fit": config.fit.model_dump(mode="json"),
    }  # fmt: skip


def _overlay_speed(written: dict[str, Record]) -> dict[str, float]:
    seconds = sum(record.seconds for record in written.values())
    return {"overlay": round(sum(r.facts["frames"] for r in written.values()) / seconds, 2)} if seconds else {}


def _usable(record: Record, video: Path) -> Record:
    """Errors: InputRejected with the record's reason, which calls the video by its own name."""
    if record.status == "rejected":
        raise InputRejected(record.reason.replace(repr(_inbox_name(video)), repr(video.name)))
    return record


def _inbox_name(video: Path) -> str:
    """What is in a file is found by looking into it, whatever its name; the inbox takes names of videos."""
    name = video.name.lstrip(".") or "video"
    return name if Path(name).suffix.lower() in inbox.SUFFIXES else f"{name}.mp4"


def _same_file(target: Path, source: Path) -> bool:
    """Whether `target` is a link to `source` or an unchanged copy of it."""
    if not target.is_file():
        return False
    here, there = target.stat(), source.stat()
    return target.samefile(source) or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)


def _no_other_video(out: Path, video: Path) -> None:
    """Errors: InputRejected where `out` holds the results of another video that has the same name."""
    for path in out.glob("*/summary.json"):
        before = json.loads(path.read_text())
        other = Path(before["video"])
        if other.name == video.name and other != video.absolute() and before["sha"] != hash_file(video):
            raise InputRejected(f"{str(path.parent)!r} holds the results of {str(other)!r}; choose another --out")
