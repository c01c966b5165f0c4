"""The numbers of a pin, against known angles and against the evaluation of whole rasters."""

from __future__ import annotations

import math
from typing import Callable

import numpy as np
import pytest

from scdm_qgis.core.metrics import evaluate
from scdm_qgis.profile.comparison import RoledCurve, compare, standard_deviations, uncertainty_of
from scdm_qgis.profile.curves import Curve, Role
from scdm_qgis.profile.numbers import difference

Make = Callable[..., Curve]


def test_known_angles_and_errors(make_curve: Make) -> None:
    found = difference(make_curve([1, 0], [500, 600]), make_curve([1, 1], [500, 600]))
    assert found is not None
    assert found.sam_degrees == pytest.approx(45)
    assert found.rmse == pytest.approx(math.sqrt(0.5))
    assert (found.largest_error, found.largest_error_band, found.largest_error_nm) == (-1, 2, 600)
    assert found.bands == 2


def test_they_are_those_of_the_evaluation(make_curve: Make) -> None:
    generator = np.random.default_rng(1)
    truth = generator.uniform(100, 2000, 60)
    predicted = truth + generator.normal(0, 50, 60)
    whole = evaluate(predicted[:, None, None], truth[:, None, None], np.ones((1, 1), bool), 2000)
    found = difference(make_curve(predicted), make_curve(truth))
    assert found is not None
    assert found.rmse == pytest.approx(whole.rmse, rel=1e-12)
    assert math.radians(found.sam_degrees) == pytest.approx(whole.sam, rel=1e-12)


def test_bands_are_matched_by_wavelength_within_5_nm(make_curve: Make) -> None:
    truth = make_curve([10, 20, 30], [500, 550, 600])
    found = difference(make_curve([33, 11], [604, 501]), truth)
    assert found is not None
    assert (found.bands, found.largest_error, found.largest_error_band) == (2, 3, 3)
    assert difference(make_curve([33, 11], [650, 700]), truth) is None


def test_without_wavelengths_bands_are_matched_by_position(make_curve: Make) -> None:
    found = difference(make_curve([1, 2, 3]), make_curve([1, 2, 5], [500, 550, 600]))
    assert found is not None and found.largest_error == -2
    assert difference(make_curve([1, 2]), make_curve([1, 2, 5])) is None


def test_nodata_and_bad_bands_do_not_count(make_curve: Make) -> None:
    truth = make_curve([1, 2, math.nan, 4, 5])
    found = difference(make_curve([1, 2, 3, 400, 6], bad=[3]), truth)
    assert found is not None
    assert (found.bands, found.largest_error, found.largest_error_band) == (3, 1, 5)
    assert difference(make_curve([math.nan, 1]), make_curve([1, math.nan])) is None


def test_every_prediction_is_compared_with_every_truth(make_curve: Make) -> None:
    def of(name: str, role: Role, values: list) -> RoledCurve:
        return RoledCurve(name, name, role, (), make_curve(values))

    curves = [
        of("p1", Role.PREDICTION, [1, 2]),
        of("p2", Role.PREDICTION, [1, 3]),
        of("t", Role.TRUTH, [1, 2]),
        of("c", Role.COARSE, [1, 9]),
        of("longer", Role.TRUTH, [1, 2, 3]),
    ]
    pairs = compare(curves)
    assert [(a.name, b.name) for a, b, _ in pairs] == [("p1", "t"), ("p2", "t")]
    assert [round(numbers.rmse, 6) for _, _, numbers in pairs] == [0, round(math.sqrt(0.5), 6)]


def test_a_prediction_has_the_uncertainty_of_its_own_run(make_curve: Make) -> None:
    run, other = (("SCDM_SEED", "0"),), (("SCDM_SEED", "1"),)
    prediction = RoledCurve("p", "p", Role.PREDICTION, run, make_curve([1, 2]))
    wrong = RoledCurve("w", "w", Role.UNCERTAINTY, other, make_curve([7, 7]))
    right = RoledCurve("r", "r", Role.UNCERTAINTY, run, make_curve([0.1, -1]))
    short = RoledCurve("s", "s", Role.UNCERTAINTY, run, make_curve([1]))
    assert uncertainty_of(prediction, [short, wrong, right]) is right
    assert uncertainty_of(prediction, [short, wrong]) is None
    assert uncertainty_of(right, [right]) is None
    np.testing.assert_array_equal(standard_deviations(right), [0.1, math.nan])
