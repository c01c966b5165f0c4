"""Which tiles are computed together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.engine.tile_batches import first_tile, plan_batches, read_tiles
from scdm_qgis.raster.cube import open_cube
from scdm_qgis.raster.tiles import Lattice


@st.composite
def plans(draw):
    """Draw a lattice, a window of its raster, how many of its rows are done, and the size of a batch."""
    height, width, tile_size = draw(st.integers(1, 200)), draw(st.integers(1, 200)), draw(st.integers(4, 40))
    lattice = Lattice(height, width, tile_size, draw(st.integers(0, tile_size // 2)))
    row, column = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    window = row, column, draw(st.integers(1, height - row)), draw(st.integers(1, width - column))
    return lattice, window, draw(st.integers(0, window[2] - 1)), draw(st.integers(1, 30))


def batches_of(lattice, window, rows_done, size):
    return list(plan_batches(lattice, window, first_tile(lattice, window, rows_done, size), lambda: size))


@given(plans())
def test_every_tile_of_a_window_is_in_one_batch_row_by_row(plan):
    lattice, window, _, size = plan
    first, *others = batches_of(lattice, window, 0, size)
    tiles = [tile for row in lattice.tile_rows(window) for tile in row]
    assert [*first, *(tile for batch in others for tile in batch)] == tiles
    assert 0 < len(first) <= size
    assert all(len(batch) == size for batch in others)


@given(plans())
def test_a_run_that_goes_on_finds_the_same_batches(plan):
    lattice, window, rows_done, size = plan
    whole, rest = batches_of(lattice, window, 0, size), batches_of(lattice, window, rows_done, size)
    assert whole[len(whole) - len(rest) :] == rest
    missing = (window[0] + rows_done, window[1], window[2] - rows_done, window[3])
    assert {tile for batch in rest for tile in batch} >= {tile for row in lattice.tile_rows(missing) for tile in row}


@given(plans())
def test_what_is_computed_again_is_less_than_a_batch(plan):
    lattice, window, rows_done, size = plan
    missing = (window[0] + rows_done, window[1], window[2] - rows_done, window[3])
    again = sum(map(len, batches_of(lattice, window, rows_done, size))) - sum(map(len, lattice.tile_rows(missing)))
    assert 0 <= again < size


def test_the_batch_that_is_not_full_comes_first():
    assert [len(batch) for batch in batches_of(Lattice(256, 256, 32, 3), (0, 0, 256, 256), 0, 24)] == [9, 24, 24, 24]


def test_a_batch_that_was_too_large_is_smaller_from_then_on():
    lattice, window, sizes = Lattice(64, 16, 8, 0), (0, 0, 64, 16), iter([6, 2, 2, 2, 2, 2, 2])
    batches = plan_batches(lattice, window, 0, lambda: next(sizes))
    assert [len(batch) for batch in batches] == [4] + [2] * 6


def test_a_tile_that_is_valid_only_before_its_place_is_left_out(make_cube):
    values = np.ones((3, 20, 33), np.uint16)
    values[:, :, 29:] = 0
    (left, right), *_ = Lattice(20, 33, 32, 3).tile_rows()
    with open_cube(make_cube("collar.tif", values, nodata=0)) as cube:
        assert read_tiles(cube, (1, 2, 3), [left, right], margin=2).tiles == (left,)
