"""Closed-form ridge regression from condition bands to target bands, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Sums over pixels from which ridge regression follows exactly, gathered piece by piece.

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

    def add(self, condition: np.ndarray, target: np.ndarray) -> None:
        """Add pixels: condition (pixel, condition band) and target (pixel, target band)."""
        condition, target = np.asarray(condition, np.float64), np.asarray(target, np.float64)
        self.pixels += len(condition)
        self._condition += condition.sum(axis=0)
        self._target += target.sum(axis=0)
        self._condition_condition += condition.T @ condition
        self._condition_target += condition.T @ target

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


def fit_ridge(condition: np.ndarray, target: np.ndarray, ridge: float = 1e-4) -> LinearMap:
    """Fit ridge regression to pixels: condition (pixel, condition band), target (pixel, target band)."""
    moments = RidgeMoments(condition.shape[1], target.shape[1])
    moments.add(condition, target)
    return moments.solve(ridge)
