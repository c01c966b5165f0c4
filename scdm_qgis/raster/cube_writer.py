"""Write a result cube as a GeoTIFF, piece by piece, whole or not at all."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple, Type

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.raster.cube import gdal_environment, is_nodata, nodata_as_stored, open_dataset
from scdm_qgis.raster.spectral import spectral_tags

BLOCK = 64
"""Side of a block in pixels: small, so that reading one pixel's spectrum unpacks little."""

DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Types that every supported GDAL reads back alike, nodata included."""

_BESIDE_NODATA = 1e-6
"""Relative step from a float nodata value to the nearest one GDAL tells apart from it (see `is_nodata`)."""


@dataclass(frozen=True)
class OutputFormat:
    """What the file is to be.

    Args:
        height, width: size in pixels.
        dtype: numpy name of the data type.
        nodata: value of invalid pixels, from `choose_nodata`.
        crs: coordinate reference system, or None.
        transform: pixel to world; the identity for a raster without georeference.
        wavelengths_nm: one a band in nm, None where unknown; None where none is known.
        fwhm_nm: widths in the same form.
        band_count: bands.
        tags: the dataset's own tags.
        rgb: the three bands are red, green and blue, and show as such.

    Raises:
        UserError: a data type that cannot be written.
    """

    height: int
    width: int
    dtype: str
    nodata: float
    crs: Optional[CRS]
    transform: Affine
    wavelengths_nm: Optional[Tuple[Optional[float], ...]]
    fwhm_nm: Optional[Tuple[Optional[float], ...]]
    band_count: int
    tags: Mapping[str, str] = field(default_factory=dict)
    rgb: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(
                f"Rasters of type {self.dtype} cannot be written.", f"Convert the data to one of: {', '.join(DTYPES)}."
            )


def choose_nodata(dtype: str, training_nodata: Optional[float]) -> float:
    """Return the nodata value of an output: the training scenes' where the type holds it.

    Otherwise NaN for floats, the minimum for signed and the maximum for unsigned integers.
    """
    kind = np.dtype(dtype)
    stored = nodata_as_stored(training_nodata, kind)
    if stored is not None and not np.isinf(stored):
        return stored
    if kind.kind == "f":
        return float("nan")
    limits = np.iinfo(kind)
    return float(limits.min if kind.kind == "i" else limits.max)


@dataclass
class _Block:
    """A block of the file (band, row, column), and how many of its pixels are still to come."""

    values: NDArray[Any]
    missing: int


class CubeWriter:
    """A GeoTIFF being written, as a context manager.

    The file stands under its final name only after a clean exit; after any exception nothing is left.

    Attributes:
        clipped: values so far that lay outside the data type and were clipped to it.

    Raises:
        UserError: on entering, writing or leaving: the file cannot be written, or the disk is full.
    """

    def __init__(self, path: str, output_format: OutputFormat) -> None:
        self.clipped = 0
        self._path = path
        self._format = output_format
        self._missing = output_format.height * output_format.width
        # Blocks wait here until they are whole: a compressed block that is written twice wastes its first
        # place in the file.
        self._blocks: Dict[Tuple[int, int], _Block] = {}

    def __enter__(self) -> CubeWriter:
        with _write_errors_named(self._path), ExitStack() as stack:
            self._partial = stack.enter_context(written_whole(self._path))
            self._dataset = self._create()
            stack.push(self._close)
            self._tag()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        with _write_errors_named(self._path):
            self._stack.__exit__(kind, error, trace)

    def write(self, row: int, column: int, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Write a piece; the pieces may come in any order and have any size, but must not overlap.

        Args:
            row, column: where it begins, counted in this file.
            values: (band, row, column); integers are rounded, values outside the type clipped.
            valid: (row, column); False writes nodata.

        Raises:
            UserError: the disk is full, or a valid pixel's value is NaN.
            ValueError: a piece that does not lie in the file.
        """
        height, width = valid.shape
        if not (0 <= row <= self._format.height - height and 0 <= column <= self._format.width - width):
            raise ValueError(f"a piece of {height} x {width} pixels at {row}, {column} does not lie in the file")
        for block_row in range(row // BLOCK, -(-(row + height) // BLOCK)):
            for block_column in range(column // BLOCK, -(-(column + width) // BLOCK)):
                block = self._block(block_row, block_column)
                rows, block_rows = _common(row, height, block_row)
                columns, block_columns = _common(column, width, block_column)
                stored = block.values[:, block_rows, block_columns]
                self._store(values[:, rows, columns], valid[rows, columns], stored)
                block.missing -= stored[0].size
                self._missing -= stored[0].size
                if block.missing == 0:
                    self._write_block(block_row, block_column)

    def _block(self, block_row: int, block_column: int) -> _Block:
        if (block_row, block_column) not in self._blocks:
            height = min(BLOCK, self._format.height - block_row * BLOCK)
            width = min(BLOCK, self._format.width - block_column * BLOCK)
            values = np.empty((self._format.band_count, height, width), self._format.dtype)
            self._blocks[block_row, block_column] = _Block(values, height * width)
        return self._blocks[block_row, block_column]

    def _store(self, values: NDArray[Any], valid: NDArray[np.bool_], stored: NDArray[Any]) -> None:
        """Convert values (band, row, column) to the file's type."""
        exact = values.astype(np.float64)
        if (np.isnan(exact) & valid).any():
            raise UserError(
                "The result holds values that are not numbers.",
                "Check that the input's values are of the kind the model was trained on.",
            )
        if stored.dtype.kind == "f":
            low, high = float(np.finfo(stored.dtype).min), float(np.finfo(stored.dtype).max)
        else:
            low, high = float(np.iinfo(stored.dtype).min), float(np.iinfo(stored.dtype).max)
            exact = np.rint(exact)
        self.clipped += int(np.count_nonzero(valid & ((exact < low) | (exact > high))))
        nodata = self._format.nodata
        stored[...] = np.where(valid, np.clip(exact, low, high), nodata)
        if not np.isnan(nodata):
            stored[valid & is_nodata(stored, nodata)] = _beside(nodata, stored.dtype)

    def _write_block(self, block_row: int, block_column: int) -> None:
        values = self._blocks.pop((block_row, block_column)).values
        window = Window(block_column * BLOCK, block_row * BLOCK, values.shape[2], values.shape[1])
        with _write_errors_named(self._path), gdal_environment():
            self._dataset.write(values, window=window)

    def _create(self) -> Any:
        form = self._format
        return open_dataset(
            self._partial,
            "w",
            driver="GTiff",
            height=form.height,
            width=form.width,
            count=form.band_count,
            dtype=form.dtype,
            nodata=form.nodata,
            crs=form.crs,
            transform=None if form.transform == Affine.identity() else form.transform,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            interleave="pixel",
            compress="deflate",
            predictor=3 if np.dtype(form.dtype).kind == "f" else 2,
            bigtiff="if_safer",
            # Three or four bands of bytes would otherwise become red, green, blue and alpha.
            photometric="rgb" if form.rgb else "minisblack",
        )

    def _tag(self) -> None:
        """Tag before the first pixel: tags that come later make GDAL write the directory twice."""
        tags = spectral_tags(self._format.wavelengths_nm, self._format.fwhm_nm)
        for domain, values in {"": dict(self._format.tags), **tags.dataset}.items():
            self._dataset.update_tags(ns=domain or None, **values)
        for number, (domains, description) in enumerate(zip(tags.bands, tags.descriptions), start=1):
            for domain, values in domains.items():
                self._dataset.update_tags(number, ns=domain or None, **values)
            self._dataset.set_band_description(number, description)

    def _close(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is not None:
            with suppress(RasterioError), gdal_environment():  # what stopped the work is what the user must hear
                self._dataset.close()
            return
        with gdal_environment():
            self._dataset.close()
        if self._missing:
            raise ValueError(f"{self._missing} of {self._format.height * self._format.width} pixels were not written")
        self._check_readable()

    def _check_readable(self) -> None:
        """Read the last pixel back: closing a file on a full disk raises nothing."""
        with open_dataset(self._partial) as written, gdal_environment():
            written.read(1, window=Window(self._format.width - 1, self._format.height - 1, 1, 1))


def _common(first: int, count: int, block: int) -> Tuple[slice, slice]:
    """Return what a piece and a block have in common along one side, in the piece and in the block."""
    start = block * BLOCK
    begin, end = max(first, start), min(first + count, start + BLOCK)
    return slice(begin - first, end - first), slice(begin - start, end - start)


@contextmanager
def _write_errors_named(path: str) -> Iterator[None]:
    try:
        yield
    except (RasterioError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be written ({error.__cause__ or error}).",
            "Check that the disk has free space and that you may write to the folder.",
        ) from error


def _beside(nodata: float, dtype: np.dtype) -> float:
    """Return the valid value nearest to nodata."""
    if dtype.kind != "f":
        return nodata - 1 if nodata == np.iinfo(dtype).max else nodata + 1
    return nodata * (1 - _BESIDE_NODATA) if nodata else float(np.finfo(dtype).tiny)
