"""Start training under `torch.distributed.run`, follow it, and leave no process behind however it ends.

The run gets its own process group; torch's agent puts each worker in a session of its own, so the group alone is not
enough: every process of a run carries a mark in its environment and is ended by it. Workers also watch the launcher
(pipelines/watchdog.py) and end themselves when it was killed outright.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil
import yaml

from configs.schema import Config
from pipelines.checkpoints import CODE_VERSION, PROJECT, Stage, run_id, training_config, weights_file
from pipelines.store import Record, Store, writing
from pipelines.watchdog import RUN_VARIABLE, parent_mark

GRACE_SECONDS = 3.0  # between asking a process to end and killing it


class TrainingFailed(RuntimeError):
    """The training processes ended with an error; the message is its line."""


def run_training(
    config: Config,
    store: Store,
    stage: Stage,
    on_line: Callable[[str], None] = print,
    env: Mapping[str, str] | None = None,
) -> Record:
    """Train a stage to its end and return the record; nothing is done where this very run was finished before.

    An unfinished run of the same configuration, data and code goes on from its last saved step. `on_line` gets every
    line that the processes write; `env` is added to their environment (Dagster Pipes). TrainingFailed, KeyboardInterrupt
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


def follow(words: list[str], on_line: Callable[[str], None], env: Mapping[str, str]) -> None:
    """Run a command in its own process group, pass on its lines, and end all of its processes when this returns or raises."""
    mark = uuid.uuid4().hex
    env = {**env, RUN_VARIABLE: mark, **parent_mark()}
    last: deque[str] = deque(maxlen=200)
    with _terminable():
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, start_new_session=True)
        try:
            for line in _lines(process):
                last.append(line)
                on_line(line)
            code = process.wait()
        finally:
            end_processes(process, mark)
    if code:
        raise TrainingFailed(f"training ended with code {code}: {_cause(last)}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines as they come, until the process has ended and said all: a forgotten grandchild may hold the pipe open."""
    assert process.stdout is not None
    handle, rest = process.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            if selector.select(0 if ended else 0.5):
                block = os.read(handle, 1 << 16)
                if block:
                    *lines, rest = (rest + block).split(b"\n")
                    yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
                    continue
                process.wait()
            elif not ended:
                continue
            if rest:
                yield rest.decode(errors="replace")
            return


def end_processes(process: subprocess.Popen[bytes], mark: str) -> None:
    """End the process and all that carry the mark: first asked, then killed."""
    everyone = lambda: {p.pid: p for p in [*_family(process.pid), *_marked(mark)]}  # noqa: E731
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        alive = list(everyone().values())
        for one in alive:
            with contextlib.suppress(psutil.Error):
                ask(one)
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    if process.stdout is not None:
        process.stdout.close()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(RUN_VARIABLE) == mark:
                found.append(process)
    return found


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, where nobody else handles it, so that `finally` runs."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _cause(lines: deque[str]) -> str:
    """The line that says what went wrong: the worker's own, else the last one that looks like an exception."""
    own = [line.split("error: ", 1)[1] for line in lines if "error: " in line and line.lstrip("[0123456789]: ").startswith("error: ")]
    raised = [line.strip() for line in lines if re.match(r"^(\[.*?\]:)?\s*\w*(Error|Exception)\b", line)]
    return (own or raised or [line for line in lines if line.strip()] or ["no output"])[-1]
