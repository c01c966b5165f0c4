"""Pixels read by the QGIS side, against gdallocationinfo and against arithmetic."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from osgeo import gdal, osr

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.pixel_reader import PixelReader


def locations(path: str, points: np.ndarray, srs: str) -> List[List[float]]:
    """Return what gdallocationinfo prints for points, one list of band values each; empty outside."""
    found = []
    for x, y in points:
        command = ["gdallocationinfo", "-valonly", "-l_srs", srs, path, repr(float(x)), repr(float(y))]
        done = subprocess.run(command, capture_output=True, text=True)
        found.append([float(line) for line in done.stdout.split()])
    return found


def test_a_header_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    """µm in Latin-1 is what older programs write; GDAL gives it as bytes."""
    path = tmp_path / "cube.img"
    gdal.GetDriverByName("ENVI").Create(str(path), 5, 4, 3, gdal.GDT_UInt16).FlushCache()
    lines = "band names = {né, deux, trois}\nwavelength = {0.45, 0.55, 0.65}\nwavelength units = µm\n"
    with open(tmp_path / "cube.hdr", "ab") as header:
        header.write(lines.encode("latin-1"))
    reader = PixelReader(str(path))
    assert reader.summary.spectrum.wavelengths_nm == (450.0, 550.0, 650.0)
    assert all(isinstance(text, str) for tag in reader.tags.items() for text in tag)


@pytest.mark.parametrize(
    ("epsg", "kind", "nodata", "geotransform"),
    [
        (32633, gdal.GDT_UInt16, 0, (500000.0, 10.0, 0.0, 5800000.0, 0.0, -10.0)),
        (4326, gdal.GDT_Float32, -9999.1, (13.0, 1e-4, 0.0, 52.4, 0.0, -2e-4)),
        (3035, gdal.GDT_Int16, -32768, (4300000.0, 20.0, 3.0, 3300000.0, -2.0, -20.0)),
    ],
)
def test_values_are_those_of_gdallocationinfo(
    tmp_path: Path, epsg: int, kind: int, nodata: float, geotransform: Any
) -> None:
    generator = np.random.default_rng(epsg)
    values = generator.uniform(1, 3000, (7, 30, 40)).astype({1: "u1", 2: "u2", 3: "i2", 6: "f4"}[kind])
    values[generator.random(values.shape) < 0.2] = nodata
    path = str(tmp_path / "raster.tif")
    options = ["INTERLEAVE=PIXEL", "TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=16"]
    dataset = gdal.GetDriverByName("GTiff").Create(path, 40, 30, 7, kind, options)
    system = osr.SpatialReference()
    system.ImportFromEPSG(epsg)
    dataset.SetProjection(system.ExportToWkt())
    dataset.SetGeoTransform(geotransform)
    for band in range(1, 8):
        dataset.GetRasterBand(band).SetNoDataValue(nodata)
        dataset.GetRasterBand(band).WriteArray(values[band - 1])
    del dataset
    pixels = generator.uniform([-2, -2], [42, 32], (100, 2))
    points = np.array([gdal.ApplyGeoTransform(geotransform, *pixel) for pixel in pixels.tolist()])
    reader = PixelReader(path)
    rounded = float(np.float32(nodata)) if kind == gdal.GDT_Float32 else nodata
    seen_nodata = outside = 0
    for (x, y), expected in zip(points, locations(path, points, f"EPSG:{epsg}")):
        pixel = reader.pixel_at(x, y)
        assert (pixel is None) == (not expected)
        if pixel is None:
            outside += 1
            continue
        read = reader.read_window(*pixel).mean
        for mine, theirs in zip(read, expected):
            if math.isnan(mine):
                seen_nodata += 1
                assert theirs == pytest.approx(rounded, rel=1e-6)
            else:
                assert mine == pytest.approx(theirs, rel=1e-7)
                assert not math.isclose(mine, rounded)
    assert seen_nodata > 20 and outside > 5


def make(path: Path, values: np.ndarray, bands_alpha: int = 0, mask: Any = None) -> str:
    """Write float32 values (band, row, column); the last bands as alpha, a mask beside them."""
    bands, rows, columns = values.shape
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), columns, rows, bands, gdal.GDT_Float32)
    for number in range(1, bands + 1):
        band = dataset.GetRasterBand(number)
        band.WriteArray(values[number - 1])
        interpretation = gdal.GCI_AlphaBand if number > bands - bands_alpha else gdal.GCI_Undefined
        band.SetColorInterpretation(interpretation)
    if mask is not None:
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(mask)
    del dataset
    return str(path)


def test_alpha_hides_pixels_and_is_no_band(tmp_path: Path) -> None:
    values = np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)
    values[4] = [[255, 0, 1], [1, 1, 1]]
    reader = PixelReader(make(tmp_path / "a.tif", values, bands_alpha=1))
    np.testing.assert_array_equal(reader.read_window(0, 0).mean, values[:4, 0, 0])
    assert np.isnan(reader.read_window(0, 1).mean).all() and len(reader.read_window(0, 1).mean) == 4


def test_a_mask_hides_pixels(tmp_path: Path) -> None:
    values = np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)
    reader = PixelReader(make(tmp_path / "a.tif", values, mask=np.array([[255, 0, 255], [255] * 3], np.uint8)))
    assert np.isnan(reader.read_window(0, 1).mean).all()
    np.testing.assert_array_equal(reader.read_window(0, 2).mean, values[:, 0, 2])


def test_windows_stop_at_the_rim_and_leave_out_what_is_invalid(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(1e6, 1, (6, 9, 8)).astype(np.float32)
    values[2, 0, 1] = np.nan
    values[3, :2, :2] = np.inf
    reader = PixelReader(make(tmp_path / "a.tif", values))
    window = reader.read_window(0, 0, 3)
    inside = values[:, :2, :2].reshape(6, -1).astype(float)
    inside[~np.isfinite(inside)] = np.nan
    assert window.pixels == 4
    assert np.isnan(window.mean[3]) and np.isnan(window.spread[3])
    known = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(window.mean[known], np.nanmean(inside[known], axis=1), rtol=1e-14)
    np.testing.assert_allclose(window.spread[known], np.nanstd(inside[known], axis=1), rtol=1e-6)


def test_a_large_polygon_is_read_in_pieces_to_the_same_mean(tmp_path: Path, monkeypatch: Any) -> None:
    from osgeo import ogr

    from scdm_qgis.processing import pixel_reader

    values = np.random.default_rng(0).normal(100, 20, (3, 60, 50)).astype(np.float32)
    path = make(tmp_path / "a.tif", values)
    triangle = ogr.CreateGeometryFromWkt("POLYGON((-5 -2, 70 -30, 4 -59, -5 -2))")
    wkb = bytes(triangle.ExportToWkb())
    whole = PixelReader(path).read_polygon(wkb, lambda: False)
    monkeypatch.setattr(pixel_reader, "_SIDE_AT_ONCE", 7)
    pieces = PixelReader(path).read_polygon(wkb, lambda: False)
    rows, columns = np.mgrid[:60, :50]
    inside = np.array(
        [
            [triangle.Contains(ogr.CreateGeometryFromWkt(f"POINT({c + 0.5} {-r - 0.5})")) for c in range(50)]
            for r in range(60)
        ]
    )
    assert whole is not None and pieces is not None
    assert whole.pixels == pieces.pixels == inside.sum() > 800
    np.testing.assert_allclose(whole.mean, values[:, inside].mean(axis=1, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.spread, whole.spread, rtol=1e-10)
    assert PixelReader(path).read_polygon(wkb, lambda: True) is None
    far = bytes(ogr.CreateGeometryFromWkt("POLYGON((500 500, 501 500, 501 501, 500 500))").ExportToWkb())
    assert PixelReader(path).read_polygon(far, lambda: False) is None


def test_rasters_that_cannot_be_sampled_are_refused_in_words(tmp_path: Path) -> None:
    complex_path = str(tmp_path / "c.tif")
    del_me = gdal.GetDriverByName("GTiff").Create(complex_path, 4, 4, 5, gdal.GDT_CInt16)
    del del_me
    with pytest.raises(UserError, match="holds complex numbers"):
        PixelReader(complex_path)
    points = str(tmp_path / "g.tif")
    dataset = gdal.GetDriverByName("GTiff").Create(points, 4, 4, 5)
    dataset.SetGCPs([gdal.GCP(0, 0, 0, 0, 0), gdal.GCP(9, 0, 0, 4, 0), gdal.GCP(0, 9, 0, 0, 4)], "")
    del dataset
    with pytest.raises(UserError, match="placed by control points"):
        PixelReader(points)
    (tmp_path / "t.tif").write_text("no raster")
    with pytest.raises(UserError, match="cannot be read as a raster"):
        PixelReader(str(tmp_path / "t.tif"))


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    path = Path(make(tmp_path / "a.tif", np.ones((5, 200, 200), np.float32)))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    reader = PixelReader(str(path))
    with pytest.raises(UserError, match="cannot be read there"):
        reader.read_window(199, 199)


def test_nodata_is_compared_as_the_pixels_hold_it(tmp_path: Path) -> None:
    values = np.full((5, 2, 3), -9999.1, np.float32)
    values[:, 0, 1] = 7
    values.tofile(tmp_path / "a.dat")
    header = "ENVI\nsamples = 3\nlines = 2\nbands = 5\ndata type = 4\ninterleave = bsq\nbyte order = 0\n"
    (tmp_path / "a.hdr").write_text(header + "data ignore value = -9999.1\n")  # GDAL tells it as it is written
    reader = PixelReader(str(tmp_path / "a.dat"))
    assert np.isnan(reader.read_window(0, 0).mean).all()
    np.testing.assert_array_equal(reader.read_window(0, 1).mean, 7)
