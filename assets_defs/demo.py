"""`python -m assets_defs.demo`: materialise everything that is out of date, in lineage order, in one process.

One persistent Dagster instance (`$DAGSTER_HOME`, else `<workspace>/dagster`), the same that `dagster dev` shows with
`--serve`. An asset runs where its recorded code version, input data versions or settings differ from the present ones;
a second call finds nothing to do. A talk of no use is reported and left out.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    ExecuteInProcessResult,
    MetadataValue,
    PathMetadataValue,
    RunsFilter,
    logger,
)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from assets_defs.definitions import ASSETS, CHECKS
from assets_defs.lineage import (
    DATA_VERSION_TAG,
    PROCESS_TAG,
    external_inputs,
    failed_checks,
    materialization_tags,
    was_rejected,
    why_stale,
)
from assets_defs.resources import CONFIG_VARIABLE, DEFAULT_CONFIG, ROOT, Settings, config_path
from assets_defs.talks import TALKS
from configs.schema import Config
from pipelines.store import Store

MODULE = "assets_defs.definitions"


@dataclass
class Outcome:
    """What became of one asset: its partitions by state, seconds of work, and the lines worth reading."""

    states: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)

    def add(self, state: str, seconds: float = 0.0, line: str = "") -> None:
        self.states[state] = self.states.get(state, 0) + 1
        self.seconds += seconds
        self.lines += [line] if line else []


def main(
    config: Annotated[Path, typer.Option(help="YAML preset")] = Path(DEFAULT_CONFIG),
    env: Annotated[bool, typer.Option("--env", help="print the environment of Dagster's own commands and stop")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="run `dagster dev` on the demo's instance")] = False,
) -> None:
    """Materialise every asset that is out of date; or serve the instance; or print its environment."""
    environment = prepare(config)
    if env:
        path = f"{Path(sys.executable).parent}:$PATH"
        print("export " + " ".join(f"{k}={shlex.quote(v)}" for k, v in environment.items()) + f' PATH="{path}"')
        return
    os.environ.update(environment)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the thread pools of torch and numba would spin against each other
    if serve:
        os.execv(sys.executable, [sys.executable, "-m", "dagster", "dev", "-m", MODULE])
    settings, store = Settings().load()
    log = Path(environment["DAGSTER_HOME"]) / "demo.log"
    with DagsterInstance.get() as instance, own_console(log) as console:
        outcomes = materialise_all(instance, settings, store, console)
        console.print(summary(instance, outcomes))
        for label, path in results(instance):
            console.print(f"{label}: [bold]{path}[/bold]", soft_wrap=True)
        console.print(f"what the stages wrote: {log}", soft_wrap=True)
        console.print(f"to look at it: python -m assets_defs.demo --config {config} --serve", soft_wrap=True)
    if any({"failed", "waits"} & set(outcome.states) for outcome in outcomes.values()):
        raise typer.Exit(1)


@contextmanager
def own_console(log: Path) -> Iterator[Console]:
    """A console on the terminal, while all else that is written to stdout and stderr (libraries' chatter) goes to `log`."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with log.open("ab") as sink, os.fdopen(os.dup(1), "w") as terminal:
        try:
            for number in kept:
                os.dup2(sink.fileno(), number)
            yield Console(file=terminal)
        finally:
            for number, original in kept.items():
                (sys.stdout, sys.stderr)[number - 1].flush()
                os.dup2(original, number)
                os.close(original)


def prepare(config: Path) -> dict[str, str]:
    """The environment of this project's Dagster; creates the instance's folder with configs/dagster.yaml in it."""
    path = config_path(str(config)).resolve()
    environment = {CONFIG_VARIABLE: str(path), "DAGSTER_MODULE_NAME": MODULE}
    _, store = Settings(config=str(path)).load()
    home = Path(os.environ.get("DAGSTER_HOME") or store.root / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(ROOT / "configs" / "dagster.yaml", home / "dagster.yaml")
    return {**environment, "DAGSTER_HOME": str(home)}


def materialise_all(instance: DagsterInstance, config: Config, store: Store, console: Console) -> dict[str, Outcome]:
    """Every asset in lineage order, a partitioned one talk by talk. What depends on a failure waits."""
    from pipelines.ingest import discover

    _end_dead_runs(instance)
    talks = discover(config, store)
    instance.add_dynamic_partitions(TALKS.name or "", talks)
    status = _Status()
    definitions = Definitions(ASSETS, asset_checks=CHECKS, resources={"settings": Settings()}, loggers={"console": status.logger})
    graph = definitions.resolve_asset_graph()
    order = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    units = [(key, talk) for key in order for talk in (talks if graph.get(key).partitions_def else [None])]
    outcomes: dict[str, Outcome] = {key.to_user_string(): Outcome() for key in order}
    stopped: set[tuple[AssetKey, str | None]] = set()  # units that failed, were rejected, or wait for one that did
    text = [TextColumn("{task.description}"), TextColumn("[dim]{task.fields[status]}")]
    columns = (SpinnerColumn(), text[0], BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), text[1])
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task("", total=len(units), status="")
        status.show = lambda text: progress.update(task, status=text[:100])
        for key, talk in units:
            name = key.to_user_string()
            progress.update(task, description=f"{name} {talk or ''}", status="")
            outcome = outcomes[name]
            if any((parent, talk) in stopped or (parent, None) in stopped for parent in graph.get(key).parent_keys):
                stopped.add((key, talk))
                outcome.add("waits" if talk is None else "left out")
            else:
                state, seconds, line = _bring_up_to_date(instance, definitions, graph, key, talk, config, store)
                outcome.add(state, seconds, f"{talk}: {line}" if talk and line else line)
                if state in ("failed", "rejected", "check failed"):
                    stopped.add((key, talk))
                if state != "up to date":
                    console.print(f"{name} {talk or ''} {state} {seconds:.1f} s {line}", highlight=False, soft_wrap=True)
            progress.advance(task)
    return outcomes


def _bring_up_to_date(
    instance: DagsterInstance, definitions: Definitions, graph: Any, key: AssetKey, talk: str | None, config: Config, store: Store
) -> tuple[str, float, str]:
    """State, seconds and one line of an asset (or one talk of it) after what had to be done was done."""
    external = external_inputs(key.to_user_string(), config, store, talk)
    question = (instance, graph, key, talk, external)
    if why_stale(*question) is None and outputs_stand(instance, key, talk):
        state, line = _checked(instance, graph, key, talk)
        return state or "up to date", 0.0, line
    if was_rejected(*question):
        return ("rejected" if talk else "failed"), 0.0, "rejected before, unchanged since"
    start = time.perf_counter()
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[key],
        partition_key=talk,
        raise_on_error=False,
        run_config={"loggers": {"console": {}}},
        tags={PROCESS_TAG: str(os.getpid())},
    )
    seconds = time.perf_counter() - start
    if was_rejected(*question):
        return ("rejected" if talk else "failed"), seconds, _reason(result)
    state, line = _checked(instance, graph, key, talk) if why_stale(*question) is None else ("failed", _reason(result))
    if not state and not result.success:
        return "check failed", seconds, _reason(result)
    return state or "made", seconds, line


def outputs_stand(instance: DagsterInstance, key: AssetKey, talk: str | None) -> bool:
    """Whether the files named by the newest materialisation still exist."""
    metadata = newest_metadata(instance, key, talk)
    return all(Path(v.value).exists() for v in metadata.values() if isinstance(v, PathMetadataValue) and v.value)


def newest_metadata(instance: DagsterInstance, key: AssetKey, talk: str | None = None) -> Mapping[str, MetadataValue]:
    wanted = AssetRecordsFilter(key, asset_partitions=[talk] if talk else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    event = records[0].asset_materialization if records else None
    return event.metadata if event else {}


def _checked(instance: DagsterInstance, graph: Any, key: AssetKey, talk: str | None) -> tuple[str, str]:
    """State and line of a materialised asset whose blocking checks failed; empty where they hold."""
    failed = failed_checks(instance, graph, key, talk)
    return ("check failed", f"blocking check failed: {', '.join(failed)}") if failed else ("", "")


def summary(instance: DagsterInstance, outcomes: dict[str, Outcome]) -> Table:
    table = Table(Column("asset", no_wrap=True), "state", "seconds", "data version", title="speech-avatar")
    for name, outcome in outcomes.items():
        tags = materialization_tags(instance, AssetKey(name), None) or {}
        states = ", ".join(state if n == 1 and len(outcome.states) == 1 else f"{n} {state}" for state, n in outcome.states.items())
        table.add_row(name, states, f"{outcome.seconds:.1f}", tags.get(DATA_VERSION_TAG, ""))
    return table


def results(instance: DagsterInstance) -> list[tuple[str, str]]:
    """The video and the report, from the metadata of the assets that made them."""
    found = []
    for name, ending in (("speaking_video", ".mp4"), ("baseline_comparison", ".html")):
        values = newest_metadata(instance, AssetKey(name)).values()
        paths = [str(v.value) for v in values if isinstance(v, PathMetadataValue) and str(v.value).endswith(ending)]
        found += [(name, path) for path in paths[:1]]
    return found


def _reason(result: ExecuteInProcessResult) -> str:
    """The last cause of the first failed step, in one line."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return data.user_failure_data.description
            error = data.error
            while error and error.cause:
                error = error.cause
            return error.message.strip().splitlines()[-1] if error else "failed"
    return "failed"


def _end_dead_runs(instance: DagsterInstance) -> None:
    """Mark runs of demos that were killed as failed; Dagster cannot know by itself."""
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING])):
        process = run.tags.get(PROCESS_TAG)
        if process and not Path(f"/proc/{process}").exists():
            instance.report_run_failed(run, "the process of this run has ended")


class _Status(logging.Handler):
    """Shows a run's own log lines beside the progress bar; Dagster's event messages (DEBUG) are left out."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.show: Any = lambda text: None

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        self.show(str(meta.get("orig_message", record.getMessage())).splitlines()[0])

    @property
    def logger(self) -> Any:
        handler = self

        @logger
        def status_logger(_context: Any) -> logging.Logger:
            sink = logging.Logger("speech_avatar.demo", logging.INFO)
            sink.addHandler(handler)
            return sink

        return status_logger


if __name__ == "__main__":
    typer.run(main)
