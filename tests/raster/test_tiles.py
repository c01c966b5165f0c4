"""Tiles cover every raster, stay inside it and fade into each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.core.errors import UserError
from scdm_qgis.raster.tiles import Lattice


@st.composite
def lattices(draw):
    tile_size = draw(st.integers(1, 24))
    overlap = draw(st.integers(0, tile_size - 1))
    return Lattice(draw(st.integers(1, 60)), draw(st.integers(1, 60)), tile_size, overlap)


@st.composite
def windows(draw, lattice):
    row, column = draw(st.integers(0, lattice.height - 1)), draw(st.integers(0, lattice.width - 1))
    height, width = draw(st.integers(1, lattice.height - row)), draw(st.integers(1, lattice.width - column))
    return row, column, height, width


def all_tiles(lattice, window=None):
    return [tile for tiles in lattice.tile_rows(window) for tile in tiles]


def place(lattice, tile):
    """Return the rows and columns of the raster where a tile counts."""
    row, column = tile.lattice_row * lattice.stride, tile.lattice_column * lattice.stride
    assert (tile.row + tile.rows_before, tile.column + tile.columns_before) == (row, column)
    return slice(row, tile.row + tile.height), slice(column, tile.column + tile.width)


@given(lattices())
def test_tiles_have_one_size_cover_every_pixel_and_stay_inside(lattice):
    covered = np.zeros((lattice.height, lattice.width), int)
    for tile in all_tiles(lattice):
        assert tile.height == min(lattice.tile_size, lattice.height)
        assert tile.width == min(lattice.tile_size, lattice.width)
        assert 0 <= tile.row <= lattice.height - tile.height
        assert 0 <= tile.column <= lattice.width - tile.width
        here = place(lattice, tile)
        assert tile.row <= here[0].start < here[0].stop
        assert tile.column <= here[1].start < here[1].stop
        covered[here] += 1
    assert covered.min() >= 1


@given(lattices())
def test_no_tile_is_superfluous_and_neighbours_share_the_overlap(lattice):
    rows = list(lattice.tile_rows())
    for upper, lower in zip(rows, rows[1:]):
        assert upper[0].row + upper[0].height - place(lattice, lower[0])[0].start == lattice.overlap
        assert lower[0].row + lower[0].height > upper[0].row + upper[0].height
    for left, right in zip(rows[0], rows[0][1:]):
        assert left.column + left.width - place(lattice, right)[1].start == lattice.overlap


@given(st.data())
def test_a_window_selects_exactly_the_tiles_that_touch_it(data):
    lattice = data.draw(lattices())
    row, column, height, width = data.draw(windows(lattice))
    wanted = np.zeros((lattice.height, lattice.width), bool)
    wanted[row : row + height, column : column + width] = True
    touching = [tile for tile in all_tiles(lattice) if wanted[place(lattice, tile)].any()]
    assert all_tiles(lattice, (row, column, height, width)) == touching


@given(lattices())
def test_weights_are_positive_just_where_a_tile_counts(lattice):
    for tile in all_tiles(lattice):
        weights = lattice.blending_weights(tile)
        assert weights.shape == (tile.height, tile.width)
        assert weights.dtype == np.float32
        assert weights.min() >= 0
        assert weights.max() <= 1
        counts = np.zeros((lattice.height, lattice.width), bool)
        counts[place(lattice, tile)] = True
        here = (slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width))
        np.testing.assert_array_equal(weights > 0, counts[here])
    if lattice.rows == 1 and lattice.columns == 1:
        assert (weights == 1).all()


@given(lattices())
def test_weights_add_up_to_one_for_overlaps_up_to_half_a_tile(lattice):
    if 2 * lattice.overlap > lattice.tile_size:
        lattice = Lattice(lattice.height, lattice.width, lattice.tile_size, lattice.tile_size // 2)
    total = np.zeros((lattice.height, lattice.width))
    for tile in all_tiles(lattice):
        here = (slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width))
        total[here] += lattice.blending_weights(tile)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_known_lattice():
    lattice = Lattice(height=10, width=7, tile_size=6, overlap=2)
    assert [(tile.row, tile.column, tile.height, tile.width) for tile in all_tiles(lattice)] == [
        (0, 0, 6, 6), (0, 1, 6, 6), (4, 0, 6, 6), (4, 1, 6, 6),
    ]  # fmt: skip
    ramp = np.sin(np.pi / 2 * np.array([0.25, 0.75])) ** 2
    down = np.array([1, 1, 1, 1, *ramp[::-1]])
    across = np.array([0, 0, 0, *ramp, 1])
    np.testing.assert_allclose(lattice.blending_weights(all_tiles(lattice)[1]), np.outer(down, across), rtol=1e-6)


def test_a_tile_larger_than_the_raster_is_the_raster():
    lattice = Lattice(height=5, width=9, tile_size=64, overlap=16)
    (tile,) = all_tiles(lattice)
    assert (tile.row, tile.column, tile.height, tile.width) == (0, 0, 5, 9)


@pytest.mark.parametrize(("tile_size", "overlap"), [(8, 8), (8, 9), (8, -1), (0, 0)])
def test_impossible_lattices_are_refused(tile_size, overlap):
    with pytest.raises(UserError, match=r"OVERLAP|overlap"):
        Lattice(100, 100, tile_size, overlap)
