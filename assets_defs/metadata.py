"""Records of the pipelines → what Dagster shows: counts, seconds, paths, scalar metrics, inline pictures, data versions.

A rejected record becomes `dagster.Failure` with the record's one line, and an observation that carries the same tags as
a materialisation would, so that the demo and the sensor know that this input was judged and need not be tried again.
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

from dagster import AssetExecutionContext, AssetObservation, DataVersion, Failure, MaterializeResult, MetadataValue

from assets_defs.lineage import CODE_VERSION_TAG, EXTERNAL_TAG, REJECTED_TAG, SETTINGS, external_inputs, input_tags
from assets_defs.resources import ROOT, Settings
from configs.schema import Config
from pipelines.store import Record, Store, hash_json

PREVIEW_PIXELS = 640  # longest side of an inline picture; larger ones are shrunk, the file itself is linked
SHOWN_APART = {"metrics", "preview", "table", "reason"}


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
        metadata={**metadata_of(record), **_settings_shown(asset, config), "run_seconds": round(wall, 3)},
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
    return shown


def inline_picture(path: Path) -> MetadataValue:
    """The picture inside the metadata, so that it shows wherever the UI runs; shrunk to `PREVIEW_PIXELS`."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return MetadataValue.md(f"![{path.name}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def _reject(context: AssetExecutionContext, record: Record, external: str) -> None:
    metadata = metadata_of(record)
    partition = context.partition_key if context.has_partition_key else None
    graph = context.job_def.asset_layer.asset_graph
    version = graph.get(context.asset_key).code_version or ""
    inputs = input_tags(context.instance, graph, context.asset_key, partition)
    tags = {EXTERNAL_TAG: external, REJECTED_TAG: "true", CODE_VERSION_TAG: version, **inputs}
    context.log_event(AssetObservation(context.asset_key, partition=partition, metadata=metadata, tags=tags))
    raise Failure(record.reason, metadata=metadata, allow_retries=False)


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
