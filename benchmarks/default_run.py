"""What the default reconstruction costs and is worth, against the published sampling of the same networks.

A default cascade learns from one part of Pavia University and reconstructs another from three bands. The published
way takes 1000 guided steps a stage, each of them two full passes in float32: hours for the scene. So all its tiles
take a few of the steps, which all cost the same, in rounds that alternate with the whole default job; and a
window of the scene takes every step, for what it is worth, beside the other ways to sample.

    python -m benchmarks.default_run [--rounds 7] [--window 88] [--model FILE]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import List, Optional, Tuple
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.io import TilesInMemory
from benchmarks.published_way import TwoPasses
from benchmarks.scenes import make_splits, read_pixels
from benchmarks.trained_cascade import train_cascade
from scdm_qgis.core import reconstruction
from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.metrics import evaluate
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.device import choose_bfloat16
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tile_reconstructor import Sampling
from scdm_qgis.raster.cube import open_cube

GUIDANCE = 1.0
FEW, MANY = 2, 6
"""DDIM's guided steps, which do what the published ones do but for the noise they add. What is done once a tile is in
both, so that the difference is what steps cost."""

TARGET = 200
SCENE = "Pavia University"


@dataclass(frozen=True)
class Way:
    """A way to sample.

    Args:
        name: what the table calls it.
        job: what is set, beyond the defaults.
        published: whether guided steps are two full passes.
    """

    name: str
    job: RgbToHyperspectral
    published: bool = False


def run_job(way: Way) -> float:
    """Run a job and return its seconds."""
    replaced = patch.object(reconstruction, "GuidedNetwork", TwoPasses) if way.published else nullcontext()
    started = time.perf_counter()
    with replaced:
        reconstruct.run(way.job, EventWriter(io.StringIO()))
    return time.perf_counter() - started


def seconds_of_steps(job: RgbToHyperspectral, steps: int) -> float:
    """Return the seconds that so many guided steps of every stage take, on all tiles, in the published way."""
    cascade = Cascade.load(job.model)
    settings = tuple(settings_for(stage, True, "ddim", steps, GUIDANCE) for stage in cascade.header.stages)
    sampling = Sampling(settings, 1, job.seed, bfloat16=False)
    tiles = TilesInMemory(job, cascade, sampling, EventWriter(io.StringIO()))
    with patch.object(reconstruction, "GuidedNetwork", TwoPasses):
        return tiles.seconds(sampling)


def compare_times(job: RgbToHyperspectral, rounds: int) -> None:
    """Print how much faster the default is, round by round."""
    steps = Cascade.load(job.model).header.stages[0].schedule.timesteps
    print("\n| round | default job, s | published way, s, from some of its steps | ratio |\n|---|---|---|---|")
    ratios: List[float] = []
    for number in range(1, rounds + 1):
        ours = run_job(Way("default", job))
        few, many = seconds_of_steps(job, FEW), seconds_of_steps(job, MANY)
        published = few + (steps - FEW) * (many - few) / (MANY - FEW)
        ratios.append(published / ours)
        print(f"| {number} | {ours:.2f} | {published:.0f} | {ratios[-1]:.0f} |", flush=True)
    print(f"\nMedian {statistics.median(ratios):.0f}; at least {TARGET} is wanted.")


def compare_worth(job: RgbToHyperspectral, truth: np.ndarray, bfloat16: bool) -> None:
    """Print RMSE and SAM of several ways on the job's extent.

    Args:
        job: the default, for a window.
        truth: the window's bands (band, row, column), all valid.
        bfloat16: whether to try it too.
    """
    guided = replace(job, samples=1, guidance=[GUIDANCE])
    ways = [
        Way("1000 + 1000 guided steps, published way", replace(guided, sampler="ddpm", precision="float32"), True),
        Way("20 + 20 guided steps, exact savings", replace(guided, sampler="ddim", steps=20, precision="float32")),
        Way("one draw in the model's own steps", replace(job, samples=1, precision="float32")),
        Way("default, float32", replace(job, precision="float32")),
    ]
    if bfloat16:
        ways += [
            Way(way.name.replace("float32", "") + " bfloat16", replace(way.job, precision="bfloat16"))
            for way in ways[1:]
        ]
    print(f"\n| on {truth.shape[1]} x {truth.shape[2]} pixels | seconds | RMSE | SAM |\n|---|---|---|---|")
    for way in ways:
        seconds = run_job(way)
        estimate = read_pixels(job.output, (1, 2, 3)).values
        score = evaluate(estimate, truth, np.ones(truth.shape[1:], bool), float(truth.max()))
        print(f"| {way.name} | {seconds:.1f} | {score.rmse:.1f} | {score.sam:.4f} |", flush=True)


def window(path: str, side: int) -> Tuple[List[float], slice]:
    """Return the extent of a square at a raster's upper left corner, and its rows or columns."""
    with open_cube(path) as cube:
        (left, top), (right, bottom) = cube.transform * (0, 0), cube.transform * (side, side)
    return [min(left, right), min(bottom, top), max(left, right), max(bottom, top)], slice(side)


def main() -> None:
    """Train where no model is given, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=int, default=88, help="side of the window that takes all steps, in pixels")
    parser.add_argument("--model", help="a cascade trained before, else one is trained")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = make_splits(folder)["pavia"]
        model: Optional[str] = options.model
        model = model or train_cascade(split, folder)
        output = os.path.join(folder, "out.tif")
        job = RgbToHyperspectral(split.test[SCENE], model, output, rgb_bands=split.rgb_bands, device="cpu")
        extent, part = window(job.input, options.window)
        truth = read_pixels(job.input, split.rgb_bands).values[:, part, part]
        compare_worth(replace(job, extent=extent), truth, choose_bfloat16("auto", torch.device("cpu")))
        compare_times(job, options.rounds)


if __name__ == "__main__":
    main()
