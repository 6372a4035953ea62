"""The inbox: what becomes a talk, what is refused, and that every refusal is one clear line on record."""

from __future__ import annotations

import csv
import json
from fractions import Fraction

import numpy as np
import pytest

from configs.schema import Config
from pipelines import inbox, ingest, media
from pipelines.store import Store

RATE = Fraction(25)


@pytest.fixture
def config(tmp_path) -> Config:
    return Config.model_validate({"workspace": str(tmp_path / "workspace"), "talks": {"include_samples": False}})


@pytest.fixture
def store(config) -> Store:
    store = Store(config)
    store.inbox.mkdir(parents=True)
    return store


def write_talk(path, seconds: float = 2.0, sound: bool = True) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (round(seconds * 25), 64, 96, 3), np.uint8)
    audio = rng.standard_normal(round(seconds * 16000)).astype(np.float32) * 0.1 if sound else None
    media.write_video(path, pictures, RATE, audio)


def test_a_talk_is_described(config, store):
    write_talk(store.inbox / "a.mp4")
    (store.inbox / "talks.csv").write_text("file,speaker,licence,language\na.mp4,Ada,CC0,en\n")
    assert ingest.discover(config, store) == ["a"]
    record = ingest.ingest_talk(config, store, "a")
    assert record.status == "ok"
    talk = json.loads((store.talk("a") / "talk.json").read_text())
    expected = {"file": "a.mp4", "speaker": "Ada", "licence": "CC0", "language": "en", "width": 96, "height": 64}
    assert expected.items() <= talk.items()
    assert (talk["fps"], talk["frames"], talk["has_audio"]) == ("25", 50, True)
    assert talk["seconds"] == pytest.approx(2.0)
    assert record.facts == talk
    assert store.talks() == ["a"]


def test_a_second_run_does_nothing_until_the_file_or_its_row_changes(config, store):
    write_talk(store.inbox / "a.mp4")
    first = ingest.ingest_talk(config, store, "a")
    assert ingest.ingest_talk(config, store, "a") == first
    (store.inbox / "talks.csv").write_text("file,speaker\na.mp4,Ada\n")
    second = ingest.ingest_talk(config, store, "a")
    assert second.facts["speaker"] == "Ada"
    assert second.output_hash != first.output_hash
    write_talk(store.inbox / "a.mp4", seconds=3.0)
    assert ingest.ingest_talk(config, store, "a").facts["frames"] == 75


@pytest.mark.parametrize("name", ["talks.csv", "talks.jsonl"])
def test_both_kinds_of_table_say_the_same(config, store, name):
    (store.inbox / "day 1").mkdir()
    for file in ("day 1/a.dat", "b.mp4", "c.mp4"):
        write_talk(store.inbox / file, 1.0)
    rows = [
        {"file": "day 1/a.dat", "speaker": "Ada, Countess", "licence": "CC0", "language": "en", "split": "test"},
        {"file": "./b.mp4", "split": "train"},
        {"url": "https://example.org/watch?v=1&t=2"},
    ]
    with (store.inbox / name).open("w", encoding="utf-8-sig") as stream:
        if name.endswith(".csv"):
            writer = csv.DictWriter(stream, ["split", "language", "licence", "speaker", "file", "url"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    first, second, third, web = sorted(ingest.discover(config, store), key=lambda t: (t.startswith("watch"), t))
    facts = [ingest.ingest_talk(config, store, talk).facts for talk in (first, second, third)]
    assert [f["speaker"] for f in facts] == ["b", "c", "Ada, Countess"]
    assert [f["split"] for f in facts] == ["train", "", "test"]
    assert (facts[2]["file"], facts[2]["licence"], facts[2]["language"]) == ("day 1/a.dat", "CC0", "en")
    assert web.startswith("watch_v_1_t_2-")


def test_what_is_described_changes_with_its_own_row_alone(config, store):
    write_talk(store.inbox / "a.mp4", 1.0)

    def seen(*rows: str) -> dict:
        (store.inbox / "talks.csv").write_text("\n".join(["file,url,speaker", *rows]))
        return {talk: (path.read_bytes(), row) for talk, (path, row) in ingest.describe(config, store).items()}

    before = seen(",http://127.0.0.1:9/x.mp4,Ada", "gone.mp4,,")
    assert len(before) == 3  # the file that no row names, the URL, the row that names no file
    after = seen(",http://127.0.0.1:9/x.mp4,Ada", "gone.mp4,,", "a.mp4,,Grace")
    changed = [talk for talk in before if before[talk] != after[talk]]
    assert changed == ["a"]
    last = seen(",http://127.0.0.1:9/x.mp4,Grace", "gone.mp4,,", "a.mp4,,Grace")
    assert [talk.partition("-")[0] for talk in after if after[talk] != last[talk]] == ["x"]


def test_names_with_spaces_and_quotes_work(config, store):
    for name in ('my "best" talk, it\'s 100% %d [v2].mp4', "речь 東京.mp4", "plain.mkv"):
        write_talk(store.inbox / name, 1.0)
    talks = ingest.discover(config, store)
    assert len(talks) == 3
    assert "plain" in talks
    for talk in talks:
        assert ingest.ingest_talk(config, store, talk).status == "ok"
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in talk)


def test_only_videos_are_found_and_equal_stems_stay_apart(config, store):
    write_talk(store.inbox / "a.mp4", 1.0)
    write_talk(store.inbox / "a.MKV", 1.0)
    for other in ("notes.txt", ".hidden.mp4", "a.mp4.part", "photo.jpg"):
        (store.inbox / other).write_bytes(b"x")
    (store.inbox / "folder.mp4").mkdir()
    talks = ingest.discover(config, store)
    assert len(talks) == 2
    assert {ingest.ingest_talk(config, store, t).facts["file"] for t in talks} == {"a.mp4", "a.MKV"}


def truncated_tail(path):
    """The index survives, the end of the data does not: an interrupted copy."""
    write_talk(path, 4.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def truncated_head(path):
    """Hardly more than the first bytes of an index."""
    write_talk(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") + 40])


def without_index(path):
    """The data, but not the index that should follow it: an interrupted recording."""
    write_talk(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4] + data[data.index(b"mdat") - 4 :])


def audio_as_video(path):
    wav = path.with_suffix(".wav")
    media.write_wav(wav, np.zeros(16000, np.float32))
    wav.rename(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated_tail, "truncated"),
        (truncated_head, "truncated"),
        (without_index, "truncated"),
        (audio_as_video, "only pcm_s16le audio"),
        (lambda path: path.touch(), "empty"),
        (lambda path: path.write_bytes(b"\x00" * 5000), "cannot be opened"),
        (lambda path: write_talk(path, sound=False), "no audio track"),
    ],
    ids=["truncated tail", "truncated head", "no index", "audio named mp4", "empty", "zeros", "no audio"],
)
def test_bad_files_are_refused_with_one_line_and_nothing_else_is_lost(config, store, make, reason):
    write_talk(store.inbox / "good.mp4", 1.0)
    make(store.inbox / "bad.mp4")
    records = {talk: ingest.ingest_talk(config, store, talk) for talk in ingest.discover(config, store)}
    assert records["good"].status == "ok"
    bad = records["bad"]
    assert bad.status == "rejected"
    assert "bad.mp4" in bad.reason
    assert reason in bad.reason
    assert "\n" not in bad.reason
    assert store.read_record("ingest", "bad") == bad
    assert store.talks() == ["good"]


def test_a_refused_file_is_taken_when_it_is_repaired(config, store):
    (store.inbox / "a.mp4").touch()
    assert ingest.ingest_talk(config, store, "a").status == "rejected"
    write_talk(store.inbox / "a.mp4", 1.0)
    assert ingest.ingest_talk(config, store, "a").status == "ok"
    (store.inbox / "a.mp4").write_bytes(b"")
    assert ingest.ingest_talk(config, store, "a").status == "rejected"
    assert store.talks() == []


def test_unknown_talks_and_wrong_tables_are_named(config, store):
    with pytest.raises(ValueError, match="nobody"):
        ingest.ingest_talk(config, store, "nobody")
    write_talk(store.inbox / "a.mp4", 1.0)
    (store.inbox / "talks.csv").write_text("name,who\na.mp4,Ada\n")
    with pytest.raises(ValueError, match=r"talks\.csv.*columns"):
        ingest.ingest_talk(config, store, "a")


def test_embedded_talks_are_copied_once(tmp_path, monkeypatch):
    source = tmp_path / "samples"
    source.mkdir()
    write_talk(source / "speaker1_a.mp4", 1.0)
    (source / "talks.csv").write_text("file,speaker\nspeaker1_a.mp4,speaker1\n")
    monkeypatch.setattr(inbox, "SAMPLES", source)
    config = Config(workspace=str(tmp_path / "workspace"))
    store = Store(config)
    assert ingest.discover(config, store) == ["speaker1_a"]
    assert ingest.ingest_talk(config, store, "speaker1_a").facts["speaker"] == "speaker1"
    (store.inbox / "speaker1_a.mp4").unlink()
    assert ingest.discover(config, store) == ["speaker1_a"]  # deleted by the user: it does not come back, its row is told
    assert "no such file" in ingest.ingest_talk(config, store, "speaker1_a").reason


def test_missing_samples_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox, "SAMPLES", tmp_path / "nothing")
    config = Config(workspace=str(tmp_path / "workspace"))
    with pytest.raises(ValueError, match="no embedded talks"):
        ingest.discover(config, Store(config))
    assert not Store(config).inbox.exists()
