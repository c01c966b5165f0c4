"""Train on some scenes, reconstruct others from three bands, and compare with other ways to do so.

Prints a table for every test scene: closed forms, networks that map RGB to spectra in one pass, and this
plugin's default cascade (all parameters at their defaults, but for the RGB bands where no wavelengths tell
them). Every network is trained on the same scenes for as much processor time as the default cascade took.

    python -m benchmarks.quality [--scenes pavia aviris potsdam] [--seeds 0 1 2] [--variants] [--results FILE]

Several seeds give means with their ranges; all three take one to three hours of one core. `--variants` adds other
numbers of stages, single draws and means of draws, and the paper's recipe on the default's network with the
default's iterations. `--results` keeps every finished run in a file, and takes from it what is there: an
interrupted benchmark goes on. A seed of a split must run on one machine, or the times are no equal budgets; set
OMP_NUM_THREADS to 1, as threads that wait for each other count as time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
from torch import nn

from benchmarks.baselines.closed_forms import CLOSED_FORMS, fit_closed_forms
from benchmarks.baselines.hscnn_plus import HscnnPlus
from benchmarks.baselines.mst_plus_plus import MstPlusPlus
from benchmarks.baselines.one_shot import train_one_shot
from benchmarks.baselines.regression_unet import RegressionUNet
from benchmarks.baselines.residual_cnn import ResidualCnn
from benchmarks.scenes import Pixels, Split, make_splits, read_pixels
from benchmarks.trained_cascade import train_cascade
from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.metrics import Coverage, evaluate
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral

DEVICE = "cpu"
"""Where everything computes, so that equal times are equal budgets."""

STAGES = 2
DEFAULT = "**this plugin's default**"
PAPER = "the paper's recipe on the default's network"
REGRESSIONS = "the default's regressions without its networks"

NETWORKS: Dict[str, Tuple[Callable[[int], nn.Module], bool]] = {
    "U-Net of the default, plain regression": (RegressionUNet, False),
    "HSCNN+ (HSCNN-R)": (HscnnPlus, False),
    "MST++": (MstPlusPlus, False),
    "residual CNN over ridge regression": (ResidualCnn, True),
}
"""Networks by name, and whether they predict what ridge regression leaves."""

ALONE = -1
"""Stands for the number of samples where the networks say nothing."""

SAMPLES = (1, 8)
DRAWS = {samples: f"the same, SAMPLES {samples}" for samples in SAMPLES}
OTHER_STAGES = {stages: f"the default with STAGES {stages}" for stages in (1, 3)}

BASELINES = (*CLOSED_FORMS, *NETWORKS)
ORDER = (*BASELINES, PAPER, REGRESSIONS, DEFAULT, *DRAWS.values(), *OTHER_STAGES.values())
"""Rows of a table."""

MEASURES = (("rmse", 1), ("sam", 4), ("mpsnr", 2), ("mssim", 4))
"""Columns of a table and their decimals."""


@dataclass(frozen=True)
class Score:
    """One model on one test scene.

    Args:
        split: name of the split.
        scene: name of the test scene.
        model: name of the model.
        seed: of its training.
        rmse, sam, mpsnr, mssim: see `core.metrics`.
        trained: seconds of processor time the model was trained for.
        coverage: shares of errors within one and two standard deviations of draws, where there are several.
    """

    split: str
    scene: str
    model: str
    seed: int
    rmse: float
    sam: float
    mpsnr: float
    mssim: float
    trained: float = 0.0
    coverage: Optional[Tuple[float, float]] = None


class Results:
    """Scores so far, kept in a file of JSON lines where one is given."""

    def __init__(self, path: Optional[str]) -> None:
        self._path = path
        self.scores: List[Score] = []
        if path is not None and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.scores = [Score(**json.loads(line)) for line in file]

    def add(self, score: Score) -> None:
        """Take in a score and keep it."""
        self.scores.append(score)
        print(f"{score.scene}, {score.model}, seed {score.seed}: {score.rmse:.1f} / {score.sam:.4f}", file=sys.stderr)
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(score)) + "\n")

    def of(self, split: str, model: str, seed: int) -> List[Score]:
        """Return the scores of one trained model on the test scenes of a split; empty where it is still to run."""
        return [s for s in self.scores if (s.split, s.model, s.seed) == (split, model, seed)]

    def lacks(self, split: str, scene: str, model: str, seed: int) -> bool:
        """Return whether a model is still to be scored on a scene."""
        return all(score.scene != scene for score in self.of(split, model, seed))


@dataclass(frozen=True)
class Runner:
    """Train and score models on one split.

    Args:
        key: name of the split.
        split: its scenes.
        results: where scores go.
    """

    key: str
    split: Split
    results: Results

    def closed_forms(self) -> None:
        """Score what needs no network."""
        if not any(self._unscored(model, 0) for model in CLOSED_FORMS):
            return
        rows = [read_pixels(path, self.split.rgb_bands).rows() for path in self.split.train]
        for model, predict in fit_closed_forms(*(np.concatenate(parts) for parts in zip(*rows))).items():
            for scene, truth in self._unscored(model, 0):
                estimate = np.zeros_like(truth.values)
                estimate[:, truth.valid] = np.rint(predict(truth.rows()[0])).T
                self._add(scene, model, 0, estimate, truth)

    def network(self, model: str, seed: int) -> None:
        """Train a one-shot network for as long as the default cascade took, and score it."""
        unscored = self._unscored(model, seed)
        if not unscored:
            return
        seconds = self.results.of(self.key, DEFAULT, seed)[0].trained
        make_network, over_ridge = NETWORKS[model]
        scenes = [read_pixels(path, self.split.rgb_bands) for path in self.split.train]
        trained, iterations = train_one_shot(make_network, over_ridge, scenes, seconds, seed)
        print(f"{model}: {iterations} iterations in {seconds:.0f} s of processor time", file=sys.stderr)
        for scene, truth in unscored:
            estimate = np.where(truth.valid, np.rint(trained.predict(truth)), 0)
            self._add(scene, model, seed, estimate, truth, seconds)

    def cascade(self, stages: int, seed: int, names: Dict[int, str], prediction: Optional[str] = None) -> None:
        """Train a cascade once and score it for several numbers of samples.

        Args:
            stages: of the cascade.
            seed: of its training and of its draws.
            names: what the model is called by number of samples; `ALONE` samples are what the regressions
                make of the image without the networks.
            prediction: what the networks predict; None for the default.
        """
        unscored = {samples: self._unscored(name, seed) for samples, name in names.items()}
        if not any(unscored.values()):
            return
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            model = train_cascade(self.split, folder, stages, seed, prediction)
            trained = time.process_time() - started
            for samples, scenes in unscored.items():
                used, count = (_silence_networks(model), 0) if samples == ALONE else (model, samples)
                for scene, truth in scenes:
                    self._reconstruct(folder, used, scene, truth, count, names[samples], seed, trained)

    def _reconstruct(
        self, folder: str, model: str, scene: str, truth: Pixels, samples: int, name: str, seed: int, trained: float
    ) -> None:
        output, deviation = (os.path.join(folder, file) for file in ("output.tif", "deviation.tif"))
        job = RgbToHyperspectral(
            self.split.test[scene],
            model,
            output,
            rgb_bands=self.split.rgb_bands,
            samples=samples,
            device=DEVICE,
            seed=seed,
            uncertainty=deviation if samples > 1 else None,
        )
        reconstruct.run(job, EventWriter(io.StringIO()))
        estimate = read_pixels(output, (1, 2, 3)).values
        coverage = None
        if samples > 1:
            within = Coverage()
            within.add(estimate, truth.values, read_pixels(deviation, (1, 2, 3)).values, truth.valid)
            coverage = within.shares()
        self._add(scene, name, seed, estimate, truth, trained, coverage)

    def _unscored(self, model: str, seed: int) -> List[Tuple[str, Pixels]]:
        """Return the test scenes that a model is still to be scored on."""
        return [
            (scene, read_pixels(path, self.split.rgb_bands))
            for scene, path in self.split.test.items()
            if self.results.lacks(self.key, scene, model, seed)
        ]

    def _add(
        self,
        scene: str,
        model: str,
        seed: int,
        estimate: np.ndarray,
        truth: Pixels,
        trained: float = 0.0,
        coverage: Optional[Tuple[float, float]] = None,
    ) -> None:
        """Score an estimate (band, row, column), the peak being the truth's maximum."""
        score = evaluate(estimate, truth.values, truth.valid, float(truth.values[:, truth.valid].max()))
        numbers = (score.rmse, score.sam, score.mpsnr, score.mssim)
        self.results.add(Score(self.key, scene, model, seed, *numbers, trained, coverage))


def _silence_networks(model: str) -> str:
    """Write a cascade whose networks' residuals count nothing beside it; return its path."""
    cascade = Cascade.load(model)
    stages = []
    for stage in cascade.stages:
        assert stage.anchor is not None
        stages.append(replace(stage, anchor=replace(stage.anchor, shrinkage=0 * stage.anchor.shrinkage)))
    path = f"{model}.regressions.safetensors"
    Cascade(cascade.header, tuple(stages)).save(path)
    return path


def column(values: List[float], digits: int) -> str:
    """Return a mean and, of values that differ, their range."""
    mean, low, high = (f"{value:.{digits}f}" for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def print_table(scene: str, scores: List[Score]) -> None:
    """Print one test scene's table, and the default's errors as a share of the best other's."""
    rows = {model: [score for score in scores if score.model == model] for model in ORDER}
    print(f"\n| {scene} | RMSE | SAM | MPSNR | MSSIM |\n|---|---|---|---|---|")
    for model, seeds in rows.items():
        if seeds:
            cells = (column([getattr(one, key) for one in seeds], digits) for key, digits in MEASURES)
            print(f"| {model} | {' | '.join(cells)} |")
    shares = []
    for key in ("rmse", "sam"):
        means = {model: np.mean([getattr(one, key) for one in seeds]) for model, seeds in rows.items() if seeds}
        shares.append(means[DEFAULT] / min(means[model] for model in means if model in BASELINES))
    print("\nRMSE and SAM of the default as a share of the best other's: {:.3f}, {:.3f}.".format(*shares))
    drawn = [score.coverage for score in scores if score.coverage is not None]
    if drawn:
        one, two = np.mean(drawn, axis=0)
        print(f"Within one and two standard deviations of {max(SAMPLES)} draws: {one:.1%} and {two:.1%} of the errors.")


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", nargs="+", default=["pavia", "aviris", "potsdam"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--results")
    options = parser.parse_args()
    results = Results(options.results)
    with tempfile.TemporaryDirectory() as folder:
        splits = make_splits(folder)
        for key in options.scenes:
            runner = Runner(key, splits[key], results)
            runner.closed_forms()
            for seed in options.seeds:
                runner.cascade(STAGES, seed, {0: DEFAULT, ALONE: REGRESSIONS, **(DRAWS if options.variants else {})})
                for model in NETWORKS:
                    runner.network(model, seed)
                if options.variants:
                    for stages, name in OTHER_STAGES.items():
                        runner.cascade(stages, seed, {0: name})
                    runner.cascade(STAGES, seed, {1: PAPER}, prediction="noise")
            for scene in splits[key].test:
                print_table(scene, [score for score in results.scores if score.scene == scene])


if __name__ == "__main__":
    main()
