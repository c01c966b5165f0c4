"""Metrics against known answers and against scikit-image."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as skimage_ssim

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import (
    NORMAL_COVERAGE,
    AngleSums,
    Coverage,
    Evaluator,
    evaluate,
    spectral_angle,
    structural_similarity,
    whole_windows,
)

PEAK = 10_000.0


@pytest.fixture
def cubes() -> tuple:
    random = np.random.default_rng(3)
    reference = random.uniform(100, 9000, (5, 40, 33)).cumsum(axis=2) % 9000
    return reference + random.normal(0, 300, reference.shape), reference


def all_valid(cube: np.ndarray) -> np.ndarray:
    return np.ones(cube.shape[1:], bool)


def test_known_error_gives_known_rmse_and_psnr(cubes: tuple) -> None:
    _, reference = cubes
    offsets = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    result = evaluate(reference + offsets[:, None, None], reference, all_valid(reference), PEAK)
    assert result.rmse == pytest.approx(math.sqrt(np.mean(offsets**2)), rel=1e-9)
    assert [band.rmse for band in result.per_band] == pytest.approx(offsets, rel=1e-9)
    expected = [20 * math.log10(PEAK / offset) for offset in offsets]
    assert [band.psnr for band in result.per_band] == pytest.approx(expected, rel=1e-9)
    assert result.mpsnr == pytest.approx(np.mean(expected), rel=1e-9)
    assert result.pixels == 40 * 33
    assert [band.band for band in result.per_band] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("angle", [1e-4, 0.1, 1.0, math.pi / 2, 3.0])
def test_known_angle(angle: float) -> None:
    reference = np.zeros((3, 2, 2))
    reference[0] = 5.0
    prediction = np.zeros((3, 2, 2))
    prediction[0], prediction[2] = 70 * math.cos(angle), 70 * math.sin(angle)
    assert spectral_angle(prediction, reference) == pytest.approx(np.full((2, 2), angle), abs=1e-7)


def test_angle_ignores_brightness(cubes: tuple) -> None:
    _, reference = cubes
    assert spectral_angle(reference * 3.7, reference).max() < 1e-7
    assert spectral_angle(reference, reference).max() == 0


def test_angle_to_a_spectrum_of_zeros() -> None:
    prediction = np.array([[[0.0, 0.0, 1.0]], [[0.0, 0.0, 2.0]]])
    reference = np.array([[[0.0, 3.0, 0.0]], [[0.0, 1.0, 0.0]]])
    assert spectral_angle(prediction, reference) == pytest.approx(np.array([[0.0, math.pi / 2, math.pi / 2]]))


def test_nan_spectrum_gives_nan_angle() -> None:
    sums = AngleSums(1, 2)
    sums.add(np.array([[math.nan, 1.0]]), np.array([[1.0, 1.0]]))
    assert np.isnan(sums.angles()).tolist() == [[True, False]]


def test_ssim_and_psnr_agree_with_scikit_image(cubes: tuple) -> None:
    prediction, reference = cubes
    result = evaluate(prediction, reference, all_valid(reference), PEAK)
    for band, predicted, true in zip(result.per_band, prediction, reference):
        expected = skimage_ssim(
            true, predicted, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=PEAK
        )
        assert band.ssim == pytest.approx(expected, abs=1e-9)
        assert band.psnr == pytest.approx(peak_signal_noise_ratio(true, predicted, data_range=PEAK), abs=1e-9)
    assert result.mssim == pytest.approx(np.mean([band.ssim for band in result.per_band]))
    assert 0 < result.mssim < 1


def test_masked_ssim_averages_the_windows_that_are_wholly_valid(cubes: tuple) -> None:
    prediction, reference = cubes
    valid = all_valid(reference)
    valid[20:, 25:] = False
    result = evaluate(prediction, reference, valid, PEAK)
    _, full = skimage_ssim(
        reference[0],
        prediction[0],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=PEAK,
        full=True,
    )
    counted = np.zeros_like(valid)
    for row in range(5, 35):
        for column in range(5, 28):
            counted[row, column] = valid[row - 5 : row + 6, column - 5 : column + 6].all()
    assert np.array_equal(whole_windows(valid), counted)
    assert result.per_band[0].ssim == pytest.approx(full[counted].mean(), abs=1e-9)


def test_ssim_by_hand_for_flat_bands() -> None:
    c1 = (0.01 * 255) ** 2
    ssim = structural_similarity(np.full((15, 15), 100.0), np.full((15, 15), 150.0), 255)
    assert ssim == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-6)


def test_invalid_pixels_do_not_count(cubes: tuple) -> None:
    prediction, reference = cubes
    valid = all_valid(reference)
    valid[:7] = False
    spoilt_prediction, spoilt_reference = prediction.copy(), reference.copy()
    spoilt_prediction[:, ~valid] = math.nan
    spoilt_reference[:, ~valid] = -1e30
    result = evaluate(spoilt_prediction, spoilt_reference, valid, PEAK)
    assert result == evaluate(prediction[:, 7:], reference[:, 7:], valid[7:], PEAK)


def test_evaluator_band_by_band_maps_angles_and_keeps_labels(cubes: tuple) -> None:
    prediction, reference = cubes
    valid = all_valid(reference)
    valid[3, 4] = False
    evaluator = Evaluator(valid, PEAK)
    for index in range(5):
        evaluator.add_band(prediction[index], reference[index], 10 * index + 1, 400.0 + index)
    angles = evaluator.angle_map()
    assert np.array_equal(np.isnan(angles), ~valid)
    assert angles[valid] == pytest.approx(spectral_angle(prediction, reference)[valid])
    result = evaluator.result()
    assert result.sam == pytest.approx(np.nanmean(angles))
    assert [(band.band, band.wavelength_nm) for band in result.per_band] == [
        (1, 400.0),
        (11, 401.0),
        (21, 402.0),
        (31, 403.0),
        (41, 404.0),
    ]


def test_identical_bands_are_infinite_null_in_json_and_left_out_of_the_mean(cubes: tuple) -> None:
    prediction, reference = cubes
    same = prediction.copy()
    same[1] = reference[1]
    result = evaluate(same, reference, all_valid(reference), PEAK)
    assert result.per_band[1].psnr == math.inf
    assert result.per_band[1].ssim == pytest.approx(1.0)
    assert result.mpsnr == pytest.approx(np.mean([result.per_band[i].psnr for i in (0, 2, 3, 4)]))
    values = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert values["per_band"][1]["psnr"] is None
    perfect = evaluate(reference, reference, all_valid(reference), PEAK)
    assert (perfect.rmse, perfect.sam, perfect.mpsnr) == (0, 0, math.inf)
    assert perfect.mssim == pytest.approx(1.0)
    assert perfect.to_json()["mpsnr"] is None


def test_json_has_the_agreed_keys(cubes: tuple) -> None:
    values = evaluate(*cubes, all_valid(cubes[1]), PEAK).to_json()
    assert list(values) == ["rmse", "sam", "mpsnr", "mssim", "peak", "pixels", "bands", "per_band"]
    assert list(values["per_band"][0]) == ["band", "wavelength", "rmse", "psnr", "ssim"]
    assert values["bands"] == 5 and values["per_band"][0]["wavelength"] is None


def test_raster_smaller_than_a_window_has_no_ssim() -> None:
    reference = np.random.default_rng(0).uniform(1, 2, (2, 8, 8))
    result = evaluate(reference + 0.1, reference, all_valid(reference), 2.0)
    assert math.isnan(result.mssim) and result.to_json()["mssim"] is None
    assert result.rmse == pytest.approx(0.1)


@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf])
def test_peak_must_be_positive(cubes: tuple, peak: float) -> None:
    with pytest.raises(UserError, match="PEAK"):
        evaluate(*cubes, all_valid(cubes[1]), peak)


def test_no_valid_pixel_is_an_error(cubes: tuple) -> None:
    with pytest.raises(UserError, match="No pixel is valid"):
        evaluate(*cubes, ~all_valid(cubes[1]), PEAK)


def test_different_shapes_are_an_error(cubes: tuple) -> None:
    with pytest.raises(UserError, match="differ in shape"):
        evaluate(cubes[0][:4], cubes[1], all_valid(cubes[1]), PEAK)


def test_coverage_by_hand() -> None:
    errors = np.array([[[1.0, -2.0, 3.0, -4.0, 5.0]], [[0.0, 6.0, -6.1, 12.0, -12.1]]])
    deviation = np.array([[[2.0] * 5], [[6.0] * 5]])
    coverage = Coverage()
    coverage.add(100 + errors, np.full((2, 1, 5), 100.0), deviation, np.ones((1, 5), bool))
    assert coverage.shares() == (4 / 10, 8 / 10)  # a limit belongs to what lies within it
    assert coverage.to_json() == {"one_sigma": 0.4, "two_sigma": 0.8}


def test_coverage_of_normal_errors_is_that_of_a_normal_distribution() -> None:
    random = np.random.default_rng(5)
    deviation = random.uniform(1, 500, (4, 200, 250))
    reference = random.uniform(0, 10_000, deviation.shape)
    prediction = reference + random.normal(0, deviation)
    coverage, narrow = Coverage(), Coverage()
    coverage.add(prediction, reference, deviation, all_valid(reference))
    narrow.add(prediction, reference, deviation / 2, all_valid(reference))
    assert pytest.approx((0.6827, 0.9545), abs=5e-5) == NORMAL_COVERAGE
    assert coverage.shares() == pytest.approx(NORMAL_COVERAGE, abs=5e-3)
    assert narrow.shares() == pytest.approx((0.3829, 0.6827), abs=5e-3)


def test_coverage_leaves_out_known_values_and_invalid_pixels() -> None:
    prediction = np.array([[[1.0, 1.0, 5.0, math.nan]], [[0.0, 9.0, 9.0, 0.0]]])
    deviation = np.array([[[2.0, 2.0, 2.0, 2.0]], [[0.0, 0.0, math.nan, 1.0]]])
    coverage = Coverage()
    coverage.add(prediction, np.zeros((2, 1, 4)), deviation, np.array([[True, True, False, False]]))
    assert coverage.shares() == (1, 1)


def test_coverage_taken_in_by_parts_is_that_of_the_whole(cubes: tuple) -> None:
    deviation = np.full(cubes[1].shape, 300.0)
    whole, parts = Coverage(), Coverage()
    whole.add(*cubes, deviation, all_valid(cubes[1]))
    for rows in (slice(0, 7), slice(7, 40)):
        parts.add(*(cube[:, rows] for cube in (*cubes, deviation)), all_valid(cubes[1])[rows])
    assert parts.shares() == whole.shares()
    assert 0.6 < whole.shares()[0] < 0.76


def test_coverage_tells_errors_apart_that_float32_cannot() -> None:
    reference = np.full((1, 1, 1), 2**24, np.float32)
    coverage = Coverage()
    coverage.add(np.full((1, 1, 1), -1, np.float32), reference, reference, np.ones((1, 1), bool))
    assert coverage.shares() == (0, 1)


def test_coverage_of_nothing_is_undefined_and_null_in_json() -> None:
    coverage = Coverage()
    coverage.add(np.ones((1, 2, 2)), np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.ones((2, 2), bool))
    assert np.isnan(coverage.shares()).all()
    assert coverage.to_json() == {"one_sigma": None, "two_sigma": None}
