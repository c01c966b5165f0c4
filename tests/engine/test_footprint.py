"""What a run will take is estimated before the start and said; too little memory stops it there."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple

import psutil
import pytest

from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.guidance import CACHE_BYTES, kept_bytes
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.batch_size import at_most
from scdm_qgis.engine.footprint import Footprint, fit_at_once, footprint
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.output_rasters import Product
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.tiles import Lattice

PRODUCTS = [
    Product("out.tif", 1, False, "uint16", 0.0, "reconstruction"),
    Product("sd.tif", 1, True, "float32", 0.0, "uncertainty"),
]


def tiling(height, width, overlap=8):
    return Tiling((1, 2, 3), Lattice(height, width, 32, overlap), (0, 0, height, width))


def settings(header, guidance=0.0, steps=5):
    return [settings_for(stage, True, steps=steps, guidance_weight=guidance) for stage in header.stages]


@pytest.fixture
def header(regressions_only):
    return read_header(regressions_only)


def test_disk_is_the_size_of_the_pixels_still_to_come(header):
    bands = len(header.stages[1].bands)
    needed = footprint(
        header,
        settings(header),
        tiling(1000, 600),
        PRODUCTS,
        4,
        at_once=2,
        balanced=False,
        rows=100,
        computes_here=True,
    )
    assert needed.disk == [bands * 2 * 900 * 600, bands * 4 * 900 * 600]


def test_memory_does_not_grow_with_height_and_grows_with_width_by_overlap_and_blocks(header):
    memory = {
        (height, width): footprint(
            header, settings(header), tiling(height, width), PRODUCTS, 4, 1, False, 0, True
        ).memory
        for height, width in [(1000, 600), (40_000, 600), (1000, 1600)]
    }
    assert memory[1000, 600] == memory[40_000, 600]
    bands = len(header.stages[1].bands)
    assert memory[1000, 1600] - memory[1000, 600] == 1000 * (2 * (bands + 1) * 4 * 8 + bands * (2 + 4) * 64)


def test_balanced_draws_need_room_for_mean_and_deviation_of_their_starts(header):
    plain, balanced = (
        footprint(header, settings(header), tiling(100, 100), PRODUCTS, 4, 1, balanced, 0, True).memory
        for balanced in (False, True)
    )
    assert balanced - plain == 2 * 4 * (4 * 32 * 32) * sum(len(stage.bands) for stage in header.stages)


def test_batches_that_are_computed_at_once_need_room_each(header):
    one, two, three = (
        footprint(header, settings(header), tiling(100, 100), PRODUCTS, 4, at_once, False, 0, True).memory
        for at_once in (1, 2, 3)
    )
    assert two - one == three - two > 24 * 4 * 32 * 32 * header.stages[1].network.base_channels * 4


@pytest.mark.parametrize(("free", "expected"), [(100, 4), (40, 4), (39, 3), (10, 1), (5, 1)])
def test_as_many_batches_are_computed_at_once_as_fit_into_the_memory(monkeypatch, free, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(free))
    assert fit_at_once(4, lambda at_once: Footprint(10 * at_once, [])) == expected


def test_a_cluster_computes_elsewhere(header):
    here, elsewhere = (
        footprint(header, settings(header), tiling(100, 100), PRODUCTS, 4, 1, False, 0, where).memory
        for where in (True, False)
    )
    assert here - elsewhere == 24 * 4 * 32 * 32 * header.stages[1].network.base_channels * 4


def test_guidance_keeps_features_for_every_step_up_to_a_limit(header):
    memory = {
        steps: footprint(header, settings(header, 1.0, steps), tiling(100, 100), PRODUCTS, 4, 1, False, 0, True).memory
        for steps in (5, 10, 1000)
    }
    plain = footprint(header, settings(header), tiling(100, 100), PRODUCTS, 4, 1, False, 0, True).memory
    kept = [kept_bytes(stage.network, 32, 5) for stage in header.stages]
    assert memory[5] - plain == 12 * 4 * 32 * 32 * header.stages[1].network.base_channels * 4 + sum(kept)
    assert memory[10] - memory[5] == sum(kept)
    assert memory[1000] - memory[5] == 2 * CACHE_BYTES - sum(kept)


@pytest.fixture
def job(tmp_path, make_cube, regressions_only):
    return RgbToHyperspectral(
        make_cube(), regressions_only, str(tmp_path / "out.tif"), rgb_bands="5,3,2", device="cpu", tile_size=64
    )


def test_it_is_said(job, recorder):
    reconstruct.run(job, recorder.events)
    assert "of memory" in recorder.messages() and "are written to" in recorder.messages()
    assert "may become full" not in recorder.messages()


def test_too_little_memory_stops_a_run_before_it_writes(job, recorder, monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(50_000_000))
    with pytest.raises(UserError, match="only 50 MB are free.*Lower BATCH_SIZE"):
        reconstruct.run(job, recorder.events)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("out")]


def test_a_disk_that_may_become_full_is_pointed_out(job, recorder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(100_000))
    reconstruct.run(job, recorder.events)
    assert "may become full" in recorder.messages() and "RESUME" in recorder.messages()


@pytest.mark.parametrize(("enough", "free", "taken", "expected"), [(16, 10, 3, 3), (16, 100, 3, 16), (16, 2, 3, 1)])
def test_an_automatic_batch_fits_into_the_free_memory(enough, free, taken, expected):
    assert at_most(enough, free, taken) == expected
