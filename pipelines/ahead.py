"""Iterators that work ahead in a thread of their own: decoding, masking and encoding of one clip at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()


def ahead(items: Iterable[Item], depth: int = 8) -> Generator[Item, None, None]:
    """Pass `items` on in order, made in another thread, at most `depth` before they are asked for.

    What it raises is raised here; when the reader stops early, the thread ends and closes `items`.
    """
    made: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: Any) -> bool:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put((item, None)):
                    break
            put((END, None))
        except BaseException as error:  # handed to the reader
            put((END, error))
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
