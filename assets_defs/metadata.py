"""Records of the pipelines → what Dagster shows: counts, seconds, paths, scalar metrics, inline pictures, data versions.

A rejected record becomes `dagster.Failure` with the record's one line, and an observation that carries the same tags as
a materialisation would, so that the demo and the sensor know that this input was judged and need not be tried again.
Only what a stage marks `try_again` (pipelines/faults.py) is judged anew: by the next run, a download by a retry as well.
Nothing else is lost by it: the shards take whatever talks have clips.
"""

from __future__ import annotations

import ast
import base64
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    DagsterInstance,
    DataVersion,
    Failure,
    MaterializeResult,
    MetadataValue,
    RetryRequested,
)

from assets_defs.lineage import (
    CODE_VERSION_TAG,
    EXTERNAL_TAG,
    PROCESS_TAG,
    REJECTED_TAG,
    SETTINGS,
    external_inputs,
    input_tags,
)
from assets_defs.resources import ROOT, Settings
from configs.schema import Config
from pipelines.faults import may_pass
from pipelines.store import Record, Store, hash_json

PREVIEW_PIXELS = 640  # longest side of an inline picture; larger ones are shrunk, the file itself is linked
PHOTO_PIXELS = 1280
RETRIED = "ingest"  # the stage whose faults may pass with time alone (downloads); a full disk waits for a person
RETRIES, RETRY_SECONDS = 3, 60.0  # the wait doubles
SHOWN_APART = {"metrics", "preview", "pictures", "table", "reason", "source_hash"}


def code_version(*modules: str) -> str:
    """The `CODE_VERSION` literals of these `pipelines` modules, read without importing them."""
    return "+".join(_literal(ROOT / "pipelines" / f"{module}.py", "CODE_VERSION") for module in modules)


def recorded(
    context: AssetExecutionContext,
    settings: Settings,
    work: Callable[[Config, Store], Record | Sequence[Record]],
    version: str | None = None,
) -> MaterializeResult:
    """Run `work` and report its record (or records, as one). Errors: Failure where the record says 'rejected'.

    The data version is the hash of the outputs, or the fact named `version`.
    """
    config, store = settings.load()
    asset = context.asset_key.to_user_string()
    partition = context.partition_key if context.has_partition_key else None
    external = external_inputs(asset, config, store, partition)
    start = time.perf_counter()
    outcome = work(config, store)
    record = outcome if isinstance(outcome, Record) else merged(asset, outcome)
    wall = time.perf_counter() - start
    if record.status == "rejected":
        _reject(context, record, external)
    return MaterializeResult(
        metadata=shown_with(asset, config, record, wall),
        data_version=DataVersion(record.facts[version] if version else record.output_hash),
        tags={EXTERNAL_TAG: external},
    )


def merged(stage: str, records: Sequence[Record]) -> Record:
    """One record for many units: counts, reasons of the rejected ones, the first preview; rejected if all are."""
    good = [r for r in records if r.status == "ok"]
    bad = [r for r in records if r.status == "rejected"]
    facts: dict[str, Any] = {"units": len(good), "rejected": len(bad)}
    for name, value in good[0].facts.items() if good else ():
        if isinstance(value, int) and not isinstance(value, bool):
            facts[name] = sum(r.facts.get(name, 0) for r in good)
    if bad:
        facts["table"] = "| rejected | reason |\n|---|---|\n" + "\n".join(f"| {r.unit} | {_cell(r.reason)} |" for r in bad)
    if good and "preview" in good[0].facts:
        facts["preview"] = good[0].facts["preview"]
    digest = hash_json(sorted((r.unit, r.output_hash) for r in good))
    reason = "" if good else "; ".join(r.reason for r in bad[:3]) or f"{stage}: nothing to work on"
    first = records[0] if records else Record(stage, "all", "", "", "rejected")
    seconds = sum(r.seconds for r in records)
    return Record(stage, "all", first.code_version, "", "ok" if good else "rejected", digest, reason, seconds, facts)


def metadata_of(record: Record) -> dict[str, Any]:
    """Dagster metadata of a record's facts; metrics stand under their own names so that the UI plots them.

    `work_seconds` is what the work took when it was done, `run_seconds` what this run spent (little, where it was done).
    """
    shown: dict[str, Any] = {"work_seconds": round(record.seconds, 3)}
    if record.reason:
        shown["reason"] = MetadataValue.text(record.reason)
    for name, value in record.facts.items():
        if name not in SHOWN_APART:
            shown |= {f"{name}/{k}": _value(v) for k, v in value.items()} if _scalars(value) else {name: _value(value)}
    for name, value in record.facts.get("metrics", {}).items():
        shown[name] = _value(value)
    if "table" in record.facts:
        shown["table"] = MetadataValue.md(record.facts["table"])
    preview = record.facts.get("preview")
    if preview and Path(preview).is_file():
        shown["preview"] = inline_picture(Path(preview))
        shown["preview_file"] = MetadataValue.path(preview)
    for name, path in record.facts.get("pictures", {}).items():
        if Path(path).is_file():
            shown[name] = inline_picture(Path(path))
    return shown


def inline_picture(path: Path) -> MetadataValue:
    """The picture inside the metadata, so that it shows wherever the UI runs; shrunk to `PREVIEW_PIXELS`.

    A JPEG stays one, and may be `PHOTO_PIXELS` large for as many bytes.
    """
    from PIL import Image

    with Image.open(path) as picture:
        kind = "jpeg" if picture.format == "JPEG" else "png"
        side = PHOTO_PIXELS if kind == "jpeg" else PREVIEW_PIXELS
        small = picture.convert("RGB")
        small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, kind, optimize=True)
    return MetadataValue.md(f"![{path.name}](data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()})")


def shown_with(asset: str, config: Config, record: Record, wall: float) -> dict[str, Any]:
    """All metadata of an asset's materialisation: the record's, its settings, and the seconds that this run spent."""
    return {**metadata_of(record), **_settings_shown(asset, config), "run_seconds": round(wall, 3)}


def provenance_tags(instance: DagsterInstance, graph: Any, key: AssetKey, talk: str | None, external: str) -> dict[str, str]:
    """What an event was made from, as tags; Dagster adds the same to materialisations that it reports itself."""
    version = graph.get(key).code_version or ""
    return {EXTERNAL_TAG: external, CODE_VERSION_TAG: version, **input_tags(instance, graph, key, talk)}


def rejection(instance: DagsterInstance, graph: Any, key: AssetKey, talk: str | None, record: Record, external: str) -> AssetObservation:
    """The note that this input was judged and found unusable."""
    tags = {REJECTED_TAG: "true", **provenance_tags(instance, graph, key, talk, external)}
    return AssetObservation(key, partition=talk, metadata=metadata_of(record), tags=tags)


def _reject(context: AssetExecutionContext, record: Record, external: str) -> None:
    """Errors: always one. What did not come in is tried again, later, where nobody waits for the run; nothing else is."""
    if may_pass(record):
        if record.stage == RETRIED and context.retry_number < RETRIES and PROCESS_TAG not in context.run.tags:
            raise RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS * 2**context.retry_number)
        raise Failure(record.reason, metadata=metadata_of(record), allow_retries=False)
    partition = context.partition_key if context.has_partition_key else None
    graph = context.job_def.asset_layer.asset_graph
    context.log_event(rejection(context.instance, graph, context.asset_key, partition, record, external))
    raise Failure(record.reason, metadata=metadata_of(record), allow_retries=False)


def _settings_shown(asset: str, config: Config) -> dict[str, Any]:
    shown = {name: config.model_dump(mode="json")[name] for name in SETTINGS[asset]}
    return {"settings": MetadataValue.json(shown)} if shown else {}


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return MetadataValue.bool(value)
    if isinstance(value, int):
        return MetadataValue.int(value)
    if isinstance(value, float):
        return MetadataValue.float(value) if math.isfinite(value) else MetadataValue.text(str(value))
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return MetadataValue.path(str(value))
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return MetadataValue.json(value)
    return MetadataValue.text(str(value))


def _scalars(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, int | float) for v in value.values())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _literal(path: Path, name: str) -> str:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return str(ast.literal_eval(node.value))
    raise ValueError(f"{path}: expected a line {name} = '...', got none")
