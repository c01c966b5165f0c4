"""The regression under a stage, fitted to pixels whose spectra follow known laws."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scdm_qgis.engine.anchor import fit_anchor
from tests.core.conftest import small_stage

BANDS = 4


def materials(pixels=4000, seed=0):
    """Return RGB of red and green pixels in changing light (pixel, 3), and which are red."""
    random = np.random.default_rng(seed)
    red = random.random(pixels) < 0.5
    colour = np.where(red[:, None], [3.0, 1.0, 1.0], [1.0, 3.0, 1.0]) + random.normal(0, 0.1, (pixels, 3))
    return (colour * random.uniform(0.5, 2, (pixels, 1))).astype(np.float32), red


def fitted(target_of):
    """Fit to eight blocks of pixels; `target_of` gives their target (pixel, band) from RGB and which are red."""
    rgb, red = materials()
    target = target_of(rgb, red).astype(np.float32)
    rows = [(block / 8, part, known) for block, (part, known) in enumerate(zip(*map(_eighths, (rgb, target))))]
    header = small_stage(of=1).header
    return fit_anchor(header, SimpleNamespace(black=0.0, training_rows=lambda: iter(rows)))


def _eighths(pixels):
    return np.split(pixels, 8)


def expected(anchor, rgb):
    expectation = anchor.expect(torch.from_numpy(rgb).T[None, :, None])
    return tuple(values[0, :, 0].T.numpy() for values in (expectation.estimate, expectation.scale))


def two_spectra(rgb, red):
    """Return a spectrum a material, as bright as the pixel: no linear function of RGB."""
    light = rgb.sum(axis=1, keepdims=True)
    return light * np.where(red[:, None], [1.0, 2.0, 0.5, 1.0], [1.0, 0.2, 3.0, 1.5])


def test_each_material_gets_its_spectrum_in_any_light():
    anchor, _ = fitted(two_spectra)
    rgb, red = materials(seed=1)
    estimate, _ = expected(anchor, rgb)
    truth = two_spectra(rgb, red)
    assert np.sqrt(np.square(estimate - truth).mean()) < 0.02 * np.sqrt(np.square(truth).mean())


def test_noise_is_mixed_as_the_residuals_of_bands_correlate():
    """Bands 1 and 2 miss together, 3 the other way round, 4 on its own."""
    random = np.random.default_rng(3)

    def varying(rgb, red):
        common, own = random.normal(size=(2, len(rgb), 1))
        misses = np.hstack([common, 2 * common, -common, own])
        return two_spectra(rgb, red) + 0.1 * misses * rgb.sum(axis=1, keepdims=True)

    mixing = fitted(varying)[0].mixing.double()
    correlation = mixing @ mixing.T
    assert correlation.diagonal().numpy() == pytest.approx(np.ones(BANDS))
    assert correlation[0, 1].item() == pytest.approx(0.95, abs=0.02)
    assert correlation[0, 2].item() == pytest.approx(-0.95, abs=0.02)
    assert abs(correlation[0, 3].item()) < 0.05


def test_bands_that_leave_nothing_still_have_noise():
    def constant_band(rgb, red):
        return np.hstack([two_spectra(rgb, red)[:, :3], np.zeros((len(rgb), 1))])

    mixing = fitted(constant_band)[0].mixing
    assert mixing.isfinite().all()
    assert mixing[3].square().sum().item() == pytest.approx(1)


def test_colours_whose_spectra_vary_are_doubted():
    """Red pixels vary four times as much about their spectrum as green ones of the same light."""
    random = np.random.default_rng(2)

    def varying(rgb, red):
        share = random.normal(size=(len(rgb), BANDS)) * np.where(red, 0.2, 0.05)[:, None]
        return two_spectra(rgb, red) + share * rgb.sum(axis=1, keepdims=True)

    anchor, left_out = fitted(varying)
    rgb, red = materials(seed=1)
    _, scale = expected(anchor, rgb)
    by_light = scale / rgb.sum(axis=1, keepdims=True)
    assert np.median(by_light[red]) == pytest.approx(4 * np.median(by_light[~red]), rel=0.15)
    # Standardised, what is left has the same deviation in all bands, about that of the residuals learnt from.
    assert np.sqrt(np.square(left_out).mean(axis=0)) == pytest.approx(np.ones(BANDS), rel=0.1)
