"""Cutting when something goes wrong that may be right the next time: it is told in one line, and then tried again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Config
from pipelines import clips, cut, ingest, media
from pipelines.cut_plan import Evidence
from pipelines.person import Sighting
from pipelines.store import Store

RATE, SECONDS = Fraction(25), 5.0
ROWS = "file,speaker,licence,language,split\n"


class Everybody:
    """Takes all of every picture for a person: what is tested here is what happens to files."""

    name = "everybody"

    def follow(self, pictures):
        return (np.ones(p.shape[:2], np.float32) for p in pictures)

    def close(self) -> None: ...


@pytest.fixture
def config(tmp_path) -> Config:
    cutting = {"size": 64, "max_seconds": 2.6}
    return Config.model_validate({"workspace": str(tmp_path / "work"), "talks": {"include_samples": False}, "cut": cutting})


@pytest.fixture
def store(config, monkeypatch) -> Store:
    """An ingested talk of two clips."""
    monkeypatch.setattr(cut, "MediapipeFinder", Everybody)
    monkeypatch.setattr(cut, "MediapipeMasker", Everybody)
    monkeypatch.setattr(cut, "find_speech", lambda audio: [(0.0, SECONDS)])
    monkeypatch.setattr(cut, "look", seen)
    store = Store(config)
    store.inbox.mkdir(parents=True)
    write(store.inbox / "a.mp4")
    assert ingest.ingest_talk(config, store, "a").status == "ok"
    return store


def seen(video, speech, config, finder, thumbnails=None) -> Evidence:
    frames = sum(1 for _ in media.frames(video, config.fps))
    return Evidence(frames, 80, 64, [], speech, {f: Sighting((10.0, 4.0, 70.0, 64.0), 1, 1.0) for f in range(5, frames, 10)})


def write(path: Path, seed: int = 0) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (round(SECONDS * 25), 8, 10, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    media.write_video(path, noise, RATE, np.zeros(round(SECONDS * 16000), np.float32))


def content(store: Store) -> dict[str, bytes]:
    """All files of the talk."""
    folder = store.talk("a")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def overwrite(video: Path) -> None:
    write(video, seed=1)


def keep(video: Path) -> None: ...


@dataclass(frozen=True)
class Fault:
    """What happens to the video, before which call of the cut's, and what is said of it."""

    name: str
    module: object
    function: str
    call: int  # the how-manyeth
    happens: Callable[[Path], None]
    words: str
    raises: bool = False  # a full disk instead of the call


FAULTS = [
    Fault("gone before", cut.ingest, "video_path", 1, Path.unlink, "no longer in the inbox"),
    Fault("another before", cut.ingest, "video_path", 1, overwrite, "got one that has changed since"),
    Fault("gone while heard", cut, "find_speech", 1, Path.unlink, "a.mp4"),
    Fault("another while heard", cut, "find_speech", 1, overwrite, "changed while it was read"),
    Fault("cut short while looked at", cut, "plan_clips", 1, lambda p: os.truncate(p, 4000), "changed while it was read"),
    Fault("another after the first clip", cut, "write_clip", 2, overwrite, "changed while it was read"),
    Fault("empty after the first clip", cut, "write_clip", 2, lambda p: os.truncate(p, 0), "changed while it was read"),
    Fault("another after all clips", cut, "write_rejected", 1, overwrite, "changed while it was read"),
    Fault("full at the second clip", media, "write_video", 2, keep, "expected room to write", raises=True),
    Fault("full at the masks", clips.np, "savez_compressed", 1, keep, "expected room to write", raises=True),
    Fault("full at the list", cut, "_list_clips", 1, keep, "expected room to write", raises=True),
    Fault("full at the sheet", cut, "write_rejected", 1, keep, "expected room to write", raises=True),
    Fault("unreadable", cut.media, "read_audio", 1, keep, "expected files that can be read and written, got Input/output", raises=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_that_may_pass_is_told_and_tried_again(config, store, monkeypatch, fault):
    video, whole = store.inbox / "a.mp4", (store.inbox / "a.mp4").read_bytes()
    undisturbed, calls = getattr(fault.module, fault.function), []

    def disturbed(*args, **kwargs):
        calls.append(args)
        if len(calls) == fault.call:
            fault.happens(video)
            if fault.raises:
                code = errno.EIO if "Input/output" in fault.words else errno.ENOSPC
                raise OSError(code, os.strerror(code))
        return undisturbed(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fault.module, fault.function, disturbed)
        record = cut.cut_talk(config, store, "a")
    assert len(calls) >= fault.call
    assert (record.status, record.facts) == ("rejected", {"try_again": True})
    assert store.read_record("cut", "a") == record
    assert fault.words in record.reason
    assert "\n" not in record.reason
    assert not list(store.talk("a").glob(".*"))
    assert not (store.talk("a") / "clips.json").exists()
    if not fault.raises:
        assert store.clips("a") == []  # of a file that is no more, or of two
    video.write_bytes(whole)
    again = cut.cut_talk(config, store, "a")
    assert again.status == "ok", again.reason
    assert again.facts["clips"] == 2
    assert cut.cut_talk(config, store, "a") == again


def test_what_a_killed_run_left_is_removed(config, store):
    left = store.talk("a") / ".a_00000000"
    left.mkdir()
    (left / "clip.mp4").write_bytes(b"half")
    (store.talk("a") / ".clips.12345678.json").write_bytes(b"{")
    assert cut.cut_talk(config, store, "a").status == "ok"
    assert not list(store.talk("a").glob(".*"))


def test_clips_outlive_a_fault_of_ingest_that_may_pass(config, store, monkeypatch):
    done = cut.cut_talk(config, store, "a")
    before = content(store)
    (store.inbox / "a.mp4").touch()
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "hash_file", full_disk)
        assert ingest.ingest_talk(config, store, "a").facts == {"try_again": True}
    assert cut.cut_talk(config, store, "a").facts == {"try_again": True}
    assert store.talks() == []  # nothing is made of it until it is whole again
    assert len(store.clips("a")) == 2
    assert ingest.ingest_talk(config, store, "a").status == "ok"
    assert cut.cut_talk(config, store, "a").output_hash == done.output_hash
    assert content(store) == before


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("a.mp4,Ada,CC0,en,test", {"speaker": "Ada", "licence": "CC0", "language": "en", "split": "test"}),
        ("a.mp4,Grace,,,", {"speaker": "Grace", "licence": "unknown", "language": "unknown"}),
    ],
)
def test_another_name_for_the_speaker_cuts_nothing_anew(config, store, monkeypatch, row, shown):
    done = cut.cut_talk(config, store, "a")
    fit = store.clips("a")[0] / "fit.npz"
    fit.write_bytes(b"from a later stage")
    before = content(store)
    (store.inbox / "talks.csv").write_text(ROWS + row + "\n")
    ingest.ingest_talk(config, store, "a")
    monkeypatch.setattr(cut, "_cut", None)  # would fail
    again = cut.cut_talk(config, store, "a")
    assert again.output_hash != done.output_hash
    assert again.facts == done.facts
    after = content(store)
    assert {name for name in before if before[name] != after[name]} == {
        "talk.json", "clips.json", *(name for name in before if name.endswith("clip.json"))
    }  # fmt: skip
    about = json.loads((store.clips("a")[0] / "clip.json").read_text())
    assert {k: v for k, v in about.items() if k in clips.LABELS} == shown
    assert cut.cut_talk(config, store, "a") == again


def test_pictures_that_do_not_decode_twice_alike_are_rejected_with_a_reason(config, store, monkeypatch):
    frames = media.frames

    def late(path, fps=None, start=0.0, end=None):
        """A damaged file that cannot be sought in: nothing comes of the second half."""
        return iter(()) if start > 2 else frames(path, fps, start, end)

    monkeypatch.setattr(media, "frames", late)
    record = cut.cut_talk(config, store, "a")
    assert record.status == "ok"
    assert record.facts["rejected"] == {clips.UNSTEADY: 2.52}
    assert record.facts["clip_seconds"] + 2.52 == SECONDS


def test_a_relabelling_that_was_killed_goes_on_without_cutting(config, store, monkeypatch):
    done = cut.cut_talk(config, store, "a")
    (store.inbox / "talks.csv").write_text(ROWS + "a.mp4,Ada,,,\n")
    ingest.ingest_talk(config, store, "a")
    relabel = cut.relabel

    def killed(folder, labels):
        relabel(folder, labels)
        raise KeyboardInterrupt

    monkeypatch.setattr(cut, "relabel", killed)
    with pytest.raises(KeyboardInterrupt):
        cut.cut_talk(config, store, "a")
    monkeypatch.setattr(cut, "relabel", relabel)
    monkeypatch.setattr(cut, "_cut", None)  # would fail
    assert cut.cut_talk(config, store, "a").facts == done.facts
    assert {json.loads((clip / "clip.json").read_text())["speaker"] for clip in store.clips("a")} == {"Ada"}


def test_clips_of_a_video_that_can_no_longer_be_read_go_away(config, store, monkeypatch):
    cut.cut_talk(config, store, "a")
    write(store.inbox / "a.mp4", seed=1)
    ingest.ingest_talk(config, store, "a")

    def broken(path):
        raise media.MediaError("'a.mp4': no sound of its audio track can be decoded")

    monkeypatch.setattr(media, "read_audio", broken)
    record = cut.cut_talk(config, store, "a")
    assert (record.status, record.facts) == ("rejected", {})
    assert store.clips("a") == []
