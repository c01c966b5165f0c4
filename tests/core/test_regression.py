import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scdm_qgis.core.colour_terms import ColourTerms
from scdm_qgis.core.light import Light
from scdm_qgis.core.regression import RidgeMoments, choose_penalty, fit_ridge
from scdm_qgis.core.residual import LARGEST_DOUBT, Anchor


def linear_pixels(noise=0.0):
    random = np.random.default_rng(0)
    condition = random.normal(size=(500, 3)) * [1, 2, 3] + [5, 0, -5]
    weight, bias = random.normal(size=(4, 3)), random.normal(size=4)
    return condition, condition @ weight.T + bias + noise * random.normal(size=(500, 4)), weight, bias


def test_linear_relation_is_found_exactly():
    condition, target, weight, bias = linear_pixels()
    regression = fit_ridge(condition, target, ridge=0.0)
    assert np.allclose(regression.weight, weight)
    assert np.allclose(regression.bias, bias)
    assert np.allclose(regression.predict(condition), target)


def test_without_penalty_it_is_least_squares():
    condition, target, _, _ = linear_pixels(noise=1.0)
    solution = np.linalg.lstsq(np.column_stack([condition, np.ones(500)]), target, rcond=None)[0]
    regression = fit_ridge(condition, target, ridge=0.0)
    assert np.allclose(regression.weight, solution[:3].T)
    assert np.allclose(regression.bias, solution[3])


def test_penalty_shrinks_weights_but_not_the_mean():
    condition, target, _, _ = linear_pixels(noise=1.0)
    weak, strong = fit_ridge(condition, target, 1e-6), fit_ridge(condition, target, 1e3)
    assert np.abs(strong.weight).max() < 0.01 * np.abs(weak.weight).max()
    assert np.allclose(strong.predict(condition).mean(axis=0), target.mean(axis=0))


def test_penalty_means_the_same_in_any_unit():
    condition, target, _, _ = linear_pixels(noise=1.0)
    plain = fit_ridge(condition, target, 0.1).predict(condition)
    scaled = fit_ridge(1e4 * condition, 1e4 * target, 0.1).predict(1e4 * condition)
    assert np.allclose(scaled, 1e4 * plain)


def test_pieces_add_up():
    condition, target, _, _ = linear_pixels(noise=1.0)
    moments = RidgeMoments(3, 4)
    for start in range(0, 500, 70):
        moments.add(condition[start : start + 70], target[start : start + 70])
    assert moments.pixels == 500
    assert np.allclose(moments.solve(0.1).weight, fit_ridge(condition, target, 0.1).weight)


def test_moments_give_the_error_and_can_be_taken_away():
    condition, target, _, _ = linear_pixels(noise=1.0)
    whole, part = RidgeMoments(3, 4), RidgeMoments(3, 4)
    whole.add(condition, target)
    part.add(condition[:200], target[:200])
    regression = fit_ridge(condition[200:], target[200:], 0.1)
    rest = whole - part
    assert np.allclose(rest.solve(0.1).weight, regression.weight)
    assert np.allclose((rest + part).solve(0.1).weight, whole.solve(0.1).weight)
    errors = np.square(target - regression.predict(condition)).sum(axis=0)
    assert np.allclose(whole.squared_error(regression), errors)


def test_pixels_may_count_differently():
    """A pixel that counts three times is three pixels."""
    condition, target, _, _ = linear_pixels(noise=1.0)
    times = np.arange(500) % 4
    weighted, repeated = RidgeMoments(3, 4), RidgeMoments(3, 4)
    weighted.add(condition, target, times)
    repeated.add(np.repeat(condition, times, axis=0), np.repeat(target, times, axis=0))
    assert weighted.pixels == repeated.pixels == times.sum()
    regression = weighted.solve(0.1)
    assert np.allclose(regression.weight, repeated.solve(0.1).weight)
    assert np.allclose(weighted.squared_error(regression), repeated.squared_error(regression))


def test_the_last_bands_may_have_a_penalty_of_their_own():
    """The normal equations of the penalised problem hold."""
    condition, target, _, _ = linear_pixels(noise=1.0)
    moments, penalty = RidgeMoments(3, 4), np.array([[2.0, 1.0], [1.0, 3.0]])
    moments.add(condition, target)
    regression = moments.solve(0.1, penalty)
    centred = condition - condition.mean(axis=0)
    gradient = centred.T @ (regression.predict(condition) - target) / 500
    gradient[:1] += 0.1 * condition[:, 0].var() * regression.weight.T[:1]
    gradient[1:] += penalty @ regression.weight.T[1:]
    assert np.abs(gradient).max() < 1e-9


def test_the_penalty_is_the_one_that_predicts_left_out_blocks_best():
    """Blocks that obey one law allow weak penalties; blocks with laws of their own ask for strong ones."""
    random = np.random.default_rng(0)
    candidates = [1e-6, 1e-2, 1.0, 100.0]

    def chosen(weights):
        blocks = []
        for weight in weights:
            moments, condition = RidgeMoments(2, 1), random.normal(size=(300, 2))
            moments.add(condition, condition @ weight + 0.1 * random.normal(size=(300, 1)))
            blocks.append(moments)
        return choose_penalty(blocks, candidates, RidgeMoments.solve)

    law = np.array([[1.0], [2.0]])
    assert chosen([law] * 4) in (1e-6, 1e-2)
    assert chosen([law, -law, law, -law]) == 100.0
    assert chosen([law]) == 100.0


def test_constant_condition_predicts_the_mean():
    regression = fit_ridge(np.ones((10, 2)), np.arange(10.0)[:, None], 1e-4)
    assert regression.predict(np.ones((1, 2)))[0, 0] == pytest.approx(4.5)


def small_anchor(residual_scale):
    """Return a regression on RGB and one kernel that stands on grey of the mean brightness, 2."""
    bands = len(residual_scale)
    ones = torch.ones(bands)
    weight = torch.arange(4.0 * bands).reshape(bands, 4)
    terms = ColourTerms(Light(0.0, 2.0), torch.tensor([-9.0, 9.0]), {"pixel": torch.zeros(1, 4)})
    return Anchor(
        0, terms, weight, 3 * ones, torch.zeros(2), torch.tensor(residual_scale), ones, ones, torch.diag(ones)
    )


def test_anchor_round_trip_and_meaning():
    anchor = small_anchor([0.5])
    grey = torch.full((1, 3, 2, 2), 2.0)
    # 3 + 0 * 2 + 1 * 2 + 2 * 2 + 3 * (kernel 1 near enough: the floor makes grey a little brighter) * brightness 1
    assert torch.allclose(anchor.expect(grey).estimate, torch.tensor(12.0), atol=0.02)
    condition = torch.tensor([10.0, 1.0, 1.0]).reshape(1, 3, 1, 1).expand(-1, -1, 2, 2)
    expected = anchor.expect(condition)
    target = expected.estimate + 1
    # Brightness 4, the mean being 2: (4 / 2 + 0.1) / 1.1 times the residual's scale of 0.5.
    assert torch.allclose(expected.to_residual(target), torch.tensor(2 * 1.1 / 2.1))
    assert torch.allclose(expected.from_residual(expected.to_residual(target)), target)


def test_mixed_noise_is_correlated_and_as_wide_as_before():
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    noise = torch.randn(3, 2, 200, 200, generator=torch.Generator().manual_seed(0))
    mixed = replace(small_anchor([1.0, 1.0]), mixing=root).mix(noise)
    covariance = torch.cov(mixed.transpose(0, 1).flatten(1))
    assert torch.allclose(covariance, torch.tensor([[1.0, 0.8], [0.8, 1.0]]), atol=0.02)
    assert torch.equal(mixed[:, 0], noise[:, 0])


def test_doubt_depends_on_colour_within_limits():
    """Twice the average everywhere, three times that at the kernel on grey, which the floor makes darker."""
    grey, red = torch.full((1, 3, 1, 1), 2.0), torch.tensor([6.0, 0.0, 0.0]).reshape(1, 3, 1, 1)

    def scale(condition, doubt):
        return replace(small_anchor([1.0]), doubt=torch.tensor(doubt)).expect(condition).scale.item()

    assert scale(grey, (math.log(2), math.log(3))) == pytest.approx(6, rel=0.01)
    assert 2 < scale(red, (math.log(2), math.log(3))) < 3
    assert scale(grey, (9.0, 0.0)) == pytest.approx(LARGEST_DOUBT, rel=1e-5)
    assert scale(grey, (0.0, -9.0)) == pytest.approx(1 / LARGEST_DOUBT, rel=1e-5)


def test_weighted_errors_lie_between_standardised_ones_and_those_in_data_units():
    anchor = small_anchor([1.0, 3.0])
    torch.manual_seed(0)
    condition, true, estimated = torch.rand(2, 3, 4, 4), torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    standardised = (true - estimated).square()
    expected = anchor.expect(condition)
    in_data_units = (expected.from_residual(true) - expected.from_residual(estimated)).square()
    weighted = anchor.error_weights(expected) * standardised
    assert torch.allclose(2 * weighted, (standardised * in_data_units).sqrt(), rtol=1e-3, atol=1e-5)
