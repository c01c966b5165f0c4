"""Progressive dynamic truncation (PDT, eq. 20).

Values are clamped to [-tau, tau], tau = max(1, the p-th percentile of their magnitude), p growing
linearly from p_T when sampling starts to 1 when it ends.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from scdm_qgis.core.cascade_header import Truncation
from scdm_qgis.core.denoiser import Denoiser, Prediction, x_0_from_noise
from scdm_qgis.core.schedule import Schedule


class TruncatedDenoiser:
    """Clamp the state before the network sees it (the released code), or the predicted noise (the paper).

    Args:
        denoiser: the denoiser to ask.
        settings: percentile, target and threshold.
        schedule: the noise schedule.
        second_moment: mean of x_0 squared, for the `schedule` threshold.
    """

    def __init__(
        self, denoiser: Denoiser, settings: Truncation, schedule: Schedule, second_moment: Optional[float]
    ) -> None:
        self._denoiser = denoiser
        self._settings = settings
        self._schedule = schedule
        self._thresholds = (
            scheduled_thresholds(settings.percentile, schedule, second_moment)
            if settings.threshold == "schedule" and settings.percentile < 1 and second_moment is not None
            else None
        )
        self._percentiles = percentiles(settings.percentile, schedule).to(schedule.abar.device)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Prediction:
        """Return the prediction, with the noise clamped where that is the target."""
        prediction = self._denoiser(x_t, t, condition)
        if self._settings.target == "state" or self._settings.percentile == 1:
            return prediction
        eps = self._clamp(prediction.eps, t)
        return Prediction(x_0_from_noise(x_t, t, eps, self._schedule), eps)

    def state(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the state the network sees and the sampler goes on from."""
        if self._settings.target == "noise" or self._settings.percentile == 1:
            return x_t
        return self._clamp(x_t, t)

    def _clamp(self, values: Tensor, t: Tensor) -> Tensor:
        known = self._thresholds
        tau = sample_thresholds(values, self._percentiles[t]) if known is None else known[t]
        tau = tau.reshape(-1, 1, 1, 1)
        return torch.minimum(torch.maximum(values, -tau), tau)


def percentiles(p_start: float, schedule: Schedule) -> Tensor:
    """Return p(t) as shares of 1 on the CPU, shape (T,): 1 at t = 0, `p_start` at t = T - 1."""
    return torch.linspace(1.0, p_start, schedule.timesteps, dtype=torch.float64).float()


def sample_thresholds(values: Tensor, p: Tensor) -> Tensor:
    """Return tau (batch,): the quantile p (batch,) of each sample's magnitudes, at least 1.

    Linear interpolation between order statistics as torch.quantile has it (the position in float32 too,
    so that the released code's numbers come out), without its size limit.
    """
    magnitudes = values.abs().flatten(1).sort(dim=1).values
    last = magnitudes.shape[1] - 1
    position = p * last
    # From 2^24 values on float32 may round the last position up to one that is not there.
    lower = position.floor().long().clamp(max=last)
    upper = position.ceil().long().clamp(max=last)
    below = magnitudes.gather(1, lower[:, None])[:, 0]
    above = magnitudes.gather(1, upper[:, None])[:, 0]
    return torch.lerp(below, above, position - lower).clamp(min=1.0)


def scheduled_thresholds(p_start: float, schedule: Schedule, second_moment: float) -> Tensor:
    """Return tau(t), shape (T,), which depends on no tile: a Gaussian's quantile at the state's deviation.

    tau(t) = max(1, sqrt(abar_t E[x_0^2] + 1 - abar_t) * Phi^-1((1 + p(t)) / 2)).
    """
    # On the CPU: Apple's GPUs have no float64.
    abar = torch.tensor(schedule.exact_abar, dtype=torch.float64)
    quantile = torch.special.ndtri((1 + percentiles(p_start, schedule).double()) / 2)
    return ((abar * second_moment + 1 - abar).sqrt() * quantile).float().clamp(min=1.0).to(schedule.abar.device)
