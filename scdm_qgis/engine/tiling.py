"""Which pixels of an input a reconstruction works on, and in which tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.cascade_header import CascadeHeader
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.tiles import Lattice, Window

SMALLEST_TILE = 32
"""Tiles of models trained on tiny scenes are not smaller than this by default."""

OVERLAP_SHARE = 10
"""The overlap is this fraction of a tile by default: enough that no seam shows, and few pixels are computed twice."""

SMALLEST_OVERLAP = 2
"""Tiles of less than twenty pixels, which only a user asks for, still fade into each other by default."""


@dataclass(frozen=True)
class Tiling:
    """What is read and where: the RGB bands, the lattice, and the window of the raster that is wanted."""

    rgb_bands: Tuple[int, int, int]
    lattice: Lattice
    window: Window

    @property
    def tile_count(self) -> int:
        """Tiles that touch the window."""
        rows, columns = self.lattice.places(self.window)
        return len(rows) * len(columns)


def choose_tiling(job: RgbToHyperspectral, cube: Cube, header: CascadeHeader) -> Tiling:
    """Fill what the user left open with what suits the raster and the model.

    Raises:
        UserError: bands, tiles or an extent the raster does not have.
    """
    usable = [not bad for bad in cube.spectrum.bad]
    rgb = choose_rgb_bands(job.rgb_bands, cube.band_count, cube.spectrum.wavelengths_nm, usable, by_position=True)
    # The networks normalise over the whole tile, so they do best on tiles of the size they were trained on.
    tile_size = job.tile_size or max(SMALLEST_TILE, *(stage.patch_size for stage in header.stages))
    overlap = default_overlap(tile_size) if job.overlap is None else job.overlap
    lattice = Lattice(cube.height, cube.width, tile_size, overlap)
    longest = max(cube.height, cube.width)
    if tile_size > longest:  # one tile, and no memory for more than is in it
        lattice = replace(lattice, tile_size=longest, overlap=min(overlap, longest - 1))
    return Tiling(rgb, lattice, extent_window(job.extent, cube))


def default_overlap(tile_size: int) -> int:
    """Return the pixels two neighbouring tiles share where the user does not say."""
    return max(SMALLEST_OVERLAP, tile_size // OVERLAP_SHARE)


def check_any_valid(cube: Cube, tiling: Tiling) -> None:
    """Raise UserError where no pixel that is wanted is valid; reads until it finds one."""
    top, left, height, width = tiling.window
    for row in tiling.lattice.tile_rows(tiling.window):
        for tile in row:
            first_row, first_column = max(tile.row, top), max(tile.column, left)
            rows = min(tile.row + tile.height, top + height) - first_row
            columns = min(tile.column + tile.width, left + width) - first_column
            if cube.read(tiling.rgb_bands, first_row, first_column, rows, columns)[1].any():
                return
    raise UserError(
        "The raster has no valid pixel in its red, green and blue bands: all of it is nodata.",
        "Choose another raster, EXTENT or RGB_BANDS.",
    )


def extent_window(extent: Optional[Sequence[float]], cube: Cube) -> Window:
    """Return the pixels of a raster that an extent touches.

    Args:
        extent: [xmin, ymin, xmax, ymax] in the raster's CRS; in pixels (x a column, y a row) where it
            has none, or no geotransform; None for all of it.
        cube: the raster.

    Raises:
        UserError: the extent lies outside the raster.
    """
    if extent is None:
        return 0, 0, cube.height, cube.width
    xmin, ymin, xmax, ymax = extent
    corners = [(x, y) for x in (xmin, xmax) for y in (ymin, ymax)]
    if cube.has_place:
        corners = [~cube.transform * corner for corner in corners]
    slack = 1e-6  # an edge on a pixel's border must not take the next pixel in
    columns, rows = zip(*corners)
    left, top = max(0, math.floor(min(columns) + slack)), max(0, math.floor(min(rows) + slack))
    right, bottom = (
        min(cube.width, math.ceil(max(columns) - slack)),
        min(cube.height, math.ceil(max(rows) - slack)),
    )
    if left >= right or top >= bottom:
        raise UserError(
            f"EXTENT does not touch the raster, which has {cube.height} x {cube.width} pixels.",
            f"Draw it on the raster{', in its CRS' if cube.has_place else ''}.",
        )
    return top, left, bottom - top, right - left
