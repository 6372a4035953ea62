"""Faults that may pass: a disk that is full, a file that vanished or is still being written. Recorded, not judged.

The record of such a fault holds `try_again` among its facts and no hash of inputs, so that the next run tries again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.store import InputRejected, Record, Store

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotNow(ValueError):
    """The input cannot be used as it is now; the same input may be usable at the next run. No final judgement."""


class Unchanged:
    """Whether a file is still the one that it was when this was made."""

    def __init__(self, path: Path):
        self.path, self.before = path, _stamp(path)

    def check(self) -> None:
        """Errors: NotNow after any write to the file, and for another one in its place; OSError where it is gone."""
        if _stamp(self.path) != self.before:
            raise NotNow(f"{self.path.name!r}: expected a file that is whole, got one that changed while it was read; try again")


def tried(
    store: Store, stage: str, unit: str, code_version: str, work: Callable[[], Record], undo: Callable[[], None] | None = None
) -> Record:
    """What `work` returns; where a fault that may pass ends it, `undo` is called and its record kept and returned.

    Errors: InputRejected where not even the record can be kept.
    """
    start = time.perf_counter()
    try:
        return work()
    except NotNow as error:
        reason = str(error)
    except OSError as error:
        told = error.strerror or str(error) or type(error).__name__
        if error.errno in NO_ROOM:
            reason = f"{unit}: expected room to write, got {told!r}; free some space in {store.root}"
        else:
            where = f" of {Path(str(error.filename)).name!r}" if error.filename else ""
            reason = f"{unit}: expected files that can be read and written, got {told}{where}; look at them and their disk"
    if undo is not None:
        undo()
    seconds = time.perf_counter() - start
    record = Record(stage, unit, code_version, "", "rejected", reason=reason, seconds=seconds, facts={"try_again": True})
    try:
        store.write_record(record)
    except OSError as error:
        raise InputRejected(reason) from error
    return record


def may_pass(record: Record) -> bool:
    """Whether the same input may be usable at the next try: a server that is down, a file that still grows."""
    return bool(record.facts.get("try_again"))


def _stamp(path: Path) -> tuple[int, int, int]:
    """Differs after every write to the file and after every other file in its place."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
