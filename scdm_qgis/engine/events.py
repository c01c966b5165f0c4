"""The lines an engine process prints: one JSON object a line.

{"event": "hello", "python", "torch", "device"}
{"event": "progress", "percent", "message", "seconds_left"}
{"event": "log", "level", "message"}              level: info, warning
{"event": "result", ...}
{"event": "error", "message", "remedy"}
"""

from __future__ import annotations

import json
import math
import threading
from typing import Any, Dict, Optional, TextIO

KINDS = ("hello", "progress", "log", "result", "error")


class EventWriter:
    """Write events to a text stream, each line whole and flushed, from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def hello(self, python: str, torch: Optional[str], device: Optional[str]) -> None:
        """Say what the engine runs on; torch and device are None where the job needs no torch."""
        self._write({"event": "hello", "python": python, "torch": torch, "device": device})

    def progress(self, percent: float, message: str, seconds_left: Optional[float] = None) -> None:
        """Say how far the job is, in percent, and the seconds it will still take where known."""
        self._write({"event": "progress", "percent": percent, "message": message, "seconds_left": seconds_left})

    def info(self, message: str) -> None:
        """Write a line to the user's log."""
        self._write({"event": "log", "level": "info", "message": message})

    def warning(self, message: str) -> None:
        """Write a warning to the user's log."""
        self._write({"event": "log", "level": "warning", "message": message})

    def result(self, values: Dict[str, Any]) -> None:
        """Give the job's results, keyed as the algorithm's outputs."""
        self._write({"event": "result", **values})

    def error(self, message: str, remedy: str) -> None:
        """Say what went wrong and what to do."""
        self._write({"event": "error", "message": message, "remedy": remedy})

    def _write(self, event: Dict[str, Any]) -> None:
        line = json.dumps(_finite(event), ensure_ascii=True, allow_nan=False)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def parse_event(line: str) -> Optional[Dict[str, Any]]:
    """Return the event a line holds, or None for a line that is none (a library's print)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if isinstance(event, dict) and event.get("event") in KINDS:
        return event
    return None
