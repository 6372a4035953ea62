"""Work that follows a sequence in order, spread over threads: stretches of the sequence, each with a run-up."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Stopped(Exception):
    """Something else has failed; what this stretch would give is not wanted any more."""


def by_stretches(
    items: Iterable[Item],
    work: Callable[[Iterator[Item]], list[Result]],  # one result an item, in order
    length: int,  # items of a stretch
    run_up: int,  # items before a stretch that its work begins with; their results are dropped
    threads: int,
) -> list[Result]:
    """Results of all items in order; `work` begins anew at every `length`-th item, whatever the number of threads.

    What is left at the end goes to the stretch before where it is no longer than its run-up. At most `threads` + 1 stretches
    are held. What `items` or `work` raise is raised here, after all threads have ended.
    """
    stretches: list[Future[list[Result]]] = []
    before: deque[Item] = deque(maxlen=run_up)
    stopped = threading.Event()

    def fed(source: queue.SimpleQueue[tuple[Item] | None]) -> Iterator[Item]:
        while (entry := source.get()) is not None:
            if stopped.is_set():
                raise _Stopped
            yield entry[0]

    def follow(source: queue.SimpleQueue[tuple[Item] | None], dropped: int) -> list[Result]:
        try:
            return work(fed(source))[dropped:]
        except BaseException:
            stopped.set()
            raise

    feed: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index, (item, ending) in enumerate(_with_end(items, run_up)):
                if index % length == 0 and not (ending and stretches):
                    feed.put(None)
                    wait(stretches[-threads - 1 : -threads])
                    feed = queue.SimpleQueue()
                    for earlier in before:
                        feed.put((earlier,))
                    stretches.append(pool.submit(follow, feed, len(before)))
                if stopped.is_set():
                    break
                feed.put((item,))
                before.append(item)
        except BaseException:
            stopped.set()
            raise
        finally:
            feed.put(None)
    errors = [error for stretch in stretches if (error := stretch.exception())]
    for error in sorted(errors, key=lambda e: isinstance(e, _Stopped)):  # the cause first
        raise error
    return [result for stretch in stretches for result in stretch.result()]


def _with_end(items: Iterable[Item], count: int) -> Iterator[tuple[Item, bool]]:
    """Each item, and whether it is one of the last `count`."""
    held: deque[Item] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft(), False
    yield from ((item, True) for item in held)
