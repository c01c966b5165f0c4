import numpy as np
import pytest
import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.reconstruction import settings_for
from scdm_qgis.engine import tile_reconstructor
from scdm_qgis.engine.tile_batches import TilePixels
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor
from scdm_qgis.raster.tiles import Tile

SIDE = 16


@pytest.fixture
def cascade(regressions_only):
    return Cascade.load(regressions_only)


@pytest.fixture
def sampling(cascade):
    """Return a function that makes a `Sampling` of a number of draws, with a sampler for each stage."""

    def make(draws, *samplers):
        headers = [stage.header for stage in cascade.stages]
        settings = (settings_for(header, True, sampler) for header, sampler in zip(headers, samplers))
        return Sampling(tuple(settings), draws, 0, False)

    return make


@pytest.fixture
def sample(cascade, monkeypatch):
    """Return a function that reconstructs a tile; it returns what comes of it, and all draws in data units."""

    def run(sampling):
        drawn = []

        def recorded(*given):
            for outputs in original(*given):
                drawn.append(outputs)
                yield outputs

        original = tile_reconstructor.reconstruct
        with monkeypatch.context() as patch:
            patch.setattr(tile_reconstructor, "reconstruct", recorded)
            make = TileReconstructor(cascade, sampling)
            side = SIDE + 2 * make.margin
            rgb = np.random.default_rng(0).uniform(1500, 2500, (1, 3, side, side)).astype(np.float32)
            made = make(TilePixels((Tile(0, 0, SIDE, SIDE, 0, 0),), rgb, np.ones((1, side, side), bool)))
        normalisation = cascade.header.normalisation
        last = torch.stack([outputs[-1] for outputs in drawn]).double().numpy()
        return made, last * normalisation.scale + normalisation.offset

    return run


def test_mean_and_deviation_are_those_of_independent_draws(sampling, sample, monkeypatch):
    monkeypatch.setattr(tile_reconstructor, "MOST_BALANCED", 0)
    made, drawn = sample(sampling(3, "unipc", "unipc"))
    assert np.allclose(made.means[-1], drawn.mean(axis=0), atol=0.05)
    assert np.allclose(made.deviation, drawn.std(axis=0, ddof=1), rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("draws", [2, 5])
def test_the_squares_of_all_balanced_draws_count(sampling, sample, draws):
    made, drawn = sample(sampling(draws, "unipc", "unipc"))
    assert np.allclose(made.means[-1], drawn.mean(axis=0), atol=0.05)
    assert np.allclose(made.deviation, drawn.std(axis=0), rtol=1e-3, atol=0.05)


def test_few_balanced_draws_have_the_estimate_as_their_mean(cascade, sampling, sample):
    settings = tuple(settings_for(stage.header, False) for stage in cascade.stages)
    estimate, _ = sample(Sampling(settings, 1, 0, False))
    for draws in (2, 4):
        made, drawn = sample(sampling(draws, "unipc", "unipc"))
        assert np.abs(made.means[-1] - estimate.means[-1]).max() < 0.1 * np.abs(drawn[0] - estimate.means[-1]).max()


def test_deviation_does_not_grow_with_the_number_of_draws(sampling, sample):
    variances = [np.square(sample(sampling(draws, "unipc", "unipc"))[0].deviation).mean() for draws in (2, 4, 8)]
    assert variances == pytest.approx([variances[-1]] * 3, rel=0.1)


def test_draws_are_balanced_where_starts_decide_in_all_stages(sampling):
    assert sampling(2, "unipc", "ddim").balanced
    assert not sampling(1, "unipc", "unipc").balanced
    assert not sampling(2, "ddpm", "unipc").balanced
    assert not sampling(2, "unipc", "ddpm").balanced
    assert not sampling(65, "unipc", "unipc").balanced
