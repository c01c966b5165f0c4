"""The files of a job: made absolute, and checked before the start."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
import uuid
from typing import Optional, Sequence

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import partial_path


def absolute(path: str, output: bool) -> str:
    """Return a path that holds in any folder; an input that is no file is another of GDAL's names and stays."""
    return os.path.abspath(path) if output or os.path.exists(path) else path


def same_file_key(path: str) -> str:
    """Return what is equal for two names of the same file."""
    key = os.path.normcase(os.path.realpath(path))
    # macOS takes names that differ in case, or in how letters with accents are composed, for one.
    return unicodedata.normalize("NFC", key).casefold() if sys.platform == "darwin" else key


def file_behind(path: str) -> Optional[str]:
    """Return the file a name of GDAL's leads to, such as the archive of /vsizip/archive.zip/raster.tif."""
    path = re.sub(r"^(/vsi\w+/)+(\{([^}]*)\})?", r"\3", path)
    while path and not os.path.isfile(path):
        above = os.path.dirname(path)
        path = above if above != path else ""
    return os.path.abspath(path) if path else None


def check_apart(outputs: Sequence[str], files: Sequence[str]) -> None:
    """Raise UserError for an output that is one of the files an input consists of, such as a mosaic's or an archive."""
    behind = {same_file_key(file) for file in map(file_behind, files) if file is not None}
    for path in outputs:
        if not behind.isdisjoint(map(same_file_key, (path, partial_path(path)))):
            raise UserError(f"The output '{path}' is a file that an input consists of.", "Give it another name.")


def check_input(path: str) -> None:
    """Raise UserError for an input that is missing or empty."""
    if re.match(r"/vsi|[A-Za-z][A-Za-z0-9_]+:", path) and not os.path.exists(path):
        return  # GDAL's virtual files and subdatasets (NETCDF:"file":name): only GDAL can tell
    if not os.path.exists(path):
        raise UserError(f"'{path}' does not exist.", "Check the path.")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise UserError(f"'{path}' is empty (0 bytes).", "Choose another file, or copy it again.")


def check_output(path: str, inputs: Sequence[str]) -> None:
    """Raise UserError for an output that cannot, or must not, be written."""
    sources = {same_file_key(source) for source in inputs}
    if same_file_key(path) in sources:
        raise UserError(f"The output '{path}' is also an input.", "Write the output to another file.")
    if same_file_key(partial_path(path)) in sources:
        raise UserError(
            f"The input '{partial_path(path)}' has the name under which the output is written until it is whole.",
            "Rename the input, or write the output to another file.",
        )
    if os.path.isdir(path):
        raise UserError(f"The output '{path}' is a folder.", "Give the name of a file in it.")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f"The folder '{folder}' does not exist.", "Create it, or choose another.")
    _check_writable(folder)
    if os.path.exists(path):
        try:
            os.replace(path, path)  # does nothing, but Windows refuses it while another program has the file open
        except OSError as error:
            raise UserError(
                f"The output '{path}' is in use.", "Remove its layer from QGIS, or give another file name."
            ) from error


def check_folder(path: str) -> None:
    """Raise UserError for a folder that cannot be made or written to."""
    existing = os.path.abspath(path)
    while not os.path.exists(existing):
        above = os.path.dirname(existing)
        if above == existing:
            raise UserError(f"The drive of '{path}' does not exist.", "Choose another folder.")
        existing = above
    if not os.path.isdir(existing):
        raise UserError(f"'{existing}' is a file.", "Give a folder; it is made where there is none.")
    _check_writable(existing)


def _check_writable(folder: str) -> None:
    probe = os.path.join(folder, f".scdm-{uuid.uuid4().hex}")
    try:
        # os.access knows nothing of Windows' permissions, and tempfile goes on trying where they forbid it.
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.remove(probe)
    except OSError as error:
        raise UserError(
            f"The folder '{folder}' cannot be written to ({error.strerror}).",
            "Choose another folder, or change its permissions.",
        ) from error
