"""How few steps a draw needs, sampler by sampler.

Trains the default cascade on one scene and draws another from the same noise by every sampler in several
numbers of steps. Prints the draw's error against the truth, its mean distance in data units from the draw that
DDIM makes in 200 steps, which is about where the path that all samplers follow leads, and the networks' passes.

    python -m benchmarks.samplers
"""

from __future__ import annotations

import tempfile
from typing import Tuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.quality import STAGES
from benchmarks.scenes import Pixels, make_splits, read_pixels
from benchmarks.trained_cascade import train_cascade
from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.metrics import evaluate
from scdm_qgis.core.reconstruction import StageSampler, noises_of_draws, reconstruct, settings_for
from scdm_qgis.core.samplers import FEW_STEP_SAMPLERS

SEED = 0
STEPS = (2, 3, 5, 8, 12, 20)
REFERENCE = ("ddim", 200)


def draw(cascade: Cascade, scene: Pixels, sampler: str, steps: int) -> Tuple[np.ndarray, int]:
    """Return one draw of a scene in data units (band, row, column), and the passes of the networks it took."""
    normalisation = cascade.header.normalisation

    def with_margin(values: np.ndarray) -> Tensor:
        return F.pad(torch.from_numpy(values.astype(np.float32))[None], [cascade.context_radius] * 4)

    rgb = with_margin((scene.values[list(scene.rgb)] - normalisation.offset) / normalisation.scale)
    stages = [StageSampler(stage, settings_for(stage.header, True, sampler, steps)) for stage in cascade.stages]
    passes = []
    hooks = [stage.network.register_forward_hook(lambda *_: passes.append(1)) for stage in cascade.stages]
    height, width = scene.values.shape[1:]
    noises = [noises_of_draws(stage, 1, False, SEED, [(0, 0)], height, width)[0] for stage in cascade.stages]
    (outputs,) = reconstruct(stages, rgb, with_margin(scene.valid[None]), [noises])
    drawn = outputs[-1][0].numpy()
    for hook in hooks:
        hook.remove()
    return drawn * normalisation.scale + normalisation.offset, len(passes)


def print_table(cascade: Cascade, scene: Pixels) -> None:
    """Print one line a sampler and number of steps, the reference first."""
    print("| sampler | steps | RMSE | SAM | distance | passes |\n|---|---|---|---|---|---|")
    limit = None
    for sampler, steps in (REFERENCE, *((sampler, steps) for sampler in FEW_STEP_SAMPLERS for steps in STEPS)):
        drawn, passes = draw(cascade, scene, sampler, steps)
        limit = drawn if limit is None else limit
        score = evaluate(drawn, scene.values, scene.valid, float(scene.values[:, scene.valid].max()))
        distance = np.abs(drawn - limit)[:, scene.valid].mean()
        print(f"| {sampler} | {steps} | {score.rmse:.1f} | {score.sam:.4f} | {distance:.2f} | {passes} |", flush=True)


def main() -> None:
    """Train, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        split = make_splits(folder)["pavia"]
        (test,) = split.test.values()
        print_table(Cascade.load(train_cascade(split, folder, STAGES, SEED)), read_pixels(test, split.rgb_bands))


if __name__ == "__main__":
    main()
