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

_SMALLEST_WEIGHT = 1e-12


def context_radius(sigmas: Sequence[float]) -> int:
    """Return how many pixels around a tile its context maps depend on; 0 without maps."""
    return max((_radius(sigma) for sigma in sigmas), default=0)


def context_maps(rgb: Tensor, valid: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Smooth an RGB image with Gaussian windows, over valid pixels only (normalised convolution).

    Pixels beyond the image's borders count as invalid, so a cut-out with a margin of `context_radius`
    has the same maps as the whole image.

    Args:
        rgb: (batch, 3, row, column); what stands in invalid pixels must be finite.
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
        sigmas: standard deviations of the windows in pixels.

    Returns:
        (batch, 3 * len(sigmas), row, column), the narrowest window's three bands first if `sigmas` grow;
        0 where no pixel within the window is valid.
    """
    weighted = torch.cat([rgb * valid, valid], dim=1)
    maps = []
    for sigma in sigmas:
        smoothed = _smooth(weighted, sigma)
        maps.append(smoothed[:, :3] / smoothed[:, 3:].clamp(min=_SMALLEST_WEIGHT))
    return torch.cat(maps, dim=1) if maps else rgb[:, :0]


def _radius(sigma: float) -> int:
    return math.ceil(RADIUS_IN_SIGMAS * sigma)


def _smooth(x: Tensor, sigma: float) -> Tensor:
    """Convolve every band with a Gaussian window, rows and columns one after the other; zeros lie outside."""
    radius = _radius(sigma)
    distance = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    window = torch.exp(-0.5 * (distance / sigma).square())
    window = window / window.sum()
    planes = x.reshape(-1, 1, *x.shape[-2:])
    planes = F.conv2d(planes, window.reshape(1, 1, -1, 1), padding=(radius, 0))
    planes = F.conv2d(planes, window.reshape(1, 1, 1, -1), padding=(0, radius))
    return planes.reshape(x.shape)
