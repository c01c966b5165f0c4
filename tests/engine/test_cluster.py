"""Workers of a Dask cluster on this machine compute the very pixels this process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from distributed import Client
from rasterio.io import MemoryFile

from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.core.whole_file import journal_path, partial_path
from scdm_qgis.engine import cluster, cluster_worker, reconstruct
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tile_reconstructor import Sampling
from scdm_qgis.raster.tiles import Tile
from tests.conftest import CHECKOUT
from tests.engine.conftest import spectra

DASK = os.path.join(os.path.dirname(sys.executable), "dask")


@pytest.fixture
def start_dask():
    """Return a function that starts a dask command and returns its process once it has printed some words."""
    processes = []

    def start(*arguments, until, **changes):
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **changes}
        process = subprocess.Popen([DASK, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if until in line:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return process, line
        raise RuntimeError("".join(lines))

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(start_dask):
    """Return the address of a scheduler without workers."""
    _, line = start_dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", until="Scheduler at:")
    return line.split()[-1]


@pytest.fixture
def add_worker(start_dask, scheduler):
    """Return a function that starts one more worker and returns its process."""

    def add(threads=1):
        options = ("--no-nanny", "--no-dashboard", "--nthreads", str(threads), "--host", "127.0.0.1")
        return start_dask("worker", scheduler, *options, until="Registered to")[0]

    return add


@pytest.fixture
def job(tmp_path, make_cube, regressions_only):
    """A run of 24 tiles in 8 batches, two draws each, holes among them."""
    values = spectra(200, 64)
    values[:, 40:90, 10:50] = 0
    return RgbToHyperspectral(
        input=make_cube("source.tif", values, nodata=0), model=regressions_only, output=str(tmp_path / "out.tif"),
        uncertainty=str(tmp_path / "uncertainty.tif"), rgb_bands="5,3,2", samples=2, steps=2, tile_size=32, overlap=8,
        batch_size=3, device="cpu",
    )  # fmt: skip


def pixels(job):
    arrays = []
    for path in (job.output, job.uncertainty):
        with rasterio.open(path) as dataset:
            arrays.append(dataset.read())
    return arrays


@pytest.fixture
def expected(job, recorder, monkeypatch):
    """What this process makes with one thread, as the workers have."""
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    results = reconstruct.run(job, recorder.events)
    monkeypatch.undo()
    return pixels(job), results["TILES"]


def assert_same(job, results, expected):
    for got, wanted in zip(pixels(job), expected[0]):
        np.testing.assert_array_equal(got, wanted)
    assert results["TILES"] == expected[1]


def test_any_number_of_workers_gives_the_same_pixels(job, expected, scheduler, add_worker, recorder):
    processes = []
    for workers in (1, 2, 4):
        while len(processes) < workers:
            processes.append(add_worker())
        results = reconstruct.run(replace(job, cluster=scheduler), recorder.events)
        assert_same(job, results, expected)
        assert f"{workers} workers of {scheduler} compute now" in recorder.messages()
    assert "read the input themselves" in recorder.messages()


def test_threads_of_a_worker_compute_side_by_side(job, expected, scheduler, add_worker, recorder):
    add_worker(threads=3)
    assert_same(job, reconstruct.run(replace(job, cluster=scheduler), recorder.events), expected)


@pytest.mark.parametrize(("own", "dask", "expected"), [(8, 1, 8), (8, 8, 1), (8, 3, 2), (1, 4, 1)])
def test_a_workers_batches_share_its_threads(make_cube, monkeypatch, own, dask, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: own)
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=dask))
    assert cluster_worker.describe("cpu", "float32", make_cube(), {}, worker).threads == expected


def test_pixels_travel_where_workers_cannot_read(job, expected, scheduler, add_worker, recorder):
    add_worker()
    with open(job.input, "rb") as file, MemoryFile(file.read(), filename="source.tif") as memory:
        results = reconstruct.run(replace(job, cluster=scheduler, input=memory.name), recorder.events)
    assert_same(job, results, expected)
    assert "get the input's pixels with each task" in recorder.messages()


def test_a_worker_that_dies_is_replaced_by_the_others(job, expected, scheduler, add_worker, recorder, monkeypatch):
    doomed, _ = add_worker(), add_worker()
    result, seen = cluster.Cluster._result, []

    def kill_in_mid_run(self, future):
        seen.append(future)
        if len(seen) == 3:
            doomed.kill()
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", kill_in_mid_run)
    assert_same(job, reconstruct.run(replace(job, cluster=scheduler), recorder.events), expected)
    assert doomed.wait() != 0


def test_a_run_on_a_cluster_is_taken_up_by_this_machine(job, expected, scheduler, add_worker, recorder, monkeypatch):
    add_worker()
    result, seen = cluster.Cluster._result, []

    def fail_in_mid_run(self, future):
        seen.append(future)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", fail_in_mid_run)
    with pytest.raises(KeyboardInterrupt):
        reconstruct.run(replace(job, cluster=scheduler), recorder.events)
    assert os.path.exists(journal_path(job.output)) and os.path.exists(partial_path(job.output))
    assert_same(job, reconstruct.run(replace(job, resume=True), recorder.events), expected)


def test_a_lost_scheduler_is_said_and_the_run_is_taken_up(job, expected, start_dask, recorder, monkeypatch, tmp_path):
    options = ("--host", "127.0.0.1", "--no-dashboard")
    doomed, line = start_dask("scheduler", *options, "--port", "0", until="Scheduler at:")
    address = line.split()[-1]
    start_dask("worker", address, "--no-nanny", *options, "--nthreads", "1", until="Registered to")
    result, seen = cluster.Cluster._result, []

    def kill_in_mid_run(self, future):
        seen.append(future)
        if len(seen) == 6:
            doomed.kill()
            doomed.wait()
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", kill_in_mid_run)
    with pytest.raises(UserError, match=f"The connection to the scheduler {address} is lost. Start it.*RESUME"):
        reconstruct.run(replace(job, cluster=address), recorder.events)
    assert_same(job, reconstruct.run(replace(job, resume=True), recorder.events), expected)


def test_a_worker_that_joins_late_and_cannot_compute_is_passed_over(
    job, expected, scheduler, add_worker, start_dask, recorder, monkeypatch
):
    """It would read the input itself, but cannot: its GDAL has no driver for it."""
    add_worker()
    result, seen = cluster.Cluster._result, []

    def join_in_mid_run(self, future):
        seen.append(future)
        if len(seen) == 2:
            options = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1")
            start_dask("worker", scheduler, *options, until="Registered to", GDAL_SKIP="GTiff")
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", join_in_mid_run)
    assert_same(job, reconstruct.run(replace(job, cluster=scheduler), recorder.events), expected)


def test_a_worker_that_is_slow_to_get_the_model_joins_in_later(
    job, expected, scheduler, add_worker, recorder, monkeypatch
):
    add_worker()
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 0)
    ask, asked = cluster.Cluster._ask, []

    def too_slow_at_first(self, worker, seconds):
        asked.append(worker)
        if len(asked) == 2:
            raise TimeoutError("timed out")
        return ask(self, worker, seconds=10)

    monkeypatch.setattr(cluster.Cluster, "_ask", too_slow_at_first)
    monkeypatch.setattr(cluster.Cluster, "_connect", lambda self: Client(scheduler, set_as_default=False))
    result = cluster.Cluster._result

    def join_in_mid_run(self, future):
        if len(asked) == 1:
            add_worker()
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", join_in_mid_run)
    assert_same(job, reconstruct.run(replace(job, cluster=scheduler), recorder.events), expected)
    assert len(asked) == 3 and asked[1] == asked[2]
    assert f"The worker {asked[1]} gets no tiles: it cannot be asked yet (timed out)." in recorder.messages()
    assert f"2 workers of {scheduler} compute now" in recorder.messages()


def test_after_a_run_no_worker_holds_the_model(job, scheduler, add_worker, recorder):
    add_worker()
    reconstruct.run(replace(job, cluster=scheduler), recorder.events)
    with Client(scheduler, set_as_default=False) as client:
        plugins = client.run(lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("scdm")])
    assert list(plugins.values()) == [[]]


def test_no_scheduler_no_worker_and_a_worker_without_the_plugin_are_told_apart(
    job, scheduler, start_dask, recorder, monkeypatch, tmp_path
):
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)
    with pytest.raises(UserError, match="No Dask scheduler answers at tcp://127.0.0.1:9"):
        reconstruct.run(replace(job, cluster="tcp://127.0.0.1:9"), recorder.events)
    with pytest.raises(UserError, match=f"has no workers. Start some.*dask worker {scheduler}"):
        reconstruct.run(replace(job, cluster=scheduler), recorder.events)
    start_dask("worker", scheduler, "--no-nanny", "--no-dashboard", until="Registered to", PYTHONPATH=str(tmp_path))
    with pytest.raises(UserError, match="cannot run the engine.*PYTHONPATH"):
        reconstruct.run(replace(job, cluster=scheduler), recorder.events)
    assert not os.path.exists(partial_path(job.output))


def test_cancel_on_a_cluster(job, scheduler, add_worker, tmp_path):
    add_worker()
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps(replace(job, cluster=scheduler, samples=500).to_json()))
    command = [sys.executable, "-m", "scdm_qgis.engine", str(job_file)]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in engine.stdout:
        if json.loads(line)["event"] == "log" and "workers of" in line:
            break
    engine.terminate()
    engine.stdout.read()
    assert engine.wait() == 130
    assert not os.path.exists(job.output) and not os.path.exists(partial_path(job.output))


def test_a_worker_makes_its_networks_ready_once(regressions_only, make_cube, tmp_path, monkeypatch):
    made = []

    class Counted(cluster_worker.TileReconstructor):
        def __init__(self, *arguments):
            made.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(cluster_worker, "TileReconstructor", Counted)
    with open(regressions_only, "rb") as file:
        model = file.read()
    expected = (cluster_worker.versions(), "cpu")
    worker = cluster_worker.TileWorker("run", expected, model, "cpu", (5, 3, 2), make_cube())
    worker.setup(SimpleNamespace(local_directory=str(tmp_path), state=SimpleNamespace(nthreads=1)))
    assert worker.problem is None
    settings = tuple(settings_for(stage, False) for stage in read_header(regressions_only).stages)
    for row in (0, 32):
        tiles = [Tile(row, 0, 32, 32, row // 32, 0)]
        spectra_made, _ = worker.compute(Sampling(settings, 1, 0, False), torch.get_num_threads(), tiles, None)
        assert spectra_made is not None
    assert len(made) == 1
