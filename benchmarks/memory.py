"""How much memory rasters of several shapes take, and how long a tile and a megapixel of them.

An untrained network over a regression of known arithmetic makes 48 bands from RGB, so that rasters of 16
megapixels take minutes. Every raster is reconstructed by an engine process of its own, whose peak memory the
system tells. Beyond that of the first shape it should be at most 2 x bands x overlap x further columns x 4 bytes
and one batch, a tile here, whatever the height. Tiles that do not end where blocks of the file do, 64 pixels a side,
leave up to one row of blocks waiting besides: up to bands x 64 x further columns x bytes a value. Here they do.

    python -m benchmarks.memory [--shapes 1024x1024 16384x1024 4096x4096 1024x40000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Optional, Tuple

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window

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
from scdm_qgis.core.colour_terms import ColourTerms
from scdm_qgis.core.light import Light
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.residual import Anchor
from scdm_qgis.engine.jobs import RgbToHyperspectral

BANDS, TILE, OVERLAP = 48, 256, 64
MEBIBYTE = 2**20

LAUNCHER = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
"""A peak begins with that of the process that starts another, so a small one does. It ends with the peak in KiB."""


def write_model(path: str) -> None:
    """Write a cascade of one stage whose network says nothing and whose regression is linear in RGB."""
    header = StageHeader(
        index=1,
        of=1,
        bands=tuple(range(1, BANDS + 1)),
        wavelengths_nm=None,
        fwhm_nm=None,
        condition=Condition((), (30, 20, 10), ()),
        network=NetworkConfig(8, (1, 1, 1, 1), norm_groups=4),
        patch_size=TILE,
        prediction="residual",
        schedule=ScheduleConfig.of_timesteps(10),
        sampler="ddim",
        steps=1,
        guidance_weight=0.0,
        truncation=Truncation(),
        second_moment=1.0,
    )
    network = make_network(header)
    for parameter in network.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    terms = ColourTerms(Light(0.0, 1.0), torch.tensor([-1.0, 1.0]), {"pixel": torch.zeros(1, 4)})
    ones, weight = torch.ones(BANDS), torch.linspace(0, 1, BANDS * 4).reshape(BANDS, 4)
    anchor = Anchor(0, terms, weight, 0 * ones, torch.zeros(2), ones, ones.clone(), ones.clone(), torch.eye(BANDS))
    whole = CascadeHeader((header,), Normalisation(0.0, 1000.0), NodataPolicy("uint16", None), ({},), "benchmark")
    Cascade(whole, (Stage(header, network, anchor),)).save(path)


def write_rgb(path: str, height: int, width: int) -> None:
    """Write an RGB raster of noise, row of blocks by row of blocks."""
    random = np.random.default_rng(0)
    form = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint16"}
    form["transform"] = Affine(10, 0, 0, 0, -10, 0)
    with rasterio.open(path, "w", tiled=True, blockxsize=256, blockysize=256, **form) as dataset:
        for row in range(0, height, 256):
            rows = min(256, height - row)
            values = random.integers(500, 1500, (3, rows, width), np.uint16)
            dataset.write(values, window=Window(0, row, width, rows))


def measure(folder: str, model: str, height: int, width: int) -> Tuple[float, float, int]:
    """Reconstruct a raster; return the engine's peak memory in MiB, its seconds, and the number of tiles."""
    rgb, output, job_file = (os.path.join(folder, name) for name in ("rgb.tif", "output.tif", "job.json"))
    write_rgb(rgb, height, width)
    job = RgbToHyperspectral(rgb, model, output, rgb_bands="1,2,3", tile_size=TILE, overlap=OVERLAP, device="cpu")
    with open(job_file, "w", encoding="utf-8") as file:
        json.dump(job.to_json(), file)
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "scdm_qgis.engine", job_file]
    *events, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    (result,) = [event for event in map(json.loads, events) if event["event"] == "result"]
    return int(peak) / 1024, result["SECONDS"], result["TILES"]


def main() -> None:
    """Print one line a shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes = ["1024x1024", "16384x1024", "4096x4096", "1024x40000"]
    parser.add_argument("--shapes", nargs="+", default=shapes, help="rows x columns")
    first: Optional[Tuple[float, int]] = None
    print("| rows x columns | peak MiB | bound MiB | tiles | s a tile | s a megapixel | tile pixels / pixels |")
    print("|---|---|---|---|---|---|---|")
    for shape in parser.parse_args().shapes:
        height, width = map(int, shape.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "model.safetensors")
            write_model(model)
            peak, seconds, tiles = measure(folder, model, height, width)
        first = first or (peak, width)
        further = 2 * BANDS * OVERLAP * max(0, width - first[1]) + BANDS * TILE**2
        bound = first[0] + 4 * further / MEBIBYTE
        pixels = height * width
        print(
            f"| {height} x {width} | {peak:.0f} | {bound:.0f} | {tiles} | {seconds / tiles:.3f} "
            f"| {seconds / pixels * 1e6:.2f} | {tiles * TILE**2 / pixels:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
