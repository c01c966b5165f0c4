"""A child process whose output never makes QGIS wait, and which always can be stopped."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess  # nosec B404
import tempfile
import threading
from collections import deque
from contextlib import contextmanager, suppress
from typing import Deque, Dict, Iterator, Optional, Sequence

from scdm_qgis.processing.plugin_files import PACKAGE

SECONDS_TO_END = 0.5
"""What a child is given to end by itself before it is killed."""

_CREATION_FLAGS = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would open a console window
_LONGEST_LINE_BYTES = 10_000_000
_POLLS_AFTER_THE_END = 10  # a grandchild may hold the pipe open for ever

# Made for QGIS's own Python, GDAL and libraries; another Python breaks on them.
_QGIS_ONLY_PREFIXES = ("PYTHON", "GDAL", "OGR_", "PROJ_", "QGIS", "DYLD_")
_QGIS_ONLY = ("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@contextmanager
def working_folder() -> Iterator[str]:
    """Give a temporary folder for a child to run in.

    What Windows does not let go of at once is left there: that must not hide why the child ended.
    """
    folder = tempfile.mkdtemp(prefix="scdm_")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def child_environment() -> Dict[str, str]:
    """Return this process's environment without what belongs to QGIS, ready to import this package."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith(_QGIS_ONLY_PREFIXES) and key.upper() not in _QGIS_ONLY
    }
    environment["PYTHONPATH"] = os.path.dirname(PACKAGE)
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["PYTHONSAFEPATH"] = "1"
    return environment


class ChildProcess:
    """A started program; threads drain its two outputs.

    Args:
        arguments: the program and its arguments; no shell sees them.
        folder: where it runs; nothing there may be importable by accident.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(self, arguments: Sequence[str], folder: str) -> None:
        # A list of arguments and no shell: nothing in them is interpreted.
        self._process = subprocess.Popen(  # nosec B603
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=child_environment(),
            creationflags=_CREATION_FLAGS,
        )
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        self._last_errors: Deque[str] = deque(maxlen=60)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read_output, self._read_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def exit_code(self) -> Optional[int]:
        """What the child ended with, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def last_errors(self) -> str:
        """The last lines of the child's standard error."""
        return "".join(list(self._last_errors))

    def lines(self, poll_seconds: float) -> Iterator[Optional[str]]:
        """Give the lines of standard output as they come, and None whenever none came for `poll_seconds`.

        Ends when the child has ended and all it wrote has been given.
        """
        polls_left = _POLLS_AFTER_THE_END
        while polls_left:
            try:
                line = self._lines.get(timeout=poll_seconds)
            except queue.Empty:
                if self.exit_code is not None:
                    polls_left -= 1
                yield None
                continue
            if line is None:
                break
            yield line
        while self.exit_code is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(poll_seconds)
            yield None

    def stop(self) -> None:
        """End the child: ask by closing its input and, on POSIX, by SIGTERM; kill it after half a second."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        if self.exit_code is None:
            if os.name == "posix":
                self._process.terminate()
            try:
                self._process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(SECONDS_TO_END / 2)
        # In Windows' environments python.exe starts another one, which ends, and lets go of its files, a little later.
        patience = SECONDS_TO_END if os.name == "nt" else SECONDS_TO_END / 10
        for thread, stream in zip(self._threads, (self._process.stdout, self._process.stderr)):
            thread.join(patience)
            if not thread.is_alive() and stream is not None:
                stream.close()

    def _read_output(self) -> None:
        if self._process.stdout is not None:
            for line in iter(lambda: self._process.stdout.readline(_LONGEST_LINE_BYTES), b""):
                self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        if self._process.stderr is not None:
            for line in iter(lambda: self._process.stderr.readline(_LONGEST_LINE_BYTES), b""):
                self._last_errors.append(line.decode("utf-8", "replace"))
