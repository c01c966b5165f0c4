"""Closed-form ridge regression from condition bands to target bands, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Callable, Optional, Sequence, TypeVar

import numpy as np

Penalty = TypeVar("Penalty")


@dataclass(frozen=True)
class LinearMap:
    """target = weight @ condition + bias.

    Args:
        weight: (target band, condition band), float64.
        bias: (target band,), float64.
    """

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, condition: np.ndarray) -> np.ndarray:
        """Map condition pixels (pixel, condition band) to target pixels (pixel, target band)."""
        return condition @ self.weight.T + self.bias


class RidgeMoments:
    """Sums over pixels from which ridge regression and its error follow exactly, gathered piece by piece.

    Pixels may count differently; `pixels` is the sum of their weights.

    Args:
        condition_bands: number of condition bands.
        target_bands: number of target bands.
    """

    def __init__(self, condition_bands: int, target_bands: int) -> None:
        self.pixels = 0.0
        self._condition = np.zeros(condition_bands)
        self._target = np.zeros(target_bands)
        self._condition_condition = np.zeros((condition_bands, condition_bands))
        self._condition_target = np.zeros((condition_bands, target_bands))
        self._target_square = np.zeros(target_bands)

    def add(self, condition: np.ndarray, target: np.ndarray, weights: Optional[np.ndarray] = None) -> None:
        """Add pixels: condition (pixel, condition band), target (pixel, target band), and how much each counts."""
        condition, target = np.asarray(condition, np.float64), np.asarray(target, np.float64)
        weights = np.ones(len(condition)) if weights is None else np.asarray(weights, np.float64)
        weighted = condition * weights[:, None]
        self.pixels += weights.sum()
        self._condition += weighted.sum(axis=0)
        self._target += weights @ target
        self._condition_condition += weighted.T @ condition
        self._condition_target += weighted.T @ target
        self._target_square += weights @ np.square(target)

    def __add__(self, other: RidgeMoments) -> RidgeMoments:
        """Return the moments of both sets of pixels together."""
        return self._combined(other, 1)

    def __sub__(self, other: RidgeMoments) -> RidgeMoments:
        """Return the moments of these pixels without those of `other`, which must be among them."""
        return self._combined(other, -1)

    def _combined(self, other: RidgeMoments, sign: int) -> RidgeMoments:
        result = RidgeMoments(len(self._condition), len(self._target))
        for name, value in vars(self).items():
            setattr(result, name, value + sign * getattr(other, name))
        return result

    def solve(self, ridge: float, penalty: Optional[np.ndarray] = None) -> LinearMap:
        """Return the minimiser of mean squared error + ridge * mean condition variance * |weight|^2.

        The penalty is relative to the condition's variance, so it means the same in any unit; the
        intercept is not penalised.

        Args:
            ridge: the relative penalty.
            penalty: the last condition bands' own penalty instead, or all bands', weight @ penalty @ weight, absolute.
        """
        mean_condition, mean_target = self._condition / self.pixels, self._target / self.pixels
        covariance = self._condition_condition / self.pixels - np.outer(mean_condition, mean_condition)
        cross = self._condition_target / self.pixels - np.outer(mean_condition, mean_target)
        penalties = np.zeros_like(covariance)
        relative = len(covariance) - (0 if penalty is None else len(penalty))
        if relative:
            variance = float(np.trace(covariance[:relative, :relative])) / relative
            square = float(np.square(mean_condition[:relative]).mean())
            if variance <= 1e-12 * square:
                variance = square or 1.0  # a constant condition tells nothing: any penalty makes the weights 0
            np.fill_diagonal(penalties[:relative, :relative], ridge * variance)
        if penalty is not None:
            penalties[relative:, relative:] = penalty
        weight = np.linalg.solve(covariance + penalties, cross).T
        return LinearMap(weight, mean_target - weight @ mean_condition)

    def squared_error(self, regression: LinearMap) -> np.ndarray:
        """Return the sum over these pixels of (target - regression)^2, per target band."""
        weight, bias = regression.weight, regression.bias
        estimate_square = ((weight @ self._condition_condition) * weight).sum(axis=1)
        estimate_square += bias * (2 * weight @ self._condition + self.pixels * bias)
        estimate_target = (weight * self._condition_target.T).sum(axis=1) + bias * self._target
        return np.maximum(self._target_square - 2 * estimate_target + estimate_square, 0)


def choose_penalty(
    blocks: Sequence[RidgeMoments],
    candidates: Sequence[Penalty],
    solve: Callable[[RidgeMoments, Penalty], LinearMap],
) -> Penalty:
    """Return the penalty that predicts left-out blocks best.

    Each block is left out in turn. Blocks, not pixels: neighbouring pixels are so alike that leaving
    single ones out would ask nothing of the regression.

    Args:
        blocks: moments of neighbouring pixels, at least one with pixels.
        candidates: penalties to choose from, weakest first; the last is returned for a single block.
        solve: regression from moments and a penalty.
    """
    filled = [block for block in blocks if block.pixels]
    if len(filled) < 2:
        return candidates[-1]
    whole = reduce(add, filled)
    errors = [
        sum(float(block.squared_error(solve(whole - block, penalty)).sum()) for block in filled)
        for penalty in candidates
    ]
    return candidates[int(np.argmin(errors))]


def fit_ridge(condition: np.ndarray, target: np.ndarray, ridge: float = 1e-4) -> LinearMap:
    """Fit ridge regression to pixels: condition (pixel, condition band), target (pixel, target band)."""
    moments = RidgeMoments(condition.shape[1], target.shape[1])
    moments.add(condition, target)
    return moments.solve(ridge)
