"""What a clip's records keep from being done twice: another fit setting redoes fits only, another clip that clip only."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from configs.schema import Config, FitConfig
from pipelines import fit as fitting
from pipelines import media
from pipelines.contact_sheets import with_pictures, with_reasons
from pipelines.landmarks import FACE_POINTS, Landmarks
from pipelines.store import Record, Store

FRAMES, SIDE, FPS = 6, 96, Fraction(25)
POINTS = {
    11: (18, 0), 12: (-18, 0), 13: (24, 25), 14: (-24, 25), 15: (20, 40), 16: (-20, 40), 0: (0, -25), 7: (7, -27),
    8: (-7, -27), 23: (10, 46), 24: (-10, 46),
}  # fmt: skip


def seen() -> Landmarks:
    pose = np.full((FRAMES, 33, 3), 2.0 * SIDE)  # what is not listed lies outside the picture
    for i, (x, y) in POINTS.items():
        pose[:, i, :2] = SIDE / 2 + x, SIDE / 2 + y
    spread = np.random.default_rng(0).uniform(-6, 6, (FACE_POINTS, 3))
    face = np.tile(spread + [SIDE / 2, 25, 0], (FRAMES, 1, 1))
    hand = np.full((FRAMES, 21, 3), np.nan)
    arrays = [pose, np.ones((FRAMES, 33)), (pose - SIDE / 2) / 100, face, hand, hand]
    return Landmarks(*[a.astype(np.float32) for a in arrays], size=np.array([SIDE, SIDE]), fps=np.array([25, 1]))


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """(function that gives a configuration, store, calls): real records, a detector that needs no model, a short fit."""
    quick = {"iterations": [2, 2, 2, 2]} if "iterations" in FitConfig.model_fields else {}
    calls: list[str] = []
    fit = fitting.fit_landmarks

    def detect(pictures, rate):
        calls.append("landmarks")
        list(pictures)
        return seen()

    def fit_landmarks(config, fitted, found, name="clip"):
        calls.append("fit")
        return fit(config, fitted, found, name)

    monkeypatch.setattr(fitting.detector, "detect", detect)
    monkeypatch.setattr(fitting, "fit_landmarks", fit_landmarks)
    make = lambda **settings: Config.model_validate({"workspace": str(tmp_path), "fit": {**quick, **settings}})  # noqa: E731
    return make, Store(make()), calls


def write_clip(store: Store, name: str, grey: int) -> None:
    folder = store.clip("talk", name)
    folder.mkdir(parents=True, exist_ok=True)
    media.write_video(folder / "clip.mp4", np.full((FRAMES, SIDE, SIDE, 3), grey, np.uint8), FPS)
    (folder / "clip.json").write_text(json.dumps({"fps": "25", "frames": FRAMES, "start": 0.0, "end": 0.24}))


def test_only_what_changed_is_done_again(talk):
    make, store, calls = talk
    write_clip(store, "a", 50)
    write_clip(store, "b", 100)

    def work(config) -> list[str]:
        calls.clear()
        assert fitting.fit_talk(config, store, "talk").status == "ok"
        return sorted(calls)

    assert work(make()) == ["fit", "fit", "landmarks", "landmarks"]
    assert work(make()) == []
    assert work(make(window=400)) == ["fit", "fit"], "landmarks and clips stand"
    write_clip(store, "c", 150)
    assert work(make(window=400)) == ["fit", "landmarks"], "a new clip touches no other"
    write_clip(store, "b", 200)
    assert work(make(window=400)) == ["fit", "landmarks"]
    (store.clip("talk", "a") / "fit.npz").unlink()
    assert work(make(window=400)) == ["fit"]


def test_a_person_sees_what_came_out(talk):
    make, store, _ = talk
    write_clip(store, "a", 50)
    write_clip(store, "b", 100)
    for clip in store.clips("talk"):
        frames = json.loads((clip / "clip.json").read_text())["frames"]
        np.savez(clip / "mask.npz", box=np.tile(np.float32([10, 10, 60, 90]), (frames, 1)))
    record = with_pictures(make(), store, "talk", fitting.fit_talk(make(), store, "talk"))
    again = with_pictures(make(), store, "talk", fitting.fit_talk(make(), store, "talk"))
    assert again == record
    assert record.output_hash == fitting.fit_talk(make(), store, "talk").output_hash, "pictures do not change the data version"
    assert {"landmarks_fps", "fit_fps", "reprojection_percent", "confidence"} <= record.facts["metrics"].keys()
    assert record.facts["table"].count("\n") == 3, "a row a clip"
    from PIL import Image

    with Image.open(record.facts["preview"]) as sheet:
        assert sheet.width == 1280, "two clips side by side"
    with Image.open(record.facts["pictures"]["histograms"]) as histograms:
        assert histograms.width > histograms.height


def test_seconds_left_out_are_shown_by_reason():
    facts = {"clip_seconds": 6.0, "rejected": {"no speech": 1.0, "several people": 3.0}, "rejected_preview": "/tmp/none.png"}
    shown = with_reasons(Record("cut", "talk", "1", "", "ok", facts=facts)).facts
    assert [line.split(" | ")[0][2:] for line in shown["table"].splitlines()[2:]] == ["in clips", "several people", "no speech"]
    assert "| 6.00 | 60.0% |" in shown["table"]
    assert shown["pictures"] == {"rejected_stretches": "/tmp/none.png"}
