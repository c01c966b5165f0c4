"""What surrounds a pixel: the RGB image, smoothed at several widths, as further condition bands.

A pixel's colour alone leaves its material open; the colours around it tell a roof from a road. Smoothed
images say so at every distance for the price of a few additions, reach beyond the tile that is being
reconstructed, and let the closed-form regression under a stage see the neighbourhood.
"""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS_IN_SIGMAS = 3
"""Where the Gaussian window is cut off."""

BLOCK = 64
"""Pixels of a line that are smoothed by one product of matrices."""

_SMALLEST_WEIGHT = 1e-12


def context_radius(sigmas: Sequence[float]) -> int:
    """Return how many pixels around a tile its context maps depend on; 0 without maps."""
    return max((_radius(sigma) for sigma in sigmas), default=0)


def context_maps(rgb: Tensor, valid: Tensor, sigmas: Sequence[float], margin: int = 0) -> Tensor:
    """Smooth an RGB image with Gaussian windows, over valid pixels only (normalised convolution).

    Pixels beyond the image's borders count as invalid, so a cut-out with a margin of `context_radius`
    has the same maps as the whole image.

    Args:
        rgb: (batch, 3, row, column); all finite, in invalid pixels too.
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
        sigmas: standard deviations of the windows in pixels.
        margin: rows and columns on every side that are seen but have no maps made of them.

    Returns:
        (batch, 3 * len(sigmas), row, column) without the margin, the narrowest window's three bands first if
        `sigmas` grow; 0 where no pixel within the window is valid.
    """
    weighted = torch.cat([rgb * valid, valid], dim=1)
    maps = []
    for sigma in sigmas:
        smoothed = _smooth(weighted, sigma, margin)
        maps.append(smoothed[:, :3] / smoothed[:, 3:].clamp(min=_SMALLEST_WEIGHT))
    return torch.cat(maps, dim=1) if maps else F.pad(rgb[:, :0], [-margin] * 4)


def _radius(sigma: float) -> int:
    return math.ceil(RADIUS_IN_SIGMAS * sigma)


def _smooth(x: Tensor, sigma: float, margin: int) -> Tensor:
    """Convolve every band with a Gaussian window, rows and columns one after the other; zeros lie outside."""
    radius = _radius(sigma)
    distance = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    window = torch.exp(-0.5 * (distance / sigma).square())
    x = F.pad(x, [radius - margin] * 4)
    for _ in range(2):
        x = _convolve_last(x, window / window.sum()).transpose(-1, -2)
    return x


def _convolve_last(x: Tensor, window: Tensor) -> Tensor:
    """Convolve along the last dimension, which loses the window's length less 1.

    A convolution with one window is a product with a banded matrix. Made in blocks, that is many times faster on
    small tiles than what is made for the many channels of a network.
    """
    reach, length = len(window) - 1, x.shape[-1] - len(window) + 1
    block = min(BLOCK, length)
    columns, rows = (torch.arange(size, device=x.device) for size in (block + reach, block))
    place = columns - rows[:, None]
    band = torch.where((place >= 0) & (place <= reach), window[place.clamp(0, reach)], 0.0)
    x = F.pad(x, (0, -length % block)).unfold(-1, block + reach, block)
    return (x @ band.T).flatten(-2)[..., :length]
