"""The residual over a closed-form regression, which anchored stages predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

import torch
from torch import Tensor


@dataclass(frozen=True)
class Anchor:
    """A regression from condition to target, and the deviation of what it leaves.

    Args:
        weight: (target band, condition band), between normalised values.
        bias: (target band,).
        residual_scale: standard deviation of the residual per band, in normalised units (target band,).
    """

    weight: Tensor
    bias: Tensor
    residual_scale: Tensor

    def predict(self, condition: Tensor) -> Tensor:
        """Return the regression's estimate (batch, target band, row, column)."""
        return torch.einsum("tc,bchw->bthw", self.weight, condition) + self.bias[:, None, None]

    def to_residual(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the standardised residual of a target over the regression from its condition."""
        return (target - self.predict(condition)) / self.residual_scale[:, None, None]

    def from_residual(self, residual: Tensor, condition: Tensor) -> Tensor:
        """Return regression plus residual: the inverse of `to_residual`."""
        return self.predict(condition) + residual * self.residual_scale[:, None, None]

    def to(self, device: torch.device | str) -> Anchor:
        """Return the same anchor on another device."""
        return Anchor(self.weight.to(device), self.bias.to(device), self.residual_scale.to(device))

    def tensors(self) -> Dict[str, Tensor]:
        """Return the tensors by name, as a cascade file keeps them."""
        return {"weight": self.weight, "bias": self.bias, "residual_scale": self.residual_scale}
