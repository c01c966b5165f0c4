"""Which tiles are computed together, and reading them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from scdm_qgis.raster.cube import Cube, fill_invalid
from scdm_qgis.raster.tiles import Lattice, Tile, Window

BATCHES_A_GROUP = 4
"""Rows of tiles are taken together until they fill about this many batches."""


@dataclass(frozen=True)
class TilePixels:
    """What is read of a batch; tiles without valid pixels are left out.

    Args:
        tiles: those with valid pixels.
        rgb: with a margin on every side (tile, 3, row, column) in data units, invalid pixels filled.
        valid: pixels of `rgb` that count (tile, row, column).
    """

    tiles: Tuple[Tile, ...]
    rgb: np.ndarray
    valid: np.ndarray


def rows_of_tiles(lattice: Lattice, window: Window, rows_done: int, batch_size: int) -> range:
    """Return the rows of tiles still to compute where the first `rows_done` rows of a window are there already.

    They begin where a group of `plan_batches` does.
    """
    row, column, height, width = window
    all_rows, columns = lattice.places(window)
    rest, _ = lattice.places((row + rows_done, column, height - rows_done, width))
    together = rows_a_group(batch_size, len(columns))
    return range(rest.start - (rest.start - all_rows.start) % together, all_rows.stop)


def plan_batches(
    lattice: Lattice, window: Window, rows: range, batch_size: Callable[[], int]
) -> Iterator[Tuple[Tile, ...]]:
    """Yield the tiles of rows of tiles in batches of one size of tile.

    Rows are taken in groups, which a batch never leaves: so the many rows of a narrow raster do not end with a
    batch half empty each, and a run that goes on in the middle of a raster finds the same batches. The narrow
    tiles at a group's right end come first, so that its rows become whole in turn.

    Args:
        lattice: the tiles.
        window: of the raster that is wanted.
        rows: rows of tiles, see `rows_of_tiles`.
        batch_size: how many tiles a batch may have, asked for each group.
    """
    _, columns = lattice.places(window)
    row = rows.start
    while row < rows.stop:
        size = batch_size()
        end = min(row + rows_a_group(size, len(columns)), rows.stop)
        group = [tile for number in range(row, end) for tile in lattice.tile_row(number, columns)]
        group.sort(key=lambda tile: (tile.width, -tile.height))
        for _, same in groupby(group, key=lambda tile: (tile.width, tile.height)):
            tiles = list(same)
            yield from (tuple(tiles[first : first + size]) for first in range(0, len(tiles), size))
        row = end


def rows_a_group(batch_size: int, columns: int) -> int:
    """Return how many rows of tiles fill the batches of a group; no more than one batch of their last tiles."""
    return min(batch_size, -(-BATCHES_A_GROUP * batch_size // columns))


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
            if valid[margin : margin + tile.height, margin : margin + tile.width].any():
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
