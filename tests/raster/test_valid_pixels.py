"""Which pixels of a cube are valid, and what stands in for those that are not."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from scdm_qgis.raster.cube import fill_invalid, is_nodata, open_cube, open_dataset
from tests.raster.counting import counting


def vrt_band(source, number, kind="Int16", extra=""):
    return f"""<VRTRasterBand dataType="{kind}" band="{number}">{extra}<SimpleSource>
    <SourceFilename>{source}</SourceFilename><SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"""


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
