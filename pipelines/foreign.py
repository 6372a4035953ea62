"""Run somebody else's program in its own environment: `python -m pipelines.foreign --name EMAGE --folder DIR -- words …`.

Every line it writes goes to our output, lines of progress (tqdm's percentages, "3/12") also to the Dagster run that waits, a
few times a minute. How it failed is told in one line, `error: …`, with the last that it wrote to stderr; one that runs
longer than `--time-limit` is ended with all its processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pipelines.pipes import open_progress
from pipelines.processes import end_processes

PROGRESS = re.compile(r"\d{1,3}%|\b\d+/\d+\b")
SECONDS_BETWEEN_REPORTS = 5.0
TOLD = 3  # last lines of stderr that the error quotes
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DAGSTER_PIPES_CONTEXT", "DAGSTER_PIPES_MESSAGES")  # not for their interpreter


def run(name: str, words: list[str], folder: Path, time_limit: float, report: Callable[[str], None]) -> str | None:
    """Run `words` in `folder`; returns what went wrong as one line, None where it ended well."""
    env = {k: v for k, v in os.environ.items() if k not in OURS} | {"PYTHONUNBUFFERED": "1"}
    parent = os.getppid()
    try:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        return f"{name}: cannot start {words[0]}: {error.strerror or error}"
    lines: queue.Queue[tuple[bool, str] | None] = queue.Queue()
    assert process.stdout is not None
    assert process.stderr is not None
    for stream, is_error in ((process.stdout, False), (process.stderr, True)):
        threading.Thread(target=_read, args=(stream, is_error, lines), daemon=True).start()
    end, last, reported = time.monotonic() + time_limit, deque[str](maxlen=50), 0.0
    try:
        open_streams = 2
        while open_streams:
            if os.getppid() != parent:
                return f"{name}: the run that waited for it is gone"
            try:
                item = lines.get(timeout=max(0.0, min(0.5, end - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= end:
                    return f"{name} was still running after its time limit of {time_limit:g} s (baseline.time_limit){_quoted(last)}"
                if process.poll() is not None:
                    break  # a grandchild that holds the pipe open is not waited for
                continue
            if item is None:
                open_streams -= 1
                continue
            is_error, line = item
            print(line, flush=True)
            if PROGRESS.search(line):
                if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                    report(f"{name}: {line}")
                    reported = time.monotonic()
            elif is_error:
                last.append(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, end - time.monotonic()))
        code = process.poll()
        if code is None:
            return f"{name} was still running after its time limit of {time_limit:g} s (baseline.time_limit){_quoted(last)}"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"{name} {how}{_quoted(last)}" if code else None
    finally:
        end_processes(process, uuid.uuid4().hex)  # with its family; what left that carries the run's mark and is ended by `follow`


def _read(stream: IO[bytes], is_error: bool, lines: queue.Queue[tuple[bool, str] | None]) -> None:
    """Lines as they come; what tqdm overwrites with a carriage return is a line too."""
    rest = b""
    while block := os.read(stream.fileno(), 1 << 16):
        *whole, rest = re.split(rb"[\r\n]+", rest + block)
        for line in whole:
            if line.strip():
                lines.put((is_error, line.decode(errors="replace").rstrip()))
    if rest.strip():
        lines.put((is_error, rest.decode(errors="replace").rstrip()))
    lines.put(None)


def _quoted(last: deque[str]) -> str:
    """Its last lines on stderr, the innermost first line of a traceback left out."""
    told = [line.strip() for line in last if not line.startswith((" ", "Traceback"))] or [line.strip() for line in last]
    return f": {' | '.join(told[-TOLD:])}" if told else "; it wrote nothing to stderr"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run another project's program and bring its lines and failures home.")
    parser.add_argument("--name", required=True, help="what errors call it")
    parser.add_argument("--folder", type=Path, required=True, help="folder that it runs in")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds after which it is ended")
    parser.add_argument("words", nargs="+", help="the command, after --")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with open_progress(0) as report:
        wrong = run(options.name, options.words, options.folder, options.time_limit, report)
    if wrong is not None:
        print(f"error: {wrong}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
