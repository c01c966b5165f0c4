"""Files that are either whole or absent: written beside their final name, renamed when done."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator


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


@contextmanager
def written_whole(path: str, resumable: bool = False) -> Iterator[str]:
    """Give the partial name to write to; rename it to `path` on success, remove it otherwise.

    A resumable file is neither removed on failure nor at the start.
    """
    if not resumable:
        remove_partial(path)
    try:
        yield partial_path(path)
        os.replace(partial_path(path), path)
        _remove_sidecars(path)
    finally:
        if not resumable:
            remove_partial(path)
