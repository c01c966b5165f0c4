"""How bright a pixel is, and what colour it has apart from that.

The same material in more light returns a spectrum of the same shape, only larger. So errors grow with
brightness, and what tells materials apart is mostly colour; both are given to anchored stages outright,
which a few scenes do not suffice to learn from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COLOUR_BANDS = 4
"""Bands `Light.colour` makes of an RGB image."""

DARKEST = 0.1
"""What is added to every pixel's brightness, relative to the mean: noise does not vanish in the dark."""

COLOUR_FLOOR = 0.05
"""What is added to every colour, relative to the mean brightness: black has no colour."""

CHROMATICITY_SCALE = 8.0
"""Chromaticities differ little; times this they vary as much as other condition bands."""


@dataclass(frozen=True)
class Light:
    """Brightness in the training scenes, in normalised units.

    Args:
        black: what a value of 0 in data units is.
        mean: mean brightness of the training pixels above black, brightness being the mean of RGB.
    """

    black: float
    mean: float

    def relative(self, rgb: Tensor) -> Tensor:
        """Return each pixel's brightness as a factor, about 1 on average and never 0.

        Args:
            rgb: (batch, 3, row, column), normalised.

        Returns:
            (batch, 1, row, column).
        """
        brightness = (rgb.mean(dim=1, keepdim=True) - self.black).clamp(min=0)
        return (brightness / self.mean + DARKEST) / (1 + DARKEST)

    def colour(self, rgb: Tensor) -> Tensor:
        """Return the chromaticities of red, green and blue, and the logarithm of brightness.

        Args:
            rgb: (batch, 3, row, column), normalised.

        Returns:
            (batch, 4, row, column), all zero for grey of mean brightness, but for the floor.
        """
        above_black = (rgb - self.black).clamp(min=0) + COLOUR_FLOOR * self.mean
        total = above_black.sum(dim=1, keepdim=True)
        chromaticity = CHROMATICITY_SCALE * (above_black / total - 1 / 3)
        return torch.cat([chromaticity, torch.log(total / (3 * self.mean))], dim=1)
