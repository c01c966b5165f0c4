"""When standard input ends: its other end belongs to QGIS, which has closed it, or died."""

from __future__ import annotations

import os
import sys
import time

POLL_SECONDS = 0.1


def wait_for_end_of_stdin() -> None:
    """Wait until standard input, a pipe from which nothing is expected, has no other end any more."""
    if sys.platform == "win32":
        # Windows lets one call at a time use a pipe. While a read waits, libraries that look at standard input when
        # they are loaded, as OpenBLAS does for numpy, wait for it as well: for ever. Peeking returns at once.
        import ctypes
        import msvcrt

        pipe = ctypes.c_void_p(msvcrt.get_osfhandle(0))
        while ctypes.windll.kernel32.PeekNamedPipe(pipe, None, 0, None, None, None):
            time.sleep(POLL_SECONDS)
    else:
        while os.read(0, 1024):
            continue
