"""Which tiles are computed together, and reading them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from scdm_qgis.raster.cube import Cube, fill_invalid
from scdm_qgis.raster.tiles import Lattice, Tile, Window


@dataclass(frozen=True)
class TileBatch:
    """Neighbouring tiles of one size and one row of tiles.

    Args:
        tiles: from left to right.
        ends_row: whether the row of tiles ends with them.
    """

    tiles: Tuple[Tile, ...]
    ends_row: bool


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


def plan_batches(lattice: Lattice, window: Window, batch_size: Callable[[], int]) -> Iterator[TileBatch]:
    """Yield all tiles that touch a window in batches of at most `batch_size()` tiles, asked for each batch.

    A batch never crosses a row of tiles, so that a run that goes on in the middle of a raster finds the same ones.
    """
    for row in lattice.tile_rows(window):
        for _, tiles in groupby(row, key=lambda tile: (tile.height, tile.width)):
            left = list(tiles)
            while left:
                size = batch_size()
                batch, left = left[:size], left[size:]
                yield TileBatch(tuple(batch), batch[-1] is row[-1])


def read_tiles(cube: Cube, bands: Sequence[int], tiles: Sequence[Tile], margin: int) -> TilePixels:
    """Read the tiles of a batch with their margins, all in one piece."""
    first, last = tiles[0], tiles[-1]
    whole = replace(first, width=last.column + last.width - first.column)
    all_rgb, all_valid = _read_with_margin(cube, bands, whole, margin)
    kept: List[Tile] = []
    values: List[np.ndarray] = []
    masks: List[np.ndarray] = []
    for tile in tiles:
        start = tile.column - first.column
        columns = slice(start, start + tile.width + 2 * margin)
        rgb, valid = all_rgb[:, :, columns], all_valid[:, columns]
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
