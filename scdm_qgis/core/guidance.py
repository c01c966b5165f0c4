"""Image-conditional mutual guidance (ICMG, eq. 19)."""

from __future__ import annotations

import torch
from torch import Tensor

from scdm_qgis.core.denoiser import Denoiser, Prediction


class GuidedDenoiser:
    """Push predictions away from those for an empty (all-zero) condition.

    eps = eps_c + s (eps_c - eps_0), and x_0 likewise: both are linear in the network's output.

    Args:
        denoiser: the denoiser to guide.
        weight: s; 0 asks it once and changes nothing.
    """

    def __init__(self, denoiser: Denoiser, weight: float) -> None:
        self._denoiser = denoiser
        self._weight = weight

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Prediction:
        """Return the guided prediction."""
        conditional = self._denoiser(x_t, t, condition)
        if self._weight == 0:
            return conditional
        empty = self._denoiser(x_t, t, torch.zeros_like(condition))
        return Prediction(
            x_0=conditional.x_0 + self._weight * (conditional.x_0 - empty.x_0),
            eps=conditional.eps + self._weight * (conditional.eps - empty.eps),
        )
