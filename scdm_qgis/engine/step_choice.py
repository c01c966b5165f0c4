"""How few steps a draw can take, tried on pixels the stage was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Sequence

import torch

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.reconstruction import StageSampler, noises_of_draws, settings_for
from scdm_qgis.core.training import DIVERGED, Batch

CANDIDATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)

MOST_PATCHES = 8
"""All candidates together take many passes."""

DRAWS = 2

WORSE_BY = 0.01
"""A draw's RMSE may be so much higher than the best."""

LEAST_SPREAD = 0.9
"""Draws must differ from each other by this share of what they do with the most steps: few steps make every draw the
posterior mean, which has the lowest RMSE but is none."""


@dataclass(frozen=True)
class Trial:
    """Draws in so many steps, in normalised units over all bands.

    Args:
        steps: of each draw.
        rmse: of single draws against the truth.
        spread: standard deviation of draws.
    """

    steps: int
    rmse: float
    spread: float


@torch.inference_mode()
def try_steps(stage: Stage, batches: Sequence[Batch], seed: int, bfloat16: bool) -> List[Trial]:
    """Draw unseen patches in each number of steps the stage's schedule has.

    Args:
        stage: the stage, before any calibration.
        batches: the patches.
        seed: of the draws' noise, which is the same for every number of steps.
        bfloat16: whether the network computes in bfloat16.

    Raises:
        UserError: the draws are not numbers.
    """
    return [
        _try(stage, batches, steps, seed, bfloat16) for steps in CANDIDATES if steps <= stage.header.schedule.timesteps
    ]


def _try(stage: Stage, batches: Sequence[Batch], steps: int, seed: int, bfloat16: bool) -> Trial:
    sample = StageSampler(stage, settings_for(stage.header, draw=True, steps=steps), bfloat16)
    count, squared_error, squared_deviation = 0, 0.0, 0.0
    for number, batch in enumerate(batches):
        height, width = batch.target.shape[2:]
        # Places are only names for noise here: every patch gets noise of its own.
        origins = [(number * height, patch * width) for patch in range(len(batch.target))]
        noises = noises_of_draws(stage, DRAWS, False, seed, origins, height, width)
        seen = sample.see(batch.condition)
        drawn = torch.stack([sample(seen, noise) for noise in noises])
        valid = (batch.valid > 0).expand_as(batch.target)
        squared_error += float((drawn - batch.target)[:, valid].square().sum())
        squared_deviation += float(drawn.var(dim=0)[valid].sum())
        count += int(valid.sum())
    trial = Trial(steps, math.sqrt(squared_error / (DRAWS * count)), math.sqrt(squared_deviation / count))
    if not (math.isfinite(trial.rmse) and math.isfinite(trial.spread)):
        raise DIVERGED
    return trial


def fewest_steps(trials: Sequence[Trial]) -> int:
    """Return the fewest steps whose draws spread as they should and are at most `WORSE_BY` worse than the best."""
    spread = max(trials, key=lambda trial: trial.steps).spread
    spreading = [trial for trial in trials if trial.spread >= LEAST_SPREAD * spread]
    best = min(trial.rmse for trial in spreading)
    return min(trial.steps for trial in spreading if trial.rmse <= (1 + WORSE_BY) * best)
