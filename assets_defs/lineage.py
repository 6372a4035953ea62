"""What an asset was made from, and whether that is still so: code version, data versions of its inputs, settings, source.

Dagster stores the code version and the input data versions as tags of each materialisation. What lies outside the graph
(settings, files of the inbox, folders of scans) is hashed into one more tag, `EXTERNAL_TAG`, by the same function
that the demo, the sensor and the schedule ask later. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dagster import AssetCheckSeverity, AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance
from dagster._core.event_api import PartitionKeyFilter

from configs.places import from_project
from configs.schema import EMBEDDED, Config
from pipelines.store import Store, hash_file, hash_json

CODE_VERSION_TAG = "dagster/code_version"
DATA_VERSION_TAG = "dagster/data_version"
INPUT_TAG = "dagster/input_data_version/"
EXTERNAL_TAG = "speech_avatar/external"
REJECTED_TAG = "speech_avatar/rejected"
PROCESS_TAG = "speech_avatar/process"  # of a run that a person waits for: the id of its process
MANY_PARTITIONS = 100  # from here on Dagster notes the newest partition's version instead of a hash over all

# Sections of the configuration that decide an asset's content, upstream ones apart (they act through data versions).
SETTINGS: dict[str, tuple[str, ...]] = {
    "body_model": (),
    "talk_videos": (),
    "talk_clips": ("cut",),
    "clip_fits": ("fit",),
    "clip_audio_features": ("audio",),
    "talk_shards": ("shards",),
    "scan_renders": ("scans",),
    "scan_shards": ("shards",),
    "idol_shards": ("idol", "shards"),
    "stage1_checkpoint": ("stage1", "stage1_training", "seed"),
    "stage2_checkpoint": ("stage2", "stage2_training", "seed"),
    "stage1_evaluation": ("evaluation",),
    "stage2_evaluation": ("evaluation", "seed"),
    "speaking_video": ("speak",),
    "baseline_motion": ("baseline", "seed"),
    "baseline_retargeted_motion": ("evaluation", "baseline"),
    "baseline_video": ("evaluation", "baseline", "seed"),
    "baseline_comparison": (),
}


def external_inputs(asset: str, config: Config, store: Store, partition: str | None = None) -> str:
    """Hash of the settings and of the files outside the graph that decide this asset's content."""
    source = SOURCES.get(asset)
    return hash_external(asset, config, store, source(config, store, partition) if source else None)


def hash_external(asset: str, config: Config, store: Store, source: Any) -> str:
    """The same for a source already looked at. The workspace counts: an instance may have served another one."""
    sections = config.model_dump(mode="json")
    return hash_json([{name: sections[name] for name in SETTINGS[asset]}, str(store.root), source])


def why_stale(instance: DagsterInstance, graph: Any, key: AssetKey, partition: str | None, external: str) -> str | None:
    """Why the recorded materialisation no longer stands; None where it does. `graph` is the definitions' asset graph."""
    tags = materialization_tags(instance, key, partition)
    if tags is None:
        return "never materialised"
    return _difference(instance, graph, key, partition, external, tags)


def was_rejected(instance: DagsterInstance, graph: Any, key: AssetKey, partition: str | None, external: str) -> bool:
    """Whether exactly this input was judged before and found unusable."""
    wanted = AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_observations(wanted, limit=1).records
    observation = records[0].asset_observation if records else None
    if observation is None or REJECTED_TAG not in observation.tags:
        return False
    return _difference(instance, graph, key, partition, external, dict(observation.tags)) is None


def input_tags(instance: DagsterInstance, graph: Any, key: AssetKey, partition: str | None) -> dict[str, str]:
    """The present data versions of an asset's inputs, as Dagster tags a materialisation with them."""
    versions = {p: present_version(instance, graph, key, p, partition) for p in sorted(graph.get(key).parent_keys)}
    return {INPUT_TAG + p.to_user_string(): v for p, v in versions.items() if v is not None}


def present_version(instance: DagsterInstance, graph: Any, key: AssetKey, parent: AssetKey, partition: str | None) -> str | None:
    """Data version of `parent` as Dagster would note it for `key` now: the asset's own, or a hash over the partitions read."""
    keys = graph.get(parent).partitions_def
    newest = materialization_tags(instance, parent, None)
    if newest is None:
        return None
    if keys is None:
        return newest.get(DATA_VERSION_TAG)
    names = [partition] if partition else list(keys.get_partition_keys(dynamic_partitions_store=instance))
    if len(names) >= MANY_PARTITIONS:
        return newest.get(DATA_VERSION_TAG)
    found = instance.event_log_storage.get_latest_tags_by_partition(
        parent, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG], asset_partitions=names
    )
    return hashlib.sha256("".join(found[n][DATA_VERSION_TAG] for n in sorted(found)).encode()).hexdigest()


def materialization_tags(instance: DagsterInstance, key: AssetKey, partition: str | None) -> dict[str, str] | None:
    """Tags of the newest materialisation (of that partition, where one is named); None where there is none."""
    wanted = AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    materialization = records[0].asset_materialization if records else None
    return dict(materialization.tags or {}) if materialization else None


def failed_checks(instance: DagsterInstance, graph: Any, key: AssetKey, talk: str | None) -> list[str]:
    """Blocking checks of the asset (and talk) whose newest result is a failure."""
    checks = sorted(graph.get(key).check_keys, key=str)
    only = PartitionKeyFilter(key=talk)
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks, partition_filter=only)
    evaluations = [record.evaluation for record in newest.values() if record.evaluation]
    bad = [e for e in evaluations if not e.passed and e.blocking and e.severity == AssetCheckSeverity.ERROR]
    return [e.check_name for e in bad]


def _difference(
    instance: DagsterInstance, graph: Any, key: AssetKey, partition: str | None, external: str, tags: dict[str, str]
) -> str | None:
    now = graph.get(key).code_version
    if tags.get(CODE_VERSION_TAG) != now:
        return f"code version {tags.get(CODE_VERSION_TAG)} → {now}"
    if tags.get(EXTERNAL_TAG) != external:
        return "settings or source files changed"
    present = input_tags(instance, graph, key, partition)
    before = {k: v for k, v in tags.items() if k.startswith(INPUT_TAG)}
    changed = [k.removeprefix(INPUT_TAG) for k in sorted(present.keys() | before) if present.get(k) != before.get(k)]
    return f"{', '.join(changed)} changed" if changed else None


def talk_source(config: Config, path: Path, row: dict[str, str]) -> Any:
    """What decides how a talk is ingested: content and name of its file, its row of talks.csv, the default licence."""
    return [_content(path), path.name, row, config.talks.default_licence]


def _body_source(config: Config, store: Store, partition: str | None) -> Any:
    path = config.body.model_path
    return _content(_shipped("body", "SMPLX_NEUTRAL.npz") if path == EMBEDDED else Path(path).expanduser())


def _talk_source(config: Config, store: Store, partition: str | None) -> Any:
    from pipelines.ingest import describe

    found = describe(config, store).get(partition or "")
    return talk_source(config, *found) if found else None


def _scan_source(config: Config, store: Store, partition: str | None) -> Any:
    root = config.scans.root
    return _content(_shipped("people.zip")) if root == EMBEDDED else _listing(Path(root).expanduser())


def _idol_source(config: Config, store: Store, partition: str | None) -> Any:
    return None if config.idol.root is None else _listing(Path(config.idol.root).expanduser())


def _speak_source(config: Config, store: Store, partition: str | None) -> Any:
    given = [config.speak.image, config.speak.audio]
    return [_content(Path(path).expanduser()) if path else None for path in given]


def _stage1_source(config: Config, store: Store, partition: str | None) -> Any:
    return _weights(config.stage1_training.start_from)


def _stage2_source(config: Config, store: Store, partition: str | None) -> Any:
    return _weights(config.stage2_training.start_from)


def _baseline_source(config: Config, store: Store, partition: str | None) -> Any:
    return _weights(config.baseline.start_from)


def _weights(path: str | None) -> str | None:
    """Of a file that training begins with, found as the pipelines find it: here, else in the project's folder."""
    return None if path is None else _content(from_project(path))


def _shipped(*parts: str) -> Path:
    return Path(str(importlib.resources.files("samples"))).joinpath(*parts)


def _listing(root: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times: cheap for a folder of gigabytes; the pipelines look at the contents."""
    found = [(p.relative_to(root).as_posix(), p.stat()) for p in root.rglob("*") if p.is_file()]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _content(path: Path) -> str:
    """Hash of a file, read again only where its size or time changed."""
    if not path.is_file():
        return "missing"
    stat = path.stat()
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _hash_once(path: Path, size: int, modified: int) -> str:
    return hash_file(path)


SOURCES: dict[str, Callable[[Config, Store, str | None], Any]] = {
    "body_model": _body_source,
    "talk_videos": _talk_source,
    "scan_renders": _scan_source,
    "idol_shards": _idol_source,
    "stage1_checkpoint": _stage1_source,
    "stage2_checkpoint": _stage2_source,
    "baseline_motion": _baseline_source,
    "speaking_video": _speak_source,
}
