"""The built plugin in the real qgis_process, without a window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Optional, Tuple

import numpy as np
import pytest
from osgeo import gdal

QGIS_PROCESS = Path("/usr/bin/qgis_process.bin")

RunProcess = Callable[..., Tuple[int, str]]


@pytest.fixture
def qgis_process(checkout: Path, tmp_path: Path) -> RunProcess:
    """Return a function that runs qgis_process in a profile of its own that has the built plugin."""
    if not QGIS_PROCESS.exists():
        pytest.skip(f"no qgis_process: '{QGIS_PROCESS}' does not exist; install Debian's package qgis")
    if not (checkout / "build" / "scdm_qgis").is_dir():
        pytest.fail("the plugin is not built: run make build")
    profile = tmp_path / "config" / "profiles" / "default"
    (profile / "python" / "plugins").mkdir(parents=True)
    (profile / "python" / "plugins" / "scdm_qgis").symlink_to(checkout / "build" / "scdm_qgis")
    (profile / "QGIS").mkdir()
    (profile / "QGIS" / "QGIS3.ini").write_text("[PythonPlugins]\nscdm_qgis=true\nprocessing=true\n")

    def run(*arguments: str, folder: Optional[Path] = None) -> Tuple[int, str]:
        environment = {
            **os.environ,
            "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "config"),
            "QT_QPA_PLATFORM": "offscreen",
            "SCDM_ENGINE_PYTHON": sys.executable,
        }
        done = subprocess.run(
            [str(QGIS_PROCESS), *arguments], capture_output=True, text=True, env=environment, timeout=200, cwd=folder
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


def test_relative_names_are_those_of_the_folder_one_is_in(qgis_process: RunProcess, tmp_path: Path) -> None:
    code, said = qgis_process("run", "scdm:create_demo_scene", "--SIZE=32", "--OUTPUT=scene.tif", folder=tmp_path)
    assert code == 0, said
    code, said = qgis_process("run", "scdm:simulate_rgb", "--INPUT=scene.tif", "--OUTPUT=rgb.tif", folder=tmp_path)
    assert code == 0, said
    assert (tmp_path / "scene.tif").is_file() and (tmp_path / "rgb.tif").is_file()


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


@pytest.fixture
def potsdam(qgis_process: RunProcess, scene: Callable[[str], str], tmp_path: Path) -> Tuple[str, str]:
    """Return the RGB simulated from a real scene, and a cascade trained on it for a moment."""
    source = scene("enmap_potsdam.tif")
    rgb, model = str(tmp_path / "rgb.tif"), str(tmp_path / "cascade.safetensors")
    stages = [str(tmp_path / f"stage{stage}.safetensors") for stage in (1, 2)]
    for stage, path in enumerate(stages, start=1):
        options = ("--ITERATIONS=2", "--PATCH_SIZE=16", "--BATCH_SIZE=2", "--PRECISION=float32", "--DEVICE=cpu")
        succeed(
            qgis_process, "train_cascade_stage", f"--INPUTS={source}", f"--STAGE={stage}", *options, f"--OUTPUT={path}"
        )
    succeed(qgis_process, "assemble_cascade", *(f"--STAGE_FILES={path}" for path in stages), f"--OUTPUT={model}")
    succeed(qgis_process, "simulate_rgb", f"--INPUT={source}", f"--OUTPUT={rgb}")
    return rgb, model


def succeed(qgis_process: RunProcess, algorithm: str, *arguments: str) -> None:
    code, said = qgis_process("run", f"scdm:{algorithm}", *arguments)
    assert code == 0, said
    assert "Traceback" not in said


def test_a_real_scene_keeps_place_mask_and_wavelengths(
    qgis_process: RunProcess, scene: Callable[[str], str], potsdam: Tuple[str, str], tmp_path: Path
) -> None:
    """The whole chain on EnMAP data: 60 % valid, six empty bands, wavelengths with widths."""
    rgb, model = potsdam
    variants = {
        "as it is": rgb,
        "nodata that fits no int16": with_other_nodata(rgb, str(tmp_path / "float.tif")),
        "alpha band only": with_alpha_only(rgb, str(tmp_path / "alpha.tif")),
    }
    truth = gdal.Open(scene("enmap_potsdam.tif"))
    expected_mask = mask(gdal.Open(rgb))
    assert 0.55 < expected_mask.mean() < 0.65
    for name, source in variants.items():
        output = str(tmp_path / f"{name}.tif")
        options = ("--RGB_BANDS=1,2,3", "--PRECISION=float32", "--DEVICE=cpu")
        succeed(
            qgis_process,
            "rgb_to_hyperspectral",
            f"--INPUT={source}",
            f"--MODEL={model}",
            *options,
            f"--OUTPUT={output}",
        )
        made = gdal.Open(output)
        assert (made.RasterXSize, made.RasterYSize, made.RasterCount) == (160, 192, 218), name
        assert made.GetGeoTransform() == truth.GetGeoTransform(), name
        assert made.GetSpatialRef().IsSame(truth.GetSpatialRef()), name
        assert made.GetRasterBand(1).DataType == gdal.GDT_Int16, name
        assert made.GetRasterBand(1).GetNoDataValue() == -32768, name
        assert (mask(made) == expected_mask).all(), name
        assert_wavelengths(made, truth)


def mask(dataset: Any) -> np.ndarray:
    """Return where GDAL itself sees valid pixels in all bands (row, column)."""
    bands = [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]
    return np.all([band.GetMaskBand().ReadAsArray() > 0 for band in bands], axis=0)


def assert_wavelengths(made: Any, truth: Any) -> None:
    """Compare with the wavelengths of the source's non-empty bands, in all three places and in gdalinfo."""
    true_nm = [
        float(truth.GetRasterBand(number).GetMetadataItem("wavelength"))
        for number in range(1, truth.RasterCount + 1)
        if not 130 <= number <= 135
    ]
    for number, wavelength_nm in enumerate(true_nm, start=1):
        band = made.GetRasterBand(number)
        assert band.GetDescription() == f"{float(band.GetMetadataItem('wavelength')):g} nm"
        assert float(band.GetMetadataItem("wavelength")) == pytest.approx(wavelength_nm, abs=1e-3)
        assert band.GetMetadataItem("wavelength_units") == "Nanometers"
        micrometres = float(band.GetMetadataItem("CENTRAL_WAVELENGTH_UM", "IMAGERY"))
        assert micrometres == pytest.approx(wavelength_nm / 1000, abs=1e-6)
        assert float(band.GetMetadataItem("FWHM_UM", "IMAGERY")) > 0
    shown = gdal.Info(made, options=["-mdd", "all"])
    assert "CENTRAL_WAVELENGTH_UM=" in shown and "wavelength_units=Nanometers" in shown and "SCDM_MODEL=" in shown


def with_other_nodata(source: str, path: str) -> str:
    """Write the raster as float32 with a nodata value that no integer type holds."""
    dataset = gdal.Open(source)
    values = dataset.ReadAsArray().astype(np.float32)
    values[:, ~mask(dataset)] = -3.4e38
    return write_like(dataset, path, values, gdal.GDT_Float32, nodata=-3.4e38)


def with_alpha_only(source: str, path: str) -> str:
    """Write the raster with an alpha band in place of a nodata value; dark pixels stand below it."""
    dataset = gdal.Open(source)
    valid = mask(dataset)
    values = np.where(valid, dataset.ReadAsArray(), 0)
    alpha = np.where(valid, 32767, 0)[None]
    return write_like(dataset, path, np.concatenate([values, alpha]), gdal.GDT_Int16, alpha=True)


def write_like(
    dataset: Any, path: str, values: np.ndarray, kind: int, nodata: Optional[float] = None, alpha: bool = False
) -> str:
    options = ["PHOTOMETRIC=RGB", "ALPHA=YES"] if alpha else []
    made = gdal.GetDriverByName("GTiff").Create(
        path, dataset.RasterXSize, dataset.RasterYSize, len(values), kind, options
    )
    made.SetGeoTransform(dataset.GetGeoTransform())
    made.SetProjection(dataset.GetProjection())
    for number, band_values in enumerate(values, start=1):
        band = made.GetRasterBand(number)
        if nodata is not None:
            band.SetNoDataValue(nodata)
        if alpha and number == len(values):
            band.SetColorInterpretation(gdal.GCI_AlphaBand)
        band.WriteArray(band_values)
    return path
