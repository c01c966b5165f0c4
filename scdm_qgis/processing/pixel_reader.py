"""Spectra of single places of a raster that is kept open; nodata and masked values come as NaN.

All bands of a window are read in one go, so that a pixel-interleaved file unpacks a block once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from osgeo import gdal, ogr, osr

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.raster_summary import RasterSummary, open_raster, quiet_gdal, summary_of, tags_in

_COMPLEX_TYPES = (gdal.GDT_CInt16, gdal.GDT_CInt32, gdal.GDT_CFloat32, gdal.GDT_CFloat64)
_BYTES_AT_ONCE = 32 * 2**20
_SIDE_AT_ONCE = 256


@dataclass(frozen=True)
class WindowSpectrum:
    """The mean spectrum of some pixels.

    Args:
        mean: per data band, float64 in data units; NaN for a band without a valid pixel.
        spread: the standard deviation of the valid pixels (divided by their number), likewise.
        pixels: how many pixels it is of, valid or not.
    """

    mean: np.ndarray
    spread: np.ndarray
    pixels: int


class PixelReader:
    """A raster kept open; to be used, closed included, by one thread at a time.

    Alpha bands are no data but hide pixels. Scale and offset tags are not applied, as in the engine.

    Args:
        path: what GDAL opens.

    Raises:
        UserError: not a raster, no bands, complex numbers, or no grid that pixels could be found by.
    """

    def __init__(self, path: str) -> None:
        self._dataset = open_raster(path)
        self.summary: RasterSummary = summary_of(path, self._dataset)
        self.tags: Dict[str, str] = tags_in(self._dataset)
        self.projection: str = self._dataset.GetProjection()
        self._size = (self._dataset.RasterYSize, self._dataset.RasterXSize)
        numbers = range(1, self._dataset.RasterCount + 1)
        bands = [self._dataset.GetRasterBand(number) for number in numbers]
        is_alpha = [band.GetColorInterpretation() == gdal.GCI_AlphaBand for band in bands]
        self._data = [number for number, alpha in zip(numbers, is_alpha) if not alpha]
        self._alpha = [number for number, alpha in zip(numbers, is_alpha) if alpha]
        data = [bands[number - 1] for number in self._data]
        if any(band.DataType in _COMPLEX_TYPES for band in data):
            raise UserError(
                f"'{path}' holds complex numbers, which have no spectrum.",
                "Save their magnitude as a raster first, and use that.",
            )
        if self._dataset.GetGCPCount() and self._dataset.GetGeoTransform(can_return_null=True) is None:
            raise UserError(
                f"'{path}' is placed by control points, not by a grid.",
                "Warp it first (Raster ▸ Projections ▸ Warp), and use the result.",
            )
        self._to_pixel = gdal.InvGeoTransform(self.summary.geotransform)
        if self._to_pixel is None:
            raise UserError(f"'{path}' has a grid of no extent.", "Correct its georeference.")
        self.floating: bool = any(band.DataType in (gdal.GDT_Float32, gdal.GDT_Float64) for band in data)
        self._nodata = np.array([_nodata_as_read(band) for band in data])
        self._masked = _bands_with_own_mask(data, self._data)

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._dataset = None

    def pixel_at(self, x: float, y: float) -> Optional[Tuple[int, int]]:
        """Return the 0-based row and column of the pixel that holds a place, None outside.

        Args:
            x, y: in the raster's coordinates; a raster without georeference lies below the origin.
        """
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        column, row = gdal.ApplyGeoTransform(self._to_pixel, x, y)
        inside = 0 <= row < self._size[0] and 0 <= column < self._size[1]
        return (math.floor(row), math.floor(column)) if inside else None

    def read_window(self, row: int, column: int, side: int = 1) -> WindowSpectrum:
        """Return the spectrum of the pixels around one, those outside the raster left out.

        Args:
            row, column: the middle, inside the raster.
            side: how many pixels the window is high and wide, odd.

        Raises:
            UserError: the file cannot be read there.
        """
        first_row, first_column = max(row - side // 2, 0), max(column - side // 2, 0)
        rows = min(row + side // 2 + 1, self._size[0]) - first_row
        columns = min(column + side // 2 + 1, self._size[1]) - first_column
        values = self._read(first_row, first_column, rows, columns)
        sums = _Moments(len(self._data))
        sums.add(values.reshape(len(values), -1))
        return sums.spectrum()

    def read_polygon(self, wkb: bytes, stopped: Callable[[], bool]) -> Optional[WindowSpectrum]:
        """Return the spectrum of the pixels whose centres lie in a polygon; None where there are none.

        Args:
            wkb: the polygon in the raster's coordinates.
            stopped: asked between pieces; True ends the reading with None.

        Raises:
            UserError: the file cannot be read there.
        """
        polygon = ogr.CreateGeometryFromWkb(wkb)
        top, left, bottom, right = self._pixels_around(polygon)
        side = max(1, min(_SIDE_AT_ONCE, math.isqrt(_BYTES_AT_ONCE // (8 * len(self._data)))))
        sums = _Moments(len(self._data))
        for row in range(top, bottom, side):
            for column in range(left, right, side):
                if stopped():
                    return None
                rows, columns = min(side, bottom - row), min(side, right - column)
                inside = self._inside(polygon, row, column, rows, columns)
                if inside.any():
                    sums.add(self._read(row, column, rows, columns)[:, inside])
        return sums.spectrum() if sums.pixels else None

    def _pixels_around(self, polygon: ogr.Geometry) -> Tuple[int, int, int, int]:
        """Return the first row and column, and those after the last, that a polygon may touch."""
        left, right, bottom, top = polygon.GetEnvelope()
        corners = [gdal.ApplyGeoTransform(self._to_pixel, x, y) for x in (left, right) for y in (bottom, top)]
        columns, rows = zip(*corners)
        height, width = self._size
        return (
            max(math.floor(min(rows)), 0),
            max(math.floor(min(columns)), 0),
            min(math.ceil(max(rows)), height),
            min(math.ceil(max(columns)), width),
        )

    def _inside(self, polygon: ogr.Geometry, row: int, column: int, rows: int, columns: int) -> np.ndarray:
        """Return which pixels of a window have their centre in the polygon, bool (row, column)."""
        drawn = gdal.GetDriverByName("MEM").Create("", columns, rows, 1, gdal.GDT_Byte)
        x, across, x_down, y, y_across, down = self.summary.geotransform
        drawn.SetGeoTransform(
            (
                x + column * across + row * x_down,
                across,
                x_down,
                y + column * y_across + row * down,
                y_across,
                down,
            )
        )
        shapes = ogr.GetDriverByName("Memory").CreateDataSource("")
        layer = shapes.CreateLayer("polygon", osr.SpatialReference(), ogr.wkbUnknown)
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(polygon)
        layer.CreateFeature(feature)
        with quiet_gdal():  # that neither has a coordinate system
            gdal.RasterizeLayer(drawn, [1], layer, burn_values=[1])
        return np.frombuffer(drawn.ReadRaster(), np.uint8).reshape(rows, columns) == 1

    def _read(self, row: int, column: int, rows: int, columns: int) -> np.ndarray:
        """Return float64 (band, row, column), NaN where invalid."""
        window = (column, row, columns, rows)
        values = self._numbers(self._dataset, window, band_list=self._data)
        valid = np.isfinite(values) & (values != self._nodata[:, None, None])
        if self._alpha:
            valid &= (self._numbers(self._dataset, window, band_list=self._alpha) != 0).all(axis=0)
        for number in set(self._masked) - {0}:
            mask = self._numbers(self._dataset.GetRasterBand(number).GetMaskBand(), window)
            valid[[own == number for own in self._masked]] &= mask != 0
        return np.where(valid, values, math.nan)

    def _numbers(self, source: Any, window: Tuple[int, int, int, int], **bands: Any) -> np.ndarray:
        with quiet_gdal():
            try:
                buffer = source.ReadRaster(*window, buf_type=gdal.GDT_Float64, **bands)
            except RuntimeError:  # where another plugin has switched on GDAL's exceptions
                buffer = None
        if buffer is None:
            raise UserError(f"'{self.summary.path}' cannot be read there.", "Check that the file is whole.")
        return np.frombuffer(buffer, np.float64).reshape(-1, window[3], window[2])


class _Moments:
    """Mean and spread per band over pixels that come in pieces (Chan, Golub and LeVeque 1979)."""

    def __init__(self, bands: int) -> None:
        self.pixels = 0
        self._counts = np.zeros(bands)
        self._means = np.zeros(bands)
        self._squares = np.zeros(bands)

    def add(self, values: np.ndarray) -> None:
        """Take in values (band, pixel), NaN where invalid."""
        self.pixels += values.shape[1]
        valid = np.isfinite(values)
        counts = valid.sum(axis=1)
        means = np.where(valid, values, 0).sum(axis=1) / np.maximum(counts, 1)
        squares = np.square(np.where(valid, values - means[:, None], 0)).sum(axis=1)
        total = np.maximum(self._counts + counts, 1)
        apart = means - self._means
        self._squares += squares + apart**2 * self._counts * counts / total
        self._means += apart * counts / total
        self._counts += counts

    def spectrum(self) -> WindowSpectrum:
        """Return mean and spread over the pixels so far."""
        known = self._counts > 0
        spread = np.sqrt(self._squares / np.maximum(self._counts, 1))
        return WindowSpectrum(np.where(known, self._means, np.nan), np.where(known, spread, np.nan), self.pixels)


def _nodata_as_read(band: gdal.Band) -> float:
    """Return a band's nodata value as its pixels hold it; NaN, which equals nothing, where it has none."""
    nodata = band.GetNoDataValue()
    if nodata is None:
        return math.nan
    return float(np.float32(nodata)) if band.DataType == gdal.GDT_Float32 else float(nodata)


def _bands_with_own_mask(bands: List[gdal.Band], numbers: List[int]) -> List[int]:
    """Return for each data band the band whose mask must be read for it; 0 for none.

    Nodata and alpha are compared here instead, since GDAL looks at only one of mask, nodata and alpha. A mask
    that all bands share is read once.
    """
    masked = []
    for band, number in zip(bands, numbers):
        flags = band.GetMaskFlags()
        if flags & gdal.GMF_PER_DATASET and not flags & gdal.GMF_ALPHA:
            masked.append(numbers[0])
        else:
            masked.append(0 if flags else number)
    return masked
