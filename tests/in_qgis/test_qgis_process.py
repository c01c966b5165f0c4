"""The built plugin in the real qgis_process, without a window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Tuple

import pytest
from osgeo import gdal

QGIS_PROCESS = Path("/usr/bin/qgis_process.bin")

RunProcess = Callable[..., Tuple[int, str]]


@pytest.fixture
def qgis_process(checkout: Path, tmp_path: Path) -> RunProcess:
    """Return a function that runs qgis_process in a profile of its own that has the built plugin."""
    if not QGIS_PROCESS.exists():
        pytest.skip(f"'{QGIS_PROCESS}' does not exist")
    if not (checkout / "build" / "scdm_qgis").is_dir():
        pytest.skip("the plugin is not built: run make build")
    profile = tmp_path / "config" / "profiles" / "default"
    (profile / "python" / "plugins").mkdir(parents=True)
    (profile / "python" / "plugins" / "scdm_qgis").symlink_to(checkout / "build" / "scdm_qgis")
    (profile / "QGIS").mkdir()
    (profile / "QGIS" / "QGIS3.ini").write_text("[PythonPlugins]\nscdm_qgis=true\nprocessing=true\n")

    def run(*arguments: str) -> Tuple[int, str]:
        environment = {
            **os.environ,
            "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "config"),
            "QT_QPA_PLATFORM": "offscreen",
            "SCDM_ENGINE_PYTHON": sys.executable,
        }
        done = subprocess.run(
            [str(QGIS_PROCESS), *arguments], capture_output=True, text=True, env=environment, timeout=200
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_algorithms_are_listed_and_run(qgis_process: RunProcess, tmp_path: Path) -> None:
    _, listed = qgis_process("list")
    assert "scdm:rgb_to_hyperspectral" in listed and "scdm:train_and_reconstruct" in listed
    scene, rgb = tmp_path / "scene.tif", tmp_path / "rgb.tif"
    code, said = qgis_process("run", "scdm:create_demo_scene", "--SIZE=32", "--BANDS=8", f"--OUTPUT={scene}")
    assert code == 0, said
    code, said = qgis_process("run", "scdm:simulate_rgb", f"--INPUT={scene}", f"--OUTPUT={rgb}")
    assert code == 0, said
    assert gdal.Open(str(rgb)).RasterCount == 3


def test_files_in_a_list_are_given_one_by_one(qgis_process: RunProcess, tmp_path: Path) -> None:
    missing = [f"--STAGE_FILES={tmp_path / name}" for name in ("a.safetensors", "b.safetensors")]
    for path in missing:
        Path(path.split("=")[1]).write_bytes(b"no model")
    code, said = qgis_process("run", "scdm:assemble_cascade", *missing, f"--OUTPUT={tmp_path / 'out.safetensors'}")
    assert code != 0
    assert f"'{tmp_path / 'a.safetensors'}' is not a model file of this plugin" in said
    assert "Traceback" not in said


def test_an_engine_error_is_a_sentence_there_too(qgis_process: RunProcess, tmp_path: Path) -> None:
    text = tmp_path / "cube.mat"
    text.write_text("This is no MATLAB file. " * 20)
    code, said = qgis_process("run", "scdm:import_matlab_cube", f"--INPUT={text}", f"--OUTPUT={tmp_path / 'out.tif'}")
    assert code != 0
    assert "cube.mat" in said and "Traceback" not in said
    assert not (tmp_path / "out.tif").exists()
