"""Start training: DeepSpeed's processes under `torch.distributed.run`, followed to their end (pipelines/processes.py)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from configs.places import PROJECT
from configs.schema import Config
from pipelines.checkpoints import CODE_VERSION, Stage, run_id, training_config, weights_file
from pipelines.processes import follow
from pipelines.store import Record, Store, writing


def run_training(
    config: Config,
    store: Store,
    stage: Stage,
    on_line: Callable[[str], None] = print,
    env: Mapping[str, str] | None = None,
) -> Record:
    """Train a stage to its end and return the record; nothing is done where this very run was finished before.

    An unfinished run of the same configuration, data and code goes on from its last saved step. `on_line` gets every
    line that the processes write; `env` is added to their environment (Dagster Pipes). ProcessFailed, KeyboardInterrupt
    and termination leave no process behind.
    """
    folder, run = store.checkpoint(stage), run_id(config, store, stage)

    def work() -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        follow(command(config, stage, str(folder / "config.yaml")), on_line, environment(config, stage, env or {}))
        summary = json.loads((folder / "summary.json").read_text())
        return {**summary, "run": run, "path": str(weights_file(store, stage))}

    outputs = [weights_file(store, stage), folder / "summary.json"]
    return store.once(f"train_{stage}", "all", CODE_VERSION, run, outputs, work)


def command(config: Config, stage: Stage, config_file: str) -> list[str]:
    """The command that trains, one machine."""
    processes = str(training_config(config, stage).processes)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc-per-node", processes]
    return [*launcher, "--max-restarts=0", "-m", "pipelines.train", "--stage", stage, "--config", config_file]


def environment(config: Config, stage: Stage, extra: Mapping[str, str]) -> dict[str, str]:
    """Ours and `extra`, with threads shared between processes and quiet libraries."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // training_config(config, stage).processes)
    defaults = {
        "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # torch's and numba's pools would spin against each other
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "DS_LOG_LEVEL": "warning",
    }  # fmt: skip
    paths = os.pathsep.join(p for p in (str(PROJECT), os.environ.get("PYTHONPATH", "")) if p)
    return {**defaults, **os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **extra}
