"""Calls run at once in threads of their own, and their results come in order."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from scdm_qgis.engine.side_by_side import IN_WORK, side_by_side

PATIENCE = 30


def test_results_come_in_the_order_of_the_items():
    def late(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number**2

    assert list(side_by_side(late, iter(range(20)), 3, lambda: None)) == [number**2 for number in range(20)]


def test_as_many_calls_as_threads_run_at_once():
    together = threading.Barrier(3)

    def meet(number):
        together.wait(PATIENCE)  # fails unless three threads are in it
        return threading.current_thread().name

    assert len(set(side_by_side(meet, iter(range(6)), 3, lambda: None))) == 3


def test_every_thread_is_set_up_first():
    own = threading.local()

    def set_up():
        own.ready = True

    assert list(side_by_side(lambda item: own.ready, iter(range(4)), 2, set_up)) == [True] * 4


def test_no_more_items_are_asked_for_than_are_in_work():
    asked = []

    def items():
        for number in range(20):
            asked.append(number)
            yield number

    with closing(side_by_side(lambda item: item, items(), 2, lambda: None)) as results:
        next(results)
        assert len(asked) == 2 * IN_WORK


def test_an_exception_of_a_call_is_raised_in_its_turn():
    def fail(number):
        if number == 2:
            raise ValueError(f"item {number}")
        return number

    results = side_by_side(fail, iter(range(9)), 2, lambda: None)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_closing_waits_for_no_call():
    goes_on = threading.Event()

    def slow(number):
        if number:
            goes_on.wait(PATIENCE)
        return number

    results = side_by_side(slow, iter(range(9)), 1, lambda: None)
    assert next(results) == 0
    results.close()
    goes_on.set()  # only now can the second call end
