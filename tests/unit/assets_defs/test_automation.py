"""The inbox sensor takes a new talk, that talk alone; the schedule refreshes when data changed."""

import sys
import threading

import pytest
from dagster import RunRequest, SkipReason, build_sensor_context, materialize

from assets_defs.automation import inbox_sensor, refresh, settled
from assets_defs.definitions import defs
from assets_defs.resources import Settings
from pipelines.store import Record


def tick(bench):
    """One tick, as the daemon does it: partitions added, requested runs executed; returns the talks that ran."""
    context = build_sensor_context(
        instance=bench.instance,
        repository_def=defs.get_repository_def(),
        resources={"settings": Settings()},
        cursor=getattr(bench, "cursor", None),
    )
    result = inbox_sensor(context)
    bench.cursor = result.cursor
    for request in result.dynamic_partitions_requests:
        bench.instance.add_dynamic_partitions("talks", list(request.partition_keys))
    job = defs.resolve_job_def("talk")
    for request in result.run_requests:
        job.execute_in_process(
            instance=bench.instance,
            partition_key=request.partition_key,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    return {request.partition_key: request.run_key for request in result.run_requests}


def schedule(bench):
    return refresh(bench.instance, defs.resolve_asset_graph(), *Settings().load())


def make(bench, *names):
    selected = [a for a in defs.assets if a.key.to_user_string() in names]
    assert materialize(
        list(defs.assets),
        selection=[a.key for a in selected],
        instance=bench.instance,
        resources={"settings": Settings()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    ).success


@pytest.fixture
def two_talks(bench):
    make(bench, "body_model")
    bench.drop("a")
    bench.drop("b")
    assert set(tick(bench)) == {"a", "b"}
    return bench


def test_a_dropped_file_is_processed_alone(two_talks):
    bench = two_talks
    before = bench.versions()
    assert {name for name, talk in before if talk == "a"} == {"talk_videos", "talk_clips", "clip_fits", "clip_audio_features"}
    assert tick(bench) == {}
    bench.drop("c")
    assert set(tick(bench)) == {"c"}
    after = bench.versions()
    assert {unit: after[unit] for unit in before} == before
    assert {talk for name, talk in after if name == "clip_fits"} == {"a", "b", "c"}
    assert tick(bench) == {}
    bench.cursor = None  # as after a reset, or where the demo ran first
    assert tick(bench) == {}


def test_a_changed_file_runs_again_a_touched_one_does_not(two_talks):
    bench = two_talks
    bench.drop("a", "good").touch()
    assert tick(bench) == {}
    before = bench.versions()
    bench.drop("a", "good but another")
    assert set(tick(bench)) == {"a"}
    after = bench.versions()
    assert after["clip_fits", "a"] != before["clip_fits", "a"]
    assert after["clip_fits", "b"] == before["clip_fits", "b"]


def test_a_rejected_file_is_judged_once(two_talks):
    bench = two_talks
    bench.drop("c", "bad")
    first = tick(bench)
    assert set(first) == {"c"}
    assert tick(bench) == {}
    bench.drop("c", "good at last")
    second = tick(bench)
    assert set(second) == {"c"}
    assert second["c"] != first["c"], "a run key stands for one content"
    assert ("clip_fits", "c") in bench.versions()


def test_many_new_talks_are_one_run(two_talks, monkeypatch):
    bench = two_talks
    monkeypatch.setattr("assets_defs.automation.MANY", 3)
    for talk in "cde":
        bench.drop(talk)
    context = build_sensor_context(
        instance=bench.instance, repository_def=defs.get_repository_def(), resources={"settings": Settings()}, cursor=bench.cursor
    )
    result = inbox_sensor(context)
    (request,) = result.run_requests
    assert request.job_name == "backfill"
    done = defs.resolve_job_def("backfill").execute_in_process(instance=bench.instance, run_config=request.run_config)
    assert done.success
    assert {talk for name, talk in bench.versions() if name == "clip_fits"} == set("abcde")
    bench.cursor = result.cursor
    assert tick(bench) == {}


def test_only_what_may_pass_is_retried(bench, monkeypatch):
    """A download that broke off is tried again by its run; a file that is no video, and a fault of ours, are not."""
    monkeypatch.setattr("assets_defs.metadata.RETRY_SECONDS", 0.01)
    ingest, tries = sys.modules["pipelines.ingest"].ingest_talk, []

    def shaky(config, store, talk):
        tries.append(talk)
        if talk == "fault":
            raise RuntimeError("a fault of ours")
        if talk == "down" or (talk == "slow" and tries.count("slow") < 3):
            return Record("ingest", talk, "1", "", "rejected", reason="server down", facts={"try_again": True})
        return ingest(config, store, talk)

    monkeypatch.setattr(sys.modules["pipelines.ingest"], "ingest_talk", shaky)
    make(bench, "body_model")
    for talk, kind in {"fault": "good", "down": "good", "slow": "good", "text": "bad"}.items():
        bench.drop(talk, kind)
    assert set(tick(bench)) == {"fault", "down", "slow", "text"}
    assert {talk: tries.count(talk) for talk in set(tries)} == {"fault": 1, "down": 4, "slow": 3, "text": 1}
    assert {talk for name, talk in bench.versions() if name == "clip_fits"} == {"slow"}


def test_a_full_inbox_is_taken_in_parts(bench, monkeypatch):
    monkeypatch.setattr("assets_defs.automation.LOOKED_AT_ONCE", 2)
    for talk in "abcde":
        bench.drop(talk, "bad")
    assert [sorted(tick(bench)) for _ in range(4)] == [["a", "b"], ["c", "d"], ["e"], []]


def test_a_file_that_still_grows_waits_for_the_next_tick(bench):
    growing, whole = bench.drop("a"), bench.drop("b")
    writer = threading.Timer(0.1, lambda: growing.write_text("good and longer"))
    writer.start()
    assert settled([growing, whole], wait=0.5) == {whole}
    writer.join()
    assert settled([growing, whole], wait=0.1) == {growing, whole}


def test_refresh_only_when_talks_or_scans_changed(two_talks):
    bench = two_talks
    make(bench, "scan_renders")
    assert isinstance(schedule(bench), RunRequest)
    make(bench, "talk_shards", "scan_shards", "idol_shards")
    assert isinstance(schedule(bench), SkipReason)
    bench.drop("c")
    tick(bench)
    first, second = schedule(bench), schedule(bench)
    assert isinstance(first, RunRequest)
    assert first.run_key == second.run_key, "one change asks for one run"
    make(bench, "talk_shards")
    assert isinstance(schedule(bench), SkipReason)
    bench.configure(scans={"views": 3})
    make(bench, "scan_renders")
    assert isinstance(schedule(bench), RunRequest)


def test_refresh_waits_for_data(bench):
    assert isinstance(schedule(bench), SkipReason)
