"""The inbox's table: a bad row is refused alone, a table that is none stops before speakers are guessed."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Config
from pipelines import ingest, media
from pipelines.store import Store


def plain(path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (25, 64, 96, 3), np.uint8)
    media.write_video(path, pictures, Fraction(25), np.zeros(16000, np.float32))


def config_for(folder: Path) -> Config:
    return Config.model_validate({"workspace": str(folder), "talks": {"include_samples": False}})


JSON_ROWS = [
    ('{"file": "a.mp4"', "expected an object"),
    ('["a.mp4"]', "expected an object"),
    ("null", "expected an object"),
    ('{"file": 7}', "file: .*valid string.*got 7"),
    ('{"file": "good.mp4", "who": "Ada"}', "who: .*got 'Ada'"),
    ('{"file": "good.mp4", "split": null, "speaker": ["Ada"]}', "speaker: "),
    ('{"url": "http://[::1"}', "url: "),
    ('{"url": "javascript:alert(1)"}', "url: expected a URL with http or https"),
    ("[" * 100_000, "expected an object"),
]


@pytest.mark.parametrize(("line", "words"), JSON_ROWS, ids=[line[:40] for line, _ in JSON_ROWS])
def test_a_bad_line_of_json_is_refused_alone(tmp_path, line, words):
    config = config_for(tmp_path)
    store = Store(config)
    store.inbox.mkdir()
    for name in ("good.mp4", "other.mp4"):
        plain(store.inbox / name)
    (store.inbox / "talks.jsonl").write_text(f'{line}\n\n{{"file": "other.mp4", "speaker": "Ada", "split": "test"}}\n')
    records = {talk: ingest.ingest_talk(config, store, talk) for talk in ingest.discover(config, store)}
    assert (records["other"].facts["speaker"], records["other"].facts["split"]) == ("Ada", "test")
    (bad,) = [r for r in records.values() if r.status == "rejected"]
    assert bad.reason.startswith("talks.jsonl line 1: ")
    assert re.search(words, bad.reason), bad.reason
    assert "\n" not in bad.reason
    assert len(bad.reason) < 400


TABLES = [
    (b"name,who\na.mp4,Ada\n", "expected columns of file,url"),
    (b"file;speaker\na.mp4;Ada\n", "expected columns"),
    (b"", "expected columns"),
    ("file,speaker\na.mp4,Ada\n".encode("utf-16"), "expected UTF-8|expected columns"),
    (b"file,speaker\na.mp4,Ad\xe9\n", "expected UTF-8 text"),
    (b"file,file\na.mp4,b.mp4\n", "expected columns"),
    (b"file,speaker\n" + b"a" * 200_000 + b",Ada\n", "field larger than field limit"),
]


@pytest.mark.parametrize(("data", "words"), TABLES, ids=range(len(TABLES)))
def test_a_table_that_is_none_stops_the_batch_before_speakers_are_guessed(tmp_path, data, words):
    config = config_for(tmp_path)
    store = Store(config)
    store.inbox.mkdir()
    plain(store.inbox / "a.mp4")
    (store.inbox / "talks.csv").write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        ingest.discover(config, store)
    assert "\n" not in str(caught.value)
