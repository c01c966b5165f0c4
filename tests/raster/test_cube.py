"""Cubes of every kind open, and a pixel is valid exactly where every asked band is."""

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
from scdm_qgis.raster.cube import fill_invalid, is_nodata, open_cube, open_dataset

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


def counting(dtype="int16", bands=3, height=5, width=7):
    return np.arange(1, 1 + bands * height * width).reshape(bands, height, width).astype(dtype)


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


def test_large_integer_nodata_is_no_other_number(make_raster):
    values = counting("int64") + 10_000_000
    with open_cube(make_raster(values, nodata=10_000_007)) as cube:
        _, valid = cube.read_native([1])
        np.testing.assert_array_equal(valid, values[0] != 10_000_007)


def test_integer_nodata(make_raster):
    with open_cube(make_raster(counting("uint8"), nodata=3)) as cube:
        assert cube.nodata == 3
        _, valid = cube.read([1, 2, 3])
        np.testing.assert_array_equal(valid, counting()[0] != 3)
        assert cube.read([2, 3])[1].all()


@pytest.mark.parametrize("nodata", [-9999.0, 0.0, float("nan"), -3.4028234663852886e38])
def test_float_nodata_nan_and_infinity(make_raster, nodata):
    values = counting("float32")
    values[0, 0, 0] = nodata
    values[1, 0, 1] = np.nan
    values[2, 0, 2] = np.inf
    values[2, 0, 3] = -np.inf
    with open_cube(make_raster(values, nodata=nodata)) as cube:
        assert np.isnan(cube.nodata) if np.isnan(nodata) else cube.nodata == nodata
        expected = np.ones((5, 7), bool)
        expected[0, :4] = False
        np.testing.assert_array_equal(cube.read([1, 2, 3])[1], expected)
        assert cube.read([1])[1].sum() == 34


def test_float64_beyond_float32_is_invalid(make_raster):
    values = counting("float64")
    values[0, 1, 1] = 1e300
    with open_cube(make_raster(values)) as cube, warnings.catch_warnings():
        warnings.simplefilter("error")
        _, valid = cube.read([1])
        assert valid.sum() == 34
        assert not valid[1, 1]


def test_nodata_that_the_type_cannot_hold_hides_nothing(make_raster, tmp_path):
    source = make_raster(np.zeros((1, 5, 7), "uint8"))
    path = tmp_path / "nodata.vrt"
    path.write_text(
        f"""<VRTDataset rasterXSize="7" rasterYSize="5"><VRTRasterBand dataType="Byte" band="1">
        <NoDataValue>-9999</NoDataValue><SimpleSource><SourceFilename>{source}</SourceFilename>
        <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    )
    with open_cube(str(path)) as cube:
        assert cube.nodata is None
        assert cube.read([1])[1].all()
        assert cube.empty_bands() == ()


def vrt_band(source, number, kind="Int16", extra=""):
    return f"""<VRTRasterBand dataType="{kind}" band="{number}">{extra}<SimpleSource>
    <SourceFilename>{source}</SourceFilename><SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"""


def test_vrt_with_nodata_and_type_of_its_own_for_each_band(make_raster, tmp_path):
    source = make_raster(counting())
    path = tmp_path / "bands.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="7" rasterYSize="5">'
        + vrt_band(source, 1, "Int16", "<NoDataValue>1</NoDataValue>")
        + vrt_band(source, 2, "UInt16", "<NoDataValue>37</NoDataValue>")
        + vrt_band(source, 3, "Int16", "<Description>550 nm</Description>")
        + "</VRTDataset>"
    )
    with open_cube(str(path)) as cube:
        assert cube.dtype == "int32"
        assert cube.nodata == 1
        assert cube.spectrum.wavelengths_nm == (None, None, 550.0)
        values, valid = cube.read([1, 2, 3])
        np.testing.assert_array_equal(values, counting())
        expected = np.ones((5, 7), bool)
        expected[0, :2] = False
        np.testing.assert_array_equal(valid, expected)


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


@pytest.mark.parametrize("internal", [True, False])
def test_mask_band_beside_nodata(make_raster, internal):
    mask = np.full((5, 7), 255, np.uint8)
    mask[4] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = make_raster(counting(), nodata=1, change=lambda dataset: dataset.write_mask(mask))
    assert os.path.exists(path + ".msk") is not internal
    with open_cube(path) as cube:
        _, valid = cube.read([1, 3])
        expected = mask != 0
        expected[0, 0] = False
        np.testing.assert_array_equal(valid, expected)


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha_band_is_a_mask_and_no_data(make_raster, bands, dtype):
    values = counting(dtype, bands=bands + 1)
    values[-1] = 255
    values[-1, 2] = 0
    gray = [ColorInterp.gray] + [ColorInterp.undefined] * (bands - 1)

    def interpret(dataset):
        dataset.colorinterp = [*gray, ColorInterp.alpha]

    with open_cube(make_raster(values, change=interpret, photometric="minisblack")) as cube:
        assert cube.band_count == bands
        assert len(cube.spectrum.bad) == bands
        got, valid = cube.read(range(1, bands + 1))
        np.testing.assert_array_equal(got, values[:bands])
        np.testing.assert_array_equal(valid, values[-1] != 0)
        assert cube.empty_bands() == ()


def test_alpha_that_comes_first_shifts_the_band_numbers(make_raster, tmp_path):
    source = make_raster(counting("uint8"))
    path = tmp_path / "alpha_first.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="7" rasterYSize="5">'
        + vrt_band(source, 1, "Byte", "<ColorInterp>Alpha</ColorInterp>")
        + vrt_band(source, 2, "Byte", "<Description>550 nm</Description>")
        + vrt_band(source, 3, "Byte", "<Description>640 nm</Description>")
        + "</VRTDataset>"
    )
    with open_cube(str(path)) as cube:
        assert cube.band_count == 2
        assert cube.spectrum.wavelengths_nm == (550.0, 640.0)
        np.testing.assert_array_equal(cube.read([2])[0][0], counting()[2])


def test_empty_bands_of_every_sort(make_raster):
    values = counting("float32", bands=5, height=100, width=100)
    values[0] = -1
    values[2] = np.nan
    values[3] = -1
    values[3, 99, 99] = 5
    values[4] = np.inf
    with open_cube(make_raster(values, nodata=-1, tiled=True, blockxsize=16, blockysize=16)) as cube:
        assert cube.empty_bands() == (1, 3, 5)


def test_all_nodata(make_raster):
    with open_cube(make_raster(np.zeros((2, 5, 7), "int16"), nodata=0)) as cube:
        assert cube.empty_bands() == (1, 2)
        assert not cube.read([1, 2])[1].any()


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


def test_is_nodata_agrees_with_gdals_mask(make_raster):
    for nodata in (-9999.0, 0.0, 0.1, 1e30):
        steps = np.array([0, 1e-8, 1e-7, 2e-7, 4e-7, 6e-7, 1e-6, 1e-3])
        for dtype in ("float32", "float64"):
            stored = float(np.dtype(dtype).type(nodata))
            values = (stored * (1 - steps) if nodata else steps).astype(dtype)
            path = make_raster(values[None, None], nodata=stored)
            with open_dataset(path) as dataset:
                masked = dataset.read_masks(1)[0] == 0
            np.testing.assert_array_equal(is_nodata(values, stored), masked)


def test_fill_invalid_takes_the_nearest_valid_pixel():
    values = np.arange(2 * 1 * 6, dtype=np.float32).reshape(2, 1, 6)
    valid = np.array([[False, True, False, False, False, True]])
    filled = fill_invalid(values, valid)
    np.testing.assert_array_equal(filled[:, 0], [[1, 1, 1, 1, 5, 5], [7, 7, 7, 7, 11, 11]])
    assert filled.dtype == np.float32


def test_fill_invalid_at_its_ends():
    values = np.full((2, 3, 4), np.nan, np.float32)
    assert (fill_invalid(values, np.zeros((3, 4), bool)) == 0).all()
    whole = np.ones((2, 3, 4), np.int16)
    np.testing.assert_array_equal(fill_invalid(whole, np.ones((3, 4), bool)), whole)


def test_fill_invalid_on_a_real_scene(scene):
    with open_cube(scene("enmap_potsdam.tif")) as cube:
        values, valid = cube.read([48, 30, 10])
    filled = fill_invalid(values, valid)
    np.testing.assert_array_equal(filled[:, valid], values[:, valid])
    assert filled.min() > -32768


def test_a_raster_with_control_points_only_is_refused(make_raster) -> None:
    def place(dataset):
        dataset.gcps = (
            [GroundControlPoint(row, column, row, column) for row in (0, 5) for column in (0, 5)],
            "EPSG:4326",
        )

    with pytest.raises(UserError, match="ground control points only"):
        open_cube(make_raster(np.ones((1, 6, 6), np.uint8), change=place))
