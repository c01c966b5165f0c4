from dataclasses import replace

import pytest
import torch

from scdm_qgis.core.cascade_header import ScheduleConfig
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.training import Batch
from scdm_qgis.engine.step_choice import CANDIDATES, Trial, fewest_steps, try_steps
from tests.core.conftest import small_stage

DEVIATION = 0.5


class ExactGaussian(torch.nn.Module):
    """The velocity network of x_0 ~ N(0, DEVIATION^2)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.unused = schedule, torch.nn.Parameter(torch.zeros(1))

    def factor(self, t):
        """v / x_t: the expectations of x_0 and eps are linear in x_t."""
        abar = self.schedule.abar[t].double()
        return (abar * (1 - abar)).sqrt() * (1 - DEVIATION**2) / (abar * DEVIATION**2 + 1 - abar)

    def forward(self, x_t, t, condition):
        return (self.factor(t[0]) * x_t).float()


@pytest.fixture(scope="module")
def stage():
    stage = small_stage(1, of=1, prediction="velocity")
    stage = replace(stage, header=replace(stage.header, schedule=ScheduleConfig()))
    return replace(stage, network=ExactGaussian(stage.schedule()))


@pytest.fixture(scope="module")
def trials(stage):
    random = torch.Generator().manual_seed(0)
    target = DEVIATION * torch.randn(4, 4, 32, 32, generator=random)
    batch = Batch(target, torch.zeros(4, 3, 32, 32), torch.ones(4, 1, 32, 32))
    return try_steps(stage, [batch, batch], seed=1, bfloat16=False)


def closed_form_spread(stage, steps):
    """DDIM multiplies a Gaussian's x_t by a number in every step."""
    schedule, network = stage.schedule(), stage.network
    times, scale = schedule.trailing_timesteps(steps), 1.0
    for t, previous in zip(times, [*times[1:], None]):
        v, signal, noise = network.factor(t), schedule.sqrt_abar[t].double(), schedule.sqrt_one_minus_abar[t].double()
        x_0, eps = signal - noise * v, noise + signal * v
        ends = (
            (1.0, 0.0) if previous is None else (schedule.sqrt_abar[previous], schedule.sqrt_one_minus_abar[previous])
        )
        scale *= float(ends[0] * x_0 + ends[1] * eps)
    return scale


def test_every_candidate_is_tried(trials):
    assert tuple(trial.steps for trial in trials) == CANDIDATES


def test_spread_and_error_are_those_of_a_gaussian(stage, trials):
    """Errors of draws that know nothing of the truth: both variances add up."""
    for trial in trials:
        spread = closed_form_spread(stage, trial.steps)
        assert trial.spread == pytest.approx(spread, rel=0.02)
        assert trial.rmse == pytest.approx((spread**2 + DEVIATION**2) ** 0.5, rel=0.02)


def test_draws_that_collapse_to_the_mean_are_not_chosen(trials):
    """One step has the lowest RMSE and no spread; what is chosen has both."""
    assert trials[0].rmse == min(trial.rmse for trial in trials)
    chosen = next(trial for trial in trials if trial.steps == fewest_steps(trials))
    assert chosen.steps > 1
    assert chosen.spread >= 0.9 * trials[-1].spread
    assert all(trial.spread < 0.9 * trials[-1].spread for trial in trials if trial.steps < chosen.steps)


@pytest.mark.parametrize(
    ("rmse", "chosen"), [((9.0, 2.0, 1.005, 1.0), 3), ((9.0, 1.2, 1.1, 1.0), 4), ((1.009, 1.2, 1.1, 1.0), 1)]
)
def test_the_fewest_within_a_percent_of_the_best(rmse, chosen):
    assert fewest_steps([Trial(steps, error, 1.0) for steps, error in enumerate(rmse, start=1)]) == chosen


def test_a_short_schedule_has_no_more_steps_than_timesteps(stage):
    short = replace(stage, header=replace(stage.header, schedule=ScheduleConfig.of_timesteps(5)))
    short = replace(short, network=ExactGaussian(short.schedule()))
    batch = Batch(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
    assert [trial.steps for trial in try_steps(short, [batch], 0, False)] == [1, 2, 3, 4, 5]


def test_invalid_pixels_do_not_count(stage):
    valid = torch.ones(1, 1, 16, 16)
    valid[..., 8:] = 0
    target = torch.where(valid > 0, 0.0, 1e6).expand(1, 4, 16, 16)
    (trial, *_) = try_steps(stage, [Batch(target, torch.zeros(1, 3, 16, 16), valid)], 0, False)
    assert trial.rmse < 1


def test_draws_that_are_no_numbers_are_told_as_divergence(stage):
    broken = replace(stage, network=torch.nn.Sequential())
    broken.network.forward = lambda x_t, t, condition: x_t * float("inf")
    broken.network.unused = torch.nn.Parameter(torch.zeros(1))
    batch = Batch(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
    with pytest.raises(UserError, match="Training diverged"):
        try_steps(broken, [batch], 0, False)
