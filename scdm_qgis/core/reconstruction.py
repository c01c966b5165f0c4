"""From an RGB image to a spectrum a pixel: the stages of a cascade one after the other (algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.cascade_header import SAMPLERS, StageHeader, Truncation
from scdm_qgis.core.context import context_maps, context_radius
from scdm_qgis.core.denoiser import make_denoiser
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.guidance import GuidedNetwork
from scdm_qgis.core.noise import START, Noise, PlacedNoise, balance
from scdm_qgis.core.residual import Anchor, Expectation
from scdm_qgis.core.samplers import FEW_STEP_SAMPLERS, sample_ddim, sample_ddpm
from scdm_qgis.core.truncation import TruncatedDenoiser

DRAW_STEPS = {"ddim": 20, "dpmpp": 8, "unipc": 8}
"""Steps of a draw where neither the user nor the model says: so many come equally close (benchmarks/samplers.py)."""


@dataclass(frozen=True)
class SamplingSettings:
    """How one stage is sampled.

    Args:
        draw: whether noise is drawn; else the posterior mean is estimated, from x_T = 0.
        sampler: one of `cascade_header.SAMPLERS`.
        steps: number of steps; DDPM always takes the full schedule.
        guidance_weight: s of ICMG.
        truncation: of PDT.
    """

    draw: bool
    sampler: str
    steps: int
    guidance_weight: float
    truncation: Truncation

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise UserError(f"'{self.sampler}' is no sampler.", f"Choose one of: {', '.join(SAMPLERS)}.")

    @property
    def starts_decide(self) -> bool:
        """Whether a draw depends on no other noise than the one it starts from."""
        return self.sampler != "ddpm"


def settings_for(
    header: StageHeader,
    draw: bool,
    sampler: Optional[str] = None,
    steps: Optional[int] = None,
    guidance_weight: Optional[float] = None,
    truncation: Optional[Truncation] = None,
) -> SamplingSettings:
    """Fill what the user left open with the stage's defaults.

    Networks that predict noise have no posterior mean in few steps (their error at t = T is amplified
    by 1 / sqrt(abar_T)), so they always draw.

    Raises:
        UserError: settings that contradict each other.
    """
    draw = draw or header.prediction == "noise"
    chosen = sampler or (header.sampler if draw else "ddim")
    timesteps = header.schedule.timesteps
    if not draw and chosen != "ddim":
        raise UserError(
            f"The best estimate, SAMPLES 0, is made by ddim; {chosen} makes draws.",
            f"Leave SAMPLER empty, or set SAMPLES to 1 to draw with {chosen}.",
        )
    if chosen == "ddpm":
        if steps not in (None, timesteps):
            raise UserError(
                f"DDPM always takes all {timesteps} steps.", "Leave STEPS empty, or choose another SAMPLER for fewer."
            )
        steps = timesteps
    elif steps is None:
        own = header.steps if chosen == header.sampler else None
        steps = (own or min(DRAW_STEPS[chosen], timesteps)) if draw else 1
    if steps > timesteps:
        raise UserError(f"STEPS {steps} is more than the model's {timesteps} timesteps.", f"Give at most {timesteps}.")
    return SamplingSettings(
        draw,
        chosen,
        steps,
        header.guidance_weight if guidance_weight is None else guidance_weight,
        truncation or header.truncation,
    )


@dataclass(frozen=True)
class Seen:
    """A stage's condition, and what is made of it once, when it is first asked for, however many draws there are.

    Args:
        condition: the condition (tile, condition band, row, column).
        images: what the network sees of it.
        anchor: of an anchored stage, else None.
        estimate: makes the posterior mean of what the network predicts.
    """

    condition: Tensor
    images: Tensor
    anchor: Optional[Anchor]
    estimate: Callable[[], Tensor]

    @cached_property
    def expectation(self) -> Optional[Expectation]:
        """What an anchored stage's regression expects."""
        return None if self.anchor is None else self.anchor.expect(self.condition)

    @cached_property
    def mean(self) -> Tensor:
        """The posterior mean about which an anchored stage's draws spread."""
        return self.estimate()


class StageSampler:
    """One stage, ready to be run on conditions.

    Args:
        stage: the stage, on the device to use.
        settings: how to sample it.
        bfloat16: let the network compute in bfloat16; everything around it stays float32.
    """

    def __init__(self, stage: Stage, settings: SamplingSettings, bfloat16: bool = False) -> None:
        self.stage = stage
        self._settings = settings
        self._schedule = stage.schedule()
        network = GuidedNetwork(stage.network, settings.guidance_weight, bfloat16)
        denoiser = make_denoiser(stage.header.prediction, network, self._schedule)
        self._denoiser = TruncatedDenoiser(denoiser, settings.truncation, self._schedule, stage.header.second_moment)

    @torch.inference_mode()
    def see(self, condition: Tensor) -> Seen:
        """Return a condition of the stage (tile, condition band, row, column) as one call or many take it."""
        images = self.stage.network_condition(condition)
        return Seen(condition, images, self.stage.anchor, partial(self._estimate, images, 1))

    @torch.inference_mode()
    def __call__(self, seen: Seen, noise: Optional[Noise], after_step: Callable[[], None] = lambda: None) -> Tensor:
        """Return the stage's bands, normalised (tile, band, row, column).

        What an anchored stage's network says is calibrated (`Anchor.calibrated_mean`, `Anchor.calibrated_draw`).

        Args:
            seen: the condition, from `see`.
            noise: of one draw (`noises_of_draws`); it is not asked where nothing is drawn.
            after_step: called after every sampling step.
        """
        settings, anchor = self._settings, self.stage.anchor
        if not settings.draw:
            x_0 = self._estimate(seen.images, settings.steps, after_step)
            x_0 = x_0 if anchor is None else anchor.calibrated_mean(x_0)
        else:
            if noise is None:
                raise ValueError("drawing needs noise")
            x_0 = self._draw(seen.images, noise, after_step)
            x_0 = x_0 if anchor is None else anchor.calibrated_draw(x_0, seen.mean)
        return x_0 if seen.expectation is None else seen.expectation.from_residual(x_0)

    def _estimate(self, images: Tensor, steps: int, after_step: Callable[[], None] = lambda: None) -> Tensor:
        nothing = images.new_zeros(len(images), len(self.stage.header.bands), *images.shape[-2:])
        return sample_ddim(self._denoiser, self._schedule, images, nothing, steps, after_step)

    def _draw(self, images: Tensor, noise: Noise, after_step: Callable[[], None]) -> Tensor:
        settings, start = self._settings, noise(START)
        if settings.sampler == "ddpm":
            return sample_ddpm(self._denoiser, self._schedule, images, start, noise, after_step)
        sample = FEW_STEP_SAMPLERS[settings.sampler]
        return sample(self._denoiser, self._schedule, images, start, settings.steps, after_step)


def noises_of_draws(
    stage: Stage,
    draws: int,
    balanced: bool,
    seed: int,
    origins: Sequence[Tuple[int, int]],
    height: int,
    width: int,
) -> List[Noise]:
    """Return the noise of every draw of a stage.

    Args:
        stage: the stage, on the device to use.
        draws: their number.
        balanced: whether the starts are balanced over the draws (`balance`); of single draws they never are.
        seed: of the noise.
        origins: (row, column) of each tile in the whole raster, which select the noise.
        height: rows of a tile.
        width: columns of a tile.
    """

    def of_draw(number: int) -> Noise:
        header = stage.header
        normals = PlacedNoise(seed, header.index, number, origins, len(header.bands), height, width, stage.device)
        return lambda step: stage.noise(normals(step))

    noises = [of_draw(number) for number in range(draws)]
    return balance(noises) if balanced and draws > 1 else noises


@torch.inference_mode()
def reconstruct(
    stages: Sequence[StageSampler],
    rgb: Tensor,
    valid: Tensor,
    draws: Iterable[Sequence[Noise]],
    after_step: Callable[[], None] = lambda: None,
) -> Iterator[List[Tensor]]:
    """Run every stage of a cascade on a batch of tiles, once for each draw.

    Args:
        stages: all stages, in order.
        rgb: normalised RGB tiles on the stages' device with a margin of `Cascade.context_radius` pixels on every
            side (tile, 3, margin + row + margin, margin + column + margin).
        valid: 1 where a pixel of `rgb` counts, 0 elsewhere, as outside the raster (tile, 1, as `rgb`).
        draws: the noises of every draw, one a stage (`noises_of_draws`).
        after_step: called after every sampling step.

    Yields:
        For each draw the output of every stage, normalised (tile, band, row, column), without the margin.
    """
    sigmas = {sampler.stage.header.condition.context_sigmas for sampler in stages}
    margin = max(context_radius(of) for of in sigmas)
    height, width = (side - 2 * margin for side in rgb.shape[-2:])
    inner = rgb[..., margin : margin + height, margin : margin + width]
    contexts = {of: context_maps(rgb, valid, of, margin) for of in sigmas}

    def see(sampler: StageSampler, previous: Optional[Tensor]) -> Seen:
        context = contexts[sampler.stage.header.condition.context_sigmas]
        return sampler.see(sampler.stage.condition(previous, inner, context))

    first, *later = stages
    seen_first = see(first, None)  # no stage before it, so no draw changes what it sees
    for noise_first, *noises in draws:
        outputs = [first(seen_first, noise_first, after_step)]
        for sampler, noise in zip(later, noises):
            outputs.append(sampler(see(sampler, outputs[-1]), noise, after_step))
        yield outputs
