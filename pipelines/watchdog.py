"""A worker ends itself when the process that launched its run is gone, so that kill -9 leaves nothing training on."""

from __future__ import annotations

import os
import threading
import time

import psutil

RUN_VARIABLE = "SPEECH_AVATAR_RUN"  # the same in all processes of one run
PARENT_VARIABLE = "SPEECH_AVATAR_LAUNCHER"  # pid:start time of the process that follows the run
PERIOD_SECONDS = 1.0


def parent_mark() -> dict[str, str]:
    """Environment that tells workers which process to watch: this one."""
    return {PARENT_VARIABLE: f"{os.getpid()}:{psutil.Process().create_time()}"}


def watch() -> None:
    """Watch the launcher, where there is one, and the direct parent from a thread."""
    launcher, parent = os.environ.get(PARENT_VARIABLE), os.getppid()

    def look() -> None:
        while os.getppid() == parent and (launcher is None or _alive(launcher)):
            time.sleep(PERIOD_SECONDS)
        os._exit(143)

    threading.Thread(target=look, name="watchdog", daemon=True).start()


def _alive(mark: str) -> bool:
    pid, started = mark.split(":")
    try:
        process = psutil.Process(int(pid))
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - float(started)) < 1.0
    except psutil.Error:
        return False
