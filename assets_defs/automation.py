"""What runs by itself: the inbox sensor (a new or changed talk, that talk alone) and the refresh schedule.

Training is started by a person or by the schedule (off until switched on), never by an automation condition.
"""

import json
import time
import warnings
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    AssetSelection,
    BetaWarning,
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

from assets_defs.backfill import backfill_job, bring_talks_up_to_date
from assets_defs.lineage import external_inputs, hash_external, input_tags, talk_source, was_rejected, why_stale
from assets_defs.resources import Settings
from assets_defs.talks import TALKS, talk_videos
from configs.schema import Config
from pipelines.store import Store, hash_json

# Dagster copies a sensor of two jobs with its (empty) `owners`, and would tell every command that these are in beta.
warnings.filterwarnings("ignore", message="Parameter `owners`", category=BetaWarning)

TALK_ASSETS = ("talk_videos", "talk_clips", "clip_fits", "clip_audio_features")
LOOKED_AT_ONCE = 300  # talks asked about in one tick, which may last a minute; the rest follow at the next
MANY = 30  # from so many new talks on, one run takes them all
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


@sensor(jobs=[talk_job, backfill_job], minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def inbox_sensor(context: SensorEvaluationContext, settings: Settings) -> SensorResult:
    """Adds a partition for each new file of the inbox and runs the talk assets for it alone (for `MANY`, all in one run).

    The run key holds the file's content hash: a changed file runs again, a touched or already judged one does not. The
    cursor holds the keys of the talks looked at, so that a tick asks the instance only about new ones.
    """
    from pipelines.ingest import describe

    config, store = settings.load()
    graph = context.repository_def.asset_graph if context.repository_def else _graph()
    version = graph.get(talk_videos.key).code_version
    inbox = describe(config, store)
    whole = settled([path for path, _ in inbox.values()])
    videos = {talk: found for talk, found in inbox.items() if found[0] in whole}
    known = set(context.instance.get_dynamic_partitions(TALKS.name or ""))
    before: dict[str, str] = json.loads(context.cursor or "{}")
    seen: dict[str, str] = {}
    requests: list[RunRequest] = []
    looked = 0
    for talk, (path, row) in videos.items():
        external = hash_external("talk_videos", config, store, talk_source(config, path, row))
        key = f"{talk}:{version}:{external}"
        if before.get(talk) != key:
            looked += 1
            if looked > LOOKED_AT_ONCE:
                continue
            if needs_run(context.instance, graph, talk, external):
                requests.append(RunRequest(run_key=key, partition_key=talk, job_name=talk_job.name))
        seen[talk] = key
    new = [talk for talk in seen if talk not in known]
    skip = None if requests else SkipReason(f"nothing new among {len(videos)} talks in {store.inbox}")
    added = [TALKS.build_add_request(new)] if new else []
    if len(requests) >= MANY:
        requests = [_one_run(requests)]
    return SensorResult(requests, skip, cursor=json.dumps(seen), dynamic_partitions_requests=added)


def _one_run(requests: list[RunRequest]) -> RunRequest:
    talks = [str(request.partition_key) for request in requests]
    run_config = {"ops": {bring_talks_up_to_date.name: {"config": {"talks": talks}}}}
    return RunRequest(run_key=hash_json([request.run_key for request in requests]), run_config=run_config, job_name=backfill_job.name)


def needs_run(instance: DagsterInstance, graph: Any, talk: str, external: str) -> bool:
    """Whether the talk's file is new or changed since it was ingested or rejected."""
    question = (instance, graph, talk_videos.key, talk, external)
    return why_stale(*question) is not None and not was_rejected(*question)


def settled(paths: list[Path], wait: float = 0.5) -> set[Path]:
    """The files that are whole: not those that were written to in the last seconds and still grow."""
    sizes = {path: path.stat().st_size for path in paths}
    fresh = [path for path in paths if time.time() - path.stat().st_mtime < 5]
    if fresh:
        time.sleep(wait)
    growing = {path for path in fresh if not path.exists() or path.stat().st_size != sizes[path]}
    return set(paths) - growing


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
