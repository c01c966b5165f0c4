from math import erf

import numpy as np
import pytest

from scdm_qgis.engine.calibration import NEW_SCENES, Evidence, fit_shrinkage, fit_spread, measure_coverage


def evidence(mean, truth, deviation=1.0):
    return Evidence(mean, truth, np.full_like(truth, deviation))


def noise(pixels=20_000, bands=3, seed=0):
    return np.random.default_rng(seed).normal(size=(pixels, bands))


def test_shrinkage_is_the_share_of_the_estimate_that_is_true():
    truth, wrong = noise(), noise(seed=1)
    mean = np.stack([truth[:, 0], 2 * truth[:, 1], truth[:, 2] + wrong[:, 2]], axis=1)
    assert fit_shrinkage(evidence(mean, truth)) == pytest.approx([1.0, 0.5, 0.5], abs=0.02)


def test_shrinkage_never_turns_or_stretches_an_estimate():
    truth = noise()
    mean = np.stack([-truth[:, 0], 0.1 * truth[:, 1], 0 * truth[:, 2]], axis=1)
    assert fit_shrinkage(evidence(mean, truth)) == pytest.approx([0.0, 1.0, 1.0])


def test_a_shrunk_estimate_is_never_worse_than_none():
    truth, mean = noise(), noise(seed=1) + 0.3 * noise()
    shrinkage = fit_shrinkage(evidence(mean, truth))
    assert (np.square(truth - shrinkage * mean).mean(axis=0) <= np.square(truth).mean(axis=0)).all()


def test_spread_makes_the_draws_as_wide_as_the_errors():
    errors = noise() * [1, 3, 0.2]
    spread = fit_spread(evidence(np.zeros_like(errors), errors, deviation=0.5), np.ones(3), errors)
    assert spread / NEW_SCENES == pytest.approx([2, 6, 0.4], rel=0.03)


def test_spread_is_that_of_the_scenes_not_of_an_easy_end():
    """Left-out blocks say that errors are twice as large as on the evidence; what the network adds stays."""
    errors, estimate = noise(), noise(seed=1)
    spread = fit_spread(evidence(estimate, errors + estimate), np.ones(3), 2 * (errors + estimate))
    assert spread / NEW_SCENES == pytest.approx([2, 2, 2], rel=0.03)


def test_what_is_left_of_nothing_gives_a_finite_spread():
    nothing = np.zeros((100, 2))
    assert np.isfinite(fit_spread(evidence(nothing, nothing), np.ones(2), noise(100, 2))).all()
    assert np.isfinite(fit_spread(evidence(nothing, nothing, deviation=0.0), np.ones(2), nothing)).all()


def test_heavy_tails_are_met_at_one_standard_deviation():
    """No factor fits one and two both: Laplace's have a share of 1 - (1 - 0.6827)^n within n times what fits one."""
    errors = np.random.default_rng(0).laplace(size=(50_000, 1))
    shares = measure_coverage(evidence(np.zeros_like(errors), errors), errors)
    expected = [1 - (1 - 0.6827) ** (sigmas * NEW_SCENES) for sigmas in (1, 2)]
    assert shares == pytest.approx(expected, abs=0.01)


def test_coverage_of_normal_errors_is_nearly_nominal_and_measured_on_other_pixels():
    errors = noise()
    one, two = measure_coverage(evidence(np.zeros_like(errors), errors), errors)
    assert one == pytest.approx(erf(NEW_SCENES / 2**0.5), abs=0.01)
    assert two == pytest.approx(erf(2 * NEW_SCENES / 2**0.5), abs=0.01)
    uneven = np.where(((np.arange(len(errors)) // 256) % 2 == 1)[:, None], 10 * errors, errors)
    one, _ = measure_coverage(evidence(np.zeros_like(errors), uneven), errors)
    # Fitted to the hard half, the spread is as for the easy one, which the left-out residuals are like.
    assert one == pytest.approx((erf(NEW_SCENES / 2**0.5) + erf(NEW_SCENES / 10 / 2**0.5)) / 2, abs=0.02)
