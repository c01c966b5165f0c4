import numpy as np
import pytest
import torch

from scdm_qgis.core.regression import RidgeMoments, fit_ridge
from scdm_qgis.core.residual import Anchor


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


def test_constant_condition_predicts_the_mean():
    regression = fit_ridge(np.ones((10, 2)), np.arange(10.0)[:, None], 1e-4)
    assert regression.predict(np.ones((1, 2)))[0, 0] == pytest.approx(4.5)


def test_anchor_round_trip_and_meaning():
    anchor = Anchor(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]), torch.tensor([0.5]))
    condition = torch.stack([torch.full((2, 2), 10.0), torch.full((2, 2), 1.0)])[None]
    assert (anchor.predict(condition) == 15).all()
    target = torch.full((1, 1, 2, 2), 16.0)
    assert (anchor.to_residual(target, condition) == 2).all()
    assert torch.equal(anchor.from_residual(anchor.to_residual(target, condition), condition), target)
