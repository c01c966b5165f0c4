import numpy as np
import pytest

from scdm_qgis.core.rgb_comparison import measure_distribution, rgb_differences
from scdm_qgis.core.rgb_distribution import RgbDistribution


def pixels(count=20_000, seed=0):
    """Return reflectances times 10 000, brightness 500 to 4500, colours near grey."""
    random = np.random.default_rng(seed)
    return random.uniform(500, 4500, (count, 1)) * random.uniform(0.8, 1.2, (count, 3))


TRAINED_ON = measure_distribution(pixels())


def test_limits_are_quantiles():
    rgb = np.outer(np.arange(1001.0), [0.5, 1.0, 1.5])
    measured = measure_distribution(rgb)
    assert measured.brightness == pytest.approx((1, 500, 999))
    assert measured.red_share == pytest.approx((1 / 6, 1 / 6), abs=0.001)
    assert RgbDistribution.from_json(measured.to_json()) == measured


def test_the_training_data_and_data_like_it_are_not_spoken_of():
    assert rgb_differences(pixels(), TRAINED_ON) == []
    assert rgb_differences(pixels(seed=1), TRAINED_ON) == []


def test_brighter_and_darker():
    (brighter,) = rgb_differences(1.5 * pixels(seed=1), TRAINED_ON)
    expected = (1.5 * pixels(seed=1).mean(axis=1) > TRAINED_ON.brightness[2]).mean()
    assert brighter.startswith(f"{expected:.0%} of the pixels are brighter")
    (darker,) = rgb_differences(0.5 * pixels(seed=1), TRAINED_ON)
    assert "darker" in darker


def test_another_hue():
    (said,) = rgb_differences(pixels(seed=1) * [1.3, 1, 0.7], TRAINED_ON)
    assert "another hue" in said


def test_another_unit_and_pictures_for_the_screen():
    (reflectance,) = rgb_differences(pixels(seed=1) / 10_000, TRAINED_ON)
    assert "another unit or scale" in reflectance
    assert "1e+04" in reflectance and "screen" not in reflectance
    (picture,) = rgb_differences(np.rint(pixels(seed=1) / 4500 * 200), TRAINED_ON)
    assert "from 0 to 255" in picture


def test_dark_and_negative_pixels_have_no_hue():
    rgb = pixels(seed=1)
    rgb[:200] = 0
    rgb[200:300] = -50
    assert rgb_differences(rgb, TRAINED_ON) == []
