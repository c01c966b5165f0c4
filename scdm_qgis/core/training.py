"""Training one stage (algorithm 1).

Everything random in an iteration follows from the seed and the iteration's number, so a training that is
taken up again, or shared by several processes, draws what it would have drawn anyway.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple

import numpy as np
import torch
from torch import Tensor

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.denoiser import make_denoiser, network_output
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.losses import mean_angle_loss, prediction_loss, spectral_angle_loss
from scdm_qgis.core.moving_average import MovingAverage
from scdm_qgis.core.processes import Processes
from scdm_qgis.core.schedule import Schedule
from scdm_qgis.core.unet import UNet

WARM_UP_ITERATIONS = 50
"""Iterations over which the step size of a cosine decay first grows."""

READINGS = 200
"""How often the loss is read from the device in all: each reading waits for it."""

PATIENCE = 3
"""Judgements without improvement after which an early stop is due."""

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
        validations: how often, evenly spread, the averaged weights are judged where they can be.
        early_stop: whether to stop once `PATIENCE` judgements in a row were no better than the best.
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
    validations: int = 10
    early_stop: bool = False


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

    def __call__(self, iteration: int, count: int, part: slice) -> Batch:
        """Return the given part of the `count` patches of an iteration, on the training device."""
        ...


@dataclass(frozen=True)
class Draws:
    """What an iteration draws at random for each of its samples.

    Args:
        t: timesteps (batch,).
        normals: what noise is made of (batch, band, row, column); zero where the sample starts from x_T = 0.
        noisy: 1, or 0 where the sample starts from x_T = 0 (batch, 1, 1, 1).
        keep: 1, or 0 where the condition is emptied (batch, 1, 1, 1).
    """

    t: Tensor
    normals: Tensor
    noisy: Tensor
    keep: Tensor


class Training:
    """A training under way: the network, its average, its optimiser, and how far it has come.

    Args:
        stage: the stage, its network on the training device; the network is trained in place.
        settings: how to train.
    """

    def __init__(self, stage: Stage, settings: TrainingSettings) -> None:
        self.stage, self.settings = stage, settings
        self.iteration = 0
        self.losses: List[Tuple[int, float]] = []
        self.judgements: List[Tuple[int, float, float]] = []
        self.average = MovingAverage(stage.network, settings.ema_decay, settings.ema_start)
        self.processes = Processes()
        self._network = stage.network.train()
        self._parameters = list(self._network.parameters())
        self._schedule = stage.schedule()
        fused = stage.device.type in ("cpu", "cuda")
        self._optimiser = torch.optim.Adam(self._parameters, lr=settings.learning_rate, fused=fused)
        self._best: Optional[Dict[str, Tensor]] = None
        self._sum = torch.zeros((), device=stage.device)

    @property
    def last_loss(self) -> float:
        """The loss last read from the device, NaN before the first reading."""
        return self.losses[-1][1] if self.losses else math.nan

    @property
    def best_judgement(self) -> float:
        """The lowest RMSE so far."""
        return min((rmse for _, rmse, _ in self.judgements), default=math.inf)

    @property
    def stopped_early(self) -> bool:
        """Whether an early stop is wanted and due."""
        if not self.settings.early_stop or len(self.judgements) <= PATIENCE:
            return False
        return min(rmse for _, rmse, _ in self.judgements[-PATIENCE:]) > self.best_judgement

    def step(self, patches: Patches) -> None:
        """Do one iteration.

        Raises:
            UserError: the loss is no longer a number.
        """
        settings, processes = self.settings, self.processes
        count, part = settings.batch_size * processes.count, processes.share(settings.batch_size)
        batch = patches(self.iteration, count, part)
        shape = (count, *batch.target.shape[1:])
        draws = draw(self._schedule, shape, part, self.iteration, settings, batch.target.device)
        torch.manual_seed(iteration_seed(settings.seed, self.iteration, processes.rank))  # dropout
        loss = stage_loss(self.stage, self._schedule, batch, draws, settings)
        # Every process's loss is a mean over its own valid pixels; weighted, they add up to the mean over all.
        valid = batch.valid.sum()
        loss = loss * (valid / processes.sum(valid).clamp(min=1)) if processes.count > 1 else loss
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        processes.sum_gradients([p.grad for p in self._parameters if p.grad is not None])
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(self.iteration)
        self._optimiser.step()
        self.average.update(self._network)
        self._sum += loss.detach()
        self.iteration += 1
        every = max(1, settings.iterations // READINGS)
        if self.iteration % every == 0 or self.iteration == settings.iterations:
            self._read_loss()

    def learning_rate(self, done: int) -> float:
        """Return the step size of the iteration that comes after `done` others."""
        return self.settings.learning_rate * _step_size(done, self.settings)

    def _read_loss(self) -> None:
        since = self.losses[-1][0] if self.losses else 0
        loss = float(self.processes.sum(self._sum)) / (self.iteration - since)
        if not math.isfinite(loss):
            raise DIVERGED
        self.losses.append((self.iteration, loss))
        self._sum.zero_()

    def judge(self, rmse: float, sam: float) -> None:
        """Take note of how good the averaged weights are, and keep those of the lowest RMSE."""
        if rmse < self.best_judgement:
            self._best = {key: value.clone() for key, value in self.average.network.state_dict().items()}
        self.judgements.append((self.iteration, rmse, sam))

    def last_network(self) -> UNet:
        """Return a network with the averaged weights; raises UserError where they are no numbers."""
        return self._checked(deepcopy(self.average.network))

    def best_network(self) -> UNet:
        """Return a network with the averaged weights that were judged best; raises UserError as `last_network`."""
        network = deepcopy(self.average.network)
        if self._best is not None:
            network.load_state_dict(self._best)
        return self._checked(network)

    @staticmethod
    def _checked(network: UNet) -> UNet:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise DIVERGED
        return network

    def go_back_to_best(self) -> None:
        """Go on from the weights that were judged best."""
        weights = self.best_network().state_dict()
        self._network.load_state_dict(weights)
        self.average.network.load_state_dict(weights)

    def tensors(self) -> Dict[str, Tensor]:
        """Return all tensors needed to go on, by name."""
        parts = {
            "network": self._network.state_dict(),
            "average": self.average.network.state_dict(),
            "best": self._best or {},
            "first_moment": self._moments("exp_avg"),
            "second_moment": self._moments("exp_avg_sq"),
            "loss": {"sum": self._sum},
        }
        return {
            f"{part}.{key}": value.detach().contiguous().cpu()
            for part, tensors in parts.items()
            for key, value in tensors.items()
        }

    def _moments(self, kind: str) -> Dict[str, Tensor]:
        state = self._optimiser.state
        names = (name for name, _ in self._network.named_parameters())
        return {name: state[p][kind] for name, p in zip(names, self._parameters) if p in state}

    def values(self) -> Dict[str, Any]:
        """Return all else that is needed to go on, as JSON values."""
        return {
            "iteration": self.iteration,
            "losses": self.losses,
            "judgements": self.judgements,
        }

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from where `tensors` and `values` were taken.

        Raises:
            KeyError, RuntimeError: they are those of another training.
        """

        def part(name: str) -> Dict[str, Tensor]:
            prefix = f"{name}."
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

        self._network.load_state_dict(part("network"))
        self.average.network.load_state_dict(part("average"))
        self.average.updates = self.iteration = int(values["iteration"])
        best = {key: value.to(self.stage.device) for key, value in part("best").items()}
        self._best = best or None
        self._sum.copy_(tensors["loss.sum"])
        first, second = part("first_moment"), part("second_moment")
        step = torch.tensor(float(self.iteration))
        state = {
            index: {"step": step.clone(), "exp_avg": first[name], "exp_avg_sq": second[name]}
            for index, (name, _) in enumerate(self._network.named_parameters())
            if name in first
        }
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.losses = [(int(iteration), float(loss)) for iteration, loss in values["losses"]]
        self.judgements = [(int(iteration), float(rmse), float(sam)) for iteration, rmse, sam in values["judgements"]]


def train(
    training: Training,
    patches: Patches,
    after_iteration: Callable[[Training], None],
    until: int,
    judge: Optional[Callable[[UNet], Tuple[float, float]]] = None,
) -> None:
    """Train up to an iteration, or to an early stop.

    Args:
        training: a new training, or one taken up again.
        patches: gives the patches.
        after_iteration: called after every iteration.
        until: the iteration, at most the settings'.
        judge: returns a network's RMSE and SAM on unseen pixels.

    Raises:
        UserError: the loss is no longer a number.
    """
    judge_every = max(1, until // max(1, training.settings.validations))
    while training.iteration < until and not training.stopped_early:
        training.step(patches)
        if judge is not None and (training.iteration % judge_every == 0 or training.iteration == until):
            training.judge(*judge(training.average.network))
        after_iteration(training)


def _step_size(done: int, settings: TrainingSettings) -> float:
    if not settings.cosine_decay:
        return 1.0
    warm_up = min(WARM_UP_ITERATIONS, settings.iterations // 10 + 1)
    return min((done + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * done / settings.iterations)))


def iteration_seed(*numbers: int) -> int:
    """Return a seed that follows from a training's seed, an iteration's number and what else is given."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def draw(
    schedule: Schedule,
    shape: Tuple[int, ...],
    part: slice,
    iteration: int,
    settings: TrainingSettings,
    device: torch.device,
) -> Draws:
    """Draw what an iteration needs, for a part of its samples.

    Args:
        schedule: the noise schedule.
        shape: of all the iteration's samples (batch, band, row, column).
        part: which of the samples are wanted; the others are drawn and dropped, so that every process
            of a training has its part of the same draws.
        iteration: number of the iteration.
        settings: seed and shares.
        device: where the draws go.
    """
    random = torch.Generator(device).manual_seed(iteration_seed(settings.seed, iteration))
    count = shape[0]
    t = torch.randint(schedule.timesteps, (count,), device=device, generator=random)
    from_zero = torch.rand(count, device=device, generator=random) < settings.mean_share
    keep = torch.rand(count, 1, 1, 1, device=device, generator=random) >= settings.p_unconditional
    normals = torch.randn(shape, device=device, generator=random)
    t = torch.where(from_zero, schedule.timesteps - 1, t)
    noisy = (~from_zero).float().reshape(-1, 1, 1, 1)
    return Draws(t[part], (normals * noisy)[part], noisy[part], keep.float()[part])


def stage_loss(stage: Stage, schedule: Schedule, batch: Batch, draws: Draws, settings: TrainingSettings) -> Tensor:
    """Return prediction loss + lambda * spectral-angle loss (eq. 15) at random timesteps.

    Args:
        stage: the stage, its network on the device of `batch`.
        schedule: its noise schedule.
        batch: patches.
        draws: timesteps and noise.
        settings: weights of the losses.

    Where a regression lies under the network, the angle is that of the whole spectrum in data units, since a
    residual has no direction of its own, and errors count as `Anchor.error_weights` says.
    """
    expected = None if stage.anchor is None else stage.anchor.expect(batch.condition)
    x_0 = batch.target if expected is None else expected.to_residual(batch.target)

    def network(x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(x_t.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
            return stage.network(x_t, t, condition)

    kind = stage.header.prediction
    eps = stage.noise(draws.normals)
    x_t = schedule.add_noise(x_0, draws.t, eps) * draws.noisy
    prediction = make_denoiser(kind, network, schedule)(
        x_t, draws.t, stage.network_condition(batch.condition) * draws.keep
    )
    loss = prediction_loss(
        network_output(kind, prediction.x_0, draws.t, prediction.eps, schedule),
        network_output(kind, x_0, draws.t, eps, schedule),
        batch.valid,
        settings.loss,
        None if stage.anchor is None or expected is None else stage.anchor.error_weights(expected),
    )
    if settings.sam_weight == 0:
        return loss
    if stage.anchor is None or expected is None:
        return loss + settings.sam_weight * spectral_angle_loss(batch.target, prediction.x_0, batch.valid)
    # Regression and target are common to both residuals: their difference is the spectra's.
    estimated = batch.target + (prediction.x_0 - x_0) * expected.scale
    angle = mean_angle_loss(batch.target, estimated, batch.valid, stage.anchor.light.black)
    return loss + settings.sam_weight * angle
