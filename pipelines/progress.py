"""Progress bars for people at a terminal; silent everywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], text: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` on under a bar that goes away when they end; `total`: how many there are, if known."""
    return iter(track(items, text, total=total, transient=True, disable=not sys.stderr.isatty()))


@contextlib.contextmanager
def chatter_to(log: Path) -> Iterator[None]:
    """What native libraries write to the error stream goes to the end of `log`; Python's own lines still come through."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    original, kept = sys.stderr, os.dup(2)
    with log.open("ab") as sink, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        try:
            os.dup2(sink.fileno(), 2)
            sys.stderr = terminal
            yield
        finally:
            sys.stderr = original
            os.dup2(kept, 2)
            os.close(kept)
