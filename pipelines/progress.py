"""Progress bars for people at a terminal; silent everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], text: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` on under a bar that goes away when they end; `total`: how many there are, if known."""
    return iter(track(items, text, total=total, transient=True, disable=not sys.stderr.isatty()))
