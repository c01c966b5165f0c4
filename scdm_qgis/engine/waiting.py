"""Waiting for other threads in a way that a cancel interrupts."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TypeVar

SECONDS_BETWEEN_LOOKS = 0.1
"""A signal that another thread has raised is not seen while this one waits, on Windows no signal is."""

Result = TypeVar("Result")


def wait_for(future: Future[Result]) -> Result:
    """Return a future's result as soon as it is there, or raise its exception."""
    while not future.done():
        wait([future], SECONDS_BETWEEN_LOOKS)
    return future.result()
