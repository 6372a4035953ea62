"""Follow a command and all of its processes, and leave none behind however it ends.

The command gets its own process group, but torch's agent puts each worker in a session of its own, so ending the group
is not enough: every process of a run carries a mark in its environment and is ended by it. Workers also watch the
launcher (pipelines/watchdog.py) and end themselves when it was killed outright.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import psutil

from pipelines.watchdog import RUN_VARIABLE, parent_mark

GRACE_SECONDS = 3.0  # between asking a process to end and killing it


class ProcessFailed(RuntimeError):
    """The command ended with an error; the message is its line."""


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
        raise ProcessFailed(f"it ended with code {code}: {_cause(last)}")


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
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        # a pid whose exit code was collected may already be another's
        family = _family(process.pid) if process.poll() is None else []
        alive = {p.pid: p for p in [*family, *_marked(mark)]}
        for one in alive.values():
            with contextlib.suppress(psutil.Error):
                ask(one)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        alive.pop(process.pid, None)  # `process` alone may collect its exit code
        psutil.wait_procs(list(alive.values()), timeout=GRACE_SECONDS)
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
