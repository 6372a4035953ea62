"""Staleness agrees with the versions that Dagster notes, for few talks and for more than it hashes one by one."""

import pytest
from dagster import AssetKey, AssetMaterialization

from assets_defs.definitions import defs
from assets_defs.lineage import DATA_VERSION_TAG, external_inputs, was_rejected, why_stale
from assets_defs.resources import Settings

SHARDS, FITS = AssetKey("talk_shards"), AssetKey("clip_fits")


def report(bench, key, talk, version):
    tags = {DATA_VERSION_TAG: version}
    bench.instance.report_runless_asset_event(AssetMaterialization(key, partition=talk, tags=tags))


@pytest.mark.parametrize("count", [2, 99, 100])
def test_shards_of_many_talks(bench, count):
    talks = [f"talk{i:03d}" for i in range(count)]
    bench.instance.add_dynamic_partitions("talks", [*talks])
    graph = defs.resolve_asset_graph()
    for parent in graph.get(SHARDS).parent_keys:
        for talk in talks[:-1]:  # the last one was rejected
            report(bench, parent, talk, f"{parent.path[-1]}-{talk}")

    def reason():
        return why_stale(bench.instance, graph, SHARDS, None, external_inputs("talk_shards", *Settings().load()))

    assert reason() == "never materialised"
    job = defs.resolve_implicit_global_asset_job_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job.execute_in_process(instance=bench.instance, asset_selection=[SHARDS], raise_on_error=False, run_config=quiet)
    assert reason() is None
    report(bench, FITS, talks[0], "fitted again")
    assert reason() == "clip_fits changed"
    report(bench, AssetKey("talk_clips"), talks[-1], "now good")
    assert reason() == "clip_fits, talk_clips changed"


def test_nothing_is_rejected_that_was_never_judged(bench):
    graph = defs.resolve_asset_graph()
    assert not was_rejected(bench.instance, graph, AssetKey("talk_videos"), "talk", "0")
    assert not was_rejected(bench.instance, graph, SHARDS, None, "0")


@pytest.mark.parametrize(
    ("asset", "section"),
    [("stage1_checkpoint", "stage1_training"), ("stage2_checkpoint", "stage2_training"), ("baseline_motion", "baseline")],
)
def test_other_weights_under_the_same_name_are_other_inputs(bench, tmp_path, asset, section):
    config, store = Settings().load()
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"first")
    settings = getattr(config, section).model_copy(update={"start_from": str(weights)})
    config = config.model_copy(update={section: settings})
    before = external_inputs(asset, config, store)
    assert external_inputs(asset, config, store) == before
    weights.write_bytes(b"others")
    assert external_inputs(asset, config, store) != before
