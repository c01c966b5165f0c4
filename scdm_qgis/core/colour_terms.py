"""What the regression under an anchored stage sees of a pixel's colour: terms that bend with it.

Spectra are no linear function of colour: a dark green and a bright grey are other materials, not other
mixtures of three. The terms are those of kernel regression over the colour of a pixel and of its
surroundings. All of them are as bright as the pixel: the same material in more light returns the same
spectrum, only larger, and a colour brighter than any known one is treated as the brightest known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.light import COLOUR_BANDS, Light

VIEWS: Dict[str, Optional[int]] = {"pixel": None, "near": 0, "far": 2}
"""The colours a kernel compares: a pixel's own, or its own and how that of a context map differs, by number."""

KERNEL_WIDTHS = (0.7, 2.1, 7.0)
"""Distances, in chromaticity times `light.CHROMATICITY_SCALE` and in logarithms of brightness, at which
the summands of a kernel have fallen to two thirds."""

SMALLEST_NEWS = 1e-6
"""Variance a further centre must add."""


@dataclass(frozen=True)
class ColourTerms:
    """Kernels around colours of the training scenes, and the hues around a pixel.

    Args:
        light: brightness in the training scenes.
        limits: lowest and highest logarithm of brightness known (2,).
        centres: by view, what its kernels stand on (centre, `place_bands`).
    """

    light: Light
    limits: Tensor
    centres: Dict[str, Tensor]

    def places(self, view: str, rgb: Tensor, context: Tensor) -> Tensor:
        """Return where pixels lie among the colours.

        Args:
            view: one of `VIEWS`.
            rgb: (batch, 3, row, column), normalised.
            context: its context maps (batch, 3 * maps, row, column), the narrowest first.

        Returns:
            (batch, `place_bands`, row, column).
        """
        own, number = self._known(rgb), VIEWS[view]
        if number is None:
            return own
        return torch.cat([own, self._known(context[:, 3 * number : 3 * number + 3]) - own], dim=1)

    def _known(self, rgb: Tensor) -> Tensor:
        """Return colours, none brighter or darker than those known."""
        colour = self.light.colour(rgb)
        return torch.cat([colour[:, :-1], colour[:, -1:].clamp(*self.limits)], dim=1)

    def count(self, maps: int) -> int:
        """Return how many terms there are with a number of context maps of three bands each."""
        return 3 * maps + self.kernel_count

    @property
    def kernel_count(self) -> int:
        """How many of the terms are kernels."""
        return sum(len(centres) for centres in self.centres.values())

    def __call__(self, rgb: Tensor, context: Tensor) -> Tensor:
        """Return the hues of the context maps and the kernels, each as bright as the pixel.

        Args:
            rgb: (batch, 3, row, column), normalised.
            context: its context maps (batch, 3 * maps, row, column), the narrowest first.

        Returns:
            (batch, `count`, row, column).
        """
        return self.unlit(rgb, context) * self.light.relative(rgb)

    def unlit(self, rgb: Tensor, context: Tensor) -> Tensor:
        """Return the same terms whatever the pixel's brightness.

        Args:
            rgb, context: as in a call.
        """
        maps = context.unflatten(1, (-1, 3)).unbind(dim=1) if context.shape[1] else ()
        hues = [self.light.colour(surroundings)[:, :3] for surroundings in maps]
        return torch.cat([*hues, *self._kernels(rgb, context)], dim=1)

    def kernels(self, rgb: Tensor, context: Tensor) -> Tensor:
        """Return the kernels alone, whatever the pixel's brightness (batch, `kernel_count`, row, column).

        Args:
            rgb, context: as in a call.
        """
        return torch.cat(self._kernels(rgb, context), dim=1)

    def _kernels(self, rgb: Tensor, context: Tensor) -> List[Tensor]:
        return [kernel_between(self.places(view, rgb, context), of) for view, of in self.centres.items()]

    def to(self, device: torch.device | str) -> ColourTerms:
        """Return the same terms on another device."""
        centres = {view: tensor.to(device) for view, tensor in self.centres.items()}
        return replace(self, limits=self.limits.to(device), centres=centres)


def views_with(maps: int) -> Tuple[str, ...]:
    """Return the views that a number of context maps allows."""
    return tuple(view for view, number in VIEWS.items() if number is None or number < maps)


def place_bands(view: str) -> int:
    """Return how many numbers say where a pixel lies in a view."""
    return COLOUR_BANDS if VIEWS[view] is None else 2 * COLOUR_BANDS


def kernel_between(places: Tensor, centres: Tensor) -> Tensor:
    """Return the kernel of every place with every centre: rational quadratics of several widths.

    Their long tails carry far beyond the known colours.

    Args:
        places: (batch, number, row, column).
        centres: (centre, number).

    Returns:
        (batch, centre, row, column), from 0 to 1.
    """
    # |c - p|^2 = -2 c p + |c|^2 + |p|^2 as one product of matrices.
    ones, points = centres.new_ones(len(centres), 1), places.flatten(2)
    left = torch.cat([-2 * centres, centres.square().sum(dim=1, keepdim=True), ones], dim=1)
    right = torch.cat([points, torch.ones_like(points[:, :1]), points.square().sum(dim=1, keepdim=True)], dim=1)
    distances = (left @ right).clamp_(min=0)
    # 1 / (1 + d / 2w^2) = 2w^2 / (2w^2 + d); in place, as there are hundreds of kernels a pixel.
    first, *rest = (2 * width**2 for width in KERNEL_WIDTHS)
    kernel = (distances + first).reciprocal_().mul_(first / len(KERNEL_WIDTHS))
    for width in rest:
        kernel.add_((distances + width).reciprocal_(), alpha=width / len(KERNEL_WIDTHS))
    return kernel.unflatten(2, places.shape[2:])


def choose_centres(places: Tensor, most: int) -> Tensor:
    """Return the places whose kernels tell most of all others': pivots of a Cholesky decomposition.

    Each next centre is the place whose kernel those before it explain least (Fine and Scheinberg 2001).

    Args:
        places: (place, number), float64.
        most: centres at most; fewer where they explain all.
    """
    image = places.T[None, :, None]
    unexplained = torch.ones(len(places), dtype=places.dtype)
    columns = places.new_zeros(most, len(places))
    chosen = []
    for number in range(min(most, len(places))):
        pivot = int(unexplained.argmax())
        if unexplained[pivot] < SMALLEST_NEWS:
            break
        chosen.append(pivot)
        column = kernel_between(image, places[pivot : pivot + 1])[0, 0, 0]
        column = column - columns[:number, pivot] @ columns[:number]
        columns[number] = column / unexplained[pivot].sqrt()
        unexplained = unexplained - columns[number].square()
    return places[chosen]
