"""The lattice of overlapping tiles a raster is worked on in, and how tiles fade into each other.

The lattice starts at row 0, column 0 of the raster, whatever part of it is asked for, so that a tile is
the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from scdm_qgis.core.errors import UserError

Window = Tuple[int, int, int, int]
"""(row, column, height, width) in pixels of the raster."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels and its place in the lattice.

    Args:
        row, column, height, width: the rectangle, in pixels of the raster.
        lattice_row, lattice_column: its place.
        rows_before, columns_before: its first ones, which lie before its place: they are seen, but do not count.
    """

    row: int
    column: int
    height: int
    width: int
    lattice_row: int
    lattice_column: int
    rows_before: int = 0
    columns_before: int = 0


@dataclass(frozen=True)
class Lattice:
    """Tiles of `tile_size` pixels a side that share `overlap` pixels with their neighbours.

    A tile that would reach beyond the raster begins so much earlier: all tiles have one size, that of the raster
    where it is smaller. Its first pixels, which lie before its place, are only seen: they have no weight.

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
                "Choose an overlap of about a tenth of the tile size.",
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

    def places(self, window: Optional[Window] = None) -> Tuple[range, range]:
        """Return the rows and the columns of tiles that touch a window; all without one."""
        row, column, height, width = window or (0, 0, self.height, self.width)
        return self._touching(self.rows, row, height), self._touching(self.columns, column, width)

    def tile_rows(self, window: Optional[Window] = None) -> Iterator[List[Tile]]:
        """Yield the tiles that touch a window, row by row; all tiles without one.

        A raster may have millions of tiles, so no more than one row of them exists at a time.
        """
        rows, columns = self.places(window)
        return ([self.tile(row, column) for column in columns] for row in rows)

    def tile(self, lattice_row: int, lattice_column: int) -> Tile:
        """Return the tile at a place."""
        height, width = min(self.tile_size, self.height), min(self.tile_size, self.width)
        place = lattice_row * self.stride, lattice_column * self.stride
        row, column = min(place[0], self.height - height), min(place[1], self.width - width)
        return Tile(row, column, height, width, lattice_row, lattice_column, place[0] - row, place[1] - column)

    def blending_weights(self, tile: Tile) -> NDArray[np.float32]:
        """Return each pixel's weight (row, column) where tiles are averaged.

        0 before the tile's place, a raised cosine over each overlap with a neighbour, 1 elsewhere, so that they
        stay 1 at the raster's rim, where no neighbour helps. Where an overlap is at most half a tile, the weights
        of all tiles add up to 1.
        """
        down = self._ramp(tile.height, tile.rows_before, tile.lattice_row, self.rows)
        across = self._ramp(tile.width, tile.columns_before, tile.lattice_column, self.columns)
        return np.outer(down, across).astype(np.float32)

    def _tiles_along(self, side: int) -> int:
        return max(1, -(-(side - self.overlap) // self.stride))

    def _touching(self, places: int, start: int, length: int) -> range:
        first = max(0, (start - self.tile_size) // self.stride + 1)
        return range(first, min(places, -(-(start + length) // self.stride)))

    def _ramp(self, length: int, before: int, place: int, places: int) -> NDArray[np.float64]:
        weights = np.ones(length)
        weights[:before] = 0
        rise = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / max(self.overlap, 1)) ** 2
        if place > 0:
            weights[before : before + self.overlap] *= rise
        if place < places - 1:
            weights[length - self.overlap :] *= rise[::-1]
        return weights
