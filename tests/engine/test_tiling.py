"""What is taken for the tiles where the user leaves them open."""

from __future__ import annotations

import numpy as np
import pytest

from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tiling import choose_tiling, default_overlap
from scdm_qgis.raster.cube import open_cube
from scdm_qgis.raster.tiles import Lattice


@pytest.mark.parametrize("tile_size", [32, 64, 128, 256])
def test_few_pixels_are_computed_twice(tile_size):
    lattice = Lattice(2048, 2048, tile_size, default_overlap(tile_size))
    assert 1 < lattice.rows * lattice.columns * tile_size**2 / 2048**2 <= 1.3


@pytest.mark.parametrize("tile_size", [8, 16, 19, 20, 33, 4096])
def test_tiles_of_any_size_fade_into_each_other(tile_size):
    assert 2 <= default_overlap(tile_size) <= tile_size / 4


@pytest.mark.parametrize(
    ("asked", "tile_size", "overlap"),
    [({}, 32, 3), ({"tile_size": 64}, 64, 6), ({"overlap": 0}, 32, 0), ({"tile_size": 8, "overlap": 7}, 8, 7)],
)
def test_what_is_left_open_suits_the_model(make_cube, regressions_only, asked, tile_size, overlap):
    job = RgbToHyperspectral(make_cube(), regressions_only, "out.tif", rgb_bands="5,3,2", **asked)
    with open_cube(job.input) as cube:
        lattice = choose_tiling(job, cube, read_header(job.model)).lattice
    assert (lattice.tile_size, lattice.overlap) == (tile_size, overlap)


@pytest.mark.parametrize("overlap", [None, 0, 511])
def test_a_tile_larger_than_the_raster_is_no_larger_than_it(make_cube, regressions_only, overlap):
    job = RgbToHyperspectral(make_cube(), regressions_only, "out.tif", "5,3,2", tile_size=512, overlap=overlap)
    with open_cube(job.input) as cube:
        tiling = choose_tiling(job, cube, read_header(job.model))
        (tile,) = [tile for row in tiling.lattice.tile_rows() for tile in row]
        assert tiling.lattice.tile_size == max(cube.height, cube.width)
        assert (tile.row, tile.column, tile.height, tile.width) == (0, 0, cube.height, cube.width)
        assert np.all(tiling.lattice.blending_weights(tile) == 1)
