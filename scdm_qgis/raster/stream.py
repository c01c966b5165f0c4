"""Tiles in, blended pieces out, in memory that holds little more than the overlap of two rows of tiles."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from scdm_qgis.raster.tiles import Lattice, Tile, Window

Emit = Callable[[int, int, NDArray[np.float32]], None]
"""Takes the first row and column, counted in the raster, and the values (band, row, column) of a finished piece."""


class TileBlender:
    """Average overlapping tiles by their blending weights and hand on pixels that no later tile touches.

    Add the tiles of one row of tiles from left to right, call `end_tile_row`, go on with the next row. Pixels
    are handed on once each. One that no tile was added for becomes 0, so that tiles without valid pixels may
    be left out.

    Args:
        lattice: the tiles.
        window: (row, column, height, width) of the raster that is wanted.
        band_count: bands of the values.
        emit: called with finished pieces, which it must not keep.
    """

    def __init__(self, lattice: Lattice, window: Window, band_count: int, emit: Emit) -> None:
        self._lattice = lattice
        self._window = window
        self._emit = emit
        self._lattice_rows, self._lattice_columns = lattice.places(window)
        self._lattice_row, self._lattice_column = self._lattice_rows[0], self._lattice_columns[0]
        # Weighted values, and behind the last band the weights: of a tile, and of what a row of tiles leaves
        # unfinished for the next, which is its overlap.
        size = lattice.tile_size
        self._tile = np.zeros((band_count + 1, size, size), np.float32)
        self._unfinished = np.zeros((band_count + 1, lattice.overlap, window[3]), np.float32)

    def add(self, tile: Tile, values: NDArray[Any]) -> None:
        """Add a tile's values (band, row, column); the part outside the window is left out.

        Raises:
            ValueError: a tile of another row of tiles, or left of an earlier one.
        """
        self._check_turn(tile.lattice_row)
        if tile.lattice_column < self._lattice_column:
            raise ValueError(f"tile column {tile.lattice_column} came after {self._lattice_column}")
        while self._lattice_column < tile.lattice_column:
            self._move_right()
        own = (..., slice(tile.rows_before, None), slice(tile.columns_before, None))
        weights = self._lattice.blending_weights(tile)[own]
        here = self._tile[:, : weights.shape[0], : weights.shape[1]]
        here[:-1] += weights * values[own]
        here[-1] += weights

    def end_tile_row(self, lattice_row: int) -> None:
        """Hand on what is finished now that this row of tiles is whole.

        Raises:
            ValueError: a row of tiles out of turn.
        """
        self._check_turn(lattice_row)
        while self._lattice_column < self._lattice_columns[-1]:
            self._move_right()
        self._finish_columns(self._lattice.tile_size)
        self._lattice_row += 1
        self._lattice_column = self._lattice_columns[0]
        self._tile[:] = 0
        self._take_up_columns(0)

    def _move_right(self) -> None:
        stride = self._lattice.stride
        self._finish_columns(stride)
        self._lattice_column += 1
        shared = self._lattice.overlap
        self._tile[:, :, :shared] = self._tile[:, :, stride:]
        self._tile[:, :, shared:] = 0
        self._take_up_columns(shared)

    def _take_up_columns(self, first: int) -> None:
        """Begin a tile's columns, from `first` on, with what the row of tiles above left of them."""
        columns, wanted = self._wanted(first, self._lattice.tile_size)
        self._tile[:, : self._lattice.overlap, columns] = self._unfinished[:, :, wanted]

    def _finish_columns(self, count: int) -> None:
        """Hand on a tile's first columns as far as no later row of tiles touches them; keep the rest."""
        stride = self._lattice.stride
        columns, wanted = self._wanted(0, count)
        start = self._lattice_row * stride
        finished = self._lattice.tile_size if self._lattice_row == self._lattice_rows[-1] else stride
        top, left, height, _ = self._window
        first, end = max(top - start, 0), min(top + height - start, finished)
        if first < end and columns.start < columns.stop:
            values, weights = self._tile[:-1, first:end, columns], self._tile[-1, first:end, columns]
            # What has no weight is 0 already, so any divisor will do.
            self._emit(start + first, left + wanted.start, values / np.where(weights > 0, weights, np.float32(1)))
        self._unfinished[:, :, wanted] = self._tile[:, stride:, columns]

    def _wanted(self, first: int, end: int) -> tuple[slice, slice]:
        """Return which of a tile's columns from `first` to `end` the window holds, and where in the window."""
        left, width = self._window[1], self._window[3]
        start = self._lattice_column * self._lattice.stride - left
        first = max(first, -start)
        end = max(first, min(end, width - start))
        return slice(first, end), slice(start + first, start + end)

    def _check_turn(self, lattice_row: int) -> None:
        if lattice_row != self._lattice_row:
            raise ValueError(f"tile row {lattice_row} came while {self._lattice_row} was due")
