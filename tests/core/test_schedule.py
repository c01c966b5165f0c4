import numpy as np
import pytest
import torch

from scdm_qgis.core.cascade_header import ScheduleConfig
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.schedule import Schedule


@pytest.fixture
def schedule():
    return Schedule(ScheduleConfig())


def test_abar_is_the_product_of_alphas(schedule):
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    assert np.allclose(schedule.abar.numpy(), expected, rtol=1e-6)
    assert schedule.abar[-1].item() == pytest.approx(4.0e-5, rel=0.02)


def test_noise_keeps_the_variance_of_standard_data(schedule):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(1000, 1, 8, 8, generator=generator) for _ in range(2))
    x_t = schedule.add_noise(x_0, torch.arange(1000), eps)
    assert x_t.var().item() == pytest.approx(1.0, abs=0.02)


def test_noise_and_velocity_are_a_rotation(schedule):
    """x_t^2 + v^2 = x_0^2 + eps^2 at every timestep."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(1000, 1, 2, 2, generator=generator) for _ in range(2))
    t = torch.arange(1000)
    rotated = schedule.add_noise(x_0, t, eps).square() + schedule.velocity(x_0, t, eps).square()
    assert torch.allclose(rotated, x_0.square() + eps.square(), atol=1e-5)


@pytest.mark.parametrize(("steps", "expected"), [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249])])
def test_trailing_timesteps_start_where_training_ends(schedule, steps, expected):
    assert schedule.trailing_timesteps(steps) == expected


def test_all_timesteps_are_the_full_schedule(schedule):
    assert schedule.trailing_timesteps(1000) == list(range(999, -1, -1))


@pytest.mark.parametrize("settings", [{"timesteps": 1}, {"beta_first": 0.0}, {"beta_first": 0.5, "beta_last": 0.1}])
def test_impossible_schedules_are_refused(settings):
    with pytest.raises(UserError):
        ScheduleConfig(**settings)


@pytest.mark.parametrize("timesteps", [20, 100, 4000])
def test_other_lengths_end_in_the_same_noise(timesteps):
    assert ScheduleConfig.of_timesteps(1000) == ScheduleConfig()
    assert Schedule(ScheduleConfig.of_timesteps(timesteps)).abar[-1].item() < 1e-4


def test_noise_levels_are_exact_and_end_in_x_0(schedule):
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[[999, 499, 0]]
    *levels, end = schedule.noise_levels([999, 499, 0])
    signal, noise, log_ratio = np.array(levels).T
    assert np.allclose(signal, np.sqrt(expected), rtol=1e-12)
    assert np.allclose(noise, np.sqrt(1 - expected), rtol=1e-12)
    assert np.allclose(log_ratio, np.log(signal / noise), rtol=1e-12)
    assert end == (1, 0, np.inf)
