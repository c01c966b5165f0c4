"""Training one stage (algorithm 1)."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Callable, List, Protocol, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.denoiser import make_denoiser, network_output
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.losses import prediction_loss, spectral_angle_loss
from scdm_qgis.core.schedule import Schedule
from scdm_qgis.core.unet import UNet

WARM_UP_ITERATIONS = 50
"""Iterations over which the step size of a cosine decay first grows."""


DIVERGED = UserError(
    "Training diverged: the loss is no longer a number.", "Lower LEARNING_RATE to a tenth of what it was."
)


@dataclass(frozen=True)
class TrainingSettings:
    """How a stage is trained; see `presets.Preset` for what the numbers mean.

    Args:
        p_unconditional: share of samples whose condition is set to zero, for ICMG.
        mean_share: share of samples trained at the state the posterior mean is estimated from, x_T = 0,
            which noise alone never reaches; 0 for noise prediction, which has no such estimate.
        sam_weight: lambda of the spectral-angle loss (eq. 15).
        bfloat16: let the network compute in bfloat16.
    """

    batch_size: int
    iterations: int
    learning_rate: float
    cosine_decay: bool
    loss: str
    p_unconditional: float
    mean_share: float
    sam_weight: float
    ema_decay: float
    ema_start: int
    seed: int
    bfloat16: bool


@dataclass(frozen=True)
class Batch:
    """Patches in normalised units.

    Args:
        target: true bands (batch, band, row, column).
        condition: (batch, condition band, row, column).
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
    """

    target: Tensor
    condition: Tensor
    valid: Tensor


class Patches(Protocol):
    """Where training patches come from."""

    def __call__(self, count: int) -> Batch:
        """Return `count` patches on the training device."""
        ...


class MovingAverage:
    """Exponential moving average of a network's weights.

    Until `start` updates it copies the weights; then its decay grows from 0 to `decay` as
    (1 + n) / (10 + n), so that short trainings are averaged too.
    """

    def __init__(self, network: UNet, decay: float, start: int) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._start = start
        self._updates = 0

    @torch.no_grad()
    def update(self, network: UNet) -> None:
        """Take in the network's present weights."""
        since_start = self._updates - self._start
        self._updates += 1
        decay = min(self._decay, (1 + since_start) / (10 + since_start)) if since_start >= 0 else 0.0
        averages: List[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)


def train(
    stage: Stage, patches: Patches, settings: TrainingSettings, after_iteration: Callable[[int, float], None]
) -> Tuple[UNet, List[Tuple[int, float]]]:
    """Train a stage's network in place.

    The loss is read from the device about two hundred times in all, as each reading waits for it.

    Args:
        stage: the stage, its network on the training device.
        patches: gives the patches.
        settings: how to train.
        after_iteration: called with the iterations done and the loss last read, NaN before the first.

    Returns:
        The network with averaged weights, and (iteration, mean loss since the reading before) pairs.

    Raises:
        UserError: the loss is no longer a number.
    """
    torch.manual_seed(settings.seed)
    network, schedule = stage.network.train(), stage.schedule()
    average = MovingAverage(network, settings.ema_decay, settings.ema_start)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: _step_size(done, settings))
    read_every = max(1, settings.iterations // 200)
    history: List[Tuple[int, float]] = []
    total = torch.zeros((), device=stage.device)
    mean_loss, last_read = math.nan, 0
    for iteration in range(1, settings.iterations + 1):
        loss = stage_loss(stage, schedule, patches(settings.batch_size), settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        scheduler.step()
        average.update(network)
        total += loss.detach()
        if iteration % read_every == 0 or iteration == settings.iterations:
            mean_loss = float(total) / (iteration - last_read)
            if not math.isfinite(mean_loss):
                raise DIVERGED
            history.append((iteration, mean_loss))
            total.zero_()
            last_read = iteration
        after_iteration(iteration, mean_loss)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in average.network.parameters()):
        raise DIVERGED
    return average.network, history


def _step_size(done: int, settings: TrainingSettings) -> float:
    if not settings.cosine_decay:
        return 1.0
    warm_up = min(WARM_UP_ITERATIONS, settings.iterations // 10 + 1)
    return min((done + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * done / settings.iterations)))


def stage_loss(stage: Stage, schedule: Schedule, batch: Batch, settings: TrainingSettings) -> Tensor:
    """Return prediction loss + lambda * spectral-angle loss (eq. 15) at random timesteps.

    Args:
        stage: the stage, its network on the device of `batch`.
        schedule: its noise schedule.
        batch: patches.
        settings: weights of the losses, share of empty conditions.

    Where a regression lies under the network, the angle is that of the whole spectrum: a residual has
    no direction of its own.
    """
    x_0 = stage.to_sample(batch.target, batch.condition)
    count = len(x_0)
    t = torch.randint(schedule.timesteps, (count,), device=x_0.device)
    eps = torch.randn_like(x_0)
    from_zero = torch.rand(count, device=x_0.device) < settings.mean_share
    t = torch.where(from_zero, schedule.timesteps - 1, t)
    noisy = (~from_zero).to(x_0.dtype).reshape(-1, 1, 1, 1)
    eps = eps * noisy
    keep = (torch.rand(count, 1, 1, 1, device=x_0.device) >= settings.p_unconditional).to(x_0.dtype)

    def network(x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(x_t.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
            return stage.network(x_t, t, condition)

    kind = stage.header.prediction
    denoiser = make_denoiser(kind, network, schedule)
    prediction = denoiser(schedule.add_noise(x_0, t, eps) * noisy, t, batch.condition * keep)
    loss = prediction_loss(
        network_output(kind, prediction.x_0, t, prediction.eps, schedule),
        network_output(kind, x_0, t, eps, schedule),
        batch.valid,
        settings.loss,
    )
    if settings.sam_weight == 0:
        return loss
    estimated = stage.from_sample(prediction.x_0, batch.condition)
    return loss + settings.sam_weight * spectral_angle_loss(batch.target, estimated, batch.valid)
