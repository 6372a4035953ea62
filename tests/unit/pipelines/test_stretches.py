"""Stretches of a sequence worked on side by side: order, run-ups, how much is held, and what happens when something fails."""

from __future__ import annotations

import threading
import time

import pytest

from pipelines.stretches import by_stretches


def positions(items):
    """Of each item, how many came before it in the same stretch, and the item."""
    return [(at, item) for at, item in enumerate(items)]


def noted(count, given):
    """Numbers, which are noted in `given` when they are asked for."""
    for i in range(count):
        given.append(i)
        yield i


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_are_in_order_and_do_not_depend_on_the_number_of_threads(threads):
    expected = [(i, i) for i in range(10)] + [(3 + i % 10, i) for i in range(10, 34)]
    assert by_stretches(range(34), positions, 10, 3, threads) == expected


def test_fewer_items_than_a_stretch_stay_together_and_none_give_none():
    assert by_stretches(range(10), positions, 10, 3, 2) == [(i, i) for i in range(10)]
    assert by_stretches([], positions, 10, 3, 2) == []


@pytest.mark.parametrize(("count", "last"), [(13, 12), (14, 3 + 3), (23, 3 + 12), (24, 3 + 3)])
def test_an_end_no_longer_than_its_run_up_goes_to_the_stretch_before(count, last):
    assert by_stretches(range(count), positions, 10, 3, 2)[-1] == (last, count - 1)


def test_stretches_run_side_by_side():
    both = threading.Barrier(2, timeout=10)

    def meet(items):
        found = list(items)
        both.wait()
        return found

    assert by_stretches(range(20), meet, 10, 0, 2) == list(range(20))


def test_items_are_not_read_further_ahead_than_a_stretch_more_than_there_are_threads():
    given: list[int] = []
    done: list[int] = []

    def slow(items):
        found = []
        for item in items:
            time.sleep(1e-3)
            assert len(given) - len(done) <= 31
            found.append(item)
        done.extend(found)
        return found

    assert by_stretches(noted(100, given), slow, 10, 0, 2) == list(range(100))


def test_what_the_work_raises_is_raised_and_reading_stops():
    given: list[int] = []

    def work(items):
        for item in items:
            if item == 25:
                raise ValueError("picture 25 is broken")
        return []

    with pytest.raises(ValueError, match="picture 25 is broken"):
        by_stretches(noted(1000, given), work, 10, 3, 2)
    assert len(given) <= 60


def test_what_the_items_raise_is_raised():
    def items():
        yield from range(25)
        raise OSError("the video ends here")

    with pytest.raises(OSError, match="the video ends here"):
        by_stretches(items(), list, 10, 3, 2)
