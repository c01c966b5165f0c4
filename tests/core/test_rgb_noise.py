import numpy as np
import pytest

from scdm_qgis.core.rgb_noise import measure_detail, noise_of

EVERYWHERE = np.ones((120, 100), bool)


def scene(seed=0):
    """Return an image (3, row, column) of fields with sharp edges and of texture, alike in all bands."""
    random = np.random.default_rng(seed)
    fields = np.kron(random.uniform(500, 3000, (12, 10)), np.ones((10, 10)))
    texture = random.normal(scale=200, size=fields.shape)
    return np.stack([gain * (fields + texture) for gain in (0.8, 1.0, 1.1)])


def noise(deviations, seed=1):
    return np.random.default_rng(seed).normal(size=(3, *EVERYWHERE.shape)) * np.reshape(deviations, (3, 1, 1))


def test_noise_is_told_from_texture_and_edges():
    detail = measure_detail(scene() + noise((5, 20, 60)), EVERYWHERE)
    red, green, blue = noise_of(detail)
    assert 5 < red < 0.8 * 20 + 5  # that of the green beside it adds to what is left
    assert 20 < green * 1.05 < 25
    assert blue == pytest.approx(60, rel=0.1)


def test_noise_alone_has_its_deviation():
    assert noise_of(measure_detail(noise((3, 30, 300)), EVERYWHERE)) == pytest.approx((3, 30, 300), rel=0.05)


def test_spikes_are_no_noise():
    image = scene() + noise((5, 20, 60))
    clean = noise_of(measure_detail(image, EVERYWHERE))
    image[1][np.random.default_rng(2).random(EVERYWHERE.shape) < 0.002] = 60_000
    assert noise_of(measure_detail(image, EVERYWHERE)) == pytest.approx(clean, rel=0.1)


def test_planes_have_no_detail():
    row, column = np.mgrid[:120, :100]
    assert np.allclose(measure_detail(np.stack([row, column, 3 * row - column]), EVERYWHERE), 0)


def test_pixels_beside_invalid_ones_do_not_count():
    image, valid = noise((1, 1, 1)), EVERYWHERE.copy()
    image[:, 50, 50], valid[50, 50] = 1e9, False
    detail = measure_detail(image, valid)
    assert len(detail) == 118 * 98 - 9
    assert np.abs(detail).max() < 10


def test_where_all_detail_is_an_edge_in_some_colour_nothing_is_told():
    image = np.zeros((3, *EVERYWHERE.shape))
    for colour in range(3):
        image[colour, 40 * colour : 40 * colour + 40] = noise((9, 9, 9))[colour, :40]
    assert noise_of(measure_detail(image, EVERYWHERE)) is None


def test_of_hardly_any_pixel_nothing_is_told():
    assert noise_of(measure_detail(noise((1, 1, 1))[:, :10, :10], EVERYWHERE[:10, :10])) is None
