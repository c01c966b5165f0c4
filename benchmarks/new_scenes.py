"""How much wider draws must spread on scenes that the training has not seen than on held-out parts of those it has.

Scenes that other benchmarks train on are left out one after the other, and Potsdam's halves change their parts: no
part that results are stated for is judged on. Prints the shares of errors within one and two standard
deviations of draws, and which factor, in place of `calibration.NEW_SCENES`, would make each of them that of a normal
distribution.

    python -m benchmarks.new_scenes [--seeds 0]
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from typing import Dict

import numpy as np

from benchmarks.scenes import Split, make_splits, read_pixels
from benchmarks.trained_cascade import train_cascade
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.calibration import DRAWS, NEW_SCENES, SIGMA_SHARES
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral


def left_out_scenes(folder: str) -> Dict[str, Split]:
    """Return splits by the name of the scene that is left out; parts of scenes are written to `folder`."""
    known = make_splits(folder)
    aviris, potsdam = known["aviris"], known["potsdam"]
    splits = {}
    for left_out in aviris.train:
        name = os.path.splitext(os.path.basename(left_out))[0]
        others = tuple(path for path in aviris.train if path != left_out)
        splits[name] = Split(others, {name: left_out}, aviris.rgb_bands)
    splits["Potsdam, west"] = Split(tuple(potsdam.test.values()), {"Potsdam, west": potsdam.train[0]}, None)
    return splits


def errors_in_deviations(split: Split, name: str, seed: int) -> np.ndarray:
    """Train on a split and return the errors of draws' mean on its test scene in standard deviations of the draws."""
    with tempfile.TemporaryDirectory() as folder:
        model = train_cascade(split, folder, seed=seed)
        output, uncertainty = (os.path.join(folder, file) for file in ("output.tif", "uncertainty.tif"))
        source = split.test[name]
        job = RgbToHyperspectral(
            source, model, output, split.rgb_bands, samples=DRAWS, seed=seed, device="cpu", uncertainty=uncertainty
        )
        reconstruct.run(job, EventWriter(io.StringIO()))
        truth, estimate, deviation = (read_pixels(path, split.rgb_bands) for path in (source, output, uncertainty))
    known = truth.valid & (deviation.values > 0)
    errors = np.abs(estimate.values.astype(np.float64) - truth.values)
    return errors[known] / deviation.values[known]


def main() -> None:
    """Print one line a scene and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    print(f"| left out, NEW_SCENES {NEW_SCENES:g} | seed | within one | within two | factor for one | for two |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, split in left_out_scenes(folder).items():
            for seed in options.seeds:
                sizes = errors_in_deviations(split, name, seed)
                shares = [f"{np.mean(sizes <= sigmas):.1%}" for sigmas in (1, 2)]
                factors = [
                    f"{NEW_SCENES * np.quantile(sizes, share) / sigmas:.2f}"
                    for sigmas, share in zip((1, 2), SIGMA_SHARES)
                ]
                print(f"| {name} | {seed} | {' | '.join([*shares, *factors])} |", flush=True)


if __name__ == "__main__":
    main()
