"""Small cubes whose values tell every band and pixel apart."""

import numpy as np


def counting(dtype="int16", bands=3, height=5, width=7):
    """Return 1, 2, 3, ... as (band, row, column)."""
    return np.arange(1, 1 + bands * height * width).reshape(bands, height, width).astype(dtype)
