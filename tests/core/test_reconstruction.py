from dataclasses import replace

import pytest
import torch

from scdm_qgis.core.cascade_header import Truncation
from scdm_qgis.core.context import context_maps
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.guidance import GuidedNetwork
from scdm_qgis.core.noise import START
from scdm_qgis.core.reconstruction import StageSampler, noises_of_draws, reconstruct, settings_for

RGB = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
VALID = torch.ones(2, 1, 9, 7)
ORIGINS = [(0, 0), (0, 7)]


def noises(stages, seed=5, tiles=slice(None)):
    """Return the noise of a single draw for every stage."""
    return [noises_of_draws(sampler.stage, 1, False, seed, ORIGINS[tiles], 9, 7)[0] for sampler in stages]


def samplers(cascade, draw=False, **options):
    return [StageSampler(stage, settings_for(stage.header, draw, **options)) for stage in cascade.stages]


def once(stages, rgb, valid, of_draw, **options):
    """Return what every stage makes of one draw."""
    (outputs,) = reconstruct(stages, rgb, valid, [of_draw], **options)
    return outputs


def run(cascade, draw=False, **options):
    stages = samplers(cascade, draw, **options)
    return once(stages, RGB, VALID, noises(stages))


def test_a_network_that_outputs_zero_leaves_the_regressions(make_stage, make_cascade):
    """One pass from x_T = 0 with velocity 0 estimates a residual of 0: what stays is stage 2 of stage 1."""
    cascade = make_cascade(make_stage(1), make_stage(2))
    coarse, fine = run(cascade)
    first, second = (stage.anchor for stage in cascade.stages)
    assert torch.allclose(coarse, first.expect(RGB).estimate)
    assert torch.allclose(fine, second.expect(torch.cat([first.expect(RGB).estimate, RGB], dim=1)).estimate)


def test_noise_prediction_sees_only_the_stage_before(make_stage, make_cascade):
    cascade = make_cascade(make_stage(1, prediction="noise"), make_stage(2, prediction="noise", untrained_output=True))
    coarse, fine = run(cascade)
    assert coarse.shape == (2, 2, 9, 7)
    assert fine.shape == (2, 4, 9, 7)
    assert torch.isfinite(fine).all()


@pytest.mark.parametrize("prediction", ["noise", "velocity", "residual"])
def test_three_kinds_and_one_stage(make_stage, make_cascade, prediction):
    cascade = make_cascade(make_stage(2, prediction=prediction, untrained_output=True))
    stage = make_stage(1, of=1, prediction=prediction, untrained_output=True)
    (out,) = run(make_cascade(stage), draw=True)
    assert out.shape == (2, 4, 9, 7)
    assert torch.isfinite(out).all()
    assert cascade.stages[0].header.index == 2


def test_draws_depend_on_seed_and_place_only(make_stage, make_cascade):
    cascade = make_cascade(make_stage(1, untrained_output=True), make_stage(2, untrained_output=True))
    stages = samplers(cascade, draw=True)

    def draw(seed=5, tiles=slice(None)):
        return once(stages, RGB[tiles], VALID[tiles], noises(stages, seed, tiles))[-1]

    both = draw()
    assert torch.equal(both, draw())
    assert torch.allclose(both[1:], draw(tiles=slice(1, 2)), atol=1e-5)
    assert not torch.allclose(both, draw(seed=6), atol=1e-3)


@pytest.mark.parametrize("draws", [4, 8])
def test_balanced_draws_of_the_regression_alone_have_its_estimate_and_one_deviation(make_stage, make_cascade, draws):
    """Of a network that says velocity 0 a draw is as far from the estimate as its start, times a number."""
    stage = make_stage(1, of=1)
    cascade = make_cascade(stage)
    stages, (estimate,) = samplers(cascade, draw=True), run(cascade)
    balanced = noises_of_draws(stage, draws, True, 5, ORIGINS, 9, 7)
    drawn = torch.stack([output for (output,) in reconstruct(stages, RGB, VALID, zip(balanced))])
    assert torch.allclose(drawn.mean(dim=0), estimate, atol=1e-5)
    deviation = drawn.std(dim=0, correction=0) / stage.anchor.expect(RGB).scale
    assert torch.allclose(deviation, deviation.median(), rtol=1e-2)
    assert deviation.median() > 0.1


def test_draws_made_together_are_those_made_one_by_one(make_stage, make_cascade, monkeypatch):
    """And what the first stage sees, the same in all of them, is made of its condition once."""
    cascade = make_cascade(make_stage(1, untrained_output=True), make_stage(2, untrained_output=True))
    stages, seen = samplers(cascade, draw=True), []
    see = StageSampler.see
    monkeypatch.setattr(StageSampler, "see", lambda *given: (seen.append(given[0]), see(*given))[1])
    draws = list(zip(*(noises_of_draws(sampler.stage, 3, False, 5, ORIGINS, 9, 7) for sampler in stages)))
    together = list(reconstruct(stages, RGB, VALID, draws))
    assert seen == [stages[0], *3 * [stages[1]]]
    alone = [once(stages, RGB, VALID, of_draw) for of_draw in draws]
    assert len(together) == len(alone) == 3
    assert all(torch.equal(*pair) for outputs in zip(together, alone) for pair in zip(*outputs))
    assert not torch.allclose(together[0][1], together[1][1], atol=1e-3)


def test_single_draws_and_unbalanced_ones_start_from_the_same_noise(make_stage):
    stage = make_stage(1, of=1)
    starts = {
        (draws, balanced): noises_of_draws(stage, draws, balanced, 5, ORIGINS, 9, 7)[0](START)
        for draws, balanced in [(1, True), (1, False), (5, False), (5, True)]
    }
    assert torch.equal(starts[1, True], starts[1, False])
    assert torch.equal(starts[1, True], starts[5, False])
    assert not torch.allclose(starts[1, True], starts[5, True], atol=1e-2)


def test_context_comes_from_the_margin(make_stage, make_cascade):
    """A regression on the smoothed image: the tile's result is the whole image's, cut out."""
    stage = make_stage(1, of=1, context_sigmas=(0.5, 1.0))
    cascade = make_cascade(stage)
    margin = cascade.context_radius
    assert margin == 3
    torch.manual_seed(0)
    image, valid = torch.rand(1, 3, 20, 24), (torch.rand(1, 1, 20, 24) > 0.2).float()
    stages = samplers(cascade)
    padded = [torch.nn.functional.pad(x, [margin] * 4) for x in (image, valid)]
    (whole,) = once(stages, *padded, noises(stages))
    condition = torch.cat([image, context_maps(image, valid, (0.5, 1.0))], dim=1)
    assert torch.allclose(whole, stage.anchor.expect(condition).estimate, atol=1e-5)
    tile = (..., slice(5 - margin, 12 + margin), slice(4 - margin, 15 + margin))
    (part,) = once(stages, image[tile], valid[tile], noises(stages))
    assert torch.allclose(part, whole[..., 5:12, 4:15], atol=1e-5)


def test_calibration_shrinks_the_mean_and_spreads_the_draws(make_stage, make_cascade):
    stage = make_stage(1, of=1, untrained_output=True)
    cascade = make_cascade(stage)
    regression = stage.anchor.expect(RGB).estimate
    (mean,), (drawn,) = run(cascade), run(cascade, draw=True)
    half, double = torch.full((4,), 0.5), torch.full((4,), 2.0)
    calibrated = replace(stage, anchor=replace(stage.anchor, shrinkage=half, spread=double))
    (shrunk,), (spread,) = run(make_cascade(calibrated)), run(make_cascade(calibrated), draw=True)
    assert torch.allclose(shrunk - regression, 0.5 * (mean - regression), atol=1e-5)
    assert torch.allclose(spread - shrunk, 2 * (drawn - mean), atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_draws_are_made_of_noise_as_correlated_as_residuals(make_stage, make_cascade, monkeypatch, sampler):
    """Wholly correlated, every band has the same noise, so a network that says velocity 0 leaves all bands alike."""
    stage = make_stage(1, of=1)
    bands = len(stage.header.bands)
    alike = torch.full((bands, bands), bands**-0.5)
    stage = replace(stage, anchor=replace(stage.anchor, mixing=alike))
    starts = []
    record = GuidedNetwork.__call__

    def recorded(network, x_t, t, condition):
        starts.append(x_t)
        return record(network, x_t, t, condition)

    monkeypatch.setattr(GuidedNetwork, "__call__", recorded)
    run(make_cascade(stage), draw=True, sampler=sampler)
    for x_t in starts[:-1]:  # the posterior mean, which the draw is spread about, comes last and starts from zero
        assert torch.allclose(x_t, x_t[:, :1].expand_as(x_t), atol=1e-5)
    assert starts[0].std() == pytest.approx(1, abs=0.2)


def test_every_step_is_reported(make_stage, make_cascade):
    cascade = make_cascade(make_stage(1), make_stage(2))
    calls, stages = [], samplers(cascade, draw=True, sampler="ddpm")
    once(stages, RGB, VALID, noises(stages), after_step=lambda: calls.append(1))
    assert len(calls) == 2 * 50


def test_defaults_by_prediction(make_stage):
    mean = settings_for(make_stage(1).header, draw=False)
    assert (mean.draw, mean.sampler, mean.steps) == (False, "ddim", 1)
    assert settings_for(make_stage(1).header, draw=False, steps=4).steps == 4
    drawn = settings_for(make_stage(1).header, draw=True)
    assert (drawn.draw, drawn.sampler, drawn.steps) == (True, "ddim", 5)
    assert [settings_for(make_stage(1).header, True, name).steps for name in ("dpmpp", "unipc")] == [8, 8]
    noise = settings_for(make_stage(1, prediction="noise").header, draw=False)
    assert (noise.draw, noise.sampler, noise.steps) == (True, "ddpm", 50)
    chosen = settings_for(make_stage(1).header, True, "ddim", 7, 1.5, Truncation(0.9))
    assert (chosen.steps, chosen.guidance_weight, chosen.truncation.percentile) == (7, 1.5, 0.9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"draw": False, "sampler": "ddpm"}, "SAMPLES 0, is made by ddim; ddpm makes draws"),
        ({"draw": False, "sampler": "unipc"}, "SAMPLES 0, is made by ddim; unipc makes draws"),
        ({"draw": True, "sampler": "ddpm", "steps": 10}, "DDPM always takes all 50 steps"),
        ({"draw": True, "steps": 51}, "more than the model's 50"),
    ],
)
def test_contradictions_are_refused(make_stage, options, sentence):
    with pytest.raises(UserError, match=sentence):
        settings_for(make_stage(1).header, **options)
