"""Train on some scenes, reconstruct others from three bands, and compare with what needs no network.

Prints a table for every test scene: the default cascade (all parameters at their defaults, but for the
RGB bands where no wavelengths tell them) for every seed, and the mean training spectrum, ridge regression,
ridge regression on all products of up to three colours, and the mean of the nearest training pixels.

    python -m benchmarks.quality [--scenes pavia aviris potsdam] [--seeds 0 1 2] [--stages 2]
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections import defaultdict
from typing import Callable, Dict, List, Tuple

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.scenes import Pixels, Split, make_splits, read_pixels
from scdm_qgis.core.metrics import Evaluation, evaluate
from scdm_qgis.core.regression import fit_ridge
from scdm_qgis.engine import assemble, reconstruct, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, RgbToHyperspectral, TrainCascadeStage

NEIGHBOURS = 10

Predict = Callable[[np.ndarray], np.ndarray]
"""From RGB pixels to spectra, each (pixel, band)."""

Table = Dict[str, Dict[str, List[Evaluation]]]
"""Scores by test scene and model, one a seed."""


def closed_forms(rgb: np.ndarray, spectra: np.ndarray) -> Dict[str, Predict]:
    """Fit the models that need no network to training pixels (pixel, band)."""
    mean, deviation = rgb.mean(axis=0), rgb.std(axis=0)

    def cubes(pixels: np.ndarray) -> np.ndarray:
        standard = (pixels - mean) / deviation
        products = [
            standard[:, list(colours)].prod(axis=1)
            for degree in (1, 2, 3)
            for colours in itertools.combinations_with_replacement(range(3), degree)
        ]
        return np.stack(products, axis=1)

    plain, cubic, tree = fit_ridge(rgb, spectra), fit_ridge(cubes(rgb), spectra), cKDTree(rgb)
    return {
        "mean training spectrum": lambda pixels: np.broadcast_to(spectra.mean(axis=0), (len(pixels), spectra.shape[1])),
        "ridge regression": plain.predict,
        "cubic ridge regression": lambda pixels: cubic.predict(cubes(pixels)),
        f"{NEIGHBOURS} nearest neighbours": lambda pixels: spectra[tree.query(pixels, NEIGHBOURS)[1]].mean(axis=1),
    }


def train_cascade(folder: str, split: Split, stages: int, seed: int) -> str:
    """Train and assemble a cascade with the defaults and return its path."""
    events, files = EventWriter(sys.stderr), []
    for stage in range(1, stages + 1):
        files.append(os.path.join(folder, f"stage{stage}.safetensors"))
        job = TrainCascadeStage(split.train, stage, files[-1], stages=stages, rgb_bands=split.rgb_bands, seed=seed)
        train.run(job, events)
    model = os.path.join(folder, "cascade.safetensors")
    assemble.run(AssembleCascade(files, model), events)
    return model


def score(estimate: np.ndarray, truth: Pixels) -> Evaluation:
    """Compare an estimate (band, row, column) with the truth, the peak being the truth's maximum."""
    return evaluate(estimate, truth.values, truth.valid, float(truth.values[:, truth.valid].max()))


def add_closed_forms(table: Table, split: Split) -> None:
    """Score everything that needs no network."""
    rows = [read_pixels(path, split.rgb_bands).rows() for path in split.train]
    models = closed_forms(*(np.concatenate(parts) for parts in zip(*rows)))
    for name, path in split.test.items():
        truth = read_pixels(path, split.rgb_bands)
        rgb, _ = truth.rows()
        for model, predict in models.items():
            estimate = np.zeros_like(truth.values)
            estimate[:, truth.valid] = np.rint(predict(rgb)).T
            table[name][model].append(score(estimate, truth))


def add_cascade(table: Table, split: Split, stages: int, seed: int) -> str:
    """Train and score the default cascade; return the times taken, in words."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        model = train_cascade(folder, split, stages, seed)
        trained, seconds = time.monotonic() - started, 0.0
        for name, path in split.test.items():
            output = os.path.join(folder, "output.tif")
            job = RgbToHyperspectral(path, model, output, rgb_bands=split.rgb_bands)
            seconds += reconstruct.run(job, EventWriter(sys.stderr))["SECONDS"]
            estimate, truth = read_pixels(output, (1, 2, 3)), read_pixels(path, split.rgb_bands)
            table[name][f"this plugin's default, {stages} stages"].append(score(estimate.values, truth))
    return f"trained in {trained:.0f} s, reconstructed in {seconds:.0f} s"


def column(values: List[float], digits: int) -> str:
    """Return a mean and, of several values, their range."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_table(name: str, models: Dict[str, List[Evaluation]]) -> None:
    """Print one test scene's table, and the cascade's errors as a share of the best other's."""
    print(f"\n| {name} | RMSE | SAM | MPSNR | MSSIM |\n|---|---|---|---|---|")
    for model, scores in models.items():
        numbers: Tuple[Tuple[str, int], ...] = (("rmse", 1), ("sam", 4), ("mpsnr", 2), ("mssim", 4))
        cells = (column([getattr(one, key) for one in scores], digits) for key, digits in numbers)
        print(f"| {model} | {' | '.join(cells)} |")
    *others, own = models.values()
    ratios = (
        np.mean([getattr(one, key) for one in own]) / min(getattr(other[0], key) for other in others)
        for key in ("rmse", "sam")
    )
    print("\nRMSE and SAM as a share of the best other's: {:.3f}, {:.3f}.".format(*ratios))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", nargs="+", default=["pavia", "aviris", "potsdam"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--stages", type=int, default=2)
    options = parser.parse_args()
    table: Table = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        splits = make_splits(folder)
        for key in options.scenes:
            add_closed_forms(table, splits[key])
            times = [add_cascade(table, splits[key], options.stages, seed) for seed in options.seeds]
            for name in splits[key].test:
                print_table(name, table[name])
            print("; ".join(f"Seed {seed}: {words}" for seed, words in zip(options.seeds, times)) + ".", flush=True)


if __name__ == "__main__":
    main()
