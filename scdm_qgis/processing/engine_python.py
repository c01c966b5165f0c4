"""Which Python the engine runs on.

The environment variable SCDM_ENGINE_PYTHON, else the Processing setting of that name, else QGIS's own
Python where it has what the engine needs. Whether a Python has it is asked of that Python in a short
process: nothing is imported into QGIS.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import Dict, List, Tuple

from processing.core.ProcessingConfig import ProcessingConfig

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.child_process import ChildProcess, working_folder
from scdm_qgis.processing.plugin_files import plugin_file

SETTING = "SCDM_ENGINE_PYTHON"
"""Name of both the environment variable and the Processing setting."""

SETTING_TITLE = "Python of the engine"
SETTING_PLACE = f"Settings ▸ Options ▸ Processing ▸ Providers ▸ SCDM Spectral Super-Resolution ▸ {SETTING_TITLE}"

MODULES = ("torch", "safetensors", "rasterio", "numpy", "scipy", "h5py", "matplotlib", "jinja2", "psutil")
"""What the engine imports."""

_OLDEST_PYTHON = (3, 10)
_TERMINAL = "the Command Prompt" if os.name == "nt" else "a terminal"  # PowerShell takes a quoted program for text
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_QUESTION = (
    "import importlib.util, json, os, sys, sysconfig;"
    "print(json.dumps({'version': sys.version_info[:2],"
    " 'managed': sys.prefix == sys.base_prefix and"
    " os.path.exists(os.path.join(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED')),"
    " 'missing': [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]}))"
)

_found_complete: Dict[str, float] = {}  # path of a Python that has everything -> when that file was changed


def find_engine_python() -> str:
    """Return the path of the Python to start the engine with.

    Raises:
        UserError: none is known, or the one that was chosen lacks something; says how to get it.
    """
    chosen = os.environ.get(SETTING) or ProcessingConfig.getSetting(SETTING)
    if chosen:
        return _complete_python(chosen)
    for candidate in _qgis_pythons():
        try:
            return _complete_python(candidate)
        except UserError:
            continue
    raise UserError(
        "No Python for the engine is known: QGIS's own lacks torch or something else the engine needs.",
        f"{_how_to_make_one()} Or choose a Python that has all of it in {SETTING_PLACE}.",
    )


def _complete_python(python: str) -> str:
    """Return the full path of a Python that has all the engine needs; raises UserError for any other."""
    path = shutil.which(os.path.expanduser(python))
    if path is None:
        raise UserError(
            f"The engine's Python '{python}' does not exist, or is no program.",
            f"Choose another in {SETTING_PLACE}, or leave that empty.",
        )
    path = os.path.abspath(path)
    changed = os.path.getmtime(path)
    if _found_complete.get(path) != changed:
        version, missing, managed = _ask(path)
        if version < _OLDEST_PYTHON:
            raise UserError(
                f"The engine's Python '{python}' is version {'.'.join(map(str, version))}.",
                f"Choose Python {'.'.join(map(str, _OLDEST_PYTHON))} or newer in {SETTING_PLACE}.",
            )
        if missing:
            raise UserError(
                f"The engine's Python '{python}' lacks {', '.join(missing)}.", _how_to_complete(path, managed)
            )
        _found_complete[path] = changed
    return path


def _ask(python: str) -> Tuple[Tuple[int, ...], List[str], bool]:
    """Return a Python's version, those of `MODULES` that it lacks, and whether pip may install nothing into it."""
    no_python = UserError(
        f"'{python}' is not a working Python.", f"Choose the Python for the engine in {SETTING_PLACE}."
    )
    name = os.path.basename(python).lower()
    if "python" not in name:
        raise no_python  # QGIS itself calls itself sys.executable, and would open another window
    if name.endswith((".bat", ".cmd")):  # python-qgis.bat would bring QGIS's libraries into the engine
        raise UserError(f"'{python}' is a script.", f"Choose the python.exe it starts in {SETTING_PLACE}.")
    with working_folder() as folder:
        try:
            child = ChildProcess([python, "-c", _QUESTION, *MODULES], folder)
        except OSError as error:
            raise no_python from error
        answer = ""
        for count, line in enumerate(child.lines(_POLL_SECONDS)):
            answer = line or answer
            if count * _POLL_SECONDS > _PATIENCE_SECONDS:
                break
        child.stop()
    try:
        values = json.loads(answer)
        version = tuple(int(part) for part in values["version"])
        return version, [str(name) for name in values["missing"]], bool(values.get("managed"))
    except (ValueError, KeyError, TypeError) as error:
        raise no_python from error


def _qgis_pythons() -> List[str]:
    """Return where QGIS's own Python may be. `sys.executable` counts only where it is named as a Python is."""
    name = "python.exe" if os.name == "nt" else "python3"
    beside_qgis = os.path.dirname(sys.executable or "")
    places = [sys.executable or ""] + [
        os.path.join(folder, name)
        for folder in (
            sys.exec_prefix,
            os.path.join(sys.exec_prefix, "bin"),
            beside_qgis,
            os.path.join(beside_qgis, "bin"),
        )
    ]
    named = re.compile(r"python(\d(\.\d+)?)?(\.exe)?", re.IGNORECASE)
    found = [place for place in places if named.fullmatch(os.path.basename(place)) and os.path.isfile(place)]
    return list(dict.fromkeys(found))


def _how_to_complete(python: str, managed: bool) -> str:
    if managed:  # as the system's own is on Debian and others
        return f"The system lets pip install nothing into it. {_how_to_make_one()}"
    requirements = plugin_file("requirements.txt")
    return (
        f'Run this in {_TERMINAL}: "{python}" -m pip install -r "{requirements}". '
        f"Or choose another Python in {SETTING_PLACE}."
    )


def _how_to_make_one() -> str:
    folder = os.path.join(os.path.expanduser("~"), "scdm-engine")
    made = r"Scripts\python.exe" if os.name == "nt" else "bin/python"
    # Neither Windows nor macOS has a Python that would do; the newest may be too new for what is to be installed.
    first, base = "", "python3"
    if os.name == "nt" or sys.platform == "darwin":
        first, base = "install Python 3.12 from python.org, then ", "py -3.12" if os.name == "nt" else "python3.12"
    python = os.path.join(folder, made)
    return (
        f'Make one: {first}in {_TERMINAL} run {base} -m venv "{folder}" and then '
        f'"{python}" -m pip install -r "{plugin_file("requirements.txt")}", and choose {python} in {SETTING_PLACE}.'
    )
