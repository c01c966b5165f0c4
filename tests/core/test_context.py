import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scdm_qgis.core.context import context_maps, context_radius


def image(height=30, width=20):
    torch.manual_seed(0)
    return torch.rand(1, 3, height, width), torch.ones(1, 1, height, width)


def test_a_flat_image_stays_flat_up_to_its_border():
    rgb, valid = image()
    flat = torch.full_like(rgb, 0.7)
    assert torch.allclose(context_maps(flat, valid, (1.0, 4.0)), torch.full((1, 6, 30, 20), 0.7))


def test_a_point_becomes_a_gaussian():
    rgb, valid = torch.zeros(1, 3, 41, 41), torch.ones(1, 1, 41, 41)
    rgb[0, 1, 20, 20] = 1
    smoothed = context_maps(rgb, valid, (2.0,))[0, 1]
    distance = torch.arange(-6.0, 7.0)
    window = torch.exp(-0.5 * (distance / 2).square())
    window /= window.sum()
    assert torch.allclose(smoothed[14:27, 14:27], torch.outer(window, window), atol=1e-7)
    assert smoothed[20, 13] == 0


def test_invalid_pixels_are_neither_seen_nor_missed():
    rgb, valid = image()
    valid[0, 0, 5:15, 5:15] = 0
    changed = torch.where(valid > 0, rgb, torch.tensor(99.0))
    maps = context_maps(rgb, valid, (1.0, 2.0))
    assert torch.equal(maps, context_maps(changed, valid, (1.0, 2.0)))
    flat = context_maps(torch.full_like(rgb, 0.3), valid, (1.0, 2.0))
    assert torch.allclose(flat[:, :3, 3:5], torch.tensor(0.3))
    assert (context_maps(rgb, torch.zeros_like(valid), (1.0,)) == 0).all()


def test_a_cut_out_with_its_margin_has_the_maps_of_the_whole():
    rgb, valid = image(40, 40)
    sigmas = (0.8, 2.0)
    margin = context_radius(sigmas)
    assert margin == 6
    whole = context_maps(rgb, valid, sigmas)
    window = (..., slice(8, 30), slice(9, 31))
    part = context_maps(rgb[window], valid[window], sigmas)
    inner = slice(margin, -margin)
    assert torch.allclose(part[..., inner, inner], whole[window][..., inner, inner], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 65), (130, 200)])
@pytest.mark.parametrize("sigma", [0.4, 3.0, 8.0])
def test_maps_are_gaussian_filters(size, sigma):
    """Scipy's filter of values and of weights, for images narrower than the window and wider than a block."""
    random = torch.Generator().manual_seed(1)
    rgb, valid = torch.rand(2, 3, *size, generator=random), (torch.rand(2, 1, *size, generator=random) > 0.3).float()

    def filtered(x):
        options = {"sigma": (0, 0, sigma, sigma), "mode": "constant", "radius": (0, 0, *2 * [math.ceil(3 * sigma)])}
        return gaussian_filter(x.double().numpy(), **options)

    expected = filtered(rgb * valid) / np.maximum(filtered(valid), 1e-12)
    assert np.allclose(context_maps(rgb, valid, (sigma,)), expected, atol=2e-6)


@pytest.mark.parametrize("margin", [0, 3, 6, 9])
def test_a_margin_is_seen_but_gets_no_maps(margin):
    rgb, valid = image(40, 40)
    whole = context_maps(rgb, valid, (0.8, 2.0))
    inner = (..., slice(margin, 40 - margin), slice(margin, 40 - margin))
    assert torch.allclose(context_maps(rgb, valid, (0.8, 2.0), margin), whole[inner], atol=1e-6)
    assert context_maps(rgb, valid, (), margin).shape == (1, 0, 40 - 2 * margin, 40 - 2 * margin)


def test_no_widths_no_maps():
    rgb, valid = image()
    assert context_maps(rgb, valid, ()).shape == (1, 0, 30, 20)
    assert context_radius(()) == 0


@pytest.mark.parametrize("sigma", [0.3, 1.0, 8.0])
def test_wider_windows_smooth_more(sigma):
    rgb, valid = image()
    narrow, wide = context_maps(rgb, valid, (sigma, 2 * sigma)).split(3, dim=1)
    assert wide.var() < narrow.var()
