"""Iterators that work ahead: same order, same errors, nothing left behind."""

from __future__ import annotations

import threading

import pytest

from pipelines.ahead import ahead


def test_order_and_length_are_kept():
    assert list(ahead(range(50), depth=3)) == list(range(50))
    assert list(ahead([])) == []


def test_errors_come_out_where_they_are_read():
    def broken():
        yield 1
        raise OSError("disk full")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk full"):
        next(items)


def test_a_reader_that_stops_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    items = ahead(endless(), depth=2)
    next(items)
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before
