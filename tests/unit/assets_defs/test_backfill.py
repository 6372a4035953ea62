"""A backfill of many talks is one run that leaves what runs of each talk alone would leave."""

import resource
import sys
import time

import pytest
from dagster import AssetKey, AssetRecordsFilter

from assets_defs.definitions import defs
from assets_defs.demo import materialise_all
from assets_defs.lineage import failed_checks
from assets_defs.resources import Settings

TALK_ASSETS = ("talk_videos", "talk_clips", "clip_fits", "clip_audio_features")


def backfill(bench, *talks):
    result = defs.resolve_job_def("backfill").execute_in_process(
        instance=bench.instance,
        raise_on_error=False,
        run_config={
            "ops": {"bring_talks_up_to_date": {"config": {"talks": list(talks)}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
    )
    return result


def make_body(bench):
    bench_defs = defs.resolve_implicit_global_asset_job_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert bench_defs.execute_in_process(instance=bench.instance, asset_selection=[AssetKey("body_model")], run_config=quiet).success


def test_one_run_makes_all_and_a_second_makes_nothing(bench, monkeypatch):
    from rich.console import Console

    make_body(bench)
    for talk, kind in {"a": "good", "b": "bad", "c": "silent", "d": "lost", "e": "late sound", "f": "good too"}.items():
        bench.drop(talk, kind)
    assert backfill(bench).success
    made = {(name, talk) for name, talk in bench.versions() if name in TALK_ASSETS}
    everything = {(name, talk) for name in TALK_ASSETS for talk in "af"}
    assert made == everything | {("talk_videos", t) for t in "cde"} | {
        ("talk_clips", "d"),
        ("talk_clips", "e"),
        ("clip_fits", "d"),
        ("clip_audio_features", "d"),
    }
    graph = defs.resolve_asset_graph()
    assert failed_checks(bench.instance, graph, AssetKey("clip_fits"), "d") == ["fits_follow_their_pictures"]
    assert failed_checks(bench.instance, graph, AssetKey("talk_clips"), "e") == ["clips_are_in_sync"]
    (rejected,) = bench.instance.fetch_observations(AssetRecordsFilter(AssetKey("talk_videos"), asset_partitions=["b"]), limit=2).records
    assert "expected a video" in rejected.asset_observation.metadata["reason"].value

    before = bench.versions()
    assert backfill(bench).success
    assert bench.versions() == before

    outcomes = materialise_all(bench.instance, *Settings().load(), Console(quiet=True))
    states = {name: outcomes[name].states for name in TALK_ASSETS}
    assert states["talk_videos"] == {"up to date": 5, "rejected": 1}, "the demo finds what the backfill made"
    assert states["clip_fits"] == {"up to date": 2, "check failed": 1, "left out": 3}

    bench.drop("f", "good and changed")
    assert backfill(bench, "f").success
    changed = {unit for unit, version in bench.versions().items() if before.get(unit) not in (version, None)}
    assert {unit for unit in changed if unit[0] in TALK_ASSETS} == {(name, "f") for name in TALK_ASSETS}

    before = bench.versions()
    bench.configure(fit={"window": 400})
    assert backfill(bench).success
    again = {unit for unit, version in bench.versions().items() if before[unit] != version}
    assert again == {("clip_fits", talk) for talk in "adf"}, "a setting of the fit touches fits alone"


def test_a_fault_spares_the_other_talks_and_what_may_pass_is_tried_again(bench, monkeypatch):
    from dataclasses import replace

    make_body(bench)
    for talk in "abc":
        bench.drop(talk)
    ingest = sys.modules["pipelines.ingest"].ingest_talk
    tries = []

    def shaky(config, store, talk):
        if talk == "a":
            raise RuntimeError("a fault of ours")
        record = ingest(config, store, talk)
        tries.append(talk)
        if talk == "b" and tries.count("b") == 1:
            return replace(record, status="rejected", reason="server down", facts={"try_again": True})
        return record

    monkeypatch.setattr(sys.modules["pipelines.ingest"], "ingest_talk", shaky)
    result = backfill(bench)
    assert not result.success
    (failure,) = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    assert failure.description == "1 of 3 talks failed: a: a fault of ours"
    assert {talk for name, talk in bench.versions() if name == "clip_fits"} == {"b", "c"}
    assert not backfill(bench, "z").success, "an unknown talk is refused"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["good", "bad"])
def test_a_thousand_talks_in_one_run(bench, kind):
    make_body(bench)
    for number in range(1000):
        bench.drop(f"talk{number:04d}", f"{kind} {number}")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert backfill(bench).success
    seconds, grown = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    again = time.perf_counter()
    assert backfill(bench).success
    print(f"1000 {kind} talks: {seconds:.1f} s, {grown / 1024:.0f} MB more; again {time.perf_counter() - again:.1f} s")
    if kind == "good":
        assert len(bench.instance.get_materialized_partitions(AssetKey("clip_fits"))) == 1000
    assert grown < 300 * 1024
    assert seconds < 300
