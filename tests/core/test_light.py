import pytest
import torch

from scdm_qgis.core.light import COLOUR_BANDS, Light

LIGHT = Light(black=-1.0, mean=2.0)


def pixel(*rgb):
    return torch.tensor(rgb).reshape(1, 3, 1, 1)


def test_relative_brightness_is_one_for_the_mean_and_never_zero():
    assert LIGHT.relative(pixel(1.0, 1.0, 1.0)).item() == pytest.approx(1)
    assert LIGHT.relative(pixel(0.0, 1.0, 2.0)).item() == pytest.approx(1)
    assert LIGHT.relative(pixel(3.0, 3.0, 3.0)).item() == pytest.approx(2.1 / 1.1)
    assert LIGHT.relative(pixel(-1.0, -1.0, -1.0)).item() == pytest.approx(0.1 / 1.1)
    assert LIGHT.relative(pixel(-5.0, -5.0, -5.0)).item() == pytest.approx(0.1 / 1.1)


def test_colour_is_that_of_the_material_not_of_the_light():
    dim, bright = LIGHT.colour(pixel(0.0, 1.0, 2.0)), LIGHT.colour(pixel(10.0, 21.0, 32.0))
    assert dim.shape == (1, COLOUR_BANDS, 1, 1)
    assert torch.allclose(dim[:, :3], bright[:, :3], atol=0.15)
    assert bright[0, 3] - dim[0, 3] == pytest.approx(torch.log(torch.tensor(66.3 / 6.3)).item(), abs=1e-5)


def test_grey_and_black_have_no_colour():
    for value in (-3.0, -1.0, 1.0, 7.0):
        assert torch.allclose(LIGHT.colour(pixel(value, value, value))[:, :3], torch.tensor(0.0), atol=1e-6)
