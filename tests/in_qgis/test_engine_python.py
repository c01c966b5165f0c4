"""Which Python the engine runs on, and what the user is told where there is none."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from processing.core.ProcessingConfig import ProcessingConfig

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing import engine_python
from scdm_qgis.processing.engine_python import SETTING, find_engine_python


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], str]:
    """Return a function that makes a program of that name which runs that shell code."""

    def make(name: str, code: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def nothing_chosen(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setitem(ProcessingConfig.settings[SETTING].__dict__, "value", "")


def choose_in_settings(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setitem(ProcessingConfig.settings[SETTING].__dict__, "value", path)


def refusal() -> str:
    with pytest.raises(UserError) as caught:
        find_engine_python()
    return str(caught.value)


def test_qgis_own_python_is_taken_where_it_has_torch(plugin: Any) -> None:
    assert find_engine_python() == sys.executable


def test_the_setting_wins_over_qgis_own_and_the_environment_over_the_setting(
    script: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = script("python-first", f'exec "{sys.executable}" "$@"')
    second = script("python-second", f'exec "{sys.executable}" "$@"')
    choose_in_settings(monkeypatch, first)
    assert find_engine_python() == first
    monkeypatch.setenv(SETTING, second)
    assert find_engine_python() == second


@pytest.mark.parametrize("name", ["qgis", "qgis-bin.exe", "qgis_process", "QGIS"])
def test_qgis_itself_is_never_started_as_a_python(
    script: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started = tmp_path / "started"
    qgis = script(name, f'touch "{started}"; exec "{sys.executable}" "$@"')
    monkeypatch.setattr(sys, "executable", qgis)
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path / "nowhere"))
    assert "No Python for the engine is known" in refusal()
    choose_in_settings(monkeypatch, qgis)
    assert "is not a working Python" in refusal()
    assert not started.exists()


def test_the_python_beside_qgis_is_found(
    script: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    python = script("bin/python3", f'exec "{sys.executable}" "$@"')
    monkeypatch.setattr(sys, "executable", script("QGIS", "exit 1"))
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path / "nowhere"))
    assert find_engine_python() == python


@pytest.mark.parametrize("executable", [None, ""])
def test_a_qgis_that_does_not_know_its_own_name_is_no_error(
    executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    said = refusal()
    assert "-m venv" in said and "requirements.txt" in said and engine_python.SETTING_PLACE in said


@pytest.mark.parametrize("name", ["python-qgis.bat", "python.cmd"])
def test_a_script_that_starts_qgis_python_is_refused(
    script: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started = tmp_path / "started"
    choose_in_settings(monkeypatch, script(name, f'touch "{started}"; exec "{sys.executable}" "$@"'))
    assert "is a script. Choose the python.exe it starts" in refusal()
    assert not started.exists()


@pytest.mark.parametrize("code", ["exit 3", "echo hello", "echo '{}'", "kill -9 $$"])
def test_what_only_calls_itself_python_is_refused(
    script: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    choose_in_settings(monkeypatch, script("python3", code))
    said = refusal()
    assert "is not a working Python" in said and engine_python.SETTING_PLACE in said


@pytest.mark.parametrize("managed", [False, True])
def test_a_missing_library_is_named_with_the_way_to_get_it(
    script: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, managed: bool
) -> None:
    """Pip may install nothing into a Python that the system manages, such as Debian's own."""
    answer = json.dumps({"version": [3, 11], "missing": ["torch", "rasterio"], "managed": managed})
    python = script("python3", f"echo '{answer}'")
    choose_in_settings(monkeypatch, python)
    said = refusal()
    assert f"'{python}' lacks torch, rasterio." in said
    assert (f'"{python}" -m pip install -r ' in said) == (not managed)
    assert ("The system lets pip install nothing into it. Make one: " in said) == managed


def test_an_old_python_is_refused(script: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    choose_in_settings(monkeypatch, script("python3", 'echo \'{"version": [3, 7], "missing": []}\''))
    assert "is version 3.7. Choose Python 3.10 or newer" in refusal()


def test_a_path_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_in_settings(monkeypatch, str(tmp_path / "python3"))
    assert f"'{tmp_path / 'python3'}' does not exist" in refusal()


def test_a_python_is_asked_once_until_it_has_all_and_changes(
    script: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    incomplete = '{"version": [3, 11], "missing": ["torch"]}'
    complete = '{"version": [3, 11], "missing": []}'
    python = script("python3", f"echo x >> '{asked}'; echo '{incomplete}'")
    choose_in_settings(monkeypatch, python)
    refusal()
    refusal()
    assert asked.read_text().count("x") == 2  # torch may have been installed in between
    script("python3", f"echo x >> '{asked}'; echo '{complete}'")
    assert find_engine_python() == find_engine_python() == python
    assert asked.read_text().count("x") == 3
