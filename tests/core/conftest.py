"""Small stages whose arithmetic tests can follow."""

import pytest
import torch

from scdm_qgis.core.cascade import Cascade, Stage, make_network
from scdm_qgis.core.cascade_header import (
    CascadeHeader,
    Condition,
    NodataPolicy,
    Normalisation,
    ScheduleConfig,
    StageHeader,
    Truncation,
)
from scdm_qgis.core.colour_terms import ColourTerms, place_bands, views_with
from scdm_qgis.core.light import Light
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.residual import Anchor

BANDS = {1: (1, 3), 2: (1, 2, 3, 4)}


def small_stage(index=1, of=2, prediction="residual", untrained_output=False, context_sigmas=()):
    """Return a stage of a cascade with 2 coarse and 4 fine bands; by default its network outputs zero."""
    torch.manual_seed(index)
    residual = prediction == "residual"
    condition = Condition(BANDS[1] if index == 2 else (), (4, 2, 1) if index == 1 or residual else (), context_sigmas)
    header = StageHeader(
        index=index,
        of=of,
        bands=BANDS[index] if of == 2 else BANDS[2],
        wavelengths_nm=None,
        fwhm_nm=None,
        condition=condition,
        network=NetworkConfig(8, (1, 2), norm_groups=4),
        patch_size=8,
        prediction=prediction,
        schedule=ScheduleConfig.of_timesteps(50),
        sampler="ddpm" if prediction == "noise" else "ddim",
        steps=None if prediction == "noise" else 5,
        guidance_weight=0.0,
        truncation=Truncation(),
        second_moment=1.0,
    )
    network = make_network(header).eval()
    if not untrained_output:
        torch.nn.init.zeros_(network.conv_out.weight)
        torch.nn.init.zeros_(network.conv_out.bias)
    anchor = None
    if residual:
        maps = len(context_sigmas)
        grey = {view: torch.zeros(1, place_bands(view)) for view in views_with(maps)}
        terms = ColourTerms(Light(-1.0, 1.5), torch.tensor([-2.0, 2.0]), grey)
        inputs = condition.image_count + terms.count(maps)
        weight = torch.arange(len(header.bands) * inputs).reshape(len(header.bands), -1) / 10
        ones = torch.ones(len(header.bands))
        doubt = torch.zeros(1 + terms.kernel_count)
        anchor = Anchor(
            len(condition.previous_bands),
            terms,
            weight,
            ones,
            doubt,
            0.1 * ones,
            ones.clone(),
            ones.clone(),
            torch.diag(ones),
        )
    return Stage(header, network, anchor)


def small_cascade(*stages, offset=10.0, scale=2.0):
    """Return a cascade of the given stages."""
    header = CascadeHeader(
        tuple(stage.header for stage in stages),
        Normalisation(offset, scale),
        NodataPolicy("uint16", None),
        tuple({"seed": stage.header.index} for stage in stages),
        "test",
    )
    return Cascade(header, stages)


@pytest.fixture
def make_stage():
    return small_stage


@pytest.fixture
def make_cascade():
    return small_cascade
