"""Stages trained in a moment, for tests of what is done with them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from affine import Affine

from scdm_qgis.engine import assemble, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, TrainCascadeStage
from tests.conftest import write_raster


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


GEOREFERENCE = Affine(5, 0, 400000, 0, -5, 5800000)


def write_cube(path, values=None, **profile):
    """Write a cube, that of `spectra` by default, with wavelengths 430, 480, ... nm, and return its path."""

    def change(dataset):
        for band in range(1, dataset.count + 1):
            dataset.update_tags(band, wavelength=str(380 + 50 * band), wavelength_units="Nanometers", fwhm="40")

    values = spectra() if values is None else values
    return write_raster(path, values, change, crs="EPSG:32633", transform=GEOREFERENCE, **profile)


def train_briefly(folder, scene, events, stage=1, name=None, **changes):
    """Train one stage in a moment; return its path and the results."""
    output = str(folder / (name or f"stage{stage}.safetensors"))
    values = {"stages": 2, "iterations": 2, "patch_size": 16, "batch_size": 2, "device": "cpu"}
    inputs = scene if isinstance(scene, list) else [scene]
    job = TrainCascadeStage(inputs=inputs, stage=stage, output=output, **{**values, **changes})
    return output, train.run(job, events)


def assemble_cascade(folder, scene, events, **changes):
    """Train and assemble a cascade of two stages and return its path."""
    files = [train_briefly(folder, scene, events, stage, **changes)[0] for stage in (2, 1)]
    output = str(folder / "cascade.safetensors")
    assemble.run(AssembleCascade(files, output), events)
    return output


@pytest.fixture
def make_cube(tmp_path):
    """Return a function that writes a cube by its name and returns the path, see `write_cube`."""

    def make(name="cube.tif", values=None, **profile):
        return write_cube(tmp_path / name, values, **profile)

    return make


@pytest.fixture
def train_stage(tmp_path, recorder):
    """Return a function that trains one stage in a moment and returns (path, results)."""

    def make(scene, stage=1, name=None, **changes):
        return train_briefly(tmp_path, scene, recorder.events, stage, name, **changes)

    return make


@pytest.fixture
def make_model(tmp_path, recorder):
    """Return a function that trains and assembles a cascade of two stages."""

    def make(scene, **changes):
        return assemble_cascade(tmp_path, scene, recorder.events, **changes)

    return make


@pytest.fixture(scope="session")
def regressions_only(tmp_path_factory):
    """Return the path of a cascade whose networks say (almost) nothing: it is two regressions in a row."""
    folder = tmp_path_factory.mktemp("model")
    scene = write_cube(folder / "scene.tif")
    return assemble_cascade(folder, scene, Recorder().events, learning_rate=1e-12, iterations=1)


@pytest.fixture
def cubes() -> Tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    reference = random.uniform(200, 4000, (6, 70, 50)).astype(np.float32)
    return (reference + random.normal(0, 100, reference.shape)).astype(np.float32), reference
