"""Samplers against a Gaussian, whose posterior is known in closed form."""

import pytest
import torch

from scdm_qgis.core.cascade_header import ScheduleConfig, Truncation
from scdm_qgis.core.denoiser import NoiseDenoiser, Prediction, VelocityDenoiser, make_denoiser, network_output
from scdm_qgis.core.samplers import sample_ddim, sample_ddpm, step_pairs
from scdm_qgis.core.schedule import Schedule, at
from scdm_qgis.core.truncation import (
    TruncatedDenoiser,
    percentiles,
    sample_thresholds,
    scheduled_thresholds,
)

MEAN, DEVIATION = 0.7, 0.3
OFF = Truncation()


@pytest.fixture(scope="module")
def schedule():
    return Schedule(ScheduleConfig())


def gaussian(schedule):
    """Return the exact denoiser of x_0 ~ N(MEAN, DEVIATION^2), written as E[x_0 | x_t]."""

    def denoise(x_t, t, condition):
        signal, noise = at(schedule.sqrt_abar, t), at(schedule.sqrt_one_minus_abar, t)
        gain = DEVIATION**2 * signal / (signal**2 * DEVIATION**2 + noise**2)
        x_0 = MEAN + gain * (x_t - signal * MEAN)
        return Prediction(x_0, (x_t - signal * x_0) / noise)

    return TruncatedDenoiser(denoise, OFF, schedule, None)


def normal(step):
    return torch.randn(4, 2, 64, 64, generator=torch.Generator().manual_seed(step))


def nothing():
    return None


def test_ddpm_draws_the_gaussian(schedule):
    sample = sample_ddpm(gaussian(schedule), schedule, torch.zeros(4, 1, 64, 64), normal(1000), normal, nothing)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert sample.std().item() == pytest.approx(DEVIATION, rel=0.03)


@pytest.mark.parametrize("steps", [100, 1000])
def test_ddim_draws_the_gaussian(schedule, steps):
    sample = sample_ddim(gaussian(schedule), schedule, torch.zeros(4, 1, 64, 64), normal(0), steps, nothing)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert sample.std().item() == pytest.approx(DEVIATION, rel=0.1)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_ddim_from_zero_gives_the_posterior_mean(schedule, steps):
    start = torch.zeros(1, 2, 4, 4)
    sample = sample_ddim(gaussian(schedule), schedule, torch.zeros(1, 1, 4, 4), start, steps, nothing)
    assert torch.allclose(sample, torch.full_like(sample, MEAN), atol=2e-3)


def test_steps_are_counted(schedule):
    calls = []
    sample_ddim(
        gaussian(schedule), schedule, torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), 7, lambda: calls.append(1)
    )
    assert len(calls) == 7
    assert step_pairs(schedule, 2) == ((999, 499), (499, None))


@pytest.mark.parametrize("kind", ["noise", "velocity", "residual"])
@pytest.mark.parametrize("t", [0, 400, 999])
def test_perfect_networks_give_back_what_was_noised(schedule, kind, t):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    times = torch.full((2,), t)
    perfect = network_output(kind, x_0, times, eps, schedule)
    prediction = make_denoiser(kind, lambda *_: perfect, schedule)(schedule.add_noise(x_0, times, eps), times, x_0)
    # Noise prediction divides by sqrt(abar), 0.0063 at the end: rounding grows likewise.
    tolerance = 1e-5 if kind != "noise" else 1e-6 / schedule.sqrt_abar[t].item() + 1e-6
    assert torch.allclose(prediction.x_0, x_0, atol=tolerance)
    assert torch.allclose(prediction.eps, eps, atol=1e-5)


def test_kinds_of_denoiser(schedule):
    assert isinstance(make_denoiser("noise", None, schedule), NoiseDenoiser)
    assert isinstance(make_denoiser("residual", None, schedule), VelocityDenoiser)


def linear_in_condition(x_t, t, condition):
    return Prediction(x_0=condition + 1, eps=2 * condition - 1)


def test_percentiles_grow_to_one_at_the_end(schedule):
    p = percentiles(0.96, schedule)
    assert p[0].item() == 1
    assert p[999].item() == pytest.approx(0.96)
    assert p[500].item() == pytest.approx(0.96 + 0.04 * 499 / 999, abs=1e-6)


def test_sample_threshold_is_the_quantile_but_at_least_one():
    values = torch.randn(3, 2, 9, 9, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1, 5]).reshape(
        3, 1, 1, 1
    )
    expected = torch.quantile(values.abs().flatten(1), 0.9, dim=1).clamp(min=1)
    assert torch.allclose(sample_thresholds(values, torch.full((3,), 0.9)), expected)


def test_sample_threshold_of_more_values_than_float32_can_count():
    values = torch.zeros(1, 1, 2**12, 2**12 + 1)
    values[0, 0, 7, 7] = -3.0
    assert sample_thresholds(values, torch.ones(1)).item() == 3.0


def test_scheduled_threshold_is_what_gaussian_states_have(schedule):
    """For x_0 ~ N(0, s^2) the table agrees with the quantile of real states."""
    second_moment, t = 2.0, torch.tensor([999, 300, 50])
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(3, 1, 400, 400, generator=generator) for _ in range(2))
    states = schedule.add_noise(x_0 * second_moment**0.5, t, eps)
    measured = sample_thresholds(states, percentiles(0.88, schedule)[t])
    assert torch.allclose(scheduled_thresholds(0.88, schedule, second_moment)[t], measured, rtol=0.01)


@pytest.mark.parametrize("threshold", ["schedule", "sample"])
def test_truncation_of_the_state(schedule, threshold):
    x = torch.linspace(-9, 9, 200).reshape(1, 2, 10, 10)
    t = torch.tensor([999])
    denoiser = TruncatedDenoiser(linear_in_condition, Truncation(0.5, "state", threshold), schedule, 1.0)
    state = denoiser.state(x, t)
    limit = 1.0 if threshold == "schedule" else sample_thresholds(x, torch.tensor([0.5])).item()
    assert torch.allclose(state, x.clamp(-limit, limit))
    assert torch.equal(denoiser(x, t, x).eps, 2 * x - 1)


def test_truncation_of_the_noise_changes_x_0_too(schedule):
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor([999])
    condition = torch.full_like(x, 5.0)
    denoiser = TruncatedDenoiser(linear_in_condition, Truncation(0.9, "noise", "schedule"), schedule, 1.0)
    prediction = denoiser(denoiser.state(x, t), t, condition)
    tau = scheduled_thresholds(0.9, schedule, 1.0)[999].item()
    assert prediction.eps.max().item() == pytest.approx(tau)
    expected = -schedule.sqrt_one_minus_abar[999] * tau / schedule.sqrt_abar[999]
    assert prediction.x_0.max().item() == pytest.approx(expected.item(), rel=1e-5)
