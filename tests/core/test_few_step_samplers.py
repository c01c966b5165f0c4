"""DDIM, DPM-Solver++(2M) and UniPC against an independent implementation and against an exact solution."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from scdm_qgis.core.cascade_header import SAMPLERS, ScheduleConfig, Truncation
from scdm_qgis.core.denoiser import Prediction
from scdm_qgis.core.samplers import FEW_STEP_SAMPLERS, dpmpp_weights
from scdm_qgis.core.schedule import Schedule
from scdm_qgis.core.truncation import TruncatedDenoiser, scheduled_thresholds

OFF = Truncation()
MEAN, DEVIATION = 0.7, 0.3
SECOND_ORDER = {
    "dpmpp": lambda **same: DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_type="midpoint", **same),
    "unipc": lambda **same: UniPCMultistepScheduler(solver_type="bh2", **same),
}


@pytest.fixture(scope="module")
def schedule():
    return Schedule(ScheduleConfig())


def signal_and_noise(schedule, t):
    abar = torch.tensor(schedule.exact_abar, dtype=torch.float64)[t].reshape(-1, 1, 1, 1)
    return abar.sqrt(), (1 - abar).sqrt()


def made_of(estimate, schedule):
    """Return an untruncated denoiser in float64 from an estimate of x_0, and the states it is shown by timestep."""
    seen = {}

    def denoise(x_t, t, condition):
        seen[t[0].item()] = x_t
        signal, noise = signal_and_noise(schedule, t)
        x_0 = estimate(x_t, t, condition)
        return Prediction(x_0, (x_t - signal * x_0) / noise)

    return TruncatedDenoiser(denoise, OFF, schedule, None), seen


def bent(x_t, t, condition):
    """Stand for a network: bounded, nonlinear, and not the same at any two timesteps."""
    time = t.reshape(-1, 1, 1, 1).double() / 1000
    return torch.tanh(1.3 * x_t + 0.2 * torch.cos(3 * x_t)) * (1 - 0.6 * time) + torch.sin(5 * time) * condition


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def condition_of(start):
    return torch.full_like(start[:, :1], 0.3)


def sample(name, denoiser, schedule, start, steps):
    return FEW_STEP_SAMPLERS[name](denoiser, schedule, condition_of(start), start, steps, lambda: None)


def follow(oracle, start):
    """Let a scheduler of diffusers sample with the same network."""
    x_t = start
    for t in oracle.timesteps:
        x_t = oracle.step(bent(x_t, t.reshape(1), condition_of(start)), t, x_t).prev_sample
    return x_t


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 10, 13, 16, 20])
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_samplers_are_those_of_diffusers(schedule, name, steps):
    oracle = SECOND_ORDER[name](solver_order=2, prediction_type="sample", final_sigmas_type="zero")
    oracle.set_timesteps(steps)
    timesteps = schedule.trailing_timesteps(steps)
    abar = torch.tensor(schedule.exact_abar, dtype=torch.float64)[timesteps]
    oracle.timesteps = torch.tensor(timesteps)
    oracle.sigmas = torch.cat([((1 - abar) / abar).sqrt(), abar.new_zeros(1)])
    start = normal(2, 3, 6, 5)
    ours = sample(name, made_of(bent, schedule)[0], schedule, start, steps)
    # DPMSolverMultistepScheduler keeps its states in float32.
    assert torch.allclose(ours, follow(oracle, start), rtol=0, atol=1e-6 if name == "dpmpp" else 1e-12)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10, 20])
def test_ddim_is_that_of_diffusers(schedule, steps):
    """For numbers of steps that divide T: the other's steps are all equally long."""
    same = {"prediction_type": "sample", "timestep_spacing": "trailing", "clip_sample": False}
    oracle = DDIMScheduler(beta_start=1e-4, beta_end=0.02, **same)
    oracle.set_timesteps(steps)
    assert oracle.timesteps.tolist() == schedule.trailing_timesteps(steps)
    start = normal(2, 3, 6, 5)
    ours = sample("ddim", made_of(bent, schedule)[0], schedule, start, steps)
    assert torch.allclose(ours, follow(oracle, start), rtol=0, atol=2e-6)


def exact_estimate(schedule):
    """Return E[x_0 | x_t] of x_0 ~ N(MEAN, DEVIATION^2)."""

    def estimate(x_t, t, condition):
        signal, noise = signal_and_noise(schedule, t)
        gain = DEVIATION**2 * signal / (signal**2 * DEVIATION**2 + noise**2)
        return MEAN + gain * (x_t - signal * MEAN)

    return estimate


def exact_flow(schedule, x_start, t):
    """Return where the deterministic path from x_(T - 1) is at t; None is x_0.

    A Gaussian's path keeps the state as many standard deviations from the mean as it was.
    """
    signal, noise = signal_and_noise(schedule, torch.tensor([schedule.timesteps - 1]))
    z = (x_start - signal * MEAN) / (signal**2 * DEVIATION**2 + noise**2).sqrt()
    signal, noise = (1, torch.zeros(1)) if t is None else signal_and_noise(schedule, torch.tensor([t]))
    return signal * MEAN + (signal**2 * DEVIATION**2 + noise**2).sqrt() * z


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp", 2), ("unipc", 3)])
def test_halving_the_steps_divides_the_error_by_a_power_of_two(schedule, name, order):
    """At a fixed timestep on the way, which 40, 80, 200 and 400 steps all visit, each twice as many as another."""
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    denoiser, seen = made_of(exact_estimate(schedule), schedule)
    errors = {}
    for steps in (40, 80, 200, 400):
        sample(name, denoiser, schedule, start, steps)
        errors[steps] = (seen[249] - exact_flow(schedule, start, 249)).abs().max().item()
    for steps in (40, 200):
        assert 0.85 * 2**order < errors[steps] / errors[2 * steps] < 2**order / 0.6


@pytest.mark.parametrize("steps", [3, 5, 8, 12, 20, 50])
def test_second_order_samplers_end_nearer_the_exact_solution_than_ddim(schedule, steps):
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    exact = exact_flow(schedule, start, None)
    denoiser, _ = made_of(exact_estimate(schedule), schedule)
    ddim, *others = (
        (sample(name, denoiser, schedule, start, steps) - exact).abs().max().item()
        for name in ("ddim", "dpmpp", "unipc")
    )
    assert max(others) < ddim


@pytest.mark.parametrize("name", FEW_STEP_SAMPLERS)
def test_one_step_gives_what_the_network_says(schedule, name):
    start = normal(2, 3, 6, 5).float()
    said = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    denoiser = TruncatedDenoiser(lambda *_: Prediction(said, said), OFF, schedule, None)
    assert torch.equal(sample(name, denoiser, schedule, start, 1), said)


@pytest.mark.parametrize("name", FEW_STEP_SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_every_step_asks_the_network_once_and_is_reported(schedule, name, steps):
    denoiser, seen = made_of(bent, schedule)
    calls = []
    start = normal(1, 1, 2, 2)
    FEW_STEP_SAMPLERS[name](denoiser, schedule, start, start, steps, lambda: calls.append(len(seen)))
    assert calls == list(range(1, steps + 1))
    assert list(seen) == schedule.trailing_timesteps(steps)


@pytest.mark.parametrize("name", FEW_STEP_SAMPLERS)
def test_samplers_go_on_from_the_truncated_state(schedule, name):
    """A network that says x_0 = 0 leaves states that only shrink: truncated once, they need it no more.

    Then dpmpp and unipc multiply the state by sigma_t / sigma_s, and ddim, whose eps is state / sigma, does so too.
    """
    truncation, seen = Truncation(0.5), {}

    def nothing(x_t, t, condition):
        seen[t[0].item()] = x_t
        _, noise = signal_and_noise(schedule, t)
        return Prediction(torch.zeros_like(x_t), x_t / noise)

    start = 9 * normal(1, 2, 8, 8)
    denoiser = TruncatedDenoiser(nothing, truncation, schedule, 1.0)
    sample(name, denoiser, schedule, start, 4)
    tau = scheduled_thresholds(0.5, schedule, 1.0)
    assert torch.allclose(seen[999], start.clamp(-tau[999], tau[999]))
    for before, after in ((999, 749), (749, 499), (499, 249)):
        ratio = signal_and_noise(schedule, [after])[1] / signal_and_noise(schedule, [before])[1]
        assert torch.allclose(seen[after], (ratio * seen[before]).clamp(-tau[after], tau[after]), atol=1e-6)


def test_the_corrected_state_is_truncated_too(schedule):
    """A network that says 0, then 100, makes the corrector pull the state out of its bounds."""
    shown = []

    class Watched(TruncatedDenoiser):
        def state(self, x_t, t):
            shown.append(x_t.max().item())
            return super().state(x_t, t)

    def jump(x_t, t, condition):
        return Prediction(torch.full_like(x_t, 100.0 if t[0] == 749 else 0.0), x_t)

    denoiser = Watched(jump, Truncation(0.9), schedule, 1.0)
    sample("unipc", denoiser, schedule, torch.zeros(1, 1, 2, 2, dtype=torch.float64), 4)
    _, _, corrected, predicted, *_ = shown
    tau = scheduled_thresholds(0.9, schedule, 1.0)[749].item()
    assert corrected > tau
    of_x_t, of_x_0, _ = dpmpp_weights(schedule.noise_levels(schedule.trailing_timesteps(4)))[1]
    assert predicted == pytest.approx(of_x_t * tau + of_x_0 * 100)


def test_every_sampler_but_ddpm_takes_few_steps():
    assert ("ddpm", *FEW_STEP_SAMPLERS) == SAMPLERS
