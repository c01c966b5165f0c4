"""Run one job: python -m scdm_qgis.engine JOB.json [--watch-stdin].

Prints one event a line on standard output; whatever libraries print goes to standard error. Exit status
0, 1 (error) or 130 (cancelled).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any, Callable, Dict, List, Optional, TextIO

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.end_of_stdin import wait_for_end_of_stdin
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import Job, job_from_json

EXIT_DONE, EXIT_ERROR, EXIT_CANCELLED = 0, 1, 130

MODULES = {
    "create_demo_scene": "create_demo_scene",
    "simulate_rgb": "simulate_rgb",
    "import_matlab_cube": "import_matlab_cube",
    "train_cascade_stage": "train",
    "assemble_cascade": "assemble",
    "rgb_to_hyperspectral": "reconstruct",
    "evaluate_reconstruction": "evaluate",
    "import_released_checkpoint": "import_released",
}
"""The module of this package that holds each job's `run(job, events)`."""

NEED_TORCH = ("train_cascade_stage", "assemble_cascade", "rgb_to_hyperspectral", "import_released_checkpoint")


DRAW_REPORTS = ("train_cascade_stage", "evaluate_reconstruction")


class Cancelled(BaseException):
    """The user has cancelled; raised in the main thread, so that everything half-written is removed."""


_cancelled = threading.Event()
_CANCELLING = (signal.SIGTERM, signal.SIGINT)  # SIGINT is Ctrl+C


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the job a JSON file describes and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scdm_qgis.engine", description="Run one SCDM job.")
    parser.add_argument("job", help="JSON file that describes the job")
    parser.add_argument("--watch-stdin", action="store_true", help="cancel the job when standard input ends")
    options = parser.parse_args(arguments)
    events = EventWriter(_take_over_stdout())
    try:
        for kind in _CANCELLING:
            if signal.getsignal(kind) is not signal.SIG_IGN:  # Ctrl+C spares what a shell runs in the background
                signal.signal(kind, _cancel)
        if options.watch_stdin:
            threading.Thread(target=_cancel_at_end_of_stdin, daemon=True).start()
        job = _read_job(options.job)
        run = _load(job, events)
        events.result(run(job, events))
        return EXIT_DONE
    except Cancelled:
        return EXIT_CANCELLED
    except Exception as error:
        # A library may have turned the cancel into an error of its own, as numpy does while it is imported.
        if _cancelled.is_set():
            return EXIT_CANCELLED
        if not isinstance(error, (UserError, MemoryError)):
            traceback.print_exc()
        events.error(*_explain(error))
        return EXIT_ERROR


def _take_over_stdout() -> TextIO:
    """Keep standard output for events; point it at standard error for everybody else.

    Of several processes that train together, the first alone reports.
    """
    first = os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
    stream = os.fdopen(os.dup(1) if first else os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _cancel(signal_number: int, frame: Optional[FrameType]) -> None:
    for kind in _CANCELLING:
        signal.signal(kind, signal.SIG_IGN)  # let the clean-up run undisturbed
    _cancelled.set()
    raise Cancelled


def _cancel_at_end_of_stdin() -> None:
    wait_for_end_of_stdin()
    signal.raise_signal(signal.SIGTERM)


def _read_job(path: str) -> Job:
    try:
        with open(path, encoding="utf-8-sig") as file:  # PowerShell writes a byte order mark
            job = job_from_json(json.load(file))
    except OSError as error:
        raise UserError(f"The job file '{path}' cannot be read ({error.strerror}).", "Check its path.") from error
    except ValueError as error:
        raise UserError(f"The job file '{path}' is not valid JSON.", "Correct it.") from error
    job = job.with_absolute_paths()
    job.check_paths()
    return job


def _load(job: Job, events: EventWriter) -> Callable[[Any, EventWriter], Dict[str, Any]]:
    needed = ["rasterio", "numpy", "scipy"]
    needed += ["torch", "safetensors"] if job.name in NEED_TORCH else []
    needed += ["matplotlib", "jinja2"] if job.name in DRAW_REPORTS else []
    needed += ["h5py"] if job.name == "import_matlab_cube" else []
    needed += ["psutil"] if job.name == "rgb_to_hyperspectral" else []
    cluster = getattr(job, "cluster", None)
    needed += ["distributed"] if cluster else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"The engine's Python '{sys.executable}' lacks {' and '.join(missing)}.",
            f'Install what is missing with: "{sys.executable}" -m pip install {" ".join(missing)}',
        )
    module = importlib.import_module(f"scdm_qgis.engine.{MODULES[job.name]}")
    if job.name in NEED_TORCH:
        import torch

        from scdm_qgis.engine.device import choose_device

        device = f"workers of {cluster}" if cluster else str(choose_device(getattr(job, "device", "cpu")))
        events.hello(platform.python_version(), torch.__version__, device)
    else:
        events.hello(platform.python_version(), None, None)
    return module.run


def _explain(error: Exception) -> tuple[str, str]:
    if isinstance(error, UserError):
        return error.message, error.remedy
    if isinstance(error, MemoryError):
        return "The computer's memory is full.", "Close other programs, or use a smaller scene, tile or batch."
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if any(words in text.lower() for words in ("allocate memory", "out of memory", "not enough memory")):
        return "The memory is full.", "Lower BATCH_SIZE, then TILE_SIZE or PATCH_SIZE, or set DEVICE to cpu."
    if isinstance(error, OSError) and error.strerror:
        name = f" '{error.filename}'" if error.filename else ""
        return (
            f"A file{name} could not be used: {error.strerror}.",
            "Check the path, the free space and the permissions.",
        )
    return (
        f"The engine failed unexpectedly ({type(error).__name__}: {text}).",
        "Run Check Engine and check the inputs; the details are on standard error (in QGIS: Log Messages, tab SCDM).",
    )


if __name__ == "__main__":
    sys.exit(main())
