"""The whole chain on made-up scenes: train a tiny cascade on one, reconstruct another from its RGB, evaluate.

Runs the same engine jobs as the plugin's algorithms, without QGIS. The last line printed is one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.metrics import evaluate
from scdm_qgis.core.regression import fit_ridge
from scdm_qgis.engine.jobs import (
    AssembleCascade,
    CreateDemoScene,
    EvaluateReconstruction,
    Job,
    RgbToHyperspectral,
    TrainCascadeStage,
)
from scdm_qgis.raster.cube import open_cube

CHECKOUT = Path(__file__).resolve().parent.parent
OUTPUT = CHECKOUT / "demo_output"
STAGES = 2
ITERATIONS = 300  # a stage: less than two minutes on two cores
SECONDS_BETWEEN_PROGRESS_LINES = 5.0


def run_job(title: str, job: Job) -> Dict[str, Any]:
    """Run one engine job in a process of its own, show its progress, and return its result event."""
    print(f"\n== {title}", flush=True)
    job_file = OUTPUT / "job.json"
    job_file.write_text(json.dumps(job.to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "scdm_qgis.engine", str(job_file)]
    result: Dict[str, Any] = {}
    shown_at = 0.0
    # Debian's mpl_toolkits beside pip's matplotlib makes every import of it warn of 3-D plots, which nobody draws.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore:Unable to import Axes3D"}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as engine:
        for line in engine.stdout or ():
            event = json.loads(line)
            if event["event"] == "progress" and time.monotonic() - shown_at >= SECONDS_BETWEEN_PROGRESS_LINES:
                shown_at = time.monotonic()
                print(f"{event['percent']:5.0f} %  {event['message']}", flush=True)
            elif event["event"] == "log":
                print(f"         {event['message']}", flush=True)
            elif event["event"] == "error":
                print(f"{event['message']} {event['remedy']}", flush=True)
            elif event["event"] == "result":
                result = event
    if engine.returncode != 0:
        raise SystemExit(f"The step '{title}' failed.")
    return result


def read_bands(path: Path, bands: Optional[Sequence[int]] = None) -> np.ndarray:
    """Read a raster's bands, all by default, as (band, row, column) float32."""
    with open_cube(str(path)) as cube:
        values, _ = cube.read(bands or range(1, cube.band_count + 1))
    return values


def evaluate_baselines(training: Path, rgb: Path, reference: Path) -> Dict[str, Mapping[str, Any]]:
    """Evaluate what needs no network: per-pixel ridge regression from RGB, and the mean spectrum.

    Args:
        training: the hyperspectral raster both are fitted to.
        rgb: the raster to reconstruct from.
        reference: the truth.
    """
    with open_cube(str(training)) as cube:
        rgb_bands = choose_rgb_bands(None, cube.band_count, cube.spectrum.wavelengths_nm)
        data_type = np.iinfo(cube.dtype)
    train_spectra = _as_pixels(read_bands(training))
    truth = read_bands(reference)
    ridge = fit_ridge(_as_pixels(read_bands(training, rgb_bands)), train_spectra)
    from_rgb = ridge.predict(_as_pixels(read_bands(rgb))).T.reshape(truth.shape)
    from_rgb = np.clip(from_rgb, data_type.min, data_type.max)  # as the reconstruction is when it is written
    mean = np.broadcast_to(train_spectra.mean(axis=0, dtype=np.float64)[:, None, None], truth.shape)
    everywhere = np.ones(truth.shape[1:], dtype=bool)
    peak = float(truth.max())
    return {
        "ridge regression": evaluate(from_rgb, truth, everywhere, peak).to_json(),
        "mean spectrum": evaluate(mean, truth, everywhere, peak).to_json(),
    }


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).T


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one line a method: RMSE in data units, SAM in radians, MPSNR in dB, MSSIM."""
    print(f"\n{'':20}{'RMSE':>10}{'SAM':>10}{'MPSNR':>10}{'MSSIM':>10}")
    for name, row in rows.items():
        print(f"{name:20}{row['rmse']:10.2f}{row['sam']:10.4f}{row['mpsnr']:10.2f}{row['mssim']:10.4f}")


def main() -> None:
    """Run all steps and print the table, the paths and the numbers."""
    started = time.monotonic()
    OUTPUT.mkdir(exist_ok=True)
    training, scene, rgb = OUTPUT / "training_scene.tif", OUTPUT / "scene.tif", OUTPUT / "scene_rgb.tif"
    stage_files = [OUTPUT / f"stage{stage}.safetensors" for stage in range(1, STAGES + 1)]
    cascade, prediction = OUTPUT / "cascade.safetensors", OUTPUT / "reconstruction.tif"
    numbers, report = OUTPUT / "evaluation.json", OUTPUT / "evaluation.html"

    run_job("Create the training scene", CreateDemoScene(output=str(training), seed=1))
    run_job("Create the scene to reconstruct", CreateDemoScene(output=str(scene), rgb_output=str(rgb), seed=2))
    for stage, stage_file in enumerate(stage_files, start=1):
        job = TrainCascadeStage([str(training)], stage, str(stage_file), stages=STAGES, iterations=ITERATIONS)
        run_job(f"Train stage {stage} of {STAGES}", job)
    run_job("Assemble the cascade", AssembleCascade([str(path) for path in stage_files], str(cascade)))
    run_job("Reconstruct the scene from its RGB", RgbToHyperspectral(str(rgb), str(cascade), str(prediction)))
    comparison = EvaluateReconstruction(str(prediction), str(scene), output_json=str(numbers), output_html=str(report))
    run_job("Evaluate the reconstruction", comparison)

    reconstruction = json.loads(numbers.read_text(encoding="utf-8"))
    baselines = evaluate_baselines(training, rgb, scene)
    print_table({"SCDM reconstruction": reconstruction, **baselines})
    print()
    for path in (training, scene, rgb, *stage_files, cascade, prediction, numbers, report):
        print(path)
    summary = {
        "rmse": reconstruction["rmse"],
        "sam": reconstruction["sam"],
        "ridge_rmse": baselines["ridge regression"]["rmse"],
        "ridge_sam": baselines["ridge regression"]["sam"],
        "mean_rmse": baselines["mean spectrum"]["rmse"],
        "seconds": time.monotonic() - started,
    }
    print(json.dumps({name: round(value, 5) for name, value in summary.items()}))


if __name__ == "__main__":
    main()
