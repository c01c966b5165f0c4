"""Written cubes: values, nodata, tags in three places, block layout, and nothing left after a failure."""

from __future__ import annotations

import os
import resource
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import partial_path
from scdm_qgis.raster.cube import open_cube, open_dataset
from scdm_qgis.raster.cube_writer import BLOCK, DTYPES, CubeWriter, OutputFormat, choose_nodata
from scdm_qgis.raster.spectral import read_spectrum

TRANSFORM = Affine(30.0, 0.0, 364095.0, 0.0, -30.0, 5809965.0)


def output_format(dtype="int16", bands=3, height=150, width=100, nodata=None, **changes):
    given_ = {
        "height": height,
        "width": width,
        "dtype": dtype,
        "nodata": choose_nodata(dtype, nodata),
        "crs": CRS.from_epsg(32633),
        "transform": TRANSFORM,
        "wavelengths_nm": tuple(450.0 + 95.125 * band for band in range(bands)),
        "fwhm_nm": (10.5,) * bands,
        "band_count": bands,
        "tags": {"SCDM_MODEL": "ab" * 32, "SCDM_SEED": "7"},
    }
    return OutputFormat(**{**given_, **changes})


def write(path, form, values, valid=None, strip=37):
    valid = np.ones(values.shape[1:], bool) if valid is None else valid
    with CubeWriter(str(path), form) as writer:
        for row in range(0, form.height, strip):
            writer.write(row, 0, values[:, row : row + strip], valid[row : row + strip])
    return writer


def some_values(form, low=0, high=1000):
    return np.random.default_rng(0).uniform(low, high, (form.band_count, form.height, form.width)).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strip", [1, 37, 64, 150])
def test_values_and_mask_come_back(tmp_path, dtype, strip):
    form = output_format(dtype)
    values = some_values(form, 1, 200)
    valid = np.random.default_rng(1).random((form.height, form.width)) > 0.3
    writer = write(tmp_path / "out.tif", form, values, valid, strip)
    assert writer.clipped == 0
    with open_cube(str(tmp_path / "out.tif")) as cube:
        assert cube.dtype == dtype
        assert cube.crs == CRS.from_epsg(32633)
        assert cube.transform == TRANSFORM
        got, got_valid = cube.read([1, 2, 3])
        np.testing.assert_array_equal(got_valid, valid)
        expected = values if dtype.startswith("float") else np.rint(values)
        np.testing.assert_array_equal(got[:, valid], expected[:, valid])


def test_layout_of_the_file(tmp_path):
    write(tmp_path / "out.tif", output_format(), some_values(output_format()))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.driver == "GTiff"
        assert dataset.block_shapes == [(64, 64)] * 3
        assert dataset.interleaving.value == "PIXEL"
        assert dataset.compression.value == "DEFLATE"
        assert dataset.tags()["SCDM_MODEL"] == "ab" * 32
        assert dataset.tags()["SCDM_SEED"] == "7"


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_no_band_becomes_alpha(tmp_path, bands):
    form = output_format("uint8", bands=bands)
    write(tmp_path / "out.tif", form, some_values(form, 0, 200))
    with open_cube(str(tmp_path / "out.tif")) as cube:
        assert cube.band_count == bands
        assert cube.read([1])[1].all()


def test_wavelengths_stand_in_each_place_of_the_file_itself(tmp_path):
    form = output_format()
    path = str(tmp_path / "out.tif")
    write(path, form, some_values(form))
    assert sorted(os.listdir(tmp_path)) == ["out.tif"]
    with rasterio.open(path) as dataset:
        places = {
            "IMAGERY": ({}, [{"IMAGERY": dataset.tags(i, ns="IMAGERY")} for i in dataset.indexes], [None] * 3),
            "band": ({}, [{"": dataset.tags(i)} for i in dataset.indexes], [None] * 3),
            "description": ({}, [{"": {}}] * 3, dataset.descriptions),
            "ENVI": ({"ENVI": dataset.tags(ns="ENVI")}, [{"": {}}] * 3, [None] * 3),
        }
    for place, tags in places.items():
        spectrum = read_spectrum(*tags)
        assert spectrum.wavelengths_nm == form.wavelengths_nm, place
        assert spectrum.fwhm_nm == (None if place == "description" else form.fwhm_nm), place
        assert not spectrum.unit_guessed


def test_the_gdal_of_qgis_sees_the_tags(tmp_path):
    gdal = pytest.importorskip("osgeo.gdal", reason="this Python has no osgeo.gdal")
    gdal.UseExceptions()
    path = str(tmp_path / "out.tif")
    write(path, output_format(), some_values(output_format()))
    dataset = gdal.Open(path)
    band = dataset.GetRasterBand(2)
    assert band.GetDescription() == "545.125 nm"
    assert band.GetMetadata_Dict() == {"wavelength": "545.125", "wavelength_units": "Nanometers", "fwhm": "10.5"}
    assert band.GetMetadata_Dict("IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.545125", "FWHM_UM": "0.0105"}
    assert dataset.GetMetadata_Dict("ENVI")["wavelength"] == "{450, 545.125, 640.25}"
    assert dataset.GetMetadataItem("SCDM_MODEL") == "ab" * 32
    assert band.GetNoDataValue() == -32768


def test_without_wavelengths_there_are_no_tags(tmp_path):
    form = output_format(wavelengths_nm=None, fwhm_nm=None)
    write(tmp_path / "out.tif", form, some_values(form))
    with open_cube(str(tmp_path / "out.tif")) as cube:
        assert cube.spectrum.wavelengths_nm is None


def test_without_georeference(tmp_path):
    form = output_format(crs=None, transform=Affine.identity())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path / "out.tif", form, some_values(form))
        with open_cube(str(tmp_path / "out.tif")) as cube:
            assert cube.crs is None
            assert cube.transform == Affine.identity()


@pytest.mark.parametrize(
    ("dtype", "training", "expected"),
    [
        ("int16", -32768.0, -32768.0),
        ("int16", None, -32768.0),
        ("int32", None, -2147483648.0),
        ("uint8", None, 255.0),
        ("uint16", None, 65535.0),
        ("uint32", None, 4294967295.0),
        ("uint16", 0.0, 0.0),
        ("uint8", -9999.0, 255.0),
        ("int16", 0.5, -32768.0),
        ("int16", float("nan"), -32768.0),
        ("uint16", float("inf"), 65535.0),
        ("float32", -9999.0, -9999.0),
        ("float32", 0.1, float(np.float32(0.1))),
        ("float32", None, None),
        ("float32", float("nan"), None),
        ("float32", -1.7976931348623157e308, None),
        ("float64", -1.7976931348623157e308, -1.7976931348623157e308),
    ],
)
def test_choice_of_nodata(dtype, training, expected):
    nodata = choose_nodata(dtype, training)
    assert np.isnan(nodata) if expected is None else nodata == expected


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0), ("uint8", 255), ("uint8", 100), ("int16", -32768), ("int16", 0), ("uint32", 4294967295),
        ("int32", -2147483648), ("float32", 0.0), ("float32", -9999.0), ("float32", 100.0), ("float64", 100.0),
        ("float64", -9999.0), ("float64", 0.0), ("float32", float("nan")),
    ],
)  # fmt: skip
def test_a_valid_value_is_never_nodata(tmp_path, dtype, nodata):
    form = output_format(dtype, bands=1, height=1, width=40, nodata=nodata)
    centre = 50.0 if np.isnan(nodata) else nodata
    values = (centre + np.linspace(-2, 2, 40)).astype(np.float32)[None, None]
    values[0, 0, :10] = centre
    values[0, 0, 10] = np.nextafter(np.float32(centre), np.float32(1e9))
    valid = np.ones((1, 40), bool)
    valid[0, 39] = False
    write(tmp_path / "out.tif", form, values, valid)
    with open_dataset(str(tmp_path / "out.tif")) as dataset:
        assert np.array_equal([dataset.nodata], [float(nodata)], equal_nan=True)
        np.testing.assert_array_equal(dataset.read_masks(1) != 0, valid)
        got = dataset.read(1).astype(np.float64)
    limits = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    clipped = np.clip(values[0].astype(np.float64), float(limits.min), float(limits.max))
    tolerance = 2e-6 * max(abs(centre), 1) if dtype.startswith("float") else 1.5
    assert np.abs(got - clipped)[valid].max() <= tolerance


def test_values_outside_the_type_are_clipped_and_counted(tmp_path):
    form = output_format("uint8", bands=2, height=2, width=3)
    values = np.array([[[-1, 0, 300], [np.inf, -np.inf, 5]], [[1, 2, 3], [4, 5, 256]]], np.float32)
    valid = np.array([[True, True, True], [True, True, False]])
    writer = write(tmp_path / "out.tif", form, values, valid)
    assert writer.clipped == 4
    with open_cube(str(tmp_path / "out.tif")) as cube:
        got, got_valid = cube.read_native([1, 2])
        np.testing.assert_array_equal(got_valid, valid)
        # 255 is nodata, so the brightest valid value is 254.
        np.testing.assert_array_equal(got, [[[0, 0, 254], [254, 0, 255]], [[1, 2, 3], [4, 5, 255]]])


@given(st.sampled_from(["uint8", "int16", "uint16"]), st.floats(-1e5, 1e5, width=32))
def test_rounding_is_to_the_nearest(tmp_path_factory, dtype, value):
    path = tmp_path_factory.mktemp("rounding") / "out.tif"
    form = output_format(dtype, bands=1, height=1, width=1)
    write(path, form, np.full((1, 1, 1), value, np.float32))
    with open_cube(str(path)) as cube:
        got, valid = cube.read_native([1])
    assert valid.all()
    limits = np.iinfo(dtype)
    best = np.clip(value, limits.min, limits.max)
    assert abs(float(got[0, 0, 0]) - best) <= (1 if round(best) == form.nodata else 0.5)


def test_invalid_pixels_may_hold_anything(tmp_path):
    form = output_format("int16", bands=1, height=1, width=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = np.array([[[np.nan, np.inf, 5]]], np.float32)
        write(tmp_path / "out.tif", form, values, valid=np.array([[False, False, True]]))
    with open_cube(str(tmp_path / "out.tif")) as cube:
        np.testing.assert_array_equal(cube.read_native([1])[0], [[[-32768, -32768, 5]]])


def test_blocks_are_written_once_whatever_the_strips(tmp_path):
    form = output_format("float32", bands=20, height=3 * BLOCK, width=2 * BLOCK)
    values = some_values(form)
    sizes = set()
    for strip in (1, 7, BLOCK, 3 * BLOCK):
        write(tmp_path / "out.tif", form, values, strip=strip)
        sizes.add(os.path.getsize(tmp_path / "out.tif"))
    assert len(sizes) == 1


def test_nan_in_a_valid_pixel_is_an_error_and_leaves_nothing(tmp_path):
    form = output_format("float32", bands=1, height=1, width=2)
    with pytest.raises(UserError, match="not numbers"):
        write(tmp_path / "out.tif", form, np.array([[[1, np.nan]]], np.float32))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [UserError("a", "b"), OSError("a"), KeyboardInterrupt()])
def test_after_an_exception_nothing_is_left_and_an_older_file_stays(tmp_path, failure):
    form = output_format()
    path = tmp_path / "out.tif"
    path.write_text("older")
    with pytest.raises(type(failure)) as raised, CubeWriter(str(path), form) as writer:
        writer.write(0, 0, some_values(form)[:, :70], np.ones((70, 100), bool))
        assert os.path.exists(partial_path(str(path)))
        raise failure
    assert raised.value is failure
    assert os.listdir(tmp_path) == ["out.tif"]
    assert path.read_text() == "older"


def test_a_file_with_pixels_missing_is_not_finished(tmp_path):
    form = output_format()
    with (
        pytest.raises(ValueError, match="8000 of 15000 pixels were not written"),
        CubeWriter(str(tmp_path / "out.tif"), form) as writer,
    ):
        writer.write(0, 0, some_values(form)[:, :70], np.ones((70, 100), bool))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("row", "column"), [(141, 0), (0, 91), (-1, 0)])
def test_a_piece_outside_the_file_is_refused(tmp_path, row, column):
    form = output_format()
    with pytest.raises(ValueError, match="does not lie"), CubeWriter(str(tmp_path / "out.tif"), form) as writer:
        writer.write(row, column, some_values(form)[:, :10, :10], np.ones((10, 10), bool))


@pytest.mark.parametrize("size", [24, 64, 100])
def test_pieces_of_any_size_in_any_order_make_the_same_file(tmp_path, size):
    form = output_format("uint16", bands=5, height=3 * BLOCK + 5, width=2 * BLOCK + 9)
    values, valid = some_values(form), np.random.default_rng(1).random((form.height, form.width)) > 0.3
    write(tmp_path / "rows.tif", form, values, valid)
    corners = [(row, column) for row in range(0, form.height, size) for column in range(0, form.width, size)]
    np.random.default_rng(0).shuffle(corners)
    with CubeWriter(str(tmp_path / "pieces.tif"), form) as writer:
        for row, column in corners:
            piece = (slice(row, row + size), slice(column, column + size))
            writer.write(row, column, values[(slice(None), *piece)], valid[piece])
    with rasterio.open(tmp_path / "rows.tif") as rows, rasterio.open(tmp_path / "pieces.tif") as pieces:
        np.testing.assert_array_equal(pieces.read(), rows.read())
    assert abs(os.path.getsize(tmp_path / "pieces.tif") - os.path.getsize(tmp_path / "rows.tif")) < 100


def test_a_folder_that_does_not_exist(tmp_path):
    form = output_format()
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "absent" / "out.tif", form, some_values(form))


def test_a_type_no_geotiff_should_have():
    with pytest.raises(UserError, match="int64"):
        output_format("int64", nodata=0)


@pytest.mark.parametrize("missing_bytes", [40_000, 2_000, 600, 100])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, missing_bytes):
    form = output_format("float32", bands=4)
    values = some_values(form)
    path = tmp_path / "out.tif"
    write(path, form, values)
    limit = os.path.getsize(path) - missing_bytes
    path.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(UserError, match="disk"):
            write(path, form, values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["Größe und Fläche.tif", "日本 語.tif", "a#b?c%20d!.tif"])
def test_names_with_spaces_and_other_letters(tmp_path, name):
    form = output_format(height=3, width=3)
    write(tmp_path / name, form, some_values(form))
    assert os.listdir(tmp_path) == [name]


def test_a_real_scene_survives_a_copy(scene, tmp_path):
    with open_cube(scene("enmap_potsdam.tif")) as cube:
        empty = cube.empty_bands()
        good = [number for number in range(1, 225) if number not in empty]
        values, valid = cube.read(good)
        form = OutputFormat(
            cube.height, cube.width, cube.dtype, choose_nodata(cube.dtype, cube.nodata), cube.crs, cube.transform,
            tuple(cube.spectrum.wavelengths_nm[number - 1] for number in good),
            tuple(cube.spectrum.fwhm_nm[number - 1] for number in good), len(good),
        )  # fmt: skip
    writer = write(tmp_path / "out.tif", form, values, valid)
    assert writer.clipped == 0
    with open_cube(str(tmp_path / "out.tif")) as copy:
        got, got_valid = copy.read(range(1, len(good) + 1))
        np.testing.assert_array_equal(got_valid, valid)
        np.testing.assert_array_equal(got[:, valid], values[:, valid])
        assert (copy.crs, copy.transform, copy.nodata) == (form.crs, form.transform, -32768)
        assert copy.spectrum.wavelengths_nm == form.wavelengths_nm
        assert copy.spectrum.fwhm_nm == form.fwhm_nm
    assert os.path.getsize(tmp_path / "out.tif") < 1.1 * os.path.getsize(scene("enmap_potsdam.tif"))


def test_what_lay_beside_an_overwritten_raster_goes_with_it(tmp_path):
    """Statistics, masks and overviews of the old pixels would be shown with the new ones."""
    path, form = tmp_path / "a.tif", output_format()
    for ending in (".aux.xml", ".msk", ".ovr"):
        (tmp_path / f"a.tif{ending}").write_bytes(b"old")
    write(path, form, some_values(form))
    assert os.listdir(tmp_path) == ["a.tif"]
