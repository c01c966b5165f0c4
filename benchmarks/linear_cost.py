"""Whether a tile of a large raster costs what a tile of a small one does.

A cascade of the preset `tiny` makes 48 bands of RGB rasters, 256 to 2048 pixels a side, by the algorithm's defaults.
What every raster costs at the start, whatever its size, is left out: the clock starts when the first batch of tiles
is begun, and stops when the result stands under its name. The sizes take turns, and the median round counts. A
megapixel costs a tile's seconds times the tiles it has, which the last column tells: pixels of all tiles for each
pixel of the raster.

    python -m benchmarks.linear_cost [--sides 256 512 1024 2048] [--rounds 7]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Callable, Dict, List, Optional
from unittest.mock import patch

import rasterio
from rasterio.windows import Window

from benchmarks.io import prepare
from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tile_batches import TilePixels
from scdm_qgis.engine.tile_reconstructor import AfterStep, TileReconstructor, TileSpectra
from scdm_qgis.engine.tiling import default_overlap
from scdm_qgis.raster.tiles import Lattice

TARGET = 1.10
"""The dearest size's tile should cost no more than this times the cheapest's."""

LARGEST_FACTOR = 1.3
"""Pixels of all tiles for each pixel of a large raster should be no more than this."""

TILE_SIZES = (32, 64, 128, 256)


class Clock:
    """Takes the time from when a job begins with its first batch."""

    def __init__(self) -> None:
        self.started: Optional[float] = None

    def watched(self, compute: Callable[..., TileSpectra]) -> Callable[..., TileSpectra]:
        """Return what computes a batch and starts the clock before the first."""

        def timed(reconstructor: TileReconstructor, pixels: TilePixels, after_step: AfterStep) -> TileSpectra:
            self.started = self.started or time.perf_counter()
            return compute(reconstructor, pixels, after_step)

        return timed


def seconds_a_tile(job: RgbToHyperspectral, events: EventWriter) -> float:
    """Run a job and return what a tile takes, without what comes before the first."""
    clock = Clock()
    with patch.object(TileReconstructor, "__call__", clock.watched(TileReconstructor.__call__)):
        tiles = reconstruct.run(job, events)["TILES"]
    assert clock.started is not None
    seconds = time.perf_counter() - clock.started
    # A later, smaller run would else pay for this one's file: for its way to the disk, and for removing it.
    os.remove(job.output)
    os.sync()
    return seconds / tiles


def cut(source: str, path: str, side: int) -> str:
    """Write the upper left of a raster to a file of its own, and return its path."""
    window = Window(0, 0, side, side)
    with rasterio.open(source) as whole:
        profile = {**whole.profile, "height": side, "width": side}
        with rasterio.open(path, "w", **profile) as part:
            part.write(whole.read(window=window))
    return path


def factor(side: int, tile_size: int) -> float:
    """Return the pixels of all tiles for each pixel of a square raster, with the default overlap."""
    lattice = Lattice(side, side, tile_size, default_overlap(tile_size))
    return lattice.rows * lattice.columns * tile_size**2 / side**2


def print_costs(costs: Dict[int, List[float]], tile_size: int) -> None:
    """Print a line a size, and the dearest size's tile over the cheapest's.

    Args:
        costs: seconds a tile by the raster's side, one a round.
        tile_size: of the model.
    """
    print("| rows and columns | ms a tile | all rounds | s a megapixel | tile pixels / pixels |\n|---|---|---|---|---|")
    medians = {side: statistics.median(rounds) for side, rounds in costs.items()}
    for side, seconds in medians.items():
        pixels = factor(side, tile_size)
        megapixel = seconds * pixels * 1e6 / tile_size**2
        rounds = ", ".join(f"{1000 * other:.2f}" for other in costs[side])
        print(f"| {side} | {1000 * seconds:.2f} | {rounds} | {megapixel:.2f} | {pixels:.3f} |")
    ratio = max(medians.values()) / min(medians.values())
    print(f"\nThe dearest tile costs {ratio:.3f} times the cheapest; no more than {TARGET:.2f} is wanted.")


def main() -> None:
    """Make a scene and a model, take the times and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="+", type=int, default=[256, 512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    largest = max(options.sides)
    print(f"| tile | overlap | tile pixels / pixels, {largest} x {largest} |\n|---|---|---|")
    for size in TILE_SIZES:
        print(f"| {size} | {default_overlap(size)} | {factor(largest, size):.3f} |")
    print(f"\nNo more than {LARGEST_FACTOR:.2f} is wanted.\n", flush=True)
    events = EventWriter(io.StringIO())
    costs: Dict[int, List[float]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(folder, largest, events)
        parts = {side: cut(job.input, os.path.join(folder, f"rgb{side}.tif"), side) for side in options.sides}
        for _ in range(options.rounds):
            for side, rounds in costs.items():
                rounds.append(seconds_a_tile(replace(job, input=parts[side]), events))
        tile_size = max(stage.patch_size for stage in read_header(job.model).stages)
    print_costs(costs, tile_size)


if __name__ == "__main__":
    main()
