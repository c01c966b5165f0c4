"""The noise schedule and the forward process (eq. 1-3).

Timesteps are 0-based: t = 0 adds least noise, t = T - 1 most; the paper's t is ours plus one.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.cascade_header import ScheduleConfig


class NoiseLevel(NamedTuple):
    """How much of a state is signal and how much is noise, as exact as floats are.

    Attributes:
        signal: sqrt(abar_t), the alpha_t of the DPM-Solver papers.
        noise: sqrt(1 - abar_t), their sigma_t.
        log_ratio: log(signal / noise), their lambda_t.
    """

    signal: float
    noise: float
    log_ratio: float


NO_NOISE = NoiseLevel(1.0, 0.0, math.inf)
"""Where sampling ends: x_0."""


class Schedule:
    """beta_t, alpha_t and abar_t of every timestep, as float32 tensors of shape (T,).

    They are computed in float64 and rounded once; `exact_abar` are the unrounded abar_t, numbers of the host.
    """

    def __init__(self, config: ScheduleConfig, device: torch.device | str = "cpu") -> None:
        beta = torch.linspace(config.beta_first, config.beta_last, config.timesteps, dtype=torch.float64)
        abar = torch.cumprod(1 - beta, dim=0)
        self.timesteps = config.timesteps
        self.exact_abar: Tuple[float, ...] = tuple(abar.tolist())
        self.beta = beta.float().to(device)
        self.abar = abar.float().to(device)
        self.sqrt_alpha = (1 - beta).sqrt().float().to(device)
        self.sqrt_abar = abar.sqrt().float().to(device)
        self.sqrt_one_minus_abar = (1 - abar).sqrt().float().to(device)

    def add_noise(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (eq. 3).

        Args:
            x_0: clean samples (batch, band, row, column).
            t: timesteps (batch,).
            eps: noise of deviation 1 like `x_0`.
        """
        return at(self.sqrt_abar, t) * x_0 + at(self.sqrt_one_minus_abar, t) * eps

    def velocity(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans and Ho 2022)."""
        return at(self.sqrt_abar, t) * eps - at(self.sqrt_one_minus_abar, t) * x_0

    def trailing_timesteps(self, steps: int) -> List[int]:
        """Return `steps` timesteps spread evenly from T - 1 downwards (Lin et al. 2024, "trailing").

        The first is always T - 1, where training ends and sampling starts.
        """
        stride = self.timesteps / steps
        return [round(self.timesteps - i * stride) - 1 for i in range(steps)]

    def noise_levels(self, timesteps: Sequence[int]) -> List[NoiseLevel]:
        """Return the noise level of every timestep, and last that of x_0."""
        abars = [self.exact_abar[t] for t in timesteps]
        levels = [NoiseLevel(abar**0.5, (1 - abar) ** 0.5, 0.5 * math.log(abar / (1 - abar))) for abar in abars]
        return [*levels, NO_NOISE]


def at(values: Tensor, t: Tensor) -> Tensor:
    """Look a schedule's values up at timesteps (batch,), shaped (batch, 1, 1, 1) to broadcast."""
    return values[t].reshape(-1, 1, 1, 1)
