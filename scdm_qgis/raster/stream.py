"""Tiles in, blended strips out, in memory that does not grow with the raster's height."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from scdm_qgis.raster.tiles import Lattice, Tile, Window

Emit = Callable[[int, NDArray[np.float32]], None]
"""Takes the first row, counted in the raster, and values (band, row, column) of the window's width."""


class StripBlender:
    """Average overlapping tiles by their blending weights and hand on rows that no later tile touches.

    Add the tiles of one row of tiles, call `end_tile_row`, go on with the next row. A pixel that no tile was
    added for becomes 0, so that tiles without valid pixels may be left out.

    Args:
        lattice: the tiles.
        window: (row, column, height, width) of the raster that is wanted.
        band_count: bands of the values.
        emit: called with finished rows, in order.
    """

    def __init__(self, lattice: Lattice, window: Window, band_count: int, emit: Emit) -> None:
        self._lattice = lattice
        self._row, self._column, self._height, self._width = window
        self._emit = emit
        lattice_rows = [tiles[0].lattice_row for tiles in lattice.tile_rows(window)]
        self._lattice_row, self._last_lattice_row = lattice_rows[0], lattice_rows[-1]
        # One row of tiles: weighted values and weights; row 0 is the first row of those tiles.
        self._values = np.zeros((band_count, lattice.tile_size, self._width), np.float32)
        self._weights = np.zeros((lattice.tile_size, self._width), np.float32)

    def add(self, tile: Tile, values: NDArray[Any]) -> None:
        """Add a tile's values (band, row, column); the part outside the window is left out.

        Raises:
            ValueError: a tile of another row of tiles than the current one.
        """
        self._check_turn(tile.lattice_row)
        first = max(tile.column, self._column)
        end = min(tile.column + tile.width, self._column + self._width)
        source = slice(first - tile.column, end - tile.column)
        target = slice(first - self._column, end - self._column)
        weights = self._lattice.blending_weights(tile)[:, source]
        self._values[:, : tile.height, target] += weights * values[:, :, source]
        self._weights[: tile.height, target] += weights

    def end_tile_row(self, lattice_row: int) -> None:
        """Emit the rows that are finished now that this row of tiles is whole.

        Raises:
            ValueError: a row of tiles out of turn.
        """
        self._check_turn(lattice_row)
        stride = self._lattice.stride
        start = lattice_row * stride
        last = lattice_row == self._last_lattice_row
        finished = self._lattice.tile_size if last else stride
        first = max(self._row - start, 0)
        end = min(self._row + self._height - start, finished)
        if first < end:
            weights = self._weights[first:end]
            strip = np.divide(
                self._values[:, first:end], weights, out=np.zeros_like(self._values[:, first:end]), where=weights > 0
            )
            self._emit(start + first, strip)
        self._move_up()
        self._lattice_row += 1

    def _move_up(self) -> None:
        """Make the next row of tiles the current one; what it shares with this one is kept."""
        shared = self._lattice.overlap
        for kept in (self._values, self._weights):
            kept[..., :shared, :] = kept[..., self._lattice.stride :, :]
            kept[..., shared:, :] = 0

    def _check_turn(self, lattice_row: int) -> None:
        if lattice_row != self._lattice_row:
            raise ValueError(f"tile row {lattice_row} came while {self._lattice_row} was due")
