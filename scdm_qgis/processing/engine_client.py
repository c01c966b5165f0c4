"""Run the engine in its own process and tell the user, through QGIS's feedback, what it says."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence

from qgis.core import Qgis, QgsMessageLog, QgsProcessingFeedback, QgsProcessingUtils

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import checkpoint_path, journal_path, partial_path, remove_partial
from scdm_qgis.engine.events import parse_event
from scdm_qgis.engine.jobs import Job
from scdm_qgis.processing.child_process import ChildProcess, working_folder

LOG_TAG = "SCDM"
"""The tab of QGIS's Log Messages panel that gets what only a developer wants to read."""

_POLL_SECONDS = 0.1  # how soon a cancel is seen
_SECONDS_BETWEEN_MESSAGES = 1.0  # QGIS keeps every progress message in the log


def run_job(python: str, job: Job, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
    """Run one job on the engine and return its results, keyed as the algorithm's outputs.

    Raises:
        UserError: the job failed, the engine died, or the user cancelled. Nothing half-written is left but
            what RESUME can go on with.
    """
    with working_folder() as folder:
        job_file = os.path.join(folder, "job.json")
        with open(job_file, "w", encoding="utf-8") as file:
            json.dump(job.to_json(), file)
        try:
            return run_engine(python, ["-m", "scdm_qgis.engine", job_file, "--watch-stdin"], folder, feedback)
        except UserError:
            with suppress(OSError):  # the error to tell is the job's
                _keep_or_remove(job.output_paths(), feedback)
            raise


def is_temporary(path: str) -> bool:
    """Tell whether an output is one QGIS throws away."""
    return os.path.abspath(path).startswith(os.path.abspath(QgsProcessingUtils.tempFolder()) + os.sep)


def _keep_or_remove(outputs: Sequence[str], feedback: QgsProcessingFeedback) -> None:
    """Say that unfinished work can be taken up again; remove what cannot be, or is not worth it."""
    checkpoints, journals = ([name(path) for path in outputs] for name in (checkpoint_path, journal_path))
    in_vain = any(map(is_temporary, outputs))
    for record in checkpoints + journals:
        remove_partial(record)
        if os.path.exists(record) and in_vain:
            os.remove(record)
    kept = [record for record in checkpoints + journals if os.path.exists(record)]
    if any(map(os.path.exists, journals)):
        kept += [partial_path(path) for path in outputs if os.path.exists(partial_path(path))]
    else:
        for path in outputs:
            remove_partial(path)
    if kept:
        names = ", ".join(f"'{path}'" for path in kept)
        feedback.pushInfo(
            f"The work so far is kept in {names}: run again with RESUME, and all else as it was, to go on."
        )


def run_engine(python: str, arguments: Sequence[str], folder: str, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
    """Start the engine's Python with `arguments` in `folder`, relay its events, return its result event.

    Raises:
        UserError: it reported an error, ended without a result, or the user cancelled.
    """
    try:
        child = ChildProcess([python, *arguments], folder)
    except OSError as error:
        raise UserError(f"'{python}' cannot be started ({error.strerror}).", "Run Check Engine.") from error
    relay = _Relay(feedback)
    try:
        for line in child.lines(_POLL_SECONDS):
            if feedback.isCanceled():
                raise UserError("The run was cancelled.", "No output was written.")
            if line is not None:
                relay.take(line)
    finally:
        child.stop()
    if relay.result is not None and relay.error is None and child.exit_code == 0:
        return relay.result
    QgsMessageLog.logMessage(
        f"Engine {python} ended with {child.exit_code}.\n{relay.not_understood}{child.last_errors}",
        LOG_TAG,
        Qgis.MessageLevel.Info,
    )
    raise relay.error or _death(child.exit_code, bool(relay.not_understood))


class _Relay:
    """Turns lines of the engine into feedback; keeps the result and the error."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self.result: Optional[Dict[str, Any]] = None
        self.error: Optional[UserError] = None
        self.not_understood = ""
        self._feedback = feedback
        self._last_message = -_SECONDS_BETWEEN_MESSAGES

    def take(self, line: str) -> None:
        """Relay one line; lines that are no events are kept for the developer's log."""
        event = parse_event(line)
        if event is None:
            self.not_understood = (self.not_understood + line)[-2000:]
            return
        kind = event["event"]
        if kind == "progress":
            self._progress(event)
        elif kind == "log":
            push = self._feedback.pushWarning if event.get("level") == "warning" else self._feedback.pushInfo
            push(str(event.get("message", "")))
        elif kind == "hello":
            named = [f"Python {event.get('python')}"]
            named += [f"torch {event['torch']}"] if event.get("torch") else []
            named += [f"device {event['device']}"] if event.get("device") else []
            self._feedback.pushInfo(f"Engine: {', '.join(named)}")
        elif kind == "result":
            self.result = {key: value for key, value in event.items() if key != "event"}
        elif kind == "error":
            self.error = UserError(str(event.get("message", "The engine failed.")), str(event.get("remedy", "")))

    def _progress(self, event: Dict[str, Any]) -> None:
        if isinstance(event.get("percent"), (int, float)):
            self._feedback.setProgress(float(event["percent"]))
        now = time.monotonic()
        if event.get("message") and now - self._last_message >= _SECONDS_BETWEEN_MESSAGES:
            self._last_message = now
            left = event.get("seconds_left")
            ending = f" ({_duration(left)} left)" if isinstance(left, (int, float)) else ""
            self._feedback.setProgressText(f"{event['message']}{ending}")


def _duration(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 7 min, 2 h 5 min."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _death(exit_code: Optional[int], printed_something_else: bool) -> UserError:
    """Say why an engine that gave no result is gone."""
    where = f"Run Check Engine; details are in View ▸ Panels ▸ Log Messages, tab {LOG_TAG}."
    killed = getattr(signal, "SIGKILL", 9)
    if exit_code in (-killed, 128 + killed):
        return UserError(
            "The engine was killed by the operating system, most likely because the memory ran out.",
            "Close other programs, or choose a smaller TILE_SIZE, PATCH_SIZE or BATCH_SIZE where there is one.",
        )
    if exit_code is not None and (exit_code < 0 or exit_code > 255):
        return UserError(f"The engine crashed ({_signal_name(exit_code)}).", where)
    if exit_code == 0 and printed_something_else:
        return UserError("The engine's answer cannot be understood.", where)
    return UserError(f"The engine ended without a result (exit status {exit_code}).", where)


def _signal_name(exit_code: int) -> str:
    names: List[str] = [entry.name for entry in signal.Signals if entry.value == -exit_code]
    return names[0] if names else f"exit status {exit_code:#x}"
