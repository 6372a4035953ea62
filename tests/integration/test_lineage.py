"""Every stage in lineage order on two embedded talks and the embedded people, at debug size; then again, doing nothing."""

import json
import shutil
from pathlib import Path

import pytest

from configs import Config, load_config
from pipelines import media
from pipelines.splits import split_of
from pipelines.store import Record, Store
from samples.ids import SPEAKERS

ROOT = Path(__file__).parents[2]


def run_all(config: Config, store: Store) -> dict[str, Record]:
    from pipelines import baseline, body, evaluate, ingest, report, scans, shards, speak
    from pipelines.audio_features import features_talk
    from pipelines.cut import cut_talk
    from pipelines.fit import fit_talk
    from pipelines.launch import run_training

    records = {"body": body.body_record(config, store)}
    for talk in ingest.discover(config, store):
        for work in (ingest.ingest_talk, cut_talk, fit_talk, features_talk):
            records[f"{work.__name__} {talk}"] = work(config, store, talk)
    records["talk shards"] = shards.write_talk_shards(config, store)
    for subject in scans.list_subjects(config, store):
        records[f"scan {subject}"] = scans.render_scan(config, store, subject)
    records["scan shards"] = shards.write_scan_shards(config, store)
    records["idol shards"] = shards.write_idol_shards(config, store)
    for stage in ("stage1", "stage2"):
        records[stage] = run_training(config, store, stage)
    for work in (evaluate.evaluate_stage1, evaluate.evaluate_stage2, speak.speaking_video, baseline.motion):
        records[work.__name__] = work(config, store)
    for work in (baseline.retarget, baseline.video, report.comparison):
        records[work.__name__] = work(config, store)
    return records


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lineage_runs_and_a_second_run_does_nothing(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    talks = ROOT / "samples" / "talks"
    held_out = load_config(ROOT / "configs" / "debug.yaml").shards.held_out
    for split in ("train", "test"):
        speaker = next(s for s in SPEAKERS if split_of(s, held_out) == split)
        shutil.copy(next(talks.glob(f"{speaker}*.mp4")), inbox)
    header, *rows = (talks / "talks.csv").read_text().splitlines(keepends=True)
    (inbox / "talks.csv").write_text(header + "".join(row for row in rows if (inbox / row.split(",")[0]).is_file()))
    settings = load_config(ROOT / "configs" / "debug.yaml").model_dump(mode="json")
    settings |= {"workspace": str(tmp_path / "work"), "talks": {"inbox": str(inbox), "include_samples": False}}
    config = Config.model_validate(settings)
    store = Store(config)

    records = run_all(config, store)
    assert {n: r.reason for n, r in records.items() if r.status != "ok"} == {}
    video = store.speaking / "speaking.mp4"
    said = store.speaking / "speech.wav"
    info = media.probe(video)
    assert info.has_audio
    assert (info.width, info.height, info.fps) == (config.speak.size, config.speak.size, config.cut.fps)
    assert abs(info.seconds - media.measure(said)[1]) < 0.1
    table = json.loads((store.comparison / "table.json").read_text())
    assert {"ground_truth", "frozen", "two_stage", "end_to_end"} <= set(table["rows"])
    assert table["rows"]["ground_truth"]["upper_mpjpe_mm"]["value"] == 0
    report = (store.comparison / "report.html").read_text()
    assert "http" not in report.replace("http://www.w3.org", "")
    assert report.count("<video") >= 2

    again = run_all(config, store)
    assert {n: r.output_hash for n, r in again.items()} == {n: r.output_hash for n, r in records.items()}
    assert all(again[n].seconds == records[n].seconds for n in records)  # the very same records: nothing was done
