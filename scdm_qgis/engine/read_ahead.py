"""Reading in a thread of its own, ahead of the work."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Generator, Iterator, TypeVar

from scdm_qgis.engine.waiting import wait_for

DEPTH = 2
"""Items read ahead."""

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield the items of an iterator that runs in a thread of its own, a few items ahead."""
    end = object()
    thread = ThreadPoolExecutor(1, "read ahead")
    try:
        pending = deque(thread.submit(next, items, end) for _ in range(DEPTH))
        while (item := wait_for(pending.popleft())) is not end:
            pending.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)
