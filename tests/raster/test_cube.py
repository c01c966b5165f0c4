"""Cubes of every kind open, and are read as they are."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from scdm_qgis.core.errors import UserError
from scdm_qgis.raster.cube import open_cube
from tests.raster.counting import counting

SCENES = {
    "pavia_university_train.tif": (300, 140, 103, "uint16"),
    "pavia_university_test.tif": (140, 80, 103, "uint16"),
    "pavia_center_bridge.tif": (105, 120, 102, "uint16"),
    "aviris_airport1.tif": (100, 100, 205, "int16"),
    "aviris_airport2.tif": (100, 100, 205, "int16"),
    "aviris_airport3.tif": (100, 100, 205, "int16"),
    "aviris_urban4.tif": (100, 100, 205, "int16"),
    "aviris_urban5.tif": (100, 100, 205, "int16"),
    "enmap_potsdam.tif": (192, 160, 224, "int16"),
}


@pytest.mark.parametrize("name", SCENES)
def test_real_scenes_open(scene, name):
    with open_cube(scene(name)) as cube:
        assert (cube.height, cube.width, cube.band_count, cube.dtype) == SCENES[name]
        values, valid = cube.read([1, cube.band_count])
        assert values.shape == (2, cube.height, cube.width)
        if name.startswith("pavia"):
            assert cube.spectrum.wavelengths_nm[0] == 430.0
            assert cube.spectrum.wavelengths_nm[-1] == 860.0
        if name.startswith("aviris"):
            assert cube.spectrum.wavelengths_nm is None
            assert cube.spectrum.origin == "none"
            assert values.min() >= -2
        if not name.startswith("enmap"):
            assert valid.all()
            assert cube.empty_bands() == ()


def test_potsdam(scene):
    with open_cube(scene("enmap_potsdam.tif")) as cube:
        empty = (130, 131, 132, 133, 134, 135)
        assert cube.empty_bands() == empty
        assert cube.nodata == -32768
        assert cube.crs.to_epsg() == 32633
        assert (cube.transform.a, cube.transform.e) == (30.0, -30.0)
        assert cube.spectrum.wavelengths_nm[0] == 418.24
        assert 2445 < cube.spectrum.wavelengths_nm[-1] < 2446
        assert cube.spectrum.fwhm_nm[0] == 6.996
        assert [number for number, bad in enumerate(cube.spectrum.bad, start=1) if bad] == list(empty)
        values, valid = cube.read([48, 30, 10])
        assert 0.59 < valid.mean() < 0.61
        assert values[:, valid].min() > -32768
        native, native_valid = cube.read_native([48, 30, 10])
        assert native.dtype == np.int16
        np.testing.assert_array_equal(native, values)
        np.testing.assert_array_equal(native_valid, valid)
        assert not cube.read([48, 130])[1].any()


def test_a_window_is_that_part_of_the_whole(scene):
    with open_cube(scene("enmap_potsdam.tif")) as cube:
        values, valid = cube.read([3, 100])
        part, part_valid = cube.read([3, 100], row=70, column=31, height=50, width=20)
        np.testing.assert_array_equal(part, values[:, 70:120, 31:51])
        np.testing.assert_array_equal(part_valid, valid[70:120, 31:51])
        rest, _ = cube.read([3], row=190, column=155)
        np.testing.assert_array_equal(rest, values[:1, 190:, 155:])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_types_and_their_values(make_raster, dtype):
    with open_cube(make_raster(counting(dtype))) as cube:
        assert cube.dtype == dtype
        assert cube.nodata is None
        assert cube.crs is None
        assert cube.transform == Affine.identity()
        values, valid = cube.read([3, 1])
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, counting("float32")[[2, 0]])
        assert valid.all()
        assert cube.read_native([1])[0].dtype == dtype


@pytest.mark.parametrize(("dtype", "read_as"), [("int8", "int16"), ("int64", "float64"), ("uint64", "float64")])
def test_types_that_older_gdal_does_not_know_are_read_as_others(make_raster, dtype, read_as):
    with open_cube(make_raster(counting(dtype), nodata=7)) as cube:
        assert cube.dtype == read_as
        values, valid = cube.read_native([1])
        assert values.dtype == read_as
        np.testing.assert_array_equal(valid, counting(dtype)[0] != 7)


def test_a_header_that_is_not_utf8_is_told(make_raster, tmp_path):
    path = make_raster(counting(), name="cube.img", driver="ENVI")
    with open(tmp_path / "cube.hdr", "ab") as header:
        header.write("wavelength = {0.45, 0.55, 0.65}\nwavelength units = µm\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 text. Save its header"):
        open_cube(path)


def test_envi_header_with_wavelengths(tmp_path):
    counting("int16").tofile(tmp_path / "scene.bsq")
    (tmp_path / "scene.hdr").write_text(
        "ENVI\nsamples = 7\nlines = 5\nbands = 3\nheader offset = 0\nfile type = ENVI Standard\ndata type = 2\n"
        "interleave = bsq\nbyte order = 0\ndata ignore value = 4\nwavelength units = Micrometers\n"
        "wavelength = {0.45, 0.55,\n 0.64}\nfwhm = {0.01, 0.011, 0.012}\nbbl = {1, 0, 1}\n"
    )
    with open_cube(str(tmp_path / "scene.bsq")) as cube:
        assert cube.spectrum.wavelengths_nm == (450.0, 550.0, 640.0)
        assert cube.spectrum.fwhm_nm == (10.0, 11.0, 12.0)
        assert cube.spectrum.bad == (False, True, False)
        values, valid = cube.read([1, 2, 3])
        np.testing.assert_array_equal(values, counting())
        assert valid.sum() == 34
    with pytest.raises(UserError, match="ENVI"):
        open_cube(str(tmp_path / "scene.hdr"))


def test_scale_and_offset_are_not_applied(make_raster):
    def change(dataset):
        dataset.scales = (0.0001,) * 3
        dataset.offsets = (5.0,) * 3

    with open_cube(make_raster(counting(), change=change)) as cube:
        np.testing.assert_array_equal(cube.read([1])[0][0], counting()[0])


@pytest.mark.parametrize("name", ["Größe und Fläche.tif", "日本 語.tif", "a#b?c%20d!.tif", "zip+x [1].tif"])
def test_names_with_spaces_and_other_letters(make_raster, name):
    with open_cube(make_raster(counting(), name=name)) as cube:
        assert cube.read([1])[1].all()


def test_no_georeference_is_no_warning(make_raster):
    path = make_raster(counting())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_cube(path) as cube:
            cube.read([1])


def test_the_bytes_of_rows_are_those_of_all_blocks_they_touch(make_raster):
    strips = make_raster(np.zeros((3, 40, 70), np.int16), "strips.tif", blockysize=8)
    tiles = make_raster(
        np.zeros((2, 100, 70), np.float32), "tiles.tif", tiled=True, blockxsize=32, blockysize=32, interleave="pixel"
    )
    with open_cube(strips) as cube:
        assert cube.bytes_of_rows(1) == 8 * 70 * 3 * 2
        assert cube.bytes_of_rows(2) == cube.bytes_of_rows(9) == 16 * 70 * 3 * 2
        assert cube.bytes_of_rows(10) == 24 * 70 * 3 * 2
        assert cube.bytes_of_rows(1000) == 40 * 70 * 3 * 2
    with open_cube(tiles) as cube:
        assert cube.bytes_of_rows(33) == 64 * 70 * 2 * 4


def test_what_is_no_raster(tmp_path, make_raster):
    empty = tmp_path / "empty.tif"
    empty.write_bytes(b"")
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    for path in (empty, text, tmp_path, tmp_path / "absent.tif"):
        with pytest.raises(UserError, match="cannot be read as a raster") as raised:
            open_cube(str(path))
        assert raised.value.remedy


def test_complex_numbers_are_refused(make_raster):
    with pytest.raises(UserError, match="complex"):
        open_cube(make_raster(np.ones((1, 4, 4), "complex64")))


def test_only_alpha_is_refused(make_raster):
    def interpret(dataset):
        dataset.colorinterp = [ColorInterp.alpha]

    with pytest.raises(UserError, match="no data bands"):
        open_cube(make_raster(counting("uint8", bands=1), change=interpret))


def test_a_container_of_rasters_is_refused(make_raster, tmp_path):
    first = make_raster(counting())
    path = str(tmp_path / "pages.gpkg")
    values = counting("uint8")
    for table in ("one", "two"):
        with rasterio.open(
            path, "w", driver="GPKG", count=3, height=5, width=7, dtype="uint8", crs="EPSG:32633",
            transform=Affine(30, 0, 0, 0, -30, 0), raster_table=table, append_subdataset=table == "two",
        ) as dataset:  # fmt: skip
            dataset.write(values)
    assert os.path.exists(first)
    with pytest.raises(UserError, match="several rasters"):
        open_cube(path)


def test_a_truncated_file_is_named(make_raster):
    values = np.random.default_rng(0).integers(0, 30000, (3, 200, 200)).astype("int16")
    path = make_raster(values, compress="deflate")
    os.truncate(path, os.path.getsize(path) // 2)
    with open_cube(path) as cube, pytest.raises(UserError, match="cannot be read to its end"):
        cube.read([1, 2, 3])


def test_a_raster_with_control_points_only_is_refused(make_raster) -> None:
    def place(dataset):
        dataset.gcps = (
            [GroundControlPoint(row, column, row, column) for row in (0, 5) for column in (0, 5)],
            "EPSG:4326",
        )

    with pytest.raises(UserError, match="ground control points only"):
        open_cube(make_raster(np.ones((1, 6, 6), np.uint8), change=place))
