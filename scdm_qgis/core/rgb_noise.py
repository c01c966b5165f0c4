"""How noisy an RGB image is."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
from scipy.ndimage import binary_erosion, convolve

_OPERATOR = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
"""Takes planes and edges out, and leaves noise of deviation 1 with deviation 1 (Immerkaer 1996)."""

_MEDIAN_OF_NORMAL = 0.6745
"""Median size of normal noise of deviation 1."""

_ORDINARY = 5.0
"""Detail of more deviations than this is no noise: an edge, or a spike, which would bend the straight line."""

FEWEST_PIXELS = 256
"""Of fewer pixels the noise cannot be told."""

Noise = Tuple[float, float, float]
"""Standard deviations of the noise of red, green and blue."""


def measure_detail(rgb: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the finest detail of an image, noise and texture: (pixel, 3) in its units.

    Args:
        rgb: (3, row, column).
        valid: pixels that count (row, column); those next to others, or to the edge, have no detail.
    """
    inner = binary_erosion(valid, np.ones((3, 3)))
    return np.stack([convolve(band.astype(np.float64), _OPERATOR)[inner] for band in rgb], axis=1)


def noise_of(detail: np.ndarray) -> Optional[Noise]:
    """Return the noise of images, in their unit; None where there is too little to tell.

    What is seen has much the same detail in all three colours, noise has not: so it is what the other two do not
    tell of a colour's detail by a straight line. Texture of many colours counts as noise, too.

    Args:
        detail: of one image or of several together, see `measure_detail`.
    """
    if len(detail) < FEWEST_PIXELS:
        return None
    ordinary = detail[(np.abs(detail) <= _ORDINARY * _deviation(detail)).all(axis=1)]
    if len(ordinary) < FEWEST_PIXELS:
        return None
    left = np.empty_like(ordinary)
    for colour in range(3):
        others = np.delete(ordinary, colour, axis=1)
        told, *_ = np.linalg.lstsq(others, ordinary[:, colour], rcond=None)
        left[:, colour] = ordinary[:, colour] - others @ told
    red, green, blue = _deviation(left).tolist()
    return red, green, blue


def _deviation(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column that a normal distribution with its median size has."""
    return np.asarray(np.median(np.abs(values), axis=0) / _MEDIAN_OF_NORMAL)
