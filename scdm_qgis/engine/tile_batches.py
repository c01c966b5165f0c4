"""Which tiles are computed together, and reading them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from scdm_qgis.raster.cube import Cube, fill_invalid
from scdm_qgis.raster.tiles import Lattice, Tile, Window


@dataclass(frozen=True)
class TilePixels:
    """What is read of a batch; tiles without valid pixels at their place are left out.

    Args:
        tiles: those with valid pixels at their place.
        rgb: with a margin on every side (tile, 3, row, column) in data units, invalid pixels filled.
        valid: pixels of `rgb` that count (tile, row, column).
    """

    tiles: Tuple[Tile, ...]
    rgb: np.ndarray
    valid: np.ndarray


def first_tile(lattice: Lattice, window: Window, rows_done: int, batch_size: int) -> int:
    """Return which tile of a window, counted row by row, a run begins with that finds its first rows done.

    It is the first of a batch that the run would have computed from the beginning.
    """
    row, column, height, width = window
    all_rows, columns = lattice.places(window)
    rows, _ = lattice.places((row + rows_done, column, height - rows_done, width))
    batches = -(-len(rows) * len(columns) // batch_size)
    return max(0, len(all_rows) * len(columns) - batches * batch_size)


def plan_batches(
    lattice: Lattice, window: Window, first: int, batch_size: Callable[[], int]
) -> Iterator[Tuple[Tile, ...]]:
    """Yield the tiles of a window in batches, row by row.

    The batch that is not full comes first, so that the first result is there soon.

    Args:
        lattice: the tiles.
        window: of the raster that is wanted.
        first: which tile to begin with, see `first_tile`.
        batch_size: how many tiles a batch may have, asked for each batch.
    """
    rows, columns = lattice.places(window)
    count = len(rows) * len(columns)
    while first < count:
        size = batch_size()
        end = first + ((count - first) % size or size)
        places = (divmod(number, len(columns)) for number in range(first, end))
        yield tuple(lattice.tile(rows[row], columns[column]) for row, column in places)
        first = end


def read_tiles(cube: Cube, bands: Sequence[int], tiles: Sequence[Tile], margin: int) -> TilePixels:
    """Read the tiles of a batch with their margins, those of a row in one piece."""
    kept: List[Tile] = []
    values: List[np.ndarray] = []
    masks: List[np.ndarray] = []
    for _, same_row in groupby(tiles, key=lambda tile: tile.lattice_row):
        row = list(same_row)
        first, last = row[0], row[-1]
        whole = replace(first, width=last.column + last.width - first.column)
        row_rgb, row_valid = _read_with_margin(cube, bands, whole, margin)
        for tile in row:
            start = tile.column - first.column
            columns = slice(start, start + tile.width + 2 * margin)
            rgb, valid = row_rgb[:, :, columns], row_valid[:, columns]
            counting = valid[margin : margin + tile.height, margin : margin + tile.width]
            if counting[tile.rows_before :, tile.columns_before :].any():
                kept.append(tile)
                values.append(fill_invalid(rgb, valid))
                masks.append(valid)
    return TilePixels(tuple(kept), np.array(values), np.array(masks))


def _read_with_margin(cube: Cube, bands: Sequence[int], tile: Tile, margin: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return a tile's values (band, row, column) and validity (row, column), grown by a margin on every side.

    What lies outside the raster is invalid.
    """
    top, left = max(tile.row - margin, 0), max(tile.column - margin, 0)
    bottom = min(tile.row + tile.height + margin, cube.height)
    right = min(tile.column + tile.width + margin, cube.width)
    values, valid = cube.read(bands, top, left, bottom - top, right - left)
    before = margin - (tile.row - top), margin - (tile.column - left)
    after = tile.row + tile.height + margin - bottom, tile.column + tile.width + margin - right
    outside = list(zip(before, after))
    return np.pad(values, [(0, 0), *outside]), np.pad(valid, outside)
