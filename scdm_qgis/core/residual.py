"""The residual over a closed-form regression, which anchored stages predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional

import torch
from torch import Tensor

from scdm_qgis.core.light import Light


@dataclass(frozen=True)
class Anchor:
    """A regression from condition to target, and what is known of the residuals it leaves.

    Residuals are standardised by band and by the pixel's brightness (`Light.relative`).

    Args:
        rgb_first: number of the condition band that is red; green and blue follow.
        light: brightness in the training scenes.
        weight: (target band, condition band), between normalised values.
        bias: (target band,).
        residual_scale: standard deviation of the residual over brightness per band, in normalised units
            (target band,).
        shrinkage: what share of the network's residual to add per band, 0 to 1; below 1 where unseen
            pixels showed that the network promises too much (target band,).
        spread: factor on the deviation of draws from the posterior mean per band, which makes their
            standard deviation fit the errors made on unseen pixels (target band,).
    """

    rgb_first: int
    light: Light
    weight: Tensor
    bias: Tensor
    residual_scale: Tensor
    shrinkage: Tensor
    spread: Tensor

    def rgb(self, condition: Tensor) -> Tensor:
        """Return the condition's RGB image (batch, 3, row, column)."""
        return condition[:, self.rgb_first : self.rgb_first + 3]

    def predict(self, condition: Tensor) -> Tensor:
        """Return the regression's estimate (batch, target band, row, column)."""
        return torch.einsum("tc,bchw->bthw", self.weight, condition) + self.bias[:, None, None]

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
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def tensors(self) -> Dict[str, Tensor]:
        """Return all numbers as tensors by name, as a cascade file keeps them."""
        light = torch.tensor([self.light.black, self.light.mean], dtype=torch.float64)
        return {"light": light, **{name: getattr(self, name) for name in _TENSORS}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], bands: int, condition_bands: int, rgb_first: int) -> Anchor:
        """Read an anchor back.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has another shape.
        """
        shapes = {name: (bands, condition_bands) if name == "weight" else (bands,) for name in _TENSORS}
        if any(tensors[name].shape != shape for name, shape in {**shapes, "light": (2,)}.items()):
            raise ValueError("regression of another shape")
        black, mean = tensors["light"].tolist()
        return cls(rgb_first, Light(black, mean), **{name: tensors[name] for name in _TENSORS})


_TENSORS = ("weight", "bias", "residual_scale", "shrinkage", "spread")
