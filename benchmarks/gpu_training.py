"""What a GPU makes of training: patches a second, and what the paper's recipe and ours reach in the same time.

First the preset `paper`'s network is trained on Pavia University for some iterations, as this plugin trains and
the published way: single precision, patches copied from the host and the loss read back in every iteration.
Then one stage of the preset `paper` (noise prediction, sampled by DDPM) and one of `compact` (residual over a
regression) are trained for the same time each, and reconstruct the test scene from three bands.

    python -m benchmarks.gpu_training [--minutes 20] [--device cuda] [--presets paper compact]
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from typing import Callable, Tuple

import torch

from benchmarks.scenes import Split, make_splits, read_pixels
from scdm_qgis.core.cascade import Stage, make_network
from scdm_qgis.core.metrics import evaluate
from scdm_qgis.core.training import Training, TrainingSettings, draw, stage_loss
from scdm_qgis.engine import reconstruct, train
from scdm_qgis.engine.device import choose_bfloat16
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral, TrainCascadeStage
from scdm_qgis.engine.scene_patches import ScenePatches
from scdm_qgis.engine.training_scenes import choose_bands, load_scene, measure_normalisation
from scdm_qgis.raster.cube import open_cube

WARM_UP, MEASURED = 5, 25
"""Iterations before the clock starts, and while it runs."""

FEW, MANY = 20, 80
"""Iterations of two short trainings whose difference says what one takes."""


def training_job(split: Split, preset: str, device: str, output: str, iterations: int) -> TrainCascadeStage:
    """Return the training of a single stage."""
    return TrainCascadeStage(
        split.train,
        1,
        output,
        stages=1,
        rgb_bands=split.rgb_bands,
        preset=preset,
        iterations=iterations,
        device=device,
    )


def prepare(job: TrainCascadeStage, device: torch.device) -> Tuple[Stage, ScenePatches, TrainingSettings]:
    """Return an untrained stage that predicts noise, its patches on a device, and how to train it."""
    job = replace(job, prediction="noise")
    recipe = train.choose_recipe(job)
    with ExitStack() as stack:
        cubes = [stack.enter_context(open_cube(path)) for path in job.inputs]
        bands = choose_bands(cubes, None, job.rgb_bands)
    scenes = [load_scene(path, bands, job.validation_fraction, recipe.patch_size) for path in job.inputs]
    header = train.stage_header(job, recipe, bands)
    patches = ScenePatches(header, scenes, bands.all, measure_normalisation(scenes, bands), job.seed, device)
    settings = train.training_settings(job, recipe, choose_bfloat16(job.precision, device))
    return Stage(header, make_network(header), None).to(device), patches, settings


def seconds_of(iterate: Callable[[int], None], device: torch.device) -> float:
    """Return how long an iteration takes once warm."""
    for number in range(WARM_UP):
        iterate(number)
    _wait(device)
    started = time.monotonic()
    for number in range(WARM_UP, WARM_UP + MEASURED):
        iterate(number)
    _wait(device)
    return (time.monotonic() - started) / MEASURED


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare_throughput(split: Split, preset: str, device: torch.device) -> None:
    """Print patches a second, this plugin's way and the published one, in turns on the same network."""
    job = training_job(split, preset, str(device), "unwritten.safetensors", 1000)
    stage, patches, settings = prepare(job, device)
    _, host_patches, _ = prepare(job, torch.device("cpu"))
    network = deepcopy(stage.network)
    training = Training(stage, settings)
    published = replace(stage, network=network.train())
    plain = replace(settings, bfloat16=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, foreach=False, fused=False)
    schedule, count = stage.schedule(), settings.batch_size

    def publish(number: int) -> None:
        batch = host_patches(number, count, slice(0, count))
        batch = type(batch)(*(part.to(device) for part in (batch.target, batch.condition, batch.valid)))
        draws = draw(schedule, tuple(batch.target.shape), slice(0, count), number, plain, device)
        loss = stage_loss(published, schedule, batch, draws, plain)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        float(loss)

    own, other = seconds_of(lambda number: training.step(patches), device), seconds_of(publish, device)
    height, width = patches(0, count, slice(0, 1)).target.shape[-2:]
    print(f"{preset}, patches of {height} x {width} pixels, batches of {count}:")
    print(
        f"  this plugin {count / own:.1f} patches a second, the published way {count / other:.1f}: {other / own:.2f} x"
    )


def compare_quality(split: Split, preset: str, device: str, minutes: float, folder: str) -> None:
    """Train one stage for a time and print its errors on the test scenes."""
    model, events = os.path.join(folder, f"{preset}.safetensors"), EventWriter(io.StringIO())

    def seconds(iterations: int) -> float:
        started = time.monotonic()
        train.run(training_job(split, preset, device, model, iterations), events)
        return time.monotonic() - started

    # Both are judged on the hold-out as often as the real one, and neither is the first on this device.
    seconds(WARM_UP)
    few, many = seconds(FEW), seconds(MANY)
    an_iteration = (many - few) / (MANY - FEW)
    if an_iteration <= 0:
        raise RuntimeError(f"{MANY} iterations took no longer than {FEW}: the device is busy with something else")
    iterations = max(1, int((60 * minutes - few) / an_iteration) + FEW)
    started = time.monotonic()
    train.run(training_job(split, preset, device, model, iterations), events)
    trained = (time.monotonic() - started) / 60
    for name, path in split.test.items():
        output = os.path.join(folder, f"{preset}.tif")
        job = RgbToHyperspectral(path, model, output, rgb_bands=split.rgb_bands, device=device)
        started = time.monotonic()
        reconstruct.run(job, events)
        took = time.monotonic() - started
        truth, estimate = read_pixels(path, split.rgb_bands), read_pixels(output, (1, 2, 3)).values
        score = evaluate(estimate, truth.values, truth.valid, float(truth.values[:, truth.valid].max()))
        print(
            f"{name}, {preset}: {iterations} iterations in {trained:.1f} minutes, RMSE {score.rmse:.1f}, "
            f"SAM {score.sam:.4f}, MPSNR {score.mpsnr:.2f}, MSSIM {score.mssim:.4f}; reconstructed in {took:.1f} s"
        )


def main() -> None:
    """Print throughput, then quality."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", nargs="+", default=["paper", "compact"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = make_splits(folder)["pavia"]
        compare_throughput(split, options.presets[0], torch.device(options.device))
        for preset in options.presets:
            compare_quality(split, preset, options.device, options.minutes, folder)


if __name__ == "__main__":
    main()
