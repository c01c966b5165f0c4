"""From noise to a sample: DDPM (eq. 16, algorithm 2) and DDIM (Song et al. 2021)."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.denoiser import Prediction
from scdm_qgis.core.schedule import Schedule, at
from scdm_qgis.core.truncation import TruncatedDenoiser

Noise = Callable[[int], Tensor]
"""Standard normal noise (batch, band, row, column) for the step that leaves timestep t."""


def posterior_mean(x_t: Tensor, t: Tensor, prediction: Prediction, schedule: Schedule) -> Tensor:
    """Return the mean of x_(t-1): (x_t - beta_t / sqrt(1 - abar_t) eps) / sqrt(1 - beta_t) (eq. 16)."""
    weight = at(schedule.beta, t) / at(schedule.sqrt_one_minus_abar, t)
    return (x_t - weight * prediction.eps) / at(schedule.sqrt_alpha, t)


def ddpm_step(x_t: Tensor, t: Tensor, prediction: Prediction, noise: Optional[Tensor], schedule: Schedule) -> Tensor:
    """Draw x_(t-1) with variance beta_t; `noise` is None at the last step, which adds none."""
    mean = posterior_mean(x_t, t, prediction, schedule)
    return mean if noise is None else mean + at(schedule.beta, t).sqrt() * noise


def ddim_step(prediction: Prediction, previous_t: Optional[Tensor], schedule: Schedule) -> Tensor:
    """Move along the deterministic path to `previous_t`; None ends at x_0."""
    if previous_t is None:
        return prediction.x_0
    return schedule.add_noise(prediction.x_0, previous_t, prediction.eps)


def sample_ddpm(
    denoiser: TruncatedDenoiser,
    schedule: Schedule,
    condition: Tensor,
    x_t: Tensor,
    noise: Noise,
    after_step: Callable[[], None],
) -> Tensor:
    """Run the full schedule from x_T (algorithm 2) and return x_0.

    Args:
        denoiser: guided and truncated.
        schedule: the noise schedule.
        condition: (batch, condition band, row, column).
        x_t: the start, standard normal (batch, band, row, column).
        noise: noise by timestep.
        after_step: called after every step.
    """
    for step in reversed(range(schedule.timesteps)):
        t = torch.full((len(x_t),), step, device=x_t.device)
        x_t = denoiser.state(x_t, t)
        x_t = ddpm_step(x_t, t, denoiser(x_t, t, condition), noise(step) if step > 0 else None, schedule)
        after_step()
    return x_t


def sample_ddim(
    denoiser: TruncatedDenoiser,
    schedule: Schedule,
    condition: Tensor,
    x_t: Tensor,
    steps: int,
    after_step: Callable[[], None],
) -> Tensor:
    """Run `steps` deterministic steps from x_T over trailing timesteps and return x_0.

    One step from x_T = 0 is the network's estimate of the posterior mean.
    """
    for step, previous in step_pairs(schedule, steps):
        t = torch.full((len(x_t),), step, device=x_t.device)
        x_t = denoiser.state(x_t, t)
        prediction = denoiser(x_t, t, condition)
        x_t = ddim_step(prediction, None if previous is None else torch.full_like(t, previous), schedule)
        after_step()
    return x_t


def step_pairs(schedule: Schedule, steps: int) -> Tuple[Tuple[int, Optional[int]], ...]:
    """Return (t, the next timestep or None at the end) of every DDIM step."""
    timesteps = schedule.trailing_timesteps(steps)
    return tuple(zip(timesteps, [*timesteps[1:], None]))
