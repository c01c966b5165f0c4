"""Where bands lie on the axis, and where a line breaks."""

from __future__ import annotations

import math
from typing import Callable

import numpy as np

from scdm_qgis.profile.curves import (
    Curve,
    Role,
    all_have_wavelengths,
    axis_positions,
    drawing_order,
    lone_points,
    unbroken_runs,
)

NAN = math.nan


def test_bad_bands_have_no_value_in_the_plot_but_keep_theirs(make_curve: Callable[..., Curve]) -> None:
    curve = make_curve([1, 2, 3], bad=[1])
    np.testing.assert_array_equal(curve.without_bad_bands(), [1, NAN, 3])
    np.testing.assert_array_equal(curve.values, [1, 2, 3])


def test_the_axis_is_in_nm_only_where_every_band_of_every_curve_has_a_wavelength(
    make_curve: Callable[..., Curve],
) -> None:
    known = make_curve([1, 2], [450, 550])
    gap = make_curve([1, 2], [450, None])
    unknown = make_curve([1, 2, 3])
    assert all_have_wavelengths([known, known])
    assert not all_have_wavelengths([known, gap])
    assert not all_have_wavelengths([known, unknown])
    assert not all_have_wavelengths([])
    np.testing.assert_array_equal(axis_positions(known, True), [450, 550])
    np.testing.assert_array_equal(axis_positions(known, False), [1, 2])
    np.testing.assert_array_equal(axis_positions(gap, True), [1, 2])


def test_overlapping_detectors_are_drawn_in_the_order_of_wavelength() -> None:
    np.testing.assert_array_equal(drawing_order(np.array([900.0, 1000.0, 950.0, 1050.0])), [0, 2, 1, 3])


def test_runs_and_lone_points_are_all_values_between_them() -> None:
    values = np.array([1, 2, NAN, 3, NAN, NAN, 4, 5, 6, NAN, 7])
    runs = unbroken_runs(values)
    assert [(run.start, run.stop) for run in runs] == [(0, 2), (6, 9)]
    assert np.flatnonzero(lone_points(values)).tolist() == [3, 10]
    drawn = sum(run.stop - run.start for run in runs) + lone_points(values).sum()
    assert drawn == np.isfinite(values).sum()


def test_roles_read_as_words() -> None:
    assert [role.title for role in Role] == ["Prediction", "Ground truth", "Coarse stage", "Uncertainty", "Other"]
