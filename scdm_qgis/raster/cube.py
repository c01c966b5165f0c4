"""Cubes on disk: opening, checking and reading them, and which of their pixels are valid.

Band numbers are 1-based and count data bands only: an alpha band is a mask, not data.
"""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from scipy.ndimage import distance_transform_edt

from scdm_qgis.core.errors import UserError
from scdm_qgis.raster.spectral import Spectrum, read_spectrum

CACHE_BYTES = 48 * 2**20
"""GDAL's block cache at most; its own default is a share of the machine's memory."""

# Set for the process, before GDAL first asks: `rasterio.Env` sets and resets it for all threads at once.
os.environ.setdefault("GDAL_CACHEMAX", str(CACHE_BYTES))

_READ_AS = {"int8": "int16", "int64": "float64", "uint64": "float64"}
"""Types read as another: GDAL before 3.7 has no int8, and rasterio writes a wrong nodata for 64-bit integers."""


def open_dataset(path: str, mode: str = "r", **profile: Any) -> Any:
    """Open with rasterio; a raster without georeference is no reason to warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, mode, **profile)


def open_cube(path: str) -> Cube:
    """Open a raster for reading; use it as a context manager.

    Raises:
        UserError: no raster, a damaged one, one without data bands, complex numbers, or tags in unknown letters.
    """
    try:
        dataset = open_dataset(path)
        try:
            return Cube(path, dataset)
        except BaseException:
            dataset.close()
            raise
    except UnicodeDecodeError as error:
        raise UserError(
            f"The wavelengths or names that '{path}' comes with are not UTF-8 text.",
            "Save its header (.hdr) as UTF-8 in a text editor, or write um there instead of the sign for micrometres.",
        ) from error
    except (RasterioError, OSError, ValueError) as error:
        raise UserError(
            f"'{path}' cannot be read as a raster ({error}).",
            "Give a GeoTIFF, an ENVI data file or another raster that GDAL reads.",
        ) from error


class Cube:
    """An open raster.

    Attributes:
        path: as it was opened.
        height, width: size in pixels.
        band_count: data bands, alpha not counted.
        dtype: numpy name of the type its values are read in; the widest where bands differ.
        nodata: the first nodata value a data band has, or None.
        crs: coordinate reference system, or None.
        transform: pixel to world; the identity where the raster has no georeference.
        has_place: whether it has both a coordinate reference system and a geotransform.
        spectrum: wavelengths, widths and bad-band flags of the data bands.
        files: the files it consists of, those a mosaic refers to included.
    """

    def __init__(self, path: str, dataset: Any) -> None:
        """Take over an open rasterio dataset.

        Raises:
            UserError: no data bands, or complex numbers.
        """
        alpha = [interpretation == ColorInterp.alpha for interpretation in dataset.colorinterp]
        self._dataset = dataset
        self._alpha = [number for number, is_alpha in zip(dataset.indexes, alpha) if is_alpha]
        self._data = [number for number, is_alpha in zip(dataset.indexes, alpha) if not is_alpha]
        if not self._data:
            what = "holds several rasters" if dataset.subdatasets else "has no data bands"
            raise UserError(f"'{path}' {what}.", "Save the one you need as a GeoTIFF and give that.")
        types = [dataset.dtypes[number - 1] for number in self._data]
        if any(name.startswith("complex") for name in types):
            raise UserError(f"'{path}' holds complex numbers.", "Convert it to real numbers, such as amplitudes.")
        self._is_integer = [np.issubdtype(name, np.integer) for name in types]
        self._types = [np.dtype(_READ_AS.get(name, name)) for name in types]
        self._nodata = [
            nodata_as_stored(dataset.nodatavals[number - 1], dtype) for number, dtype in zip(self._data, self._types)
        ]
        if dataset.gcps[0] and dataset.transform == Affine.identity():
            raise UserError(
                f"'{path}' is placed by ground control points only, which the result could not keep.",
                "Warp it first (Raster ▸ Projections ▸ Warp), then use the warped file.",
            )
        self._masked = _bands_with_own_mask(dataset, self._data)
        self.path = path
        self.height: int = dataset.height
        self.width: int = dataset.width
        self.band_count = len(self._data)
        self.dtype: str = np.result_type(*self._types).name
        self.nodata: Optional[float] = next((value for value in self._nodata if value is not None), None)
        self.crs: Optional[CRS] = dataset.crs
        self.transform: Affine = dataset.transform
        self.has_place = dataset.crs is not None and dataset.transform != Affine.identity()
        self.spectrum = _read_data_spectrum(dataset, self._data)
        self.files: List[str] = dataset.files

    def __enter__(self) -> Cube:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._dataset.close()

    def bytes_of_rows(self, rows: int) -> int:
        """Return how many bytes the blocks have that so many neighbouring rows touch at most, of all bands."""
        size = 0
        for (height, _), dtype in zip(self._dataset.block_shapes, self._dataset.dtypes):
            touched = min(-(-(rows - 1) // height) + 1, -(-self.height // height))
            size += touched * height * self.width * np.dtype(dtype).itemsize
        return size

    def read(
        self,
        bands: Sequence[int],
        row: int = 0,
        column: int = 0,
        height: Optional[int] = None,
        width: Optional[int] = None,
    ) -> Tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window; height and width reach to the raster's rim by default.

        Scale and offset tags are not applied.

        Returns:
            values (band, row, column) in float32, and valid (row, column): True where every one of the
            bands is valid, that is finite, not nodata, and not hidden by a mask or an alpha band. Values of
            invalid pixels mean nothing.

        Raises:
            UserError: the file is damaged.
        """
        native, valid = self._read_with_validity(bands, self._window(row, column, height, width))
        with np.errstate(over="ignore", invalid="ignore"):
            values = native.astype(np.float32)
        return values, np.asarray((valid & np.isfinite(values)).all(axis=0))

    def read_native(
        self,
        bands: Sequence[int],
        row: int = 0,
        column: int = 0,
        height: Optional[int] = None,
        width: Optional[int] = None,
    ) -> Tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window as `read` does, but leave the values in the type `dtype`."""
        native, valid = self._read_with_validity(bands, self._window(row, column, height, width))
        return native, np.asarray(valid.all(axis=0))

    def empty_bands(self) -> Tuple[int, ...]:
        """Return the numbers of the bands without a single valid pixel.

        Reads block by block, and each band only until a valid pixel is found.
        """
        empty = list(range(1, self.band_count + 1))
        for _, window in self._dataset.block_windows(self._data[0]):
            _, valid = self._read_with_validity(empty, window)
            empty = [number for number, has_valid in zip(empty, valid.any(axis=(1, 2))) if not has_valid]
            if not empty:
                break
        return tuple(empty)

    def _window(self, row: int, column: int, height: Optional[int], width: Optional[int]) -> Window:
        height = self.height - row if height is None else height
        width = self.width - column if width is None else width
        return Window(column, row, width, height)

    def _read_with_validity(self, bands: Sequence[int], window: Window) -> Tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return values and validity of each band, both (band, row, column)."""
        numbers = [self._data[band - 1] for band in bands]
        masked = [self._masked[band - 1] for band in bands]
        try:
            values = self._read_values(numbers, window)
            alpha = self._dataset.read(self._alpha, window=window) if self._alpha else None
            masks = {number: self._dataset.read_masks(number, window=window) for number in set(masked) - {0}}
        except RasterioError as error:
            raise UserError(
                f"'{self.path}' cannot be read to its end ({error.__cause__ or error}).",
                "The file is damaged: copy or make it again.",
            ) from error
        valid = np.isfinite(values)
        for i, band in enumerate(bands):
            nodata = self._nodata[band - 1]
            if nodata is not None:
                # Whole numbers are themselves, whatever they are read as.
                valid[i] &= values[i] != nodata if self._is_integer[band - 1] else ~is_nodata(values[i], nodata)
            if masked[i]:
                valid[i] &= masks[masked[i]] != 0
        if alpha is not None:
            valid &= (alpha != 0).all(axis=0)
        return values, valid

    def _read_values(self, numbers: List[int], window: Window) -> NDArray[Any]:
        if len(set(self._dataset.dtypes)) == 1:
            return self._dataset.read(numbers, window=window, out_dtype=self.dtype)
        # rasterio reads bands of different types only one at a time.
        return np.stack([self._dataset.read(number, window=window, out_dtype=self.dtype) for number in numbers])


def is_nodata(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Return where GDAL takes a value for nodata.

    Floats within about four units in the last place of float32 pass for equal there, float64 ones too.
    """
    if np.isnan(nodata):
        return np.isnan(values)
    if values.dtype.kind != "f":
        return np.asarray(values == nodata)
    tolerance = 4 * float(np.finfo(np.float32).eps) * abs(nodata)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray((values == nodata) | (np.abs(values - nodata) < tolerance))


def nodata_as_stored(nodata: Optional[float], dtype: np.dtype) -> Optional[float]:
    """Return nodata as the band's type holds it; None where no pixel can have that value."""
    if nodata is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(nodata))
    limits = np.iinfo(dtype)
    fits = np.isfinite(nodata) and float(nodata).is_integer() and limits.min <= nodata <= limits.max
    return float(nodata) if fits else None


def fill_invalid(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values (band, row, column) whose invalid pixels are those of the nearest valid pixel.

    Zeros where no pixel is valid (row, column).
    """
    if valid.all():
        return values
    if not valid.any():
        return np.zeros_like(values)
    rows, columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.ascontiguousarray(values[:, rows, columns])


def _bands_with_own_mask(dataset: Any, data: Sequence[int]) -> List[int]:
    """Return for each data band the band whose mask must be read for it; 0 for none.

    Nodata and alpha are compared here instead, since GDAL looks at only one of mask, nodata and alpha,
    and at alpha only in rasters of two or four bands. A mask shared by all bands is read once.
    """
    masked = []
    for number in data:
        flags = dataset.mask_flag_enums[number - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            masked.append(data[0])
        else:
            masked.append(0 if flags else number)
    return masked


def _read_data_spectrum(dataset: Any, data: Sequence[int]) -> Spectrum:
    """Read the spectrum of all bands, as lists on the dataset count them, and keep that of the data bands."""
    bands = [_domains(dataset, number) for number in dataset.indexes]
    spectrum = read_spectrum(_domains(dataset, 0), bands, dataset.descriptions)
    return spectrum.of_bands([number - 1 for number in data])


def _domains(dataset: Any, band: int) -> Dict[str, Dict[str, str]]:
    """Return the tags in the domains that may hold a spectrum; band 0 is the dataset itself."""
    return {domain: dataset.tags(band, ns=domain or None) for domain in ("", "ENVI", "IMAGERY")}
