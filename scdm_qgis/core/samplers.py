"""From noise to a sample: DDPM (eq. 16, algorithm 2), and samplers that take few steps and draw no noise.

These are DDIM (Song et al. 2021), DPM-Solver++(2M) (Lu et al. 2022) and UniPC (Zhao et al. 2023). All three
follow the same path from x_T, with errors that fall as steps get shorter: DDIM's are of order 1, those of
DPM-Solver++(2M) of order 2, those of UniPC of order 3. They end with the same jump to the x_0 predicted at the
last timestep, so that with one step or two they are the same.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Optional, Protocol, Sequence, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.denoiser import Prediction
from scdm_qgis.core.noise import Noise
from scdm_qgis.core.schedule import NoiseLevel, Schedule, at
from scdm_qgis.core.truncation import TruncatedDenoiser


class FewStepSampler(Protocol):
    """Run deterministic steps from x_T over trailing timesteps and return x_0."""

    def __call__(
        self,
        denoiser: TruncatedDenoiser,
        schedule: Schedule,
        condition: Tensor,
        x_t: Tensor,
        steps: int,
        after_step: Callable[[], None],
    ) -> Tensor:
        """Sample; a single step gives the network's x_0.

        Args:
            denoiser: guided and truncated.
            schedule: the noise schedule.
            condition: (batch, condition band, row, column).
            x_t: the start, noise or zero (batch, band, row, column).
            steps: number of steps, each with one call of the denoiser.
            after_step: called after every step.
        """
        ...


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
        x_t: the start, noise (batch, band, row, column).
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
    """Sample by DDIM, see `FewStepSampler`.

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


def sample_dpmpp(
    denoiser: TruncatedDenoiser,
    schedule: Schedule,
    condition: Tensor,
    x_t: Tensor,
    steps: int,
    after_step: Callable[[], None],
) -> Tensor:
    """Sample by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), see `FewStepSampler`."""
    timesteps = schedule.trailing_timesteps(steps)
    x_0_before = torch.zeros_like(x_t)
    for step, (of_x_t, of_x_0, of_before) in zip(timesteps, dpmpp_weights(schedule.noise_levels(timesteps))):
        t = torch.full((len(x_t),), step, device=x_t.device)
        x_t = denoiser.state(x_t, t)
        x_0 = denoiser(x_t, t, condition).x_0
        x_t = of_x_t * x_t + of_x_0 * x_0 + of_before * x_0_before
        x_0_before = x_0
        after_step()
    return x_t


def dpmpp_weights(levels: Sequence[NoiseLevel]) -> List[Tuple[float, float, float]]:
    """Return how every step weighs the state, the x_0 predicted there and the one predicted before.

    From level s to level t: x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D, h = lambda_t - lambda_s, where
    D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) x_0_before, r = h_before / h. The first step knows no x_0 before, and the
    last, where h is infinite, does not look at it: D = x_0.

    Args:
        levels: at the start, between the steps and at the end.
    """
    weights = []
    for i, (here, there) in enumerate(zip(levels, levels[1:])):
        h = there.log_ratio - here.log_ratio
        looks_back = 0 < i < len(levels) - 2
        back = h / (2 * (here.log_ratio - levels[i - 1].log_ratio)) if looks_back else 0.0
        gain = -there.signal * math.expm1(-h)
        weights.append((there.noise / here.noise, gain * (1 + back), -gain * back))
    return weights


def sample_unipc(
    denoiser: TruncatedDenoiser,
    schedule: Schedule,
    condition: Tensor,
    x_t: Tensor,
    steps: int,
    after_step: Callable[[], None],
) -> Tensor:
    """Sample by UniPC of order 2 with B(h) = e^h - 1 (Zhao et al. 2023), see `FewStepSampler`.

    Its predictor, UniP-2, is the step of DPM-Solver++(2M). Its corrector, UniC, then takes the same step once
    more with what the network said at its end.
    """
    timesteps = schedule.trailing_timesteps(steps)
    levels = schedule.noise_levels(timesteps)
    x_s, x_0, x_0_before = x_t, torch.zeros_like(x_t), torch.zeros_like(x_t)
    corrections = [None, *unic_weights(levels), None]
    for step, correction, (of_x_t, of_x_0, of_before) in zip(timesteps, corrections, dpmpp_weights(levels)):
        t = torch.full((len(x_t),), step, device=x_t.device)
        x_t = denoiser.state(x_t, t)
        x_0_before, x_0_before_that, x_0 = x_0, x_0_before, denoiser(x_t, t, condition).x_0
        if correction is not None:
            of_x_s, of_new, of_old, of_older = correction
            x_t = of_x_s * x_s + of_new * x_0 + of_old * x_0_before + of_older * x_0_before_that
            x_t = denoiser.state(x_t, t)
        x_s = x_t
        x_t = of_x_t * x_t + of_x_0 * x_0 + of_before * x_0_before
        after_step()
    return x_t


def unic_weights(levels: Sequence[NoiseLevel]) -> List[Tuple[float, float, float, float]]:
    """Return how every correction weighs the state before the step and three x_0: at its end, start, and before.

    From level s to level t, at which the network has since predicted x_0(t):
    x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) (x_0(s) + a (x_0(before) - x_0(s)) / r + b (x_0(t) - x_0(s))),
    r = (lambda_before - lambda_s) / h. a and b make it exact for x_0 that are polynomials of degree 2 in lambda:
    a + b = b_1, r a + b = b_2. The first correction knows no x_0 before: a = 0, b = 1/2. The state at the last
    timestep needs none, as x_0 does not depend on it.

    Args:
        levels: at the start, between the steps and at the end.
    """
    weights = []
    for i, (here, there) in enumerate(zip(levels, levels[1:-2])):
        h = there.log_ratio - here.log_ratio
        phi_1 = math.expm1(-h)
        a_over_r, b = 0.0, 0.5
        if i > 0:
            r = (levels[i - 1].log_ratio - here.log_ratio) / h
            phi_2 = -phi_1 / h - 1
            phi_3 = -phi_2 / h - 0.5
            b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
            a = (b_1 - b_2) / (1 - r)
            a_over_r, b = a / r, b_1 - a
        gain = -there.signal * phi_1
        weights.append((there.noise / here.noise, gain * b, gain * (1 - a_over_r - b), gain * a_over_r))
    return weights


FEW_STEP_SAMPLERS: Dict[str, FewStepSampler] = {"ddim": sample_ddim, "dpmpp": sample_dpmpp, "unipc": sample_unipc}
"""The samplers that draw no noise, by name."""
