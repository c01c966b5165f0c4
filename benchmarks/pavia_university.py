"""Train on one part of Pavia University, reconstruct another from three bands, and compare.

Prints a table of the default cascade (`tiny`, residual prediction), the paper's noise-prediction recipe
on the same network with the same iterations, ridge regression from the same three bands, and the mean
training spectrum; all on the same split. The scenes are looked for in the folder SCDM_TEST_DATA names,
by default `shared` beside the checkout.

    python -m benchmarks.pavia_university [--iterations N] [--skip-noise]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional, Tuple

import numpy as np

from scdm_qgis.core.metrics import Evaluation, evaluate
from scdm_qgis.core.regression import fit_ridge
from scdm_qgis.engine import assemble, reconstruct, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, RgbToHyperspectral, TrainCascadeStage
from scdm_qgis.raster.cube import open_cube

RGB_BANDS = (60, 30, 10)
STAGES = 2


def scene(name: str) -> str:
    """Return the path of a scene."""
    folder = os.environ.get("SCDM_TEST_DATA") or Path(__file__).resolve().parent.parent.parent / "shared"
    path = Path(folder) / "scenes" / name
    if not path.is_file():
        sys.exit(f"'{path}' does not exist: set SCDM_TEST_DATA to the folder that holds scenes/.")
    return str(path)


def read(path: str) -> Tuple[np.ndarray, np.ndarray]:
    """Return all bands (band, row, column) and the valid pixels (row, column)."""
    with open_cube(path) as cube:
        return cube.read(range(1, cube.band_count + 1))


def pixels(values: np.ndarray, valid: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return (RGB, spectrum) of valid pixels, each (pixel, band), in float64."""
    spectra = values[:, valid].T.astype(np.float64)
    return spectra[:, [band - 1 for band in RGB_BANDS]], spectra


def cascade(folder: str, source: str, test: str, prediction: str, iterations: Optional[int]) -> Tuple[np.ndarray, str]:
    """Train both stages and reconstruct the test scene; return its bands and the seconds taken, in words."""
    events = EventWriter(sys.stderr)
    files, seconds = [], []
    for stage in range(1, STAGES + 1):
        started = time.monotonic()
        job = TrainCascadeStage(
            inputs=[source],
            stage=stage,
            stages=STAGES,
            output=os.path.join(folder, f"{prediction}{stage}.safetensors"),
            rgb_bands=RGB_BANDS,
            prediction=prediction,
            iterations=iterations,
        )
        train.run(job, events)
        files.append(job.output)
        seconds.append(f"{time.monotonic() - started:.0f} s")
    model, output = os.path.join(folder, f"{prediction}.safetensors"), os.path.join(folder, f"{prediction}.tif")
    assemble.run(AssembleCascade(files, model), events)
    results = reconstruct.run(RgbToHyperspectral(input=test, model=model, output=output, rgb_bands=RGB_BANDS), events)
    return read(output)[0], f"training {' + '.join(seconds)}, reconstruction {results['SECONDS']:.0f} s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, help="iterations a stage; default: the preset's")
    parser.add_argument("--skip-noise", action="store_true", help="leave the noise-prediction recipe out")
    options = parser.parse_args()
    source, test = scene("pavia_university_train.tif"), scene("pavia_university_test.tif")
    reference, valid = read(test)
    train_rgb, train_spectra = pixels(*read(source))
    shape = reference.shape[1:]
    ridge = fit_ridge(train_rgb, train_spectra).predict(pixels(reference, np.ones(shape, bool))[0]).T
    rows = {
        "mean training spectrum": np.broadcast_to(train_spectra.mean(axis=0)[:, None, None], reference.shape),
        "ridge regression": np.rint(ridge.reshape(reference.shape)),
    }
    notes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, prediction in (
            ("cascade, default (tiny)", "residual"),
            ("cascade, noise prediction (tiny)", "noise"),
        ):
            if prediction == "noise" and options.skip_noise:
                continue
            rows[name], notes[name] = cascade(folder, source, test, prediction, options.iterations)
    print("| Pavia University, train -> test, bands 60, 30, 10 | RMSE | SAM | MPSNR | MSSIM |\n|---|---|---|---|---|")
    peak = float(reference[:, valid].max())
    scores = {name: evaluate(values, reference, valid, peak) for name, values in rows.items()}
    for name, score in scores.items():
        print(line(name, score))
    best = scores["ridge regression"].rmse
    print(f"\nPeak {peak:.0f}. Default cascade's RMSE / ridge's: {scores['cascade, default (tiny)'].rmse / best:.3f}.")
    for name, note in notes.items():
        print(f"{name}: {note}.")


def line(name: str, score: Evaluation) -> str:
    """Return one row of the table."""
    return f"| {name} | {score.rmse:.1f} | {score.sam:.4f} | {score.mpsnr:.2f} | {score.mssim:.4f} |"


if __name__ == "__main__":
    main()
