"""What unseen pixels say about a trained stage: how far to trust its residual, how wide to spread its draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Sequence, Tuple

import numpy as np
import torch

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.reconstruction import StageSampler, noises_of_draws, settings_for
from scdm_qgis.core.residual import Anchor
from scdm_qgis.core.training import Batch

DRAWS = 8
"""Draws whose standard deviation is compared with the errors; the number users are advised to take."""

MOST_PATCHES = 24
"""Draws take many passes, so no more patches than these are drawn."""

SIGMA_SHARES = (0.6827, 0.9545)
"""Shares of errors that a normal distribution has within one and two standard deviations."""

NEW_SCENES = 1.3
"""Errors on other scenes are about so many times as large as on left-out parts of the training scenes.

Scenes left out of a training want 1.19 to 1.38 to have the usual share of errors within one standard deviation
(benchmarks/new_scenes.py)."""

LARGEST_SPREAD = 100.0

SMALLEST_DEVIATION = 1e-6
"""Of standardised residuals; a smaller one is none."""


@dataclass(frozen=True)
class Evidence:
    """Standardised residuals on unseen pixels, each (pixel, target band).

    Args:
        mean: the stage's posterior-mean estimate.
        truth: the true residual.
        deviation: standard deviation of the stage's balanced draws about their mean, before any calibration.
    """

    mean: np.ndarray
    truth: np.ndarray
    deviation: np.ndarray

    def half(self, number: int) -> Evidence:
        """Return every other piece of 256 pixels, so that the two halves hold different places."""
        chosen = (np.arange(len(self.mean)) // 256) % 2 == number
        return Evidence(self.mean[chosen], self.truth[chosen], self.deviation[chosen])

    @classmethod
    def join(cls, parts: Sequence[Evidence]) -> Evidence:
        """Return the evidence of all parts together."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


@torch.inference_mode()
def gather_evidence(stage: Stage, batches: Sequence[Batch], seed: int, bfloat16: bool) -> Evidence:
    """Estimate and draw unseen patches with an anchored stage that is not yet calibrated.

    Args:
        stage: the stage.
        batches: the patches.
        seed: of the draws' noise.
        bfloat16: whether the network computes in bfloat16.
    """
    anchor = _anchor(stage)
    parts: List[Evidence] = []
    draw_once = StageSampler(stage, settings_for(stage.header, draw=True), bfloat16)
    for number, batch in enumerate(batches):
        height, width = batch.target.shape[2:]
        # Places are only names for noise here: every patch gets noise of its own.
        origins = [(number * height, patch * width) for patch in range(len(batch.target))]

        residual = anchor.expect(batch.condition).to_residual
        noises = noises_of_draws(stage, DRAWS, True, seed, origins, height, width)
        seen = draw_once.see(batch.condition)
        drawn = [residual(draw_once(seen, noise)) for noise in noises]
        deviation = torch.stack(drawn).std(dim=0, correction=0)
        valid = batch.valid[:, 0] > 0
        values = (x.permute(0, 2, 3, 1)[valid].cpu().numpy() for x in (seen.mean, residual(batch.target), deviation))
        parts.append(Evidence(*values))
    return Evidence.join(parts)


def calibrate(stage: Stage, evidence: Evidence, left_out: np.ndarray) -> Stage:
    """Return an anchored stage with shrinkage and spread fitted to the evidence.

    Args:
        stage: the stage.
        evidence: of the stage, or of one trained like it.
        left_out: what its regression leaves of left-out training pixels (pixel, target band), standardised;
            see `fit_spread`.
    """
    anchor, shrinkage = _anchor(stage), fit_shrinkage(evidence)
    like = anchor.bias
    calibrated = replace(
        anchor,
        shrinkage=torch.from_numpy(shrinkage).to(like),
        spread=torch.from_numpy(fit_spread(evidence, shrinkage, left_out)).to(like),
    )
    return replace(stage, anchor=calibrated)


def _anchor(stage: Stage) -> Anchor:
    if stage.anchor is None:
        raise ValueError("only anchored stages are calibrated")
    return stage.anchor


def fit_shrinkage(evidence: Evidence) -> np.ndarray:
    """Return the share of the estimated residual, 0 to 1, that leaves the least squared error per band."""
    mean, truth = evidence.mean.astype(np.float64), evidence.truth.astype(np.float64)
    power = np.square(mean).sum(axis=0)
    best = (mean * truth).sum(axis=0) / np.where(power > 0, power, 1)
    return np.where(power > 0, np.clip(best, 0, 1), 1.0)


def fit_spread(evidence: Evidence, shrinkage: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return the factor on the draws' standard deviation per band that makes it fit the errors.

    One standard deviation shall hold as many errors as a normal one; errors have heavier tails, so that fewer than
    usual lie within two. The evidence is one end of the scenes and may be easier or harder than they are as a whole.
    How much, blocks from all over the scenes tell: what the regression leaves of them when they are left out, beside
    what it leaves of the evidence, in the large residuals that make a place hard.
    """
    blocks, end = (_deviation(np.abs(of), 2) for of in (left_out, evidence.truth))
    factor = NEW_SCENES * _deviation(_ratios(evidence, shrinkage), 1) * blocks / np.maximum(end, SMALLEST_DEVIATION)
    return np.asarray(np.clip(factor, 1 / LARGEST_SPREAD, LARGEST_SPREAD))


def _deviation(sizes: np.ndarray, sigmas: int) -> np.ndarray:
    """Return the standard deviation per band that has as many errors (pixel, band) within 1 or 2 as a normal one."""
    return np.asarray(np.quantile(sizes, SIGMA_SHARES[sigmas - 1], axis=0) / sigmas)


def measure_coverage(evidence: Evidence, left_out: np.ndarray) -> Tuple[float, float]:
    """Return the shares of errors within one and two standard deviations.

    The factors are fitted to one half of the evidence and tried on the other, both ways; `left_out` as
    in `calibrate`.
    """
    within: List[List[float]] = [[], []]
    for number in (0, 1):
        fitted, tried = evidence.half(number), evidence.half(1 - number)
        if len(fitted.mean) == 0 or len(tried.mean) == 0:
            fitted = tried = evidence
        shrinkage = fit_shrinkage(fitted)
        ratios = _ratios(tried, shrinkage) / fit_spread(fitted, shrinkage, left_out)
        for shares, sigmas in zip(within, (1, 2)):
            shares.append(float((ratios <= sigmas).mean()))
    return float(np.mean(within[0])), float(np.mean(within[1]))


def _ratios(evidence: Evidence, shrinkage: np.ndarray) -> np.ndarray:
    """Return errors in standard deviations of the draws (pixel, band)."""
    error = np.abs(evidence.truth - shrinkage * evidence.mean)
    return np.asarray(error / np.maximum(evidence.deviation, SMALLEST_DEVIATION))
