"""The residual over a closed-form regression, which anchored stages predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional

import torch
from torch import Tensor

from scdm_qgis.core.cascade_header import Condition
from scdm_qgis.core.colour_terms import ColourTerms, place_bands, views_with
from scdm_qgis.core.light import Light

PIXELS_AT_ONCE = 4096
"""The regression has hundreds of inputs a pixel: those of more pixels at once fall out of the processor's cache."""


@dataclass(frozen=True)
class Anchor:
    """A regression from condition to target, and what is known of the residuals it leaves.

    Residuals are standardised by band and by the pixel's brightness (`Light.relative`).

    Args:
        rgb_first: number of the condition band that is red; green, blue and the context maps follow.
        terms: what the regression sees apart from the condition's images.
        weight: (target band, image band or term), to normalised values.
        bias: (target band,).
        residual_scale: standard deviation of the residual over brightness per band, in normalised units
            (target band,).
        shrinkage: what share of the network's residual to add per band, 0 to 1; below 1 where unseen
            pixels showed that the network promises too much (target band,).
        spread: factor on the deviation of draws from the posterior mean per band, which makes their
            standard deviation fit the errors made on unseen pixels (target band,).
    """

    rgb_first: int
    terms: ColourTerms
    weight: Tensor
    bias: Tensor
    residual_scale: Tensor
    shrinkage: Tensor
    spread: Tensor

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
        return torch.cat([images, self.terms(self.rgb(condition), condition[:, self.rgb_first + 3 :])], dim=1)

    def predict(self, condition: Tensor) -> Tensor:
        """Return the regression's estimate (batch, target band, row, column)."""
        rows = max(1, PIXELS_AT_ONCE // (condition.shape[0] * condition.shape[3]))
        return torch.cat([self._predict(part) for part in condition.split(rows, dim=2)], dim=2)

    def _predict(self, condition: Tensor) -> Tensor:
        products = (self.weight @ self.inputs(condition).flatten(2)).unflatten(2, condition.shape[2:])
        return products + self.bias[:, None, None]

    def scale(self, condition: Tensor) -> Tensor:
        """Return what a standardised residual of 1 is in normalised units (batch, target band, row, column)."""
        return self.residual_scale[:, None, None] * self.light.relative(self.rgb(condition))

    def to_residual(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the standardised residual of a target over the regression from its condition."""
        return (target - self.predict(condition)) / self.scale(condition)

    def from_residual(self, residual: Tensor, condition: Tensor) -> Tensor:
        """Return regression plus residual: the inverse of `to_residual`."""
        return self.predict(condition) + residual * self.scale(condition)

    def calibrated(self, mean: Tensor, drawn: Optional[Tensor] = None) -> Tensor:
        """Return the shrunk posterior mean, or a draw whose deviation from the mean is rescaled.

        Args:
            mean: posterior mean of the standardised residual (batch, target band, row, column).
            drawn: a draw of it, None for the mean itself.
        """
        shrunk = mean * self.shrinkage[:, None, None]
        return shrunk if drawn is None else shrunk + (drawn - mean) * self.spread[:, None, None]

    def error_weights(self, condition: Tensor) -> Tensor:
        """Return how much a squared error of standardised residuals counts (batch, target band, row, column).

        It is proportional to the geometric mean of two: all standardised errors alike, which spectral angles
        reward, and all errors in data units alike, which RMSE rewards. 1 for the average band in average light.
        """
        return self.scale(condition) / self.residual_scale.mean()

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
        if any(tensors[name].shape != ((bands, inputs) if name == "weight" else (bands,)) for name in _TENSORS):
            raise ValueError("regression of another shape")
        return cls(len(condition.previous_bands), terms, **{name: tensors[name] for name in _TENSORS})


_TENSORS = ("weight", "bias", "residual_scale", "shrinkage", "spread")
