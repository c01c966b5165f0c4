"""How a processor's threads share batches of tiles."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import rasterio
import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.this_machine import ThisMachine
from scdm_qgis.engine.tile_batches import plan_batches
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import open_cube
from scdm_qgis.raster.tiles import Lattice
from tests.engine.conftest import spectra


@pytest.fixture
def cascade(regressions_only):
    return Cascade.load(regressions_only)


@pytest.fixture
def machine(cascade, monkeypatch, recorder):
    """Return a function that makes a machine of some threads for a raster of some tiles a side."""

    def make(threads, side, tile_size=32):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        pixels = side * tile_size
        tiling = Tiling((1, 2, 3), Lattice(pixels, pixels, tile_size, 0), (0, 0, pixels, pixels))
        return ThisMachine(cascade, torch.device("cpu"), None, tiling, recorder.events)

    return make


@pytest.fixture
def sampling(cascade):
    return Sampling(tuple(settings_for(stage.header, False) for stage in cascade.stages), 1, 0, False)


@pytest.mark.parametrize(
    ("threads", "side", "tile_size", "expected"),
    [
        (1, 100, 32, (12, 1, 1)),
        (8, 100, 32, (12, 1, 8)),
        (8, 4, 32, (2, 1, 8)),  # 16 tiles: two for each thread
        (8, 2, 32, (1, 2, 4)),  # four tiles: two threads for each
        (8, 1, 32, (1, 8, 1)),
        (8, 100, 64, (3, 1, 8)),
        (8, 100, 256, (1, 8, 1)),  # a tile as large as five batches has six threads, and the two that are left
        (16, 100, 256, (1, 8, 2)),
    ],
)
def test_batches_are_small_and_all_threads_have_work(machine, sampling, threads, side, tile_size, expected):
    made = machine(threads, side, tile_size)
    batch_size = made.automatic_batch_size(sampling)
    a_batch = made.threads_a_batch(batch_size)
    assert (batch_size, a_batch, made.at_once(a_batch)) == expected
    assert a_batch * made.at_once(a_batch) <= threads


def test_a_large_batch_of_the_users_has_several_threads(machine):
    made = machine(8, 100)
    assert made.threads_a_batch(24) == 2
    assert made.at_once(2) == 4
    assert made.threads_a_batch(1000) == 8


def test_the_number_of_threads_changes_no_pixel(regressions_only, make_cube, tmp_path, monkeypatch, recorder):
    source, values = make_cube("source.tif", spectra(160, 130)), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", partial(int, threads))
        job = RgbToHyperspectral(
            source, regressions_only, str(tmp_path / f"{threads}.tif"), rgb_bands="5,3,2", samples=2, steps=2,
            batch_size=3, device="cpu",
        )  # fmt: skip
        reconstruct.run(job, recorder.events)
        with rasterio.open(job.output) as dataset:
            values.append(dataset.read())
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


class CancelledProgress(Progress):
    """Progress of a job that is cancelled by a signal to the main thread when so many steps have been told."""

    steps = 5

    def advance(self, units, message):
        self.steps -= 1
        if self.steps == 0:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_all_threads_of_a_cancelled_run_end_with_the_step_they_are_at(cascade, make_cube, monkeypatch, recorder):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    steps, running, draw_all = [], [], TileReconstructor._draw_all

    def watched(reconstruct, pixels, after_step):
        def counted(tiles):
            steps.append(tiles)
            after_step(tiles)

        running.append(threading.current_thread())
        return draw_all(reconstruct, pixels, counted)

    monkeypatch.setattr(TileReconstructor, "_draw_all", watched)
    settings = tuple(settings_for(stage.header, True, steps=2) for stage in cascade.stages)
    with open_cube(make_cube("source.tif", spectra(160, 130))) as cube:
        tiling = Tiling((5, 3, 2), Lattice(160, 130, 32, 3), (0, 0, 160, 130))
        machine = ThisMachine(cascade, torch.device("cpu"), cube, tiling, recorder.events)
        batches = plan_batches(tiling.lattice, tiling.window, 0, lambda: 2)
        progress = CancelledProgress(recorder.events, 1)
        made = machine.spectra(batches, Sampling(settings, 1000, 0, False), 1, 2, progress)
        with pytest.raises(KeyboardInterrupt), closing(made):
            next(made)
    for thread in running:
        thread.join(30)
        assert not thread.is_alive()
    assert len(steps) < 20, "1000 draws of two stages in two steps are 4000"
