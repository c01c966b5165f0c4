"""The way the paper's method is published: two full passes of the network a guided step, in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from scdm_qgis.core.unet import UNet


class TwoPasses:
    """Ask a network with its condition and with an empty one, each time from the start (eq. 19).

    Args:
        network: the U-Net.
        weight: s.
        bfloat16: must be False; it stands here so that this can take the place of `guidance.GuidedNetwork`.
    """

    def __init__(self, network: UNet, weight: float = 0.0, bfloat16: bool = False) -> None:
        if bfloat16:
            raise ValueError("the published way is float32")
        self._network = network
        self._weight = weight

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the guided output (batch, band, row, column)."""
        conditional, empty = self._network(x_t, t, condition), self._network(x_t, t, torch.zeros_like(condition))
        return conditional + self._weight * (conditional - empty)
