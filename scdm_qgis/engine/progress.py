"""How far a job is and how long it will still take."""

from __future__ import annotations

import time
from typing import Optional

from scdm_qgis.engine.events import EventWriter

SMALLEST_INTERVAL_S = 0.2
"""Progress is reported no more often than this."""

SECONDS_BEFORE_FORECAST = 2.0
"""The time left is not guessed before this much of the work has been timed."""


class Progress:
    """Turn units of work done into progress events with the seconds left.

    Args:
        events: where to report.
        total: units of work of this part of the job.
        first_percent: the job's percentage where this part starts.
        last_percent: the job's percentage where it ends.
    """

    def __init__(self, events: EventWriter, total: float, first_percent: float = 0, last_percent: float = 100) -> None:
        self._events = events
        self._total = total
        self._first, self._last = first_percent, last_percent
        self._done = 0.0
        self._started = time.monotonic()
        self._reported = -SMALLEST_INTERVAL_S

    def say(self, message: str) -> None:
        """Report what is being done now that no unit of work counts."""
        share = min(self._done / self._total, 1.0) if self._total > 0 else 1.0
        self._events.progress(self._first + share * (self._last - self._first), message)

    def advance(self, units: float, message: str) -> None:
        """Report that `units` more are done."""
        self._done += units
        now = time.monotonic()
        if now - self._reported < SMALLEST_INTERVAL_S and self._done < self._total:
            return
        self._reported = now
        share = min(self._done / self._total, 1.0) if self._total > 0 else 1.0
        self._events.progress(
            self._first + share * (self._last - self._first), message, self._seconds_left(share, now - self._started)
        )

    @staticmethod
    def _seconds_left(share: float, elapsed: float) -> Optional[float]:
        if share <= 0 or elapsed < SECONDS_BEFORE_FORECAST:
            return None
        return round(elapsed * (1 - share) / share, 1)
