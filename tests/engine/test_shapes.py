"""Every pixel is right whatever the size of the raster, of the tiles, of their overlap and of the extent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import rasterio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.conftest import GEOREFERENCE
from tests.engine.known_arithmetic import ask, check_spectra, write_model, write_talkative_model

LARGEST_SIDE = 700
MOST_TILES = 400
MOST_TILE_PIXELS = 700_000
"""Tiles of all overlaps may cover the raster many times: this bounds what one example costs."""

LAYOUTS = ("none", "some", "most", "all but one", "patches")


@dataclass(frozen=True)
class Case:
    """A raster, where it has nodata pixels, and its tiles."""

    height: int
    width: int
    tile_size: int
    overlap: int
    layout: str = "some"
    seed: int = 0

    def rgb_and_valid(self):
        """Return random values (3, row, column), 0 in nodata pixels, and which are valid (row, column)."""
        random = np.random.default_rng(self.seed)
        shape = self.height, self.width
        valid = np.ones(shape, bool)
        if self.layout == "some":
            valid = random.random(shape) > 0.1
        elif self.layout == "most":
            valid = random.random(shape) > 0.95
        elif self.layout == "all but one":
            valid[:] = False
        elif self.layout == "patches":
            coarse = random.random((self.height // 24 + 1, self.width // 24 + 1)) > 0.5
            valid = np.kron(coarse, np.ones((24, 24), bool))[: self.height, : self.width]
        valid[random.integers(self.height), random.integers(self.width)] = True
        rgb = random.integers(200, 1800, (3, *shape), np.uint16)
        return np.where(valid, rgb, 0).astype(np.uint16), valid


@st.composite
def cases(draw, largest_side=LARGEST_SIDE, most_tile_pixels=MOST_TILE_PIXELS):
    tile_size = draw(st.integers(8, 256))
    overlap = draw(st.integers(0, tile_size - 1) | st.just(tile_size - 1))
    stride = tile_size - overlap
    tiles = max(1, min(MOST_TILES, most_tile_pixels // tile_size**2))
    height = draw(st.integers(1, min(largest_side, overlap + stride * tiles)))
    tiles //= max(1, -(-(height - overlap) // stride))
    width = draw(st.integers(1, min(largest_side, overlap + stride * tiles)))
    if draw(st.booleans()):
        height, width = width, height
    return Case(height, width, tile_size, overlap, draw(st.sampled_from(LAYOUTS)), draw(st.integers(0, 2**31 - 1)))


@st.composite
def cases_with_windows(draw):
    case = draw(cases(300, 200_000))
    row, column = draw(st.integers(0, case.height - 1)), draw(st.integers(0, case.width - 1))
    return case, (
        row, column, draw(st.integers(1, case.height - row)), draw(st.integers(1, case.width - column)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="module")
def models(folder):
    """Return models of known arithmetic by the data type they write."""
    return {dtype: write_model(str(folder / f"{dtype}.safetensors"), dtype) for dtype in ("uint16", "int16", "float32")}


@pytest.fixture(scope="module")
def talkative_model(folder):
    return write_talkative_model(str(folder / "talkative.safetensors"))


@pytest.fixture(scope="module")
def run(folder):
    """Return a function that reconstructs a case's raster, in EPSG:32633, and returns the output's path."""

    def start(case, rgb, model, name="output.tif", **options):
        source, output = str(folder / "rgb.tif"), str(folder / name)
        form = {"driver": "GTiff", "count": 3, "height": case.height, "width": case.width, "dtype": rgb.dtype}
        with rasterio.open(source, "w", nodata=0, crs="EPSG:32633", transform=GEOREFERENCE, **form) as dataset:
            dataset.write(rgb)
        return ask(model, source, output, tile_size=case.tile_size, overlap=case.overlap, **options)

    return start


@settings(max_examples=50, deadline=None)
@given(cases(), st.sampled_from(["uint16", "int16", "float32"]))
@example(Case(1, 1, 8, 0, "none"), "uint16")
@example(Case(1, 1, 256, 255, "none"), "float32")
@example(Case(1, 700, 64, 16), "int16")
@example(Case(1, 700, 8, 7, "most"), "uint16")
@example(Case(700, 1, 64, 16), "uint16")
@example(Case(700, 1, 8, 7, "all but one"), "float32")
@example(Case(700, 700, 256, 64, "patches"), "uint16")
@example(Case(700, 700, 100, 0), "int16")
def test_every_valid_pixel_gets_its_spectrum_and_every_other_nodata(run, models, case, dtype):
    rgb, valid = case.rgb_and_valid()
    check_spectra(run(case, rgb, models[dtype]), models[dtype], rgb, valid)


@settings(max_examples=25, deadline=None)
@given(cases_with_windows(), st.sampled_from([0, 1]), st.sampled_from([0, 1]))
@example((Case(1, 1, 8, 0, "none"), (0, 0, 1, 1)), 1, 1)
@example((Case(1, 300, 32, 8), (0, 37, 1, 101)), 1, 0)
@example((Case(300, 1, 32, 31), (61, 0, 40, 1)), 0, 1)
@example((Case(211, 190, 48, 20), (101, 67, 59, 83)), 1, 1)
@example((Case(211, 190, 48, 20, "patches"), (101, 67, 1, 1)), 0, 0)
def test_an_extent_gives_exactly_the_crop_of_the_whole(run, talkative_model, case_and_window, samples, batch_size):
    """Tiles are the same whatever is asked for, so pixels are, although each depends on all of its tile.

    Automatic batches (0) hold other tiles together, which changes how the network's sums are rounded.
    """
    case, (row, column, height, width) = case_and_window
    rgb, valid = case.rgb_and_valid()
    valid[row, column], rgb[:, row, column] = True, 1000
    left, top = GEOREFERENCE * (column, row)
    right, bottom = GEOREFERENCE * (column + width, row + height)
    options = {"samples": samples, "seed": case.seed, "batch_size": batch_size}
    whole_path = run(case, rgb, talkative_model, "whole.tif", **options)
    part_path = run(case, rgb, talkative_model, "part.tif", extent=[left, bottom, right, top], **options)
    with rasterio.open(whole_path) as whole, rasterio.open(part_path) as part:
        assert (part.height, part.width) == (height, width)
        assert part.crs == whole.crs
        assert part.transform.almost_equals(GEOREFERENCE * GEOREFERENCE.translation(column, row), 1e-9)
        expected = whole.read()[:, row : row + height, column : column + width]
        if batch_size == 1:
            assert np.array_equal(part.read(), expected, equal_nan=True)
        np.testing.assert_allclose(part.read(), expected, rtol=1e-5)
        assert np.array_equal(part.dataset_mask() != 0, valid[row : row + height, column : column + width])


def test_the_pixels_of_the_talkative_model_depend_on_their_tile(run, talkative_model):
    """Else the crop of the whole would be right wherever its tiles lie."""
    case = Case(64, 64, 32, 8, "none")
    rgb, _ = case.rgb_and_valid()
    rasters = []
    for shift in (0, 1):
        cut = Case(64 - shift, 64, 32, 8)
        with rasterio.open(run(cut, rgb[:, shift:], talkative_model)) as dataset:
            rasters.append(dataset.read()[:, 1 - shift :])
    assert (np.abs(rasters[0] - rasters[1]) > 1).mean() > 0.2
