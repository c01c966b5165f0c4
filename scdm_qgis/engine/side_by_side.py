"""Work in several threads at once, its results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterator, TypeVar

from scdm_qgis.engine.waiting import wait_for

IN_WORK = 2
"""Items in work for every thread: one is computed, and one waits, or is done before its turn."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result], items: Iterator[Item], threads: int, set_up: Callable[[], None]
) -> Generator[Result, None, None]:
    """Yield what a function makes of items, in their order, a few items ahead.

    When the generator is closed, calls that run are not waited for; but Python does not end before they have.

    Args:
        function: called in the threads.
        items: asked for in the caller's thread.
        threads: as many calls run at once.
        set_up: called once in every thread before all else.
    """
    pool = ThreadPoolExecutor(threads, "side by side", set_up)
    pending: Deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == IN_WORK * threads:
                yield wait_for(pending.popleft())
        while pending:
            yield wait_for(pending.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
