"""Which tiles are computed together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.engine.tile_batches import plan_batches, rows_of_tiles
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
    return list(plan_batches(lattice, window, rows_of_tiles(lattice, window, rows_done, size), lambda: size))


@given(plans())
def test_every_tile_of_a_window_is_in_one_batch(plan):
    lattice, window, _, size = plan
    batches = batches_of(lattice, window, 0, size)
    tiles = [tile for batch in batches for tile in batch]
    assert sorted(tiles, key=str) == sorted((tile for row in lattice.tile_rows(window) for tile in row), key=str)
    assert all(0 < len(batch) <= size for batch in batches)
    assert all(len({(tile.height, tile.width) for tile in batch}) == 1 for batch in batches)


@given(plans())
def test_a_run_that_goes_on_finds_the_same_batches(plan):
    lattice, window, rows_done, size = plan
    whole, rest = batches_of(lattice, window, 0, size), batches_of(lattice, window, rows_done, size)
    assert whole[len(whole) - len(rest) :] == rest
    missing = (window[0] + rows_done, window[1], window[2] - rows_done, window[3])
    assert {tile for batch in rest for tile in batch} >= {tile for row in lattice.tile_rows(missing) for tile in row}


@given(plans())
def test_what_is_computed_again_is_less_than_five_batches_and_a_row(plan):
    lattice, window, rows_done, size = plan
    missing = (window[0] + rows_done, window[1], window[2] - rows_done, window[3])
    again = sum(map(len, batches_of(lattice, window, rows_done, size))) - sum(map(len, lattice.tile_rows(missing)))
    assert again < 4 * size + len(lattice.places(window)[1])


def test_a_narrow_raster_fills_its_batches():
    # 9 x 9 tiles: 8 x 8 whole ones, 8 at the right, 8 below, one in the corner.
    lattice, window = Lattice(256, 256, 32, 3), (0, 0, 256, 256)
    assert [len(batch) for batch in batches_of(lattice, window, 0, 24)] == [8, 1, 24, 24, 16, 8]


def test_a_batch_that_was_too_large_is_smaller_in_the_next_group():
    lattice, window, sizes = Lattice(64, 16, 8, 0), (0, 0, 64, 16), iter([2, 1, 1, 1, 1, 1, 1])
    batches = plan_batches(lattice, window, rows_of_tiles(lattice, window, 0, 2), lambda: next(sizes))
    assert [len(batch) for batch in batches] == [2] * 2 + [1] * 12
