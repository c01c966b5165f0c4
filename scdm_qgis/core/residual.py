"""The residual over a closed-form regression, which anchored stages predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Mapping

import torch
from torch import Tensor

from scdm_qgis.core.cascade_header import Condition
from scdm_qgis.core.colour_terms import ColourTerms, place_bands, views_with
from scdm_qgis.core.light import Light

PIXELS_AT_ONCE_ON_CPU = 4096
"""The regression has hundreds of inputs a pixel: those of more pixels at once fall out of a processor's cache."""

PIXELS_AT_ONCE = 2**17
"""On other devices, where their inputs take a few hundred megabytes."""

LARGEST_DOUBT = 10.0
"""No colour's residuals are taken for more than so many times as large, or as small, as the average."""


@dataclass(frozen=True)
class Expectation:
    """What a regression expects of pixels.

    Args:
        estimate: the target, normalised (batch, target band, row, column).
        scale: what a standardised residual of 1 is in normalised units, of the same shape.
    """

    estimate: Tensor
    scale: Tensor

    def to_residual(self, target: Tensor) -> Tensor:
        """Return the standardised residual of a target over the estimate."""
        return (target - self.estimate) / self.scale

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return estimate plus residual: the inverse of `to_residual`."""
        return self.estimate + residual * self.scale


@dataclass(frozen=True)
class Anchor:
    """A regression from condition to target, and what is known of the residuals it leaves.

    Residuals are standardised by band, by the pixel's brightness (`Light.relative`) and by how large they are
    at colours like the pixel's, so that the network has the same to do everywhere.

    Args:
        rgb_first: number of the condition band that is red; green, blue and the context maps follow.
        terms: what the regression sees apart from the condition's images.
        weight: (target band, image band or term), to normalised values.
        bias: (target band,).
        doubt: how large residuals over brightness are that unseen pixels leave, over all bands: its logarithm
            is linear in the kernels, by a constant and a weight a kernel (1 + kernel,).
        residual_scale: standard deviation of the residual over brightness and doubt per band, in normalised
            units (target band,).
        shrinkage: what share of the network's residual to add per band, 0 to 1; below 1 where unseen
            pixels showed that the network promises too much (target band,).
        spread: factor on the deviation of draws from the posterior mean per band, which makes their
            standard deviation fit the errors made on unseen pixels (target band,).
        mixing: makes noise that is independent between bands as correlated as residuals are, each band's
            deviation staying 1 (target band, target band).
    """

    rgb_first: int
    terms: ColourTerms
    weight: Tensor
    bias: Tensor
    doubt: Tensor
    residual_scale: Tensor
    shrinkage: Tensor
    spread: Tensor
    mixing: Tensor

    def rgb(self, condition: Tensor) -> Tensor:
        """Return the condition's RGB image (batch, 3, row, column)."""
        return condition[:, self.rgb_first : self.rgb_first + 3]

    @property
    def light(self) -> Light:
        """Brightness in the training scenes."""
        return self.terms.light

    def inputs(self, condition: Tensor) -> Tensor:
        """Return what the regression is linear in: the images and the terms (batch, input, row, column)."""
        images = condition[:, : self.rgb_first + 3]
        return torch.cat([images, self.terms(self.rgb(condition), self._context(condition))], dim=1)

    def kernels(self, condition: Tensor) -> Tensor:
        """Return the kernels on colour (batch, kernel, row, column)."""
        return self.terms.kernels(self.rgb(condition), self._context(condition))

    def _context(self, condition: Tensor) -> Tensor:
        return condition[:, self.rgb_first + 3 :]

    def expect(self, condition: Tensor) -> Expectation:
        """Return what the regression expects of every pixel of a condition (batch, condition band, row, column)."""
        # All terms are as bright as the pixel, so brightness is multiplied with what is made of them, and the
        # weights of the doubt, which is not, are one more row: the terms, hundreds a pixel, are made only once.
        images, kernels = self.rgb_first + 3, self.terms.kernel_count
        weight = torch.cat([self.weight[:, images:], self.weight.new_zeros(1, self.weight.shape[1] - images)])
        weight[-1, weight.shape[1] - kernels :] = self.doubt[1:]
        pixels = PIXELS_AT_ONCE_ON_CPU if condition.device.type == "cpu" else PIXELS_AT_ONCE
        rows = max(1, pixels // (condition.shape[0] * condition.shape[3]))
        parts = condition.split(rows, dim=2)
        products = [weight @ self.terms.unlit(self.rgb(part), self._context(part)).flatten(2) for part in parts]
        product = torch.cat([of.unflatten(2, part.shape[2:]) for of, part in zip(products, parts)], dim=2)
        straight = self.weight[:, :images] @ condition[:, :images].flatten(2)
        light = self.light.relative(self.rgb(condition))
        size = (product[:, -1:] + self.doubt[0]).exp().clamp(1 / LARGEST_DOUBT, LARGEST_DOUBT)
        bent = product[:, :-1] * light + self.bias[:, None, None]
        return Expectation(
            estimate=bent.add_(straight.unflatten(2, bent.shape[2:])),
            scale=self.residual_scale[:, None, None] * light * size,
        )

    def mix(self, noise: Tensor) -> Tensor:
        """Return noise (batch, target band, row, column) that was independent between bands, correlated as residuals.

        Draws start from it. Noise without correlation would leave it to few steps of a small network to find out
        which spectra there are.
        """
        return (self.mixing @ noise.flatten(2)).view_as(noise)

    def calibrated_mean(self, mean: Tensor) -> Tensor:
        """Return the posterior mean of the standardised residual (batch, target band, row, column), shrunk."""
        return mean * self.shrinkage[:, None, None]

    def calibrated_draw(self, drawn: Tensor, mean: Tensor) -> Tensor:
        """Return a draw as far from the shrunk mean as errors in its band usually are.

        Args:
            drawn: a draw of the standardised residual (batch, target band, row, column).
            mean: its posterior mean.
        """
        return self.calibrated_mean(mean) + (drawn - mean) * self.spread[:, None, None]

    def error_weights(self, expectation: Expectation) -> Tensor:
        """Return how much a squared error of standardised residuals counts (batch, target band, row, column).

        It is proportional to the geometric mean of two: all standardised errors alike, which spectral angles
        reward, and all errors in data units alike, which RMSE rewards. 1 for the average band, in average light,
        where colour leaves as much open as `doubt` takes for usual.
        """
        return expectation.scale / self.residual_scale.mean()

    def to(self, device: torch.device | str) -> Anchor:
        """Return the same anchor on another device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, terms=self.terms.to(device), **moved)

    def tensors(self) -> Dict[str, Tensor]:
        """Return all numbers as tensors by name, as a cascade file keeps them."""
        light = torch.tensor([self.light.black, self.light.mean], dtype=torch.float64)
        terms = {"light": light, "limits": self.terms.limits}
        terms.update({f"centres.{view}": centres for view, centres in self.terms.centres.items()})
        return {**terms, **{name: getattr(self, name) for name in _TENSORS}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], bands: int, condition: Condition) -> Anchor:
        """Read an anchor back.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has another shape.
        """
        light, limits = tensors["light"], tensors["limits"]
        maps = len(condition.context_sigmas)
        centres = {view: tensors[f"centres.{view}"] for view in views_with(maps)}
        if (light.shape, limits.shape) != ((2,), (2,)) or any(
            tensor.shape[1:] != (place_bands(view),) for view, tensor in centres.items()
        ):
            raise ValueError("terms of another shape")
        terms = ColourTerms(Light(*light.tolist()), limits, centres)
        inputs = condition.image_count + terms.count(maps)
        tensors = {"mixing": torch.eye(bands), **tensors}  # older files have none
        shapes = {"weight": (bands, inputs), "doubt": (1 + terms.kernel_count,), "mixing": (bands, bands)}
        if any(tensors[name].shape != shapes.get(name, (bands,)) for name in _TENSORS):
            raise ValueError("regression of another shape")
        return cls(len(condition.previous_bands), terms, **{name: tensors[name] for name in _TENSORS})


_TENSORS = ("weight", "bias", "doubt", "residual_scale", "shrinkage", "spread", "mixing")
