"""Write a result cube as a GeoTIFF, piece by piece, whole or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what GDAL says where rasterio has no word of its own for it
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.raster.cube import is_nodata, nodata_as_stored, open_dataset
from scdm_qgis.raster.spectral import spectral_tags

BLOCK = 64
"""Side of a block in pixels: small, so that reading one pixel's spectrum unpacks little."""

COMPRESSING_THREADS = 4
"""Most of writing is compressing; one thread would not keep up with many cores, or with a GPU."""

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


@dataclass(frozen=True)
class WholeRows:
    """The first rows of a file that are on the disk for good, and the values in them that were clipped."""

    rows: int = 0
    clipped: int = 0


class CubeWriter:
    """A GeoTIFF being written, as a context manager.

    The file stands under its final name only after a clean exit. After any exception nothing is left of one
    that is not resumable; of one that is, the unfinished file stays under its partial name, and another writer
    can go on with it from its last checkpoint.

    Args:
        path: the final name.
        output_format: what the file is to be.
        resumable: whether an unfinished file stays.
        done: what of an unfinished file is to be kept; the rows below are still to be written.

    Raises:
        UserError: on entering, writing or leaving: the file cannot be written, or the disk is full.
    """

    def __init__(
        self, path: str, output_format: OutputFormat, resumable: bool = False, done: WholeRows | None = None
    ) -> None:
        self._path = path
        self._format = output_format
        self._resumable = resumable
        self._done = done or WholeRows()
        height, width = output_format.height, output_format.width
        rows_of_blocks = -(-height // BLOCK)
        # By row of blocks: pixels still to come, and values clipped.
        self._missing = [width * min(BLOCK, height - i * BLOCK) for i in range(rows_of_blocks)]
        self._clipped = [0] * rows_of_blocks
        for i in range(-(-self._done.rows // BLOCK)):
            self._missing[i] = 0
        self._clipped[0] = self._done.clipped
        # Blocks wait here until they are whole: a compressed block that is written twice wastes its first
        # place in the file.
        self._blocks: Dict[Tuple[int, int], _Block] = {}
        self._unchecked: List[Tuple[int, int]] = []

    @property
    def clipped(self) -> int:
        """Values so far that lay outside the data type and were clipped to it."""
        return sum(self._clipped)

    def __enter__(self) -> CubeWriter:
        with self._errors_named(), ExitStack() as stack:
            self._partial = stack.enter_context(written_whole(self._path, self._resumable))
            if not self._done.rows:
                self._create()
            self._open_for_update()
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        with self._errors_named():
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
                self._clipped[block_row] += self._store(values[:, rows, columns], valid[rows, columns], stored)
                block.missing -= stored[0].size
                self._missing[block_row] -= stored[0].size
                if block.missing == 0:
                    self._write_block(block_row, block_column)

    def checkpoint(self) -> WholeRows:
        """Put everything written on the disk, whatever happens next, and return which rows are whole there.

        Raises:
            UserError: the disk is full.
        """
        with self._errors_named():
            self._dataset.close()
            self._check_blocks()
            with open(self._partial, "rb+") as file:
                os.fsync(file.fileno())
            if any(self._missing):
                self._open_for_update()
        whole = next((i for i, missing in enumerate(self._missing) if missing), len(self._missing))
        return WholeRows(min(whole * BLOCK, self._format.height), sum(self._clipped[:whole]))

    def _block(self, block_row: int, block_column: int) -> _Block:
        if (block_row, block_column) not in self._blocks:
            height = min(BLOCK, self._format.height - block_row * BLOCK)
            width = min(BLOCK, self._format.width - block_column * BLOCK)
            values = np.empty((self._format.band_count, height, width), self._format.dtype)
            self._blocks[block_row, block_column] = _Block(values, height * width)
        return self._blocks[block_row, block_column]

    def _store(self, values: NDArray[Any], valid: NDArray[np.bool_], stored: NDArray[Any]) -> int:
        """Convert values (band, row, column) to the file's type; return how many were clipped."""
        # Single precision holds every value of these types; double takes twice as long.
        single = values.dtype == np.float32 and (stored.dtype == np.float32 or stored.dtype.itemsize <= 2)
        exact = values if single else values.astype(np.float64)
        if stored.dtype.kind == "f":
            low, high = float(np.finfo(stored.dtype).min), float(np.finfo(stored.dtype).max)
        else:
            low, high = float(np.iinfo(stored.dtype).min), float(np.iinfo(stored.dtype).max)
            exact = np.rint(exact)
        clipped = 0
        if not low <= exact.min() <= exact.max() <= high:  # few pieces are worth a closer look
            if (np.isnan(exact) & valid).any():
                raise UserError(
                    "The result holds values that are not numbers.",
                    "Check that the input's values are of the kind the model was trained on.",
                )
            clipped = int(np.count_nonzero(valid & ((exact < low) | (exact > high))))
            exact = np.clip(exact, low, high)
        nodata = self._format.nodata
        stored[...] = exact if valid.all() else np.where(valid, exact, nodata)
        if not np.isnan(nodata):
            stored[valid & is_nodata(stored, nodata)] = _beside(nodata, stored.dtype)
        return clipped

    def _write_block(self, block_row: int, block_column: int) -> None:
        values = self._blocks.pop((block_row, block_column)).values
        window = Window(block_column * BLOCK, block_row * BLOCK, values.shape[2], values.shape[1])
        with self._errors_named():
            self._dataset.write(values, window=window)
        self._unchecked.append((block_row, block_column))

    def _create(self) -> None:
        """Make the file with its tags and without pixels.

        Closed at once: a file that is opened anew has its directory on the disk, and is not filled with
        nodata each time it is closed. Tags that come after the first pixel make GDAL write the directory twice.
        """
        form = self._format
        with open_dataset(
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
            sparse_ok=True,
        ) as dataset:
            self._tag(dataset)

    def _open_for_update(self) -> None:
        """Open the file that `_create` has made."""
        self._dataset = open_dataset(self._partial, "r+", num_threads=COMPRESSING_THREADS)

    def _tag(self, dataset: Any) -> None:
        tags = spectral_tags(self._format.wavelengths_nm, self._format.fwhm_nm)
        for domain, values in {"": dict(self._format.tags), **tags.dataset}.items():
            dataset.update_tags(ns=domain or None, **values)
        for number, (domains, description) in enumerate(zip(tags.bands, tags.descriptions), start=1):
            for domain, values in domains.items():
                dataset.update_tags(number, ns=domain or None, **values)
            dataset.set_band_description(number, description)

    def _close(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is not None:
            with suppress(RasterioError, CPLE_BaseError, OSError):  # what stopped the work is what the user must hear
                self._dataset.close()
            return
        self._dataset.close()
        if any(self._missing):
            total = self._format.height * self._format.width
            raise ValueError(f"{sum(self._missing)} of {total} pixels were not written")
        self._check_blocks()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (RasterioError, CPLE_BaseError, OSError) as error:
            remedy = "Check that the disk has free space and that you may write to the folder"
            raise UserError(
                f"'{self._path}' cannot be written ({error.__cause__ or error}).",
                f"{remedy}; then run again with RESUME." if self._resumable else f"{remedy}.",
            ) from error

    def _check_blocks(self) -> None:
        """Check that the blocks written since the last time lie in the file: closing on a full disk raises nothing."""
        if not self._unchecked:
            return
        size = os.path.getsize(self._partial)
        with open_dataset(self._partial) as written:
            for row, column in self._unchecked:
                place = [
                    written.get_tag_item(f"BLOCK_{of}_{column}_{row}", "TIFF", bidx=1) for of in ("OFFSET", "SIZE")
                ]
                if None in place or sum(map(int, place)) > size:
                    raise OSError("the file is shorter than what was written")
        self._unchecked.clear()


def _common(first: int, count: int, block: int) -> Tuple[slice, slice]:
    """Return what a piece and a block have in common along one side, in the piece and in the block."""
    start = block * BLOCK
    begin, end = max(first, start), min(first + count, start + BLOCK)
    return slice(begin - first, end - first), slice(begin - start, end - start)


def _beside(nodata: float, dtype: np.dtype) -> float:
    """Return the valid value nearest to nodata."""
    if dtype.kind != "f":
        return nodata - 1 if nodata == np.iinfo(dtype).max else nodata + 1
    return nodata * (1 - _BESIDE_NODATA) if nodata else float(np.finfo(dtype).tiny)
