"""What runs by itself: the inbox sensor (a new or changed talk, that talk alone) and the refresh schedule.

Training is started by a person or by the schedule (off until switched on), never by an automation condition.
"""

import time
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    AssetSelection,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    ScheduleEvaluationContext,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    define_asset_job,
    schedule,
    sensor,
)

from assets_defs.lineage import external_inputs, hash_external, input_tags, talk_source, was_rejected, why_stale
from assets_defs.resources import Settings
from assets_defs.talks import TALKS, talk_videos
from configs.schema import Config
from pipelines.store import Store, hash_json

TALK_ASSETS = ("talk_videos", "talk_clips", "clip_fits", "clip_audio_features")
SHARDS = ("talk_shards", "scan_shards", "idol_shards")

talk_job = define_asset_job(
    "talk",
    AssetSelection.assets(*TALK_ASSETS),
    partitions_def=TALKS,
    description="One talk: ingest, cut, fit, speech features",
)
refresh_job = define_asset_job(
    "refresh",
    AssetSelection.assets(*SHARDS).downstream(),
    description="Shards of what there is, then training, evaluation, baseline and comparison",
)


@sensor(job=talk_job, minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def inbox_sensor(context: SensorEvaluationContext, settings: Settings) -> SensorResult:
    """Adds a partition for each new file of the inbox and runs the talk assets for it alone.

    The run key holds the file's content hash: a changed file runs again, a touched or already judged one does not.
    """
    from pipelines.ingest import describe

    config, store = settings.load()
    graph = context.repository_def.asset_graph if context.repository_def else _graph()
    videos = {talk: found for talk, found in describe(config, store).items() if settled(found[0])}
    known = set(context.instance.get_dynamic_partitions(TALKS.name or ""))
    requests = []
    for talk, (path, row) in videos.items():
        external = hash_external("talk_videos", config, talk_source(config, path, row))
        if needs_run(context.instance, graph, talk, external):
            requests.append(RunRequest(run_key=f"{talk}:{external}", partition_key=talk))
    new = [talk for talk in videos if talk not in known]
    skip = None if requests else SkipReason(f"nothing new among {len(videos)} talks in {store.inbox}")
    return SensorResult(requests, skip, dynamic_partitions_requests=[TALKS.build_add_request(new)] if new else [])


def settled(path: Path, wait: float = 0.5) -> bool:
    """Whether a file is whole: not one that was written to in the last seconds and still grows."""
    before = path.stat()
    if time.time() - before.st_mtime > 5:
        return True
    time.sleep(wait)
    return path.stat().st_size == before.st_size


def needs_run(instance: DagsterInstance, graph: Any, talk: str, external: str) -> bool:
    """Whether the talk's file is new or changed since it was ingested or rejected."""
    question = (instance, graph, talk_videos.key, talk, external)
    return why_stale(*question) is not None and not was_rejected(*question)


@schedule(
    cron_schedule="0 * * * *",
    job=refresh_job,
    default_status=DefaultScheduleStatus.STOPPED,
    execution_timezone="UTC",
)
def refresh_schedule(context: ScheduleEvaluationContext, settings: Settings) -> RunRequest | SkipReason:
    """Each hour: shards → checkpoints → evaluation, if talks or scans changed since the shards were written."""
    config, store = settings.load()
    graph = context.repository_def.asset_graph if context.repository_def else _graph()
    return refresh(context.instance, graph, config, store)


def refresh(instance: DagsterInstance, graph: Any, config: Config, store: Store) -> RunRequest | SkipReason:
    """One run for one change: the run key is the hash of what the shards would be made from."""
    changed = changed_shards(instance, graph, config, store)
    if not changed:
        return SkipReason("talks and scans have not changed since the shards were written")
    versions = {name: input_tags(instance, graph, AssetKey(name), None) for name in SHARDS}
    settings = {name: external_inputs(name, config, store) for name in SHARDS}
    return RunRequest(run_key=hash_json([versions, settings]), tags={"speech_avatar/because": "-".join(changed)})


def changed_shards(instance: DagsterInstance, graph: Any, config: Config, store: Store) -> dict[str, str]:
    """Shards whose inputs changed since they were written, with the reason. Talks and scans must exist."""
    found = {}
    for name in SHARDS:
        reason = why_stale(instance, graph, AssetKey(name), None, external_inputs(name, config, store))
        if reason and input_tags(instance, graph, AssetKey(name), None):
            found[name] = reason
    return found


def _graph() -> Any:
    from assets_defs.definitions import defs

    return defs.resolve_asset_graph()
