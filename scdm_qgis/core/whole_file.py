"""Files that are either whole or absent: written beside their final name, renamed when done."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import Iterator

RENAMING_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""How long to wait for other programs to let go of a file, time after time."""


def partial_path(path: str) -> str:
    """Return the name under which `path` is written until it is whole: ``name.part.ext``."""
    root, extension = os.path.splitext(path)
    return f"{root}.part{extension}"


def checkpoint_path(path: str) -> str:
    """Return the name under which an unfinished training that will write `path` is kept."""
    return f"{path}.checkpoint"


def journal_path(path: str) -> str:
    """Return the name of the journal of an unfinished reconstruction that will write `path`."""
    return f"{os.path.splitext(path)[0]}.journal.json"


def remove_partial(path: str) -> None:
    """Remove what an interrupted write of `path` left, with GDAL's sidecar files."""
    partial = partial_path(path)
    if os.path.exists(partial):
        os.remove(partial)
    _remove_sidecars(partial)


def _remove_sidecars(path: str) -> None:
    """Remove statistics, mask and overviews that GDAL keeps beside a raster: they belong to its old pixels."""
    for ending in (".aux.xml", ".msk", ".ovr"):
        if os.path.exists(path + ending):
            os.remove(path + ending)


def _rename(path: str, new: str) -> None:
    """Give a file another name, in the place of any file that has it.

    Windows refuses while another program, such as a virus scanner, looks into one of the two.
    """
    for seconds in RENAMING_AGAIN_SECONDS if os.name == "nt" else ():
        with suppress(PermissionError):
            os.replace(path, new)
            return
        time.sleep(seconds)
    os.replace(path, new)


@contextmanager
def written_whole(path: str, resumable: bool = False) -> Iterator[str]:
    """Give the partial name to write to; rename it to `path` on success, remove it otherwise.

    A resumable file is neither removed on failure nor at the start.
    """
    if not resumable:
        remove_partial(path)
    try:
        yield partial_path(path)
        _rename(partial_path(path), path)
        _remove_sidecars(path)
    finally:
        if not resumable:
            remove_partial(path)
