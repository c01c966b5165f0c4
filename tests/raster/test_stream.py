"""Blended pieces are the weighted mean of the tiles, each pixel once, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.raster.stream import TileBlender
from scdm_qgis.raster.tiles import Lattice


def blend(lattice, window, band_count, values_of):
    """Run a blender over all tiles; values_of(tile) gives (band, row, column)."""
    row, column, height, width = window
    out = np.full((band_count, height, width), np.nan, np.float32)

    def emit(first_row, first_column, values):
        assert values.dtype == np.float32
        here = out[:, first_row - row :, first_column - column :][:, : values.shape[1], : values.shape[2]]
        assert here.shape == values.shape, "pieces must lie in the window"
        assert np.isnan(here).all(), "every pixel must come once"
        here[:] = values

    blender = TileBlender(lattice, window, band_count, emit)
    for tiles in lattice.tile_rows(window):
        for tile in tiles:
            blender.add(tile, values_of(tile))
        blender.end_tile_row(tiles[0].lattice_row)
    assert not np.isnan(out).any(), "every pixel must come"
    return out


@st.composite
def lattices_with_windows(draw):
    tile_size = draw(st.integers(1, 16))
    lattice = Lattice(
        draw(st.integers(1, 50)), draw(st.integers(1, 50)), tile_size, draw(st.integers(0, tile_size - 1))
    )
    row, column = draw(st.integers(0, lattice.height - 1)), draw(st.integers(0, lattice.width - 1))
    window = (
        row, column, draw(st.integers(1, lattice.height - row)), draw(st.integers(1, lattice.width - column)),
    )  # fmt: skip
    return lattice, window


@given(lattices_with_windows(), st.floats(-1e4, 1e4, width=32))
def test_a_constant_field_comes_out_constant(case, value):
    lattice, window = case
    out = blend(lattice, window, 2, lambda tile: np.full((2, tile.height, tile.width), value, np.float32))
    np.testing.assert_allclose(out, value, rtol=1e-6, atol=1e-30)


@given(lattices_with_windows())
def test_tiles_that_agree_reproduce_the_raster(case):
    lattice, (row, column, height, width) = case
    raster = np.random.default_rng(0).uniform(-1, 1, (3, lattice.height, lattice.width)).astype(np.float32)

    def crop(tile):
        return raster[:, tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]

    out = blend(lattice, (row, column, height, width), 3, crop)
    np.testing.assert_allclose(out, raster[:, row : row + height, column : column + width], rtol=2e-6)


@given(lattices_with_windows())
def test_tiles_that_differ_give_their_weighted_mean(case):
    lattice, (row, column, height, width) = case

    def value(tile):
        return 1.0 + tile.lattice_row + 10.0 * tile.lattice_column

    total = np.zeros((lattice.height, lattice.width))
    weight = np.zeros_like(total)
    for tiles in lattice.tile_rows():
        for tile in tiles:
            here = (slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width))
            total[here] += value(tile) * lattice.blending_weights(tile)
            weight[here] += lattice.blending_weights(tile)
    expected = (total / weight)[row : row + height, column : column + width]
    out = blend(
        lattice, (row, column, height, width), 1, lambda t: np.full((1, t.height, t.width), value(t), np.float32)
    )
    np.testing.assert_allclose(out[0], expected, rtol=1e-5)


def test_a_window_gives_the_same_pixels_as_the_whole():
    lattice = Lattice(90, 70, 32, 8)
    noise = {}

    def values_of(tile):
        generator = np.random.default_rng((tile.lattice_row, tile.lattice_column))
        return noise.setdefault(tile, generator.normal(size=(2, tile.height, tile.width)).astype(np.float32))

    whole = blend(lattice, (0, 0, 90, 70), 2, values_of)
    part = blend(lattice, (13, 29, 55, 40), 2, values_of)
    np.testing.assert_array_equal(part, whole[:, 13:68, 29:69])


def test_what_a_tile_says_before_its_place_does_not_matter():
    lattice, window = Lattice(9, 9, 8, 2), (0, 0, 9, 9)

    def values_of(tile):
        values = np.ones((1, 8, 8), np.float32)
        values[:, : tile.rows_before] = np.nan
        values[:, :, : tile.columns_before] = np.inf
        return values

    np.testing.assert_array_equal(blend(lattice, window, 1, values_of), np.ones((1, 9, 9)))


def test_pixels_no_tile_was_added_for_are_zero():
    lattice = Lattice(8, 20, 8, 2)
    out = np.full((8, 20), np.nan)

    def emit(row, column, values):
        out[row : row + values.shape[1], column : column + values.shape[2]] = values[0]

    blender = TileBlender(lattice, (0, 0, 8, 20), 1, emit)
    ((first, *_),) = lattice.tile_rows()
    blender.add(first, np.full((1, 8, 8), 5.0, np.float32))
    blender.end_tile_row(0)
    assert (out[:, :8] == 5).all()
    assert (out[:, 8:] == 0).all()


def test_tiles_out_of_turn_are_refused():
    lattice = Lattice(40, 20, 8, 0)
    blender = TileBlender(lattice, (0, 0, 40, 20), 1, lambda row, column, values: None)
    tiles, values = list(lattice.tile_rows()), np.zeros((1, 8, 8), np.float32)
    with pytest.raises(ValueError, match="due"):
        blender.end_tile_row(1)
    with pytest.raises(ValueError, match="due"):
        blender.add(tiles[2][0], values)
    blender.add(tiles[0][1], values)
    with pytest.raises(ValueError, match="tile column 0 came after 1"):
        blender.add(tiles[0][0], values)


def peak(height, width):
    """Return the most bytes that 4 bands in tiles of 32 pixels with an overlap of 8 take."""
    lattice = Lattice(height, width, 32, 8)
    values = np.ones((4, 32, 32), np.float32)
    tracemalloc.start()
    blender = TileBlender(lattice, (0, 0, height, width), 4, lambda row, column, piece: None)
    for tiles in lattice.tile_rows():
        for tile in tiles:
            blender.add(tile, values[:, : tile.height, : tile.width])
        blender.end_tile_row(tiles[0].lattice_row)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_height():
    peak(64, 128)
    assert peak(4096, 128) < 1.1 * peak(128, 128)


def test_memory_grows_with_width_by_the_overlap():
    """Four bands and the weights, eight rows, four bytes; the list of a row's tiles is the rest."""
    peak(64, 128)
    assert peak(64, 8128) - peak(64, 128) < 1.5 * 5 * 8 * 8000 * 4
