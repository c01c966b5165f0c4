"""The rasters a reconstruction writes in one pass: the result, the stage before it, and the uncertainty."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

import numpy as np
from affine import Affine

from scdm_qgis.core.cascade_header import CascadeHeader, StageHeader
from scdm_qgis.core.whole_file import partial_path
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tile_reconstructor import TileSpectra
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat, WholeRows, choose_nodata
from scdm_qgis.raster.stream import TileBlender
from scdm_qgis.raster.tiles import Tile, Window

COLUMNS_READ_AHEAD = 1024
"""Columns of the input that are read at once: one by one, its pieces would take longer to ask for than to read."""


@dataclass(frozen=True)
class Product:
    """One raster that is asked for.

    Args:
        path: its final name.
        stage_number: 0-based, of the stage whose bands it holds.
        uncertain: whether it holds their standard deviation instead of their values.
        dtype: its data type.
        nodata: its value of invalid pixels.
        name: what the tag SCDM_PRODUCT calls it, by which the profile dock knows its role.
    """

    path: str
    stage_number: int
    uncertain: bool
    dtype: str
    nodata: float
    name: str


def wanted_products(job: RgbToHyperspectral, header: CascadeHeader) -> List[Product]:
    """Return the rasters a job asks for, the result first."""
    policy = header.nodata_policy
    nodata = choose_nodata(policy.dtype, policy.nodata)
    last = len(header.stages) - 1
    products = [Product(job.output, last, False, policy.dtype, nodata, "reconstruction")]
    if job.coarse_output is not None:
        products.append(Product(job.coarse_output, last - 1, False, policy.dtype, nodata, "coarse stage"))
    if job.uncertainty is not None:
        products.append(Product(job.uncertainty, last, True, "float32", math.nan, "uncertainty"))
    return products


class OutputRasters:
    """The rasters being written, as a context manager; unfinished ones stay after an exception.

    Args:
        products: what is written.
        header: of the model.
        cube: the input, which nothing else reads from while this writes.
        tiling: which bands and pixels of the input.
        tags: of every raster.
        rows: first rows that an interrupted run has left whole.
        clipped: values it clipped in them, for each raster.
    """

    def __init__(
        self,
        products: List[Product],
        header: CascadeHeader,
        cube: Cube,
        tiling: Tiling,
        tags: Dict[str, str],
        rows: int,
        clipped: List[int],
    ) -> None:
        self._products = products
        self._stages = [header.stages[product.stage_number] for product in products]
        self._cube = cube
        self._tiling = tiling
        self._tags = tags
        self._rows = rows
        self._clipped = clipped
        self._read_from = 0, 0, (np.empty((3, 0, 0), np.float32), np.empty((0, 0), bool))

    def __enter__(self) -> OutputRasters:
        top, left, height, width = self._tiling.window
        self._writers: List[CubeWriter] = []
        self._blenders: List[TileBlender] = []
        with ExitStack() as stack:
            for product, stage, clipped in zip(self._products, self._stages, self._clipped):
                if self._rows == height and not os.path.exists(partial_path(product.path)):
                    continue  # the run died after it gave this raster its final name
                form = _output_format(self._cube, self._tiling.window, stage, product, self._tags)
                writer = CubeWriter(product.path, form, resumable=True, done=WholeRows(self._rows, clipped))
                self._writers.append(stack.enter_context(writer))
            if self._rows < height:
                rest = (top + self._rows, left, height - self._rows, width)
                rows, columns = self._tiling.lattice.places(rest)
                self._first_row, self._last_column = rows[0], columns[-1]
                self._blenders = [
                    TileBlender(self._tiling.lattice, rest, len(stage.bands), self._masked(stage, product, writer))
                    for product, stage, writer in zip(self._products, self._stages, self._writers)
                ]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def clipped(self) -> int:
        """Values clipped so far, in all rasters."""
        return sum(writer.clipped for writer in self._writers)

    @property
    def band_count(self) -> int:
        """Bands of all rasters together."""
        return sum(len(stage.bands) for stage in self._stages)

    def take(self, tiles: Sequence[Tile], spectra: Optional[TileSpectra]) -> bool:
        """Write what a batch finishes; return whether a row of tiles is whole now.

        Args:
            tiles: of the batch, all of them, row by row as `plan_batches` has them.
            spectra: of those with valid pixels; None where none has.
        """
        numbers = {} if spectra is None else {tile: number for number, tile in enumerate(spectra.tiles)}
        row_is_whole = False
        for tile in tiles:
            if tile.lattice_row < self._first_row:  # it is there already, and was computed for its batch
                continue
            if spectra is not None and tile in numbers:
                for product, blender in zip(self._products, self._blenders):
                    blender.add(tile, _values(product, spectra, numbers[tile]))
            if tile.lattice_column == self._last_column:
                row_is_whole = True
                for blender in self._blenders:
                    blender.end_tile_row(tile.lattice_row)
        return row_is_whole

    def checkpoint(self) -> Tuple[int, List[int]]:
        """Put what is written on the disk; return how many rows are whole, and the values clipped in each raster."""
        done = [writer.checkpoint() for writer in self._writers]
        return min(part.rows for part in done), [part.clipped for part in done]

    def _input_at(self, row: int, column: int, height: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return the RGB bands of a piece and its validity; read ahead, as the next pieces lie to its right."""
        top, left, (rgb, valid) = self._read_from
        if (row, height) != (top, valid.shape[0]) or not left <= column <= left + valid.shape[1] - width:
            right = self._tiling.window[1] + self._tiling.window[3]
            columns = max(width, min(COLUMNS_READ_AHEAD, right - column))
            left, (rgb, valid) = column, self._cube.read(self._tiling.rgb_bands, row, column, height, columns)
            self._read_from = row, left, (rgb, valid)
        part = slice(column - left, column - left + width)
        return rgb[:, :, part], valid[:, part]

    def _masked(self, stage: StageHeader, product: Product, writer: CubeWriter) -> Any:
        """Return a function that writes pieces with the mask of the input's RGB bands.

        Bands that an anchored model both sees and predicts are the input's own, exactly; nothing about them
        is uncertain.
        """
        top, left = self._tiling.window[:2]
        known = enumerate(stage.condition.rgb_bands) if stage.prediction == "residual" else ()
        copied = [(colour, stage.bands.index(band)) for colour, band in known if band in stage.bands]

        def write(row: int, column: int, values: np.ndarray) -> None:
            rgb, valid = self._input_at(row, column, *values.shape[1:])
            for colour, index in copied:
                values[index] = 0 if product.uncertain else np.where(valid, rgb[colour], 0)
            writer.write(row - top, column - left, values, valid)

        return write


def _values(product: Product, spectra: TileSpectra, number: int) -> np.ndarray:
    """Return what one of a batch's tiles holds of a product (band, row, column)."""
    values = spectra.deviation if product.uncertain else spectra.means[product.stage_number]
    if values is None:
        raise ValueError("a single draw has no standard deviation")
    return values[number]


def _transform_at(cube: Cube, row: int, column: int) -> Affine:
    """Return the geotransform of a part of the input that begins there."""
    if cube.transform == Affine.identity() and (row or column):
        # A raster without a geotransform lies upright below QGIS's x axis, a pixel to a unit. So do its parts.
        return Affine(1, 0, column, 0, -1, -row)
    return cube.transform * Affine.translation(column, row)


def _output_format(
    cube: Cube, window: Window, stage: StageHeader, product: Product, tags: Dict[str, str]
) -> OutputFormat:
    row, column, height, width = window
    return OutputFormat(
        height=height,
        width=width,
        dtype=product.dtype,
        nodata=product.nodata,
        crs=cube.crs,
        transform=_transform_at(cube, row, column),
        wavelengths_nm=stage.wavelengths_nm,
        fwhm_nm=stage.fwhm_nm,
        band_count=len(stage.bands),
        tags={**tags, "SCDM_PRODUCT": product.name},
    )
