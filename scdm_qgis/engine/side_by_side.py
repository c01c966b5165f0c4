"""Work in several threads at once, its results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterator, TypeVar

WAITING = 1
"""Items that wait for a thread, so that none of them waits for an item."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result], items: Iterator[Item], threads: int, set_up: Callable[[], None]
) -> Generator[Result, None, None]:
    """Yield what a function makes of items, in their order, a few items ahead.

    When the generator is closed, calls that run are not waited for.

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
            if len(pending) == threads + WAITING:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
