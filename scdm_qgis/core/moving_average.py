"""The average of a network's weights over its training, which predicts better than the last ones."""

from __future__ import annotations

from copy import deepcopy
from typing import List

import torch
from torch import Tensor

from scdm_qgis.core.unet import UNet


class MovingAverage:
    """Exponential moving average of a network's weights.

    Until `start` updates it copies the weights; then its decay grows from 0 to `decay` as
    (1 + n) / (10 + n), so that short trainings are averaged too.
    """

    def __init__(self, network: UNet, decay: float, start: int) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._start = start
        self.updates = 0

    @torch.no_grad()
    def update(self, network: UNet) -> None:
        """Take in the network's present weights."""
        since_start = self.updates - self._start
        self.updates += 1
        decay = min(self._decay, (1 + since_start) / (10 + since_start)) if since_start >= 0 else 0.0
        averages: List[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)
