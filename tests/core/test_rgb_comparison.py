import numpy as np
import pytest

from scdm_qgis.core.rgb_comparison import measure_distribution, rgb_differences
from scdm_qgis.core.rgb_distribution import RgbDistribution


def pixels(count=20_000, seed=0):
    """Return reflectances times 10 000, brightness 500 to 4500, colours near grey."""
    random = np.random.default_rng(seed)
    return random.uniform(500, 4500, (count, 1)) * random.uniform(0.8, 1.2, (count, 3))


def detail(noise=10.0, count=20_000):
    """Return the detail of an image that shows nothing."""
    return np.random.default_rng(0).normal(scale=noise, size=(count, 3))


def differences(rgb, noise=10.0):
    return rgb_differences(rgb, detail(noise), TRAINED_ON)


TRAINED_ON = measure_distribution(pixels(), detail())


def test_limits_are_quantiles():
    rgb = np.outer(np.arange(1001.0), [0.5, 1.0, 1.5])
    measured = measure_distribution(rgb, detail())
    assert measured.brightness == pytest.approx((1, 500, 999))
    assert measured.red_share == pytest.approx((1 / 6, 1 / 6), abs=0.001)
    assert RgbDistribution.from_json(measured.to_json()) == measured


def test_the_training_data_and_data_like_it_are_not_spoken_of():
    assert differences(pixels()) == []
    assert differences(pixels(seed=1)) == []


def test_brighter_and_darker():
    (brighter,) = differences(1.5 * pixels(seed=1))
    expected = (1.5 * pixels(seed=1).mean(axis=1) > TRAINED_ON.brightness[2]).mean()
    assert brighter.startswith(f"{expected:.0%} of the pixels are brighter")
    (darker,) = differences(0.5 * pixels(seed=1))
    assert "darker" in darker


def test_another_hue():
    (said,) = differences(pixels(seed=1) * [1.3, 1, 0.7])
    assert "another hue" in said


def test_another_unit_and_pictures_for_the_screen():
    (reflectance,) = differences(pixels(seed=1) / 10_000)
    assert "another unit or scale" in reflectance
    assert "about 10000 the input" in reflectance and "screen" not in reflectance
    (picture,) = differences(np.rint(pixels(seed=1) / 4500 * 200))
    assert "from 0 to 255" in picture
    trained_on = measure_distribution(pixels() / 4500 * 200, detail())
    (darker,) = rgb_differences(np.rint(pixels(seed=1) / 4500 * 20), detail(), trained_on)
    assert "another unit or scale" in darker and "screen" not in darker


def test_dark_and_negative_pixels_have_no_hue():
    rgb = pixels(seed=1)
    rgb[:200] = 0
    rgb[200:300] = -50
    assert differences(rgb) == []


def test_noise_is_spoken_of_where_it_is_much_more_than_the_training_data_has():
    assert differences(pixels(seed=1), noise=19.0) == []
    (said,) = differences(pixels(seed=1), noise=48.0)
    assert "noisier than the training data" in said
    assert "red (48, there 10)" in said and "blue (48, there 10)" in said
    noiseless = measure_distribution(pixels(), detail(0.0))
    assert rgb_differences(pixels(), detail(10.0), noiseless) == []  # thousandths of what is seen show in nothing


def test_noise_of_centred_data_is_measured_by_their_range():
    centred = pixels() - 2500
    trained_on = measure_distribution(centred, detail(1.0))
    assert rgb_differences(centred, detail(10.0), trained_on) == []
    assert "noisier" in rgb_differences(centred, detail(100.0), trained_on)[0]


def test_where_the_noise_is_unknown_nothing_is_said_of_it():
    unknown = measure_distribution(pixels(), detail(count=10))
    assert unknown.noise is None
    assert RgbDistribution.from_json(unknown.to_json()) == unknown
    before = {key: value for key, value in unknown.to_json().items() if key != "noise"}
    assert RgbDistribution.from_json(before) == unknown
    assert rgb_differences(pixels(), detail(500.0), unknown) == []
    assert rgb_differences(pixels(), detail(500.0, count=10), TRAINED_ON) == []
