"""Simulate RGB: the right bands, unchanged, with georeference and exactly the input's mask."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import simulate_rgb
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import SimulateRgb
from scdm_qgis.raster.cube import open_cube

PLACE = Affine(30.0, 0.0, 364095.0, 0.0, -30.0, 5809965.0)
WAVELENGTHS_NM = (460, 550, 640, 700, 850)


def simulate(source: Path, output: Path, rgb_bands: Optional[str] = None) -> None:
    simulate_rgb.run(SimulateRgb(str(source), str(output), rgb_bands), EventWriter(io.StringIO()))


def write_cube(
    path: Path,
    values: np.ndarray,
    nodata: Optional[float] = None,
    wavelengths_nm: Optional[Sequence[float]] = WAVELENGTHS_NM,
    bad: Sequence[int] = (),
    alpha: Optional[np.ndarray] = None,
) -> Path:
    """Write values (band, row, column); alpha (row, column) becomes a last band of its own."""
    count = len(values) + (alpha is not None)
    _, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=values.dtype,
        nodata=nodata,
        crs="EPSG:32633",
        transform=PLACE,
    ) as dataset:
        if alpha is not None:
            dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (count - 2) + [ColorInterp.alpha]
            dataset.write(alpha.astype(values.dtype), count)
        dataset.write(values, list(range(1, len(values) + 1)))
        for band, wavelength in enumerate(wavelengths_nm or (), start=1):
            dataset.update_tags(band, wavelength=str(wavelength), wavelength_units="Nanometers")
            dataset.update_tags(band, bbl="0" if band in bad else "1")
    return path


def random_values(dtype: str, low: int, high: int) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (5, 70, 90)).astype(dtype)


def hole() -> np.ndarray:
    valid = np.ones((70, 90), bool)
    valid[10:30, 5:80] = False
    valid[69, 89] = False
    return valid


def mask_and_values(path: Path) -> tuple:
    with rasterio.open(path) as dataset:
        masks = dataset.read_masks()
        assert (masks == masks[0]).all()
        return masks[0] > 0, dataset.read()


def test_bands_come_by_wavelength_unchanged_and_labelled(tmp_path: Path) -> None:
    values = random_values("uint16", 0, 10_000)
    source = write_cube(tmp_path / "in.tif", values)
    simulate(source, tmp_path / "rgb.tif")
    with rasterio.open(tmp_path / "rgb.tif") as rgb:
        assert np.array_equal(rgb.read(), values[[2, 1, 0]])
        assert rgb.dtypes == ("uint16",) * 3
        assert rgb.crs == rasterio.crs.CRS.from_epsg(32633) and rgb.transform == PLACE
        assert [colour.name for colour in rgb.colorinterp] == ["red", "green", "blue"]
        assert rgb.dataset_mask().all()
    with open_cube(str(tmp_path / "rgb.tif")) as cube:
        assert cube.spectrum.wavelengths_nm == pytest.approx((640, 550, 460))


def test_named_bands_in_the_order_given(tmp_path: Path) -> None:
    values = random_values("int16", -50, 10_000)
    source = write_cube(tmp_path / "in.tif", values, wavelengths_nm=None)
    simulate(source, tmp_path / "rgb.tif", "5,1,3")
    assert np.array_equal(mask_and_values(tmp_path / "rgb.tif")[1], values[[4, 0, 2]])


def test_bad_and_empty_bands_are_not_chosen(tmp_path: Path) -> None:
    values = random_values("int16", 0, 10_000)
    values[1] = -9999
    source = write_cube(tmp_path / "in.tif", values, nodata=-9999, wavelengths_nm=(640, 550, 560, 650, 460), bad=(1,))
    simulate(source, tmp_path / "rgb.tif")
    assert np.array_equal(mask_and_values(tmp_path / "rgb.tif")[1], values[[3, 2, 4]])


def test_unknown_wavelengths_ask_for_rgb_bands(tmp_path: Path) -> None:
    source = write_cube(tmp_path / "in.tif", random_values("uint8", 0, 200), wavelengths_nm=None)
    with pytest.raises(UserError, match="RGB_BANDS"):
        simulate(source, tmp_path / "rgb.tif")
    assert os.listdir(tmp_path) == ["in.tif"]


@pytest.mark.parametrize("rgb_bands", ["1,2", "1,2,6", "1,1,2", "red"])
def test_bad_rgb_bands_are_errors_and_leave_nothing(tmp_path: Path, rgb_bands: str) -> None:
    source = write_cube(tmp_path / "in.tif", random_values("uint8", 0, 200))
    with pytest.raises(UserError):
        simulate(source, tmp_path / "rgb.tif", rgb_bands)
    assert os.listdir(tmp_path) == ["in.tif"]


def test_pixel_is_nodata_where_any_used_band_is(tmp_path: Path) -> None:
    values = random_values("int16", 0, 10_000)
    values[0, 3, 4] = values[2, 5, 6] = -9999  # blue and red
    values[4, 7, 8] = -9999  # a band that is not used
    source = write_cube(tmp_path / "in.tif", values, nodata=-9999)
    simulate(source, tmp_path / "rgb.tif")
    expected = np.ones((70, 90), bool)
    expected[3, 4] = expected[5, 6] = False
    mask, pixels = mask_and_values(tmp_path / "rgb.tif")
    assert np.array_equal(mask, expected)
    assert np.array_equal(pixels[:, expected], values[[2, 1, 0]][:, expected])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_mask_that_only_an_alpha_band_holds(tmp_path: Path, dtype: str) -> None:
    values = random_values(dtype, 0, 200)
    source = write_cube(tmp_path / "in.tif", values, alpha=np.where(hole(), 200, 0))
    simulate(source, tmp_path / "rgb.tif")
    mask, pixels = mask_and_values(tmp_path / "rgb.tif")
    assert np.array_equal(mask, hole())
    assert pixels.dtype == dtype
    assert np.array_equal(pixels[:, mask], values[[2, 1, 0]][:, mask])


def test_valid_values_equal_to_the_chosen_nodata_stay_valid(tmp_path: Path) -> None:
    values = random_values("uint8", 0, 200)
    values[:, 0] = 255
    source = write_cube(tmp_path / "in.tif", values, alpha=np.where(hole(), 255, 0))
    simulate(source, tmp_path / "rgb.tif")
    mask, pixels = mask_and_values(tmp_path / "rgb.tif")
    assert np.array_equal(mask, hole())
    assert (pixels[:, 0] == 254).all()  # moved by one unit


def test_nodata_value_that_the_type_cannot_hold(tmp_path: Path) -> None:
    values = random_values("uint16", 0, 10_000)
    source = write_cube(tmp_path / "in.tif", values, alpha=np.where(hole(), 1, 0))
    with rasterio.open(source) as dataset:
        bands = "".join(_vrt_band(number, dataset.shape, number == 6) for number in range(1, 7))
        place = ", ".join(map(str, PLACE.to_gdal()))
        size = 'rasterXSize="90" rasterYSize="70"'
        text = f"<VRTDataset {size}><GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    (tmp_path / "in.vrt").write_text(text, encoding="utf-8")
    simulate(tmp_path / "in.vrt", tmp_path / "rgb.tif", "3,2,1")
    mask, pixels = mask_and_values(tmp_path / "rgb.tif")
    assert np.array_equal(mask, hole())
    assert pixels.dtype == "uint16"
    assert np.array_equal(pixels[:, mask], values[[2, 1, 0]][:, mask])


def _vrt_band(number: int, shape: Sequence[int], alpha: bool) -> str:
    rectangle = f'xOff="0" yOff="0" xSize="{shape[1]}" ySize="{shape[0]}"'
    meaning = "<ColorInterp>Alpha</ColorInterp>" if alpha else "<NoDataValue>-9999</NoDataValue>"
    return (
        f'<VRTRasterBand dataType="UInt16" band="{number}">{meaning}<SimpleSource>'
        f'<SourceFilename relativeToVRT="1">in.tif</SourceFilename><SourceBand>{number}</SourceBand>'
        f"<SrcRect {rectangle}/><DstRect {rectangle}/></SimpleSource></VRTRasterBand>"
    )


def test_nan_pixels_are_nodata(tmp_path: Path) -> None:
    values = random_values("float32", 0, 1000)
    values[:, ~hole()] = np.nan
    values[1, 0, 0] = np.inf
    source = write_cube(tmp_path / "in.tif", values)
    simulate(source, tmp_path / "rgb.tif")
    expected = hole()
    expected[0, 0] = False
    assert np.array_equal(mask_and_values(tmp_path / "rgb.tif")[0], expected)


def test_enmap_scene(scene: Callable[[str], str], tmp_path: Path) -> None:
    path = scene("enmap_potsdam.tif")
    simulate(Path(path), tmp_path / "rgb.tif")
    with rasterio.open(path) as source, rasterio.open(tmp_path / "rgb.tif") as rgb:
        wavelengths = [float(source.tags(band)["wavelength"]) for band in source.indexes]
        bands: List[int] = [int(np.argmin(np.abs(np.array(wavelengths) - nm))) + 1 for nm in (640, 550, 460)]
        expected = (source.read(bands) != source.nodata).all(axis=0)
        assert 0.5 < expected.mean() < 0.7
        assert rgb.crs == source.crs and rgb.transform == source.transform and rgb.shape == source.shape
        assert rgb.dtypes == ("int16",) * 3
        assert (rgb.read_masks() > 0).all(axis=0).tolist() == expected.tolist()
        assert (rgb.read_masks() > 0).any(axis=0).tolist() == expected.tolist()
        assert np.array_equal(rgb.read()[:, expected], source.read(bands)[:, expected])
    with open_cube(str(tmp_path / "rgb.tif")) as cube:
        assert cube.spectrum.wavelengths_nm == pytest.approx([wavelengths[band - 1] for band in bands])
        assert cube.spectrum.fwhm_nm is not None
