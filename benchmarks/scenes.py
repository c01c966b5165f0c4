"""The real scenes the benchmarks learn from and are tested on.

They are looked for in the folder SCDM_TEST_DATA names, by default `shared` beside the checkout.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import rasterio
from rasterio.windows import Window

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.raster.cube import open_cube

POTSDAM_TRAIN_COLUMNS = (0, 80)
POTSDAM_TEST_COLUMNS = (90, 160)


@dataclass(frozen=True)
class Split:
    """Scenes to train on, scenes to test on by name, and the bands that stand for red, green and blue.

    `rgb_bands` is None where wavelengths tell them.
    """

    train: Tuple[str, ...]
    test: Dict[str, str]
    rgb_bands: Optional[Tuple[int, int, int]]


@dataclass(frozen=True)
class Pixels:
    """A scene's good bands: values (band, row, column), valid pixels, and where RGB is among the bands."""

    values: np.ndarray
    valid: np.ndarray
    rgb: Tuple[int, ...]

    def rows(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return RGB and spectrum of the valid pixels, each (pixel, band), in float64."""
        spectra = self.values[:, self.valid].T.astype(np.float64)
        return spectra[:, list(self.rgb)], spectra


def make_splits(folder: str) -> Dict[str, Split]:
    """Return the splits by name; parts of scenes are written to `folder`."""
    potsdam = _scene("enmap_potsdam.tif")
    west, east = (
        _write_columns(potsdam, os.path.join(folder, name), *columns)
        for name, columns in (("west.tif", POTSDAM_TRAIN_COLUMNS), ("east.tif", POTSDAM_TEST_COLUMNS))
    )
    aviris = {name: _scene(f"aviris_{name}.tif") for name in ("airport1", "airport2", "airport3", "urban4", "urban5")}
    return {
        "pavia": Split(
            (_scene("pavia_university_train.tif"),),
            {"Pavia University": _scene("pavia_university_test.tif")},
            (60, 30, 10),
        ),
        "aviris": Split(
            (aviris["airport1"], aviris["airport2"], aviris["urban5"]),
            {"AVIRIS airport3": aviris["airport3"], "AVIRIS urban4, out of distribution": aviris["urban4"]},
            (30, 20, 11),
        ),
        "potsdam": Split((west,), {"EnMAP Potsdam, east": east}, None),
    }


def read_pixels(path: str, rgb_bands: Optional[Tuple[int, int, int]]) -> Pixels:
    """Read the bands that are neither bad nor empty."""
    with open_cube(path) as cube:
        empty = cube.empty_bands()
        usable = [not bad and number not in empty for number, bad in enumerate(cube.spectrum.bad, start=1)]
        bands: List[int] = [number for number, good in enumerate(usable, start=1) if good]
        rgb = choose_rgb_bands(rgb_bands, cube.band_count, cube.spectrum.wavelengths_nm, usable)
        values, valid = cube.read(bands)
    return Pixels(values, valid, tuple(bands.index(band) for band in rgb))


def _scene(name: str) -> str:
    folder = os.environ.get("SCDM_TEST_DATA") or Path(__file__).resolve().parent.parent.parent / "shared"
    path = Path(folder) / "scenes" / name
    if not path.is_file():
        sys.exit(f"'{path}' does not exist: set SCDM_TEST_DATA to the folder that holds scenes/.")
    return str(path)


def _write_columns(source: str, path: str, first: int, end: int) -> str:
    """Write some columns of a raster to a file of their own, with all that is said of its bands."""
    with rasterio.open(source) as whole:
        window = Window(first, 0, end - first, whole.height)
        profile = {key: whole.profile[key] for key in ("driver", "dtype", "nodata", "count", "crs", "height")}
        with rasterio.open(path, "w", **profile, width=end - first, transform=whole.window_transform(window)) as part:
            part.write(whole.read(window=window))
            for band in (0, *whole.indexes):
                for domain in ("", "ENVI", "IMAGERY"):
                    part.update_tags(band, ns=domain or None, **whole.tags(band, ns=domain or None))
            part.descriptions = whole.descriptions
    return path
