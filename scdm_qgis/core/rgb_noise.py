"""How noisy an RGB image is, whatever it shows. Numpy only."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
from scipy.ndimage import binary_erosion, convolve

_OPERATOR = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
"""Takes planes and edges out, and leaves noise of deviation 1 with deviation 1 (Immerkaer 1996)."""

_MEDIAN_OF_NORMAL = 0.6745
"""Median size of normal noise of deviation 1."""

FEWEST_PIXELS = 256
"""Of fewer pixels the noise cannot be told."""


def measure_detail(rgb: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the finest detail of an image, noise and texture: (pixel, 3) in its units.

    Args:
        rgb: (3, row, column).
        valid: pixels that count (row, column); those next to others, or to the edge, have no detail.
    """
    inner = binary_erosion(valid, np.ones((3, 3)))
    return np.stack([convolve(band.astype(np.float64), _OPERATOR)[inner] for band in rgb], axis=1)


def noise_of(detail: np.ndarray) -> Optional[Tuple[float, float, float]]:
    """Return the standard deviation of the noise of red, green and blue; None where there is too little to tell.

    What is seen has the same detail in all three, noise has not: so it is what the other two do not tell of a
    band's detail by a straight line. The median size counts, which few strong edges do not change.

    Args:
        detail: of one image or of several together, see `measure_detail`.
    """
    if len(detail) < FEWEST_PIXELS:
        return None
    left = []
    for colour in range(3):
        others = np.delete(detail, colour, axis=1)
        told, *_ = np.linalg.lstsq(others, detail[:, colour], rcond=None)
        left.append(float(np.median(np.abs(detail[:, colour] - others @ told)) / _MEDIAN_OF_NORMAL))
    return left[0], left[1], left[2]
