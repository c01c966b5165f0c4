"""Models whose answers are known by plain arithmetic, and how to ask them."""

from __future__ import annotations

import io
import json
from typing import Tuple

import numpy as np
import rasterio
import torch
from safetensors import safe_open

from scdm_qgis.core.cascade import Cascade, Stage, make_network
from scdm_qgis.core.cascade_header import (
    METADATA_KEY,
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
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral

BANDS = (2, 3, 5, 7, 8, 9)
RGB_BANDS = (8, 5, 3)

WEIGHTS = (
    (0.40, 0.15, -0.05),
    (0.10, 0.30, 0.20),
    (-0.20, 0.10, 0.30),
    (0.25, -0.25, 0.10),
    (0.05, 0.20, -0.35),
    (-0.10, -0.30, 0.20),
)
"""Of red, green and blue, one row a band. Those of bands that are RGB too are not 1 and 0: these are copied instead."""

BIASES = (0.10, -0.20, 0.05, 0.15, -0.10, 0.20)


def write_model(path, dtype="uint16", nodata=None, offset=1000.0, scale=500.0) -> str:
    """Write a cascade of one stage whose network says nothing over a regression that is linear in RGB."""
    return _write(path, (), NodataPolicy(dtype, nodata), Normalisation(offset, scale))


def write_talkative_model(path) -> str:
    """Write a cascade whose answer depends on all of a tile and on what surrounds it.

    Its network is random, and its regression sees the colours around a pixel too.
    """
    return _write(path, (1.5,), NodataPolicy("float32", None), Normalisation(1000.0, 500.0))


def _write(path, context_sigmas: Tuple[float, ...], policy: NodataPolicy, normalisation: Normalisation) -> str:
    header = StageHeader(
        index=1,
        of=1,
        bands=BANDS,
        wavelengths_nm=None,
        fwhm_nm=None,
        condition=Condition((), RGB_BANDS, context_sigmas),
        network=NetworkConfig(4, (1, 1), encoder_blocks=1, decoder_blocks=2, middle_attention=False, norm_groups=2),
        patch_size=16,
        prediction="residual",
        schedule=ScheduleConfig.of_timesteps(10),
        sampler="ddim",
        steps=2,
        guidance_weight=0.0,
        truncation=Truncation(),
        second_moment=1.0,
    )
    maps = len(context_sigmas)
    centres = {view: torch.zeros(1, place_bands(view)) for view in views_with(maps)}
    terms = ColourTerms(Light(-2.0, 2.0), torch.tensor([-1.0, 1.0]), centres)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_network(header)
    if not maps:
        for parameter in network.conv_out.parameters():
            torch.nn.init.zeros_(parameter)
    weight = torch.zeros(len(BANDS), 3 + terms.count(maps))
    weight[:, :3] = torch.tensor(WEIGHTS)
    weight[:, 3:] = 0.1 if maps else 0.0
    ones = torch.ones(len(BANDS))
    doubt = torch.zeros(1 + terms.kernel_count)
    anchor = Anchor(0, terms, weight, torch.tensor(BIASES), doubt, 0.1 * ones, ones, ones.clone(), torch.eye(len(ones)))
    Cascade(CascadeHeader((header,), normalisation, policy, ({},), "tests"), (Stage(header, network, anchor),)).save(
        path
    )
    return path


def ask(model, source, output, **options) -> str:
    """Reconstruct a raster from its first three bands and return the output's path."""
    fixed = {"rgb_bands": "1,2,3", "device": "cpu", "precision": "float32"}
    job = RgbToHyperspectral(source, model, output, **fixed, **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tiles as small as these, threads wait for each other most of the time
    try:
        reconstruct.run(job, EventWriter(io.StringIO()))
    finally:
        torch.set_num_threads(threads)
    return output


def known_spectra(model, rgb):
    """Return what a model of `write_model` makes of RGB (3, row, column): (band, row, column), not rounded."""
    header, weight, bias = _read(model)
    offset, scale = header["normalisation"]["offset"], header["normalisation"]["scale"]
    assert not weight[:, 3:].any(), "the regression must be linear in RGB"
    rgb = np.asarray(rgb, np.float64)
    spectra = (np.tensordot(weight[:, :3], (rgb - offset) / scale, 1) + bias[:, None, None]) * scale + offset
    spectra[copied_bands(model)] = rgb
    return spectra


def copied_bands(model):
    """Return which bands of the output, counted from 0, are red, green and blue."""
    (stage,) = _read(model)[0]["stages"]
    return [stage["bands"].index(band) for band in stage["condition"]["rgb_bands"]]


def _read(model):
    with safe_open(model, framework="numpy") as file:
        header = json.loads(file.metadata()[METADATA_KEY])
        weight, bias = (file.get_tensor(f"stage1.regression.{name}") for name in ("weight", "bias"))
    return header, weight.astype(np.float64), bias.astype(np.float64)


def check_spectra(output, model, rgb, valid):
    """Assert that a raster holds the known spectrum in every valid pixel and nodata in all others.

    Args:
        output: path of the raster.
        model: path of a model of `write_model`.
        rgb: (3, row, column), what the model was given.
        valid: (row, column).
    """
    with rasterio.open(output) as dataset:
        values, shown, nodata = dataset.read(), dataset.read_masks() != 0, dataset.nodata
    assert values.shape == (len(BANDS), *valid.shape)
    assert (shown == valid).all(), "the mask must be that of the input"
    hidden = values[:, ~valid]
    assert (np.isnan(hidden) if np.isnan(nodata) else hidden == nodata).all(), "hidden pixels must be nodata"
    expected = known_spectra(model, rgb)[:, valid]
    found = values[:, valid].astype(np.float64)
    tolerance = (0.5 if values.dtype.kind in "iu" else 0) + 1e-5 * np.abs(expected).max()
    assert np.abs(found - expected).max() <= tolerance
    copied = copied_bands(model)
    assert (values[copied][:, valid] == rgb[:, valid]).all(), "RGB bands must be the input's own"
