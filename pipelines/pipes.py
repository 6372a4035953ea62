"""The one place that knows Dagster Pipes: a training process tells the run that started it how far it is.

Without Dagster's environment, and on every process but the first (Pipes hands its environment to all), it does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CONTEXT_VARIABLE = "DAGSTER_PIPES_CONTEXT"


@contextmanager
def open_progress(rank: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes one line to the run's log."""
    if rank != 0 or CONTEXT_VARIABLE not in os.environ:
        yield lambda line: None
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        yield context.log.info
