"""The one contract between networks and samplers.

A denoiser is a function of (x_t, t, condition) that returns a `Prediction`. Three kinds of network stand
behind it: those that predict the noise (the paper's), the velocity, and the velocity of the residual
over a regression; for the last, x_0 is the standardised residual, and the stage adds the regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Protocol

from torch import Tensor

from scdm_qgis.core.schedule import Schedule, at

Network = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prediction:
    """What a network says of a noisy sample, both ways; each (batch, band, row, column).

    Each comes from the network's own output: turning one into the other loses digits where the
    schedule's factors are small.
    """

    x_0: Tensor
    eps: Tensor


class Denoiser(Protocol):
    """Estimate the clean sample and the noise in a noisy one."""

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Prediction:
        """Predict from x_t (batch, band, row, column), t (batch,) and the condition."""
        ...


class NoiseDenoiser:
    """A network that predicts eps (paper, algorithm 1)."""

    def __init__(self, network: Network, schedule: Schedule) -> None:
        self._network = network
        self._schedule = schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Prediction:
        """Return x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t) and eps."""
        eps = self._network(x_t, t, condition).float()
        return Prediction(x_0_from_noise(x_t, t, eps, self._schedule), eps)


class VelocityDenoiser:
    """A network that predicts v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0."""

    def __init__(self, network: Network, schedule: Schedule) -> None:
        self._network = network
        self._schedule = schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Prediction:
        """Rotate (x_t, v) back to (x_0, eps)."""
        v = self._network(x_t, t, condition).float()
        signal, noise = at(self._schedule.sqrt_abar, t), at(self._schedule.sqrt_one_minus_abar, t)
        return Prediction(x_0=signal * x_t - noise * v, eps=noise * x_t + signal * v)


def make_denoiser(prediction: str, network: Network, schedule: Schedule) -> Denoiser:
    """Return the denoiser for a network that predicts `noise`, `velocity` or `residual`."""
    return NoiseDenoiser(network, schedule) if prediction == "noise" else VelocityDenoiser(network, schedule)


def network_output(prediction: str, x_0: Tensor, t: Tensor, eps: Tensor, schedule: Schedule) -> Tensor:
    """Return what a network of this kind outputs where the clean sample is `x_0` and the noise `eps`."""
    return eps if prediction == "noise" else schedule.velocity(x_0, t, eps)


def x_0_from_noise(x_t: Tensor, t: Tensor, eps: Tensor, schedule: Schedule) -> Tensor:
    """Return x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), eq. 14 with its misprint mended."""
    return (x_t - at(schedule.sqrt_one_minus_abar, t) * eps) / at(schedule.sqrt_abar, t)
