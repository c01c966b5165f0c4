"""The lattice of overlapping tiles a raster is worked on in, and how tiles fade into each other.

The lattice starts at row 0, column 0 of the raster, whatever part of it is asked for, so that a tile is
the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from scdm_qgis.core.errors import UserError

Window = Tuple[int, int, int, int]
"""(row, column, height, width) in pixels of the raster."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels, cut at the raster's rim, and its place in the lattice."""

    row: int
    column: int
    height: int
    width: int
    lattice_row: int
    lattice_column: int


@dataclass(frozen=True)
class Lattice:
    """Tiles of `tile_size` pixels a side that share `overlap` pixels with their neighbours.

    Args:
        height, width: size of the raster in pixels.
        tile_size: side of a tile in pixels.
        overlap: pixels two neighbours share, less than tile_size.

    Raises:
        UserError: an overlap that leaves no way forward, or a size that is not positive.
    """

    height: int
    width: int
    tile_size: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.tile_size) < 1 or self.overlap < 0:
            raise UserError(
                f"A raster of {self.height} x {self.width} pixels cannot be cut into tiles of {self.tile_size} pixels "
                f"with an overlap of {self.overlap}.",
                "Give a positive TILE_SIZE and an OVERLAP that is not negative.",
            )
        if self.overlap >= self.tile_size:
            raise UserError(
                f"OVERLAP {self.overlap} is not smaller than TILE_SIZE {self.tile_size}.",
                "Choose an overlap of about a quarter of the tile size.",
            )

    @property
    def stride(self) -> int:
        """Pixels from the start of a tile to the start of the next."""
        return self.tile_size - self.overlap

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return self._tiles_along(self.height)

    @property
    def columns(self) -> int:
        """Columns of tiles."""
        return self._tiles_along(self.width)

    def tile_rows(self, window: Optional[Window] = None) -> List[List[Tile]]:
        """Return the tiles that touch a window, row by row; all tiles without one."""
        row, column, height, width = window or (0, 0, self.height, self.width)
        columns = [c for c in range(self.columns) if self._touches(c, self.width, column, width)]
        rows = [r for r in range(self.rows) if self._touches(r, self.height, row, height)]
        return [[self._tile(r, c) for c in columns] for r in rows if columns]

    def blending_weights(self, tile: Tile) -> NDArray[np.float32]:
        """Return each pixel's weight (row, column) where tiles are averaged.

        A raised cosine over each overlap with a neighbour, 1 elsewhere, so that weights are positive
        everywhere and stay 1 at the raster's rim, where no neighbour helps. Where an overlap is at most half
        a tile, the weights of all tiles add up to 1.
        """
        down = self._ramp(tile.height, tile.lattice_row, self.rows)
        across = self._ramp(tile.width, tile.lattice_column, self.columns)
        return np.outer(down, across).astype(np.float32)

    def _tiles_along(self, side: int) -> int:
        return max(1, -(-(side - self.overlap) // self.stride))

    def _touches(self, place: int, side: int, start: int, length: int) -> bool:
        first = place * self.stride
        return first < start + length and start < min(first + self.tile_size, side)

    def _tile(self, lattice_row: int, lattice_column: int) -> Tile:
        row, column = lattice_row * self.stride, lattice_column * self.stride
        height = min(self.tile_size, self.height - row)
        width = min(self.tile_size, self.width - column)
        return Tile(row, column, height, width, lattice_row, lattice_column)

    def _ramp(self, length: int, place: int, places: int) -> NDArray[np.float64]:
        weights = np.ones(length)
        rise = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / max(self.overlap, 1)) ** 2
        if place > 0:
            weights[: self.overlap] *= rise
        if place < places - 1:
            weights[length - self.overlap :] *= rise[::-1]
        return weights
