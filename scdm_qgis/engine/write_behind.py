"""Writing in a thread of its own, behind the work."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Callable, Deque, Optional, Type

from scdm_qgis.engine.waiting import wait_for

DEPTH = 1
"""Calls that may wait: each holds what was made of a whole batch."""


class WriteBehind:
    """Runs calls one after the other in a thread of its own, as a context manager.

    After the first call that fails none is run any more; its exception is raised by a later call or on leaving.
    """

    def __enter__(self) -> WriteBehind:
        self._thread = ThreadPoolExecutor(1, "write behind")
        self._pending: Deque[Future[None]] = deque()
        self._failed = False
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            while error is None and self._pending:
                wait_for(self._pending.popleft())
        finally:
            self._thread.shutdown(cancel_futures=True)

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a call as soon as those before it are done; wait where too many do already."""
        while len(self._pending) >= DEPTH:
            wait_for(self._pending.popleft())
        self._pending.append(self._thread.submit(self._run, function, *arguments))

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        self._failed = True
        function(*arguments)
        self._failed = False
