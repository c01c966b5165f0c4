"""How much longer a reconstruction takes than the computing of its tiles alone: what reading and writing add.

A cascade of the preset `tiny` makes 48 bands of an RGB raster. In every round the tiles are first computed from
memory, in the threads that the job has for them and with nothing written, and then the whole job is run: opening,
reading, blending, compression and writing.

    python -m benchmarks.io [--side 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial

import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.engine import assemble, create_demo_scene, reconstruct, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, CreateDemoScene, RgbToHyperspectral, TrainCascadeStage
from scdm_qgis.engine.side_by_side import side_by_side
from scdm_qgis.engine.this_machine import ThisMachine
from scdm_qgis.engine.tile_batches import plan_batches, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor
from scdm_qgis.engine.tiling import choose_tiling
from scdm_qgis.raster.cube import open_cube


def prepare(folder: str, side: int, events: EventWriter) -> RgbToHyperspectral:
    """Make a scene, its RGB and a cascade that has hardly been trained, which takes as long as any other."""
    names = ("scene.tif", "train.tif", "rgb.tif", "stage1", "stage2", "model", "out.tif")
    scene, small, rgb, *stages, model, output = (os.path.join(folder, name) for name in names)
    create_demo_scene.run(CreateDemoScene(scene, size=side, rgb_output=rgb), events)
    create_demo_scene.run(CreateDemoScene(small, size=128, seed=1), events)
    for number, path in enumerate(stages, start=1):
        train.run(TrainCascadeStage([small], number, path, iterations=1), events)
    assemble.run(AssembleCascade(stages, model), events)
    return RgbToHyperspectral(rgb, model, output, precision="float32", device="cpu")


class TilesInMemory:
    """All batches that a job computes on this machine's processor, read before, and how threads share them."""

    def __init__(self, job: RgbToHyperspectral, cascade: Cascade, sampling: Sampling, events: EventWriter) -> None:
        self._cascade = cascade
        margin = TileReconstructor(cascade, sampling).margin
        with open_cube(job.input) as cube:
            tiling = choose_tiling(job, cube, cascade.header)
            machine = ThisMachine(cascade, torch.device("cpu"), cube, tiling, events)
            size = machine.automatic_batch_size(sampling)
            batches = plan_batches(tiling.lattice, tiling.window, 0, lambda: size)
            self._batches = [read_tiles(cube, tiling.rgb_bands, tiles, margin) for tiles in batches]
        self._threads = machine.threads_a_batch(size)
        self._at_once = machine.at_once(self._threads)

    def seconds(self, sampling: Sampling) -> float:
        """Return how long it takes to compute them, as the job does."""
        compute = TileReconstructor(self._cascade, sampling)
        set_up = partial(torch.set_num_threads, self._threads)
        started = time.perf_counter()
        for _ in side_by_side(compute, iter(self._batches), self._at_once, set_up):
            pass
        return time.perf_counter() - started


def compare(job: RgbToHyperspectral, rounds: int, events: EventWriter) -> None:
    """Print the times of a job and of its computing, round by round, and the median of their ratio."""
    cascade = Cascade.load(job.model)
    settings = tuple(settings_for(stage, draw=job.samples > 0) for stage in cascade.header.stages)
    sampling = Sampling(settings, 1, job.seed, bfloat16=False)
    tiles, ratios = TilesInMemory(job, cascade, sampling, events), []
    print(f"\n| SAMPLES {job.samples}: round | computing alone, s | whole job, s | ratio |\n|---|---|---|---|")
    for number in range(1, rounds + 1):
        alone = tiles.seconds(sampling)
        started = time.perf_counter()
        reconstruct.run(job, events)
        whole = time.perf_counter() - started
        ratios.append(whole / alone)
        print(f"| {number} | {alone:.2f} | {whole:.2f} | {ratios[-1]:.3f} |", flush=True)
    print(f"\nMedian ratio {statistics.median(ratios):.3f}; no more than 1.05 is wanted.")


def main() -> None:
    """Compare for the posterior mean, the least there is to compute, and for one draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="rows and columns of the raster")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    events = EventWriter(io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(folder, options.side, events)
        compare(job, options.rounds, events)
        compare(replace(job, samples=1), options.rounds, events)


if __name__ == "__main__":
    main()
