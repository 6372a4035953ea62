"""Cutting whole files: the clips' folders, and a recorded reason for everything that is not in one.

Generated talks show a green figure before grey and carry vowel-like sound that silero takes for speech; stand-ins for
the person detectors know the green. Tests of the real detectors use real recordings, or pictures in which nobody is.
"""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.signal import lfilter

from configs.schema import Config
from pipelines import clips, cut, inbox, ingest, media
from pipelines.person import MediapipeMasker, Sighting, smooth_masks
from pipelines.store import Store

RATE, SIZE = Fraction(25), 96
REALDATA = Path(__file__).resolve().parents[4] / "shared" / "realdata"


class GreenFinder:
    def __call__(self, picture: np.ndarray) -> Sighting:
        rows, columns = np.nonzero(green(picture))
        if len(rows) < 50:
            return Sighting(None)
        return Sighting((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), 1, 1.0)

    def close(self) -> None: ...


class GreenMasker:
    name = "green"

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return green(picture).astype(np.float32)

    def follow(self, pictures):
        return map(self, pictures)

    def close(self) -> None: ...


def green(picture: np.ndarray) -> np.ndarray:
    picture = picture.astype(int)
    return picture[..., 1] > picture[..., 0] + 60


def figure(time: float, height: int = 96, width: int = 128, shade: int = 120, there: bool = True) -> np.ndarray:
    """Someone who sways and moves their lips before a wall with a little texture."""
    rng = np.random.default_rng(shade)
    image = (shade + rng.integers(-8, 8, (height, width, 1))).repeat(3, 2).astype(np.uint8)
    if there:
        middle = width // 2 + round(4 * np.sin(2 * time))
        image[height // 4 :, middle - width // 6 : middle + width // 6] = (30, 190, 40)
        lips = 175 + round(15 * np.sin(9 * time))
        image[height // 3 : height // 3 + 16, middle - 8 : middle + 8, 1] = lips
    return image


def speech(seconds: float, seed: int = 3) -> np.ndarray:
    """Glottal pulses through the formants of vowels, four syllables a second. [samples] at 16 kHz."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16000)
    time = np.arange(count) / 16000
    syllable = (time * 4).astype(int)
    pitch = 120 + 20 * np.sin(4.4 * time) + 8 * rng.standard_normal(syllable.max() + 1)[syllable]
    source = np.diff(np.floor(np.cumsum(pitch) / 16000), prepend=0) + 0.02 * rng.standard_normal(count)
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]
    sound = np.zeros(count)
    for index in range(syllable.max() + 1):
        part = source[syllable == index]
        for formant, width in zip(vowels[rng.integers(4)], (80, 100, 150), strict=True):
            radius = np.exp(-np.pi * width / 16000)
            part = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant / 16000), radius**2], part)
        shape = np.sin(np.pi * np.linspace(0, 1, len(part))) ** 0.7
        sound[syllable == index] = part / (np.abs(part).max() + 1e-9) * shape
    return (sound * 0.5).astype(np.float32)


@pytest.fixture
def config(tmp_path) -> Config:
    cutting = {"size": SIZE, "max_seconds": 5.0}
    return Config.model_validate({"workspace": str(tmp_path), "talks": {"include_samples": False}, "cut": cutting})


@pytest.fixture
def store(config) -> Store:
    store = Store(config)
    store.inbox.mkdir(parents=True)
    return store


@pytest.fixture
def green_person(monkeypatch):
    monkeypatch.setattr(cut, "MediapipeFinder", GreenFinder)
    monkeypatch.setattr(cut, "MediapipeMasker", GreenMasker)


def cut_file(config: Config, store: Store, name: str):
    records = {t: ingest.ingest_talk(config, store, t) for t in ingest.discover(config, store)}
    talk = next(t for t, record in records.items() if record.facts.get("file") == name)
    return talk, cut.cut_talk(config, store, talk)


def covered(store: Store, talk: str) -> list[tuple[float, float]]:
    """Clips and rejected stretches in order."""
    about = [json.loads((c / "clip.json").read_text()) for c in store.clips(talk)]
    rejected = json.loads((store.talk(talk) / "rejected.json").read_text())
    assert all(r["reason"] for r in rejected)
    return sorted((round(s["start"], 4), round(s["end"], 4)) for s in [*about, *rejected])


def assert_covers(stretches: list[tuple[float, float]], seconds: float) -> None:
    assert stretches[0][0] == 0
    assert stretches[-1][1] == pytest.approx(seconds, abs=0.05)
    for (_, end), (start, _) in pairwise(stretches):
        assert end == start


def test_a_talk_becomes_clips_in_sync_and_nothing_is_lost(config, store, green_person):
    # two shots of 4 s and 5 s; the person is gone for the last two seconds of 9; a flash with a bang at 1.0 s
    name = "she said \"it's me\".mp4"
    pictures = [figure(i / 25, shade=20 if i < 100 else 230, there=i < 175) for i in range(225)]
    pictures[25][:20] = 200
    sound = speech(9.0)
    sound[16000:16320] = 1.0
    media.write_video(store.inbox / name, pictures, RATE, sound)
    talk, record = cut_file(config, store, name)
    assert record.status == "ok", record.reason
    assert record.facts["clips"] == 2
    assert_covers(covered(store, talk), 9.0)
    starts = []
    for folder in store.clips(talk):
        about = json.loads((folder / "clip.json").read_text())
        starts.append(about["start"])
        info = media.probe(folder / "clip.mp4")
        assert (info.width, info.height, info.fps, info.frames) == (SIZE, SIZE, RATE, about["frames"])
        assert about["fps"] == "25"
        assert about["frames"] == round((about["end"] - about["start"]) * 25)
        wav = media.read_audio(folder / "audio.wav")
        assert len(wav) == about["frames"] * 640
        assert len(media.read_audio(folder / "clip.mp4")) == len(wav)
        masks = clips.read_masks(folder / "mask.npz")
        assert masks.shape == (about["frames"], SIZE, SIZE)
        shown = np.stack([green(p) for p in media.frames(folder / "clip.mp4")])
        assert (masks & shown).sum() / (masks | shown).sum() > 0.95
    assert starts == [0.0, 4.0]
    first = store.clips(talk)[0]
    flash = [p[:10, :10].mean() for p in media.frames(first / "clip.mp4")]
    assert int(np.argmax(flash)) == 25
    loud = np.abs(media.read_audio(first / "audio.wav")) > 0.9
    assert np.argmax(loud) / 16000 == pytest.approx(1.0, abs=0.005)
    assert Path(record.facts["preview"]).is_file()


def test_a_second_run_does_nothing_and_a_lost_file_is_made_again(config, store, green_person):
    media.write_video(store.inbox / "a.mp4", [figure(i / 25) for i in range(75)], RATE, speech(3.0))
    talk, record = cut_file(config, store, "a.mp4")
    assert cut.cut_talk(config, store, talk) == record
    folder = store.clips(talk)[0]
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / "fit.npz").write_bytes(b"from a later stage")
    (folder / "mask.npz").unlink()
    assert cut.cut_talk(config, store, talk).output_hash == record.output_hash
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    # other settings, same clip: what lies beside it stays
    (folder / "fit.npz").write_bytes(b"from a later stage")
    other = config.model_copy(update={"cut": config.cut.model_copy(update={"min_seconds": 1.5})})
    again = cut.cut_talk(other, store, talk)
    assert (again.input_hash != record.input_hash, again.output_hash) == (True, record.output_hash)
    assert (folder / "fit.npz").is_file()


def test_clips_that_are_no_more_go_away(config, store, green_person):
    media.write_video(store.inbox / "a.mp4", [figure(i / 25) for i in range(75)], RATE, speech(3.0))
    talk, _ = cut_file(config, store, "a.mp4")
    assert len(store.clips(talk)) == 1
    (store.inbox / "a.mp4").write_bytes(b"")
    assert ingest.ingest_talk(config, store, talk).status == "rejected"
    refused = cut.cut_talk(config, store, talk)
    assert refused.status == "rejected"
    assert "0 bytes" in refused.reason
    assert store.clips(talk) == []


@pytest.mark.parametrize(("sound", "reason"), [("silence", "no speech"), ("noise", "no speech")])
def test_without_speech_there_is_no_clip(config, store, green_person, sound, reason):
    audio = np.zeros(48000, np.float32)
    if sound == "noise":
        audio = 0.1 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
    media.write_video(store.inbox / "a.mp4", [figure(i / 25) for i in range(75)], RATE, audio)
    talk, record = cut_file(config, store, "a.mp4")
    assert record.status == "rejected"
    assert f"{reason} 3 s" in record.reason
    assert "\n" not in record.reason
    listed = json.loads((store.talk(talk) / "rejected.json").read_text())
    assert listed == [{"start": 0.0, "end": 3.0, "reason": reason, "picture": 0}]
    assert (store.talk(talk) / "rejected_preview.png").is_file()


def test_without_a_person_there_is_no_clip(config, store):
    """The real detectors, before which nobody stands."""
    pictures = [figure(i / 25, 192, 256, there=False) for i in range(75)]
    media.write_video(store.inbox / "a.mp4", pictures, RATE, speech(3.0))
    talk, record = cut_file(config, store, "a.mp4")
    assert record.status == "rejected"
    assert "static picture 3 s" in record.reason
    assert_covers(covered(store, talk), 3.0)


def test_a_talk_must_be_ingested_first(config, store):
    with pytest.raises(ValueError, match="run ingest first"):
        cut.cut_talk(config, store, "nobody")


def test_a_person_that_cannot_be_masked_is_rejected(config, store, green_person, monkeypatch):
    monkeypatch.setattr(GreenMasker, "__call__", lambda self, picture: np.zeros(picture.shape[:2], np.float32))
    media.write_video(store.inbox / "a.mp4", [figure(i / 25) for i in range(75)], RATE, speech(3.0))
    talk, record = cut_file(config, store, "a.mp4")
    assert record.status == "rejected"
    assert clips.NO_MASK in record.reason
    assert_covers(covered(store, talk), 3.0)


def test_crops_over_the_edge_repeat_the_edge():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, 2) * 20
    crop = clips.crop_picture(image, clips.Crop(-1, -2, 5), 5)
    assert crop[..., 0].tolist() == [[0, 0, 20, 40, 60]] * 3 + [[80, 80, 100, 120, 140], [160, 160, 180, 200, 220]]


def test_masks_are_smoothed_over_time_and_lose_specks():
    steady = np.zeros((20, 20), np.float32)
    steady[5:15, 5:15] = 0.9
    speck = steady.copy()
    speck[0, 0] = 1.0
    flicker = np.zeros_like(steady)
    masks = list(smooth_masks([steady, steady, flicker, steady, speck, speck]))
    assert len(masks) == 6
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, steady > 0.5 if index != 2 else np.zeros_like(mask))
    assert list(smooth_masks([])) == []
    np.testing.assert_array_equal(next(smooth_masks([steady])), steady > 0.5)


def test_boxes_of_masks_are_steady_and_bridge_gaps():
    boxes = np.tile(np.array([10, 20, 30, 40], np.float32), (40, 1))
    boxes[7], boxes[20:22] = (0, 0, 60, 60), np.nan
    np.testing.assert_allclose(clips.smooth_boxes(boxes), np.tile([[10, 20, 30, 40]], (40, 1)))


def test_the_masker_follows_someone_and_finds_nobody_on_a_wall():
    talk = Path(inbox.SAMPLES) / "speaker15_radio.mp4"
    pictures = [p[::2, ::2].copy() for p in media.frames(talk, RATE, 2.0, 2.32)]
    masker = MediapipeMasker()
    together = list(masker.follow(pictures))
    assert [p.shape for p in together] == [(256, 256)] * 8
    assert all(0.2 < (p > 0.5).mean() < 0.6 for p in together)
    alone = masker(pictures[0])
    assert ((alone > 0.5) != (together[0] > 0.5)).mean() < 0.02
    again = list(masker.follow(pictures))
    assert all((a == b).all() for a, b in zip(together, again, strict=True))
    assert (masker(np.full((120, 90, 3), 128, np.uint8)) > 0.5).mean() < 0.1
    assert list(masker.follow([])) == []
    masker.close()


def test_every_rejected_stretch_has_a_picture(config, store, green_person):
    pictures = [figure(i / 25, there=i < 100, shade=60) for i in range(200)]
    media.write_video(store.inbox / "a.mp4", pictures, RATE, np.concatenate([speech(6.0), np.zeros(32000, np.float32)]))
    talk, record = cut_file(config, store, "a.mp4")
    assert record.status == "ok", record.reason
    rows = json.loads((store.talk(talk) / "rejected.json").read_text())
    assert [r["picture"] for r in rows] == list(range(len(rows)))
    sheet = cv2.imread(record.facts["rejected_preview"])
    assert sheet.shape[1] == len(rows) * 160
    for number, row in enumerate(rows):  # the wall's grain, not the grey of a missing picture
        part = sheet[:100, number * 160 : (number + 1) * 160]
        assert 40 < np.median(part) < 80, row
        assert part.std() > 1, row


def test_silero_hears_speech_and_leaves_threads_alone():
    import torch

    threads = torch.get_num_threads()
    silence = np.zeros(24000, np.float32)
    found = cut.find_speech(np.concatenate([silence, speech(2.5), silence]))
    assert found[0][0] == pytest.approx(1.5, abs=0.4)
    assert found[-1][1] == pytest.approx(4.0, abs=0.3)
    assert torch.get_num_threads() == threads


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason="no real recordings beside the project")
@pytest.mark.parametrize("name", ["talk_grid_bbaf2n.mpg", "talk_grid_sbwe5n.mpg"])
def test_real_talks_give_a_clip(config, store, name):
    (store.inbox / name).write_bytes((REALDATA / name).read_bytes())
    talk, record = cut_file(config, store, name)
    assert record.status == "ok", record.reason
    assert record.facts["clips"] == 1
    assert_covers(covered(store, talk), 3.0)
    masks = clips.read_masks(store.clips(talk)[0] / "mask.npz")
    assert 0.25 < masks.mean() < 0.6  # head and shoulders
    assert masks[:, SIZE // 2, SIZE // 2].all()
    assert not masks[:, :8, :8].any()


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason="no real recordings beside the project")
def test_the_masker_gives_probabilities_of_the_pictures_size():
    image = next(media.frames(REALDATA / "talk_grid_bbaf2n.mpg"))
    probability = MediapipeMasker()(image)
    assert probability.shape == image.shape[:2]
    assert 0 <= probability.min() <= probability.max() <= 1
