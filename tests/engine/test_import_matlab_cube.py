"""Import MATLAB Cube: version 5 and 7.3 give the same raster; everything else is a clear error."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
from affine import Affine

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import import_matlab_cube
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import ImportMatlabCube
from scdm_qgis.raster.cube import open_cube

HEIGHT, WIDTH, BANDS = 70, 40, 6


def save_v5(path: Path, arrays: Dict[str, Any]) -> None:
    scipy.io.savemat(path, arrays, do_compression=True)


def save_v7_3(path: Path, arrays: Dict[str, Any]) -> None:
    """Write HDF5 as MATLAB does: a header block, axes in reverse, the class as an attribute."""
    classes = {"float64": "double", "float32": "single", "bool": "logical"}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            array = np.asarray(array)
            if np.iscomplexobj(array):
                pair = np.dtype([("real", "f8"), ("imag", "f8")])
                stored = np.zeros(array.T.shape, pair)
                stored["real"], stored["imag"] = array.T.real, array.T.imag
                kind = "double"
            else:
                kind = classes.get(array.dtype.name, array.dtype.name)
                stored = array.T.astype("uint8") if array.dtype == bool else array.T
            file.create_dataset(name, data=stored).attrs["MATLAB_class"] = np.bytes_(kind)
    with open(path, "r+b") as header:
        header.write(b"MATLAB 7.3 MAT-file, made by a test")


SAVERS = pytest.mark.parametrize("save", [save_v5, save_v7_3])
Saver = Callable[[Path, Dict[str, Any]], None]


def run(path: Path, output: Path, variable: Optional[str] = None, wavelengths: Any = None) -> None:
    import_matlab_cube.run(ImportMatlabCube(str(path), str(output), variable, wavelengths), EventWriter(io.StringIO()))


def cube(dtype: str = "uint16") -> np.ndarray:
    """Rows x columns x bands, every value another."""
    return np.arange(HEIGHT * WIDTH * BANDS).reshape(HEIGHT, WIDTH, BANDS).astype(dtype)


@SAVERS
@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        ("uint16", "uint16"),
        ("int16", "int16"),
        ("uint8", "uint8"),
        ("int32", "int32"),
        ("single", "float32"),
        ("double", "float32"),
        ("int8", "int16"),
        ("int64", "float32"),
    ],
)
def test_pixels_and_bands_stand_where_matlab_has_them(save: Saver, dtype: str, written: str, tmp_path: Path) -> None:
    array = cube(dtype)
    save(tmp_path / "in.mat", {"pavia": array, "groundtruth": np.ones((HEIGHT, WIDTH))})
    run(tmp_path / "in.mat", tmp_path / "out.tif")
    with open_cube(str(tmp_path / "out.tif")) as result:
        values, valid = result.read(range(1, BANDS + 1))
        assert (result.height, result.width, result.band_count, result.dtype) == (HEIGHT, WIDTH, BANDS, written)
        assert result.crs is None and result.transform == Affine.identity()
        assert result.spectrum.wavelengths_nm is None
    assert valid.all()
    expected = np.moveaxis(array, 2, 0).astype(np.float64)
    if written != "float32":  # a valid value that is the nodata value moves by one unit
        limits = np.iinfo(written)
        nodata = limits.min if limits.min < 0 else limits.max
        moved = nodata + 1 if nodata < 0 else nodata - 1
        expected[expected == nodata] = moved
    assert np.array_equal(values, expected)


def test_versions_5_and_7_3_give_the_same_file(tmp_path: Path) -> None:
    for name, save in (("five", save_v5), ("seven", save_v7_3)):
        save(tmp_path / f"{name}.mat", {"cube": cube()})
        run(tmp_path / f"{name}.mat", tmp_path / f"{name}.tif", wavelengths="400-900")
    assert (tmp_path / "five.tif").read_bytes() == (tmp_path / "seven.tif").read_bytes()


@pytest.mark.parametrize(
    ("wavelengths", "expected"),
    [
        ("400-900", (400, 500, 600, 700, 800, 900)),
        ("430,440,455,470,500,510.5", (430, 440, 455, 470, 500, 510.5)),
        ([430, 440, 455, 470, 500, 510.5], (430, 440, 455, 470, 500, 510.5)),
    ],
)
def test_wavelengths_are_read_back(wavelengths: Any, expected: tuple, tmp_path: Path) -> None:
    save_v5(tmp_path / "in.mat", {"cube": cube()})
    run(tmp_path / "in.mat", tmp_path / "out.tif", wavelengths=wavelengths)
    with open_cube(str(tmp_path / "out.tif")) as result:
        assert result.spectrum.wavelengths_nm == pytest.approx(expected)


@pytest.mark.parametrize("wavelengths", ["400,900", [400, 900], "400,500,600", "abc", "-5,3"])
def test_wavelengths_that_do_not_fit_are_errors(wavelengths: Any, tmp_path: Path) -> None:
    save_v5(tmp_path / "in.mat", {"cube": cube()})
    with pytest.raises(UserError, match="WAVELENGTHS"):
        run(tmp_path / "in.mat", tmp_path / "out.tif", wavelengths=wavelengths)
    assert os.listdir(tmp_path) == ["in.mat"]


@SAVERS
def test_variable_is_named_where_there_are_several(save: Saver, tmp_path: Path) -> None:
    save(tmp_path / "in.mat", {"first": cube(), "second": cube() + 1, "flat": np.ones((3, 4))})
    with pytest.raises(UserError, match="VARIABLE to one of: first, second"):
        run(tmp_path / "in.mat", tmp_path / "out.tif")
    run(tmp_path / "in.mat", tmp_path / "out.tif", variable="second")
    with rasterio.open(tmp_path / "out.tif") as result:
        assert result.read(1)[0, 0] == 1


@SAVERS
@pytest.mark.parametrize(
    ("arrays", "variable", "sentence"),
    [
        ({"flat": np.ones((3, 4))}, None, r"no three-dimensional array. The file holds: flat \(3 x 4\)"),
        ({"cube": cube()}, "other", r"no variable 'other'. Set VARIABLE to one of: cube \(70 x 40 x 6\)"),
        ({"flat": np.ones((3, 4))}, "flat", "not three-dimensional"),
        ({"cube": cube("double") * 1j}, None, "complex"),
        ({"cube": cube() > 5}, None, "class logical"),
        ({"cube": np.full((4, 3, 2), np.nan)}, None, "No pixel"),
    ],
)
def test_what_is_no_cube_is_an_error(
    save: Saver, arrays: Dict[str, Any], variable: Optional[str], sentence: str, tmp_path: Path
) -> None:
    save(tmp_path / "in.mat", arrays)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path / "in.mat", tmp_path / "out.tif", variable)
    assert os.listdir(tmp_path) == ["in.mat"]


def test_cells_and_structs_are_never_read(tmp_path: Path) -> None:
    cells = np.empty((2, 2, 2), object)
    cells[...] = "text"
    save_v5(tmp_path / "in.mat", {"cells": cells, "record": {"field": 1}})
    with pytest.raises(UserError, match="class cell"):
        run(tmp_path / "in.mat", tmp_path / "out.tif")


def test_references_in_hdf5_are_no_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.mat", "w") as file:
        target = file.create_group("target")
        file.create_dataset("cells", (2, 2, 2), dtype=h5py.ref_dtype)[...] = target.ref
    with pytest.raises(UserError, match="not real numbers"):
        run(tmp_path / "in.mat", tmp_path / "out.tif")


@SAVERS
def test_values_that_are_not_finite_become_nodata(save: Saver, tmp_path: Path) -> None:
    array = cube("double")
    array[1, 2, 3] = np.nan
    array[4, 5] = np.inf
    save(tmp_path / "in.mat", {"cube": array})
    run(tmp_path / "in.mat", tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as result:
        invalid = result.read_masks() == 0
        assert np.isnan(result.nodata)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1, 2] = expected[4, 5] = True
    assert np.array_equal(invalid, np.broadcast_to(expected, invalid.shape))


def test_values_too_large_for_the_file_are_counted(tmp_path: Path) -> None:
    array = cube("double")
    array[0, 0, :2] = 1e300
    save_v5(tmp_path / "in.mat", {"cube": array})
    said = io.StringIO()
    job = ImportMatlabCube(str(tmp_path / "in.mat"), str(tmp_path / "out.tif"))
    import_matlab_cube.run(job, EventWriter(said))
    assert "2 values lay outside the output's data type and were clipped" in said.getvalue()


@SAVERS
def test_truncated_file_is_an_error(save: Saver, tmp_path: Path) -> None:
    save(tmp_path / "in.mat", {"cube": np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, BANDS))})
    whole = (tmp_path / "in.mat").read_bytes()
    (tmp_path / "in.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as a MATLAB file"):
        run(tmp_path / "in.mat", tmp_path / "out.tif")
    assert os.listdir(tmp_path) == ["in.mat"]


@pytest.mark.parametrize("content", [b"", b"no MATLAB file", b"\x00" * 4096, os.urandom(4096)])
def test_other_files_are_errors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.mat").write_bytes(content)
    with pytest.raises(UserError):
        run(tmp_path / "in.mat", tmp_path / "out.tif")
    assert os.listdir(tmp_path) == ["in.mat"]
