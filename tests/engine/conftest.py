"""Stages trained in a moment, for tests of what is done with them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List

import numpy as np
import pytest
from affine import Affine

from scdm_qgis.engine import assemble, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, TrainCascadeStage


@dataclass
class Recorder:
    """Event lines as a user would see them."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def events(self) -> EventWriter:
        return EventWriter(self.stream)

    @property
    def lines(self) -> List[Dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def messages(self, kind: str = "log") -> str:
        return "\n".join(line["message"] for line in self.lines if line["event"] == kind)


@pytest.fixture
def recorder():
    return Recorder()


def spectra(height=96, width=64, bands=9, seed=0):
    """Return a smooth cube (band, row, column), uint16, whose bands follow from three sources."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width] / 16
    sources = np.stack([np.sin(row + p) + np.cos(column * (p + 1) / 2) for p in range(3)])
    mixing = random.uniform(0.2, 1, (bands, 3))
    return (2000 + 300 * np.tensordot(mixing, sources, 1)).round().astype(np.uint16)


@pytest.fixture
def make_cube(make_raster):
    """Return a function that writes a cube of `spectra` with wavelengths 430, 480, ... nm."""

    def make(name="cube.tif", values=None, **profile):
        values = spectra() if values is None else values

        def change(dataset):
            for band in range(1, dataset.count + 1):
                dataset.update_tags(band, wavelength=str(380 + 50 * band), wavelength_units="Nanometers", fwhm="40")

        return make_raster(values, name, change, crs="EPSG:32633", transform=GEOREFERENCE, **profile)

    return make


GEOREFERENCE = Affine(5, 0, 400000, 0, -5, 5800000)


@pytest.fixture
def train_stage(tmp_path, recorder):
    """Return a function that trains one stage in a moment and returns (path, results)."""

    def make(scene, stage=1, name=None, **changes):
        output = str(tmp_path / (name or f"stage{stage}.safetensors"))
        values = {"stages": 2, "iterations": 2, "patch_size": 16, "batch_size": 2, "device": "cpu"}
        inputs = scene if isinstance(scene, list) else [scene]
        job = TrainCascadeStage(inputs=inputs, stage=stage, output=output, **{**values, **changes})
        return output, train.run(job, recorder.events)

    return make


@pytest.fixture
def make_model(tmp_path, train_stage, recorder):
    """Return a function that trains and assembles a cascade of two stages."""

    def make(scene, **changes):
        files = [train_stage(scene, stage, **changes)[0] for stage in (2, 1)]
        output = str(tmp_path / "cascade.safetensors")
        assemble.run(AssembleCascade(files, output), recorder.events)
        return output

    return make
