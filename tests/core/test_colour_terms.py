import math

import pytest
import torch

from scdm_qgis.core.colour_terms import (
    KERNEL_WIDTHS,
    ColourTerms,
    choose_centres,
    kernel_between,
    place_bands,
    views_with,
)
from scdm_qgis.core.light import Light

LIGHT = Light(black=-1.0, mean=2.0)


def make_terms(centres=3, limits=(-2.0, 2.0)):
    torch.manual_seed(0)
    stand = {view: torch.randn(centres, place_bands(view)) for view in views_with(3)}
    return ColourTerms(LIGHT, torch.tensor(limits), stand)


def image(*rgb):
    return torch.tensor(rgb).reshape(1, 3, 1, 1)


def test_a_kernel_falls_with_distance_and_never_vanishes():
    centre, places = torch.zeros(1, 2), torch.tensor([[0.0, 1.0, 100.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    at, near, far = kernel_between(places, centre)[0, 0, 0].tolist()
    assert at == 1
    assert near == pytest.approx(sum(1 / (1 + 0.5 / width**2) for width in KERNEL_WIDTHS) / len(KERNEL_WIDTHS))
    assert 0 < far < 0.01


def test_views_need_their_context_maps():
    assert views_with(0) == ("pixel",)
    assert views_with(1) == ("pixel", "near")
    assert views_with(4) == ("pixel", "near", "far")


def test_terms_are_counted_and_as_bright_as_the_pixel():
    terms = make_terms()
    rgb, context = torch.rand(2, 3, 4, 5), torch.rand(2, 9, 4, 5)
    assert terms(rgb, context).shape == (2, terms.count(3), 4, 5) == (2, 18, 4, 5)
    # Apart from the floors of colour and brightness, five times the light makes five times the terms
    # where the colour's logarithm of brightness is held at the limit.
    dim, bright = image(400.0, 300.0, 200.0), image(2004.0, 1504.0, 1004.0)
    around = torch.full((1, 9, 1, 1), 1000.0)
    assert torch.allclose(terms(bright, around), 5 * terms(dim, around), rtol=2e-3, atol=2e-2)


def test_beyond_the_known_brightness_nothing_bends():
    terms = make_terms(limits=(-0.5, 0.5))
    places = [terms.places("pixel", image(value, value, value), torch.zeros(1, 9, 1, 1)) for value in (9.0, 90.0)]
    assert torch.allclose(places[0], places[1])
    assert places[0][0, -1].item() == 0.5


def test_places_compare_a_pixel_with_its_surroundings():
    terms, same = make_terms(), image(0.5, 0.2, 0.1)
    context = torch.cat([same, same, image(0.0, 0.0, 1.0)], dim=1)
    assert torch.allclose(terms.places("near", same, context)[0, 4:], torch.tensor(0.0))
    assert terms.places("far", same, context)[0, 4:].abs().max() > 0.1


def test_centres_are_the_pixels_that_tell_most_of_the_others():
    """Two clusters and an outlier: three centres take one of each, and a fourth tells little."""
    torch.manual_seed(0)
    cluster = 0.01 * torch.randn(50, 3, dtype=torch.float64)
    places = torch.cat([cluster, cluster + 5, torch.full((1, 3), -20.0, dtype=torch.float64)])
    centres = choose_centres(places, 3)
    assert sorted(round(centre[0].item() / 5) for centre in centres) == [-4, 0, 1]


def test_repeated_pixels_make_one_centre():
    assert len(choose_centres(torch.ones(100, 4, dtype=torch.float64), 10)) == 1


def test_centres_leave_the_least_unexplained():
    """What is left of a kernel after projection on the chosen ones is what the decomposition says it is."""
    torch.manual_seed(1)
    places = torch.randn(200, 4, dtype=torch.float64)

    def between(a, b):
        return kernel_between(a.T[None, :, None], b)[0, :, 0].T

    left = []
    for count in (5, 20, 80):
        centres = choose_centres(places, count)
        cross = between(places, centres)
        left.append((1 - (cross @ torch.linalg.inv(between(centres, centres)) * cross).sum(dim=1)).max().item())
    assert left[0] > left[1] > left[2] > -1e-9
    assert not math.isnan(left[2])
