"""Closed-form ridge regression from condition bands to target bands, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Sequence

import numpy as np


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

    Args:
        condition_bands: number of condition bands.
        target_bands: number of target bands.
    """

    def __init__(self, condition_bands: int, target_bands: int) -> None:
        self.pixels = 0
        self._condition = np.zeros(condition_bands)
        self._target = np.zeros(target_bands)
        self._condition_condition = np.zeros((condition_bands, condition_bands))
        self._condition_target = np.zeros((condition_bands, target_bands))
        self._target_square = np.zeros(target_bands)

    def add(self, condition: np.ndarray, target: np.ndarray) -> None:
        """Add pixels: condition (pixel, condition band) and target (pixel, target band)."""
        condition, target = np.asarray(condition, np.float64), np.asarray(target, np.float64)
        self.pixels += len(condition)
        self._condition += condition.sum(axis=0)
        self._target += target.sum(axis=0)
        self._condition_condition += condition.T @ condition
        self._condition_target += condition.T @ target
        self._target_square += np.square(target).sum(axis=0)

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

    def solve(self, ridge: float) -> LinearMap:
        """Return the minimiser of mean squared error + ridge * mean condition variance * |weight|^2.

        The penalty is relative to the condition's variance, so it means the same in any unit; the
        intercept is not penalised.
        """
        mean_condition, mean_target = self._condition / self.pixels, self._target / self.pixels
        covariance = self._condition_condition / self.pixels - np.outer(mean_condition, mean_condition)
        cross = self._condition_target / self.pixels - np.outer(mean_condition, mean_target)
        variance = float(np.trace(covariance)) / len(covariance)
        square = float(np.square(mean_condition).mean())
        if variance <= 1e-12 * square:
            variance = square or 1.0  # a constant condition tells nothing: any penalty makes the weights 0
        weight = np.linalg.solve(covariance + ridge * variance * np.eye(len(covariance)), cross).T
        return LinearMap(weight, mean_target - weight @ mean_condition)

    def squared_error(self, regression: LinearMap) -> np.ndarray:
        """Return the sum over these pixels of (target - regression)^2, per target band."""
        weight, bias = regression.weight, regression.bias
        estimate_square = ((weight @ self._condition_condition) * weight).sum(axis=1)
        estimate_square += bias * (2 * weight @ self._condition + self.pixels * bias)
        estimate_target = (weight * self._condition_target.T).sum(axis=1) + bias * self._target
        return np.maximum(self._target_square - 2 * estimate_target + estimate_square, 0)


def choose_ridge(blocks: Sequence[RidgeMoments], candidates: Sequence[float], tolerance: float) -> float:
    """Return the strongest penalty that predicts left-out blocks as well as the best does, or nearly so.

    Each block is left out in turn. Blocks, not pixels: neighbouring pixels are so alike that leaving
    single ones out would ask nothing of the regression. The strongest, because another scene differs more
    from the training scenes than their blocks from each other, and a small weight carries less of what is
    peculiar to them.

    Args:
        blocks: moments of neighbouring pixels, at least one with pixels.
        candidates: penalties to choose from, weakest first; the first is returned for a single block.
        tolerance: how much larger than the best penalty's the RMSE may be, relative.
    """
    filled = [block for block in blocks if block.pixels]
    if len(filled) < 2:
        return candidates[0]
    whole = reduce(add, filled)
    errors = [
        sum(float(block.squared_error((whole - block).solve(ridge)).sum()) for block in filled) for ridge in candidates
    ]
    allowed = (1 + tolerance) ** 2 * min(errors)
    return max(ridge for ridge, error in zip(candidates, errors) if error <= allowed)


def fit_ridge(condition: np.ndarray, target: np.ndarray, ridge: float = 1e-4) -> LinearMap:
    """Fit ridge regression to pixels: condition (pixel, condition band), target (pixel, target band)."""
    moments = RidgeMoments(condition.shape[1], target.shape[1])
    moments.add(condition, target)
    return moments.solve(ridge)
