"""The demo scene as a sensor sees it, any rows at a time.

Cover, sunlight, optics and noise are functions of the seed and the pixel's place, so that a scene of
any size can be made strip by strip and comes out the same whatever the strips. One pixel is one metre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Tuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from scdm_qgis.engine.demo_plan import MAIN_ROAD, WILD, make_plan
from scdm_qgis.engine.demo_spectra import FIRST_NM, LAST_NM, MATERIALS, material_spectra

_BEND_PIXELS = 4.0
_PSF_SIGMA = 0.6
_HALO = 16  # rows and columns around a strip that reach into it: shadows of 12 m and the optics
_LONGEST_SHADOW = 12
_SHADOW_PIXELS_A_METRE = 0.9
_TREES = (MATERIALS.index("broadleaf tree"), MATERIALS.index("conifer"))
_WATER = MATERIALS.index("water")


@dataclass(frozen=True)
class _Cover:
    """What lies on the ground: (row, column) planes of material, height, brightness and variant."""

    material: np.ndarray
    height: np.ndarray
    brightness: np.ndarray
    variant: np.ndarray


class DemoScene:
    """A synthetic town with fields, woods and a river.

    Args:
        size: pixels a side.
        wavelengths_nm: band centres, within 400 to 1000 nm.
        fwhm_nm: band width.
        seed: another seed is another place with the same materials.
    """

    def __init__(self, size: int, wavelengths_nm: np.ndarray, fwhm_nm: float, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._spectra = material_spectra(wavelengths_nm, fwhm_nm).astype(np.float32)
        self._noise = _noise_levels(wavelengths_nm).astype(np.float32)
        self._sky_share = _sky_share(wavelengths_nm).astype(np.float32)
        rng = np.random.default_rng([seed, 1])
        self._angle = math.radians(rng.uniform(8, 25) * rng.choice([-1, 1]))
        side = 1.5 * (size + 2 * _HALO)
        self._shapes = make_plan(side, rng)
        reach = np.array([math.hypot(shape.half_u, shape.half_v) + 2 * _BEND_PIXELS for shape in self._shapes])
        rows, columns = self._to_image(
            np.array([shape.u for shape in self._shapes]), np.array([shape.v for shape in self._shapes])
        )
        self._first_rows, self._last_rows = np.floor(rows - reach), np.ceil(rows + reach)
        self._first_columns, self._last_columns = np.floor(columns - reach), np.ceil(columns + reach)
        self._bend_u = _SmoothField(size, 90.0, rng)
        self._bend_v = _SmoothField(size, 90.0, rng)
        self._moisture = _SmoothField(size, 34.0, rng)
        self._growth = _SmoothField(size, 22.0, rng)
        self._soil = _SmoothField(size, 14.0, rng)
        self._terrain = _SmoothField(size, 70.0, rng)
        self._river_place = rng.uniform(-0.3, 0.3) * size
        self._river_phase = rng.uniform(0, 2 * math.pi)
        self._river_half_width = rng.uniform(6, 9)

    def reflectance(self, first_row: int, row_count: int) -> np.ndarray:
        """Return measured reflectance with noise, 1 = a white surface in full sun, float32 (band, row, column)."""
        rows = np.arange(first_row - _HALO, first_row + row_count + _HALO)
        columns = np.arange(-_HALO, self._size + _HALO)
        row, column = np.meshgrid(rows.astype(np.float32), columns.astype(np.float32), indexing="ij")
        cover = self._cover(row, column)
        cover = self._textured(cover, row, column)
        sun = (self._slope_light(row, column) * ~_shadows(cover.height)).astype(np.float32)
        inner = (slice(_HALO, -_HALO), slice(_HALO, -_HALO))
        low, high = self._spectra
        noise = self._noise_draws(range(first_row, first_row + row_count), tag=3, bands=len(self._noise))
        cube = np.empty((len(self._noise), row_count, self._size), np.float32)
        for band in range(len(cube)):
            ends = low[:, band][cover.material], high[:, band][cover.material]
            material = ends[0] + cover.variant * (ends[1] - ends[0])
            light = sun * (1 - self._sky_share[band]) + self._sky_share[band]
            cube[band] = gaussian_filter(material * cover.brightness * light, _PSF_SIGMA)[inner]
        # Photon noise grows with the signal, the detector's does not.
        return cube + noise * self._noise[:, None, None] * np.sqrt(0.5 + cube / 0.4)

    def _to_image(self, u: np.ndarray, v: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        cosine, sine = math.cos(self._angle), math.sin(self._angle)
        return u * cosine + v * sine + self._size / 2, v * cosine - u * sine + self._size / 2

    def _to_plan(self, row: np.ndarray, column: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        cosine, sine = math.cos(self._angle), math.sin(self._angle)
        down, right = row - self._size / 2, column - self._size / 2
        u = down * cosine - right * sine + _BEND_PIXELS * np.tanh(self._bend_u.at(row, column))
        v = down * sine + right * cosine + _BEND_PIXELS * np.tanh(self._bend_v.at(row, column))
        return u, v

    def _cover(self, row: np.ndarray, column: np.ndarray) -> _Cover:
        u, v = self._to_plan(row, column)
        cover = _Cover(
            np.full(row.shape, MAIN_ROAD),
            np.zeros(row.shape, np.float32),
            np.ones(row.shape, np.float32),
            np.full(row.shape, 0.5, np.float32),
        )
        first_row, first_column = int(row[0, 0]), int(column[0, 0])
        near = (self._last_rows >= first_row) & (self._first_rows < first_row + len(row))
        near &= (self._last_columns >= first_column) & (self._first_columns < first_column + row.shape[1])
        for index in np.flatnonzero(near):
            shape = self._shapes[index]
            window = (
                slice(max(int(self._first_rows[index]) - first_row, 0), int(self._last_rows[index]) - first_row + 1),
                slice(
                    max(int(self._first_columns[index]) - first_column, 0),
                    int(self._last_columns[index]) - first_column + 1,
                ),
            )
            away_u, away_v = u[window] - shape.u, v[window] - shape.v
            if shape.ellipse:
                inside = (away_u / shape.half_u) ** 2 + (away_v / shape.half_v) ** 2 <= 1
            else:
                inside = (np.abs(away_u) <= shape.half_u) & (np.abs(away_v) <= shape.half_v)
            brightness = np.full(away_u.shape, shape.brightness, np.float32)
            if shape.stripes:
                brightness += 0.10 * np.sin(2 * math.pi * away_u / shape.stripes)
            cover.material[window][inside] = shape.material
            cover.height[window][inside] = shape.height
            cover.brightness[window][inside] = brightness[inside]
            cover.variant[window][inside] = shape.variant
        self._add_wild_land(cover, row, column)
        self._add_river(cover, u, v)
        return cover

    def _add_wild_land(self, cover: _Cover, row: np.ndarray, column: np.ndarray) -> None:
        wild = cover.material == WILD
        moisture, growth = self._moisture.at(row, column), self._growth.at(row, column)
        kind = np.select(
            [growth > 0.9, self._soil.at(row, column) > 1.3, moisture < -0.5],
            [_TREES[0], MATERIALS.index("bright soil"), MATERIALS.index("dry grass")],
            default=MATERIALS.index("grass"),
        )
        cover.material[wild] = kind[wild]
        cover.height[wild & (growth > 0.9)] = 5.0
        cover.variant[wild] = np.clip(0.5 - 0.3 * moisture, 0, 1)[wild]

    def _add_river(self, cover: _Cover, u: np.ndarray, v: np.ndarray) -> None:
        """Let a river run through all but the main roads, which become its bridges."""
        bend = 0.1 * self._size * np.sin(2 * math.pi * u / (0.9 * self._size) + self._river_phase)
        distance = np.abs(v - self._river_place - bend)
        open_land = cover.material != MAIN_ROAD
        bank = open_land & (distance < self._river_half_width + 5)
        water = open_land & (distance < self._river_half_width)
        for part, material, variant in ((bank, MATERIALS.index("grass"), 0.2), (water, _WATER, 0.6)):
            cover.material[part] = material
            cover.height[part] = 0.0
            cover.brightness[part] = 1.0
            cover.variant[part] = variant

    def _textured(self, cover: _Cover, row: np.ndarray, column: np.ndarray) -> _Cover:
        """Vary brightness and variant within each class, most in tree crowns, least on water."""
        rows = range(int(row[0, 0]), int(row[-1, 0]) + 1)
        grain = self._noise_draws(rows, tag=4, bands=2, margin=_HALO)
        crowns = gaussian_filter(grain[0], 1.1) * 3.9  # unit variance again after the blur
        roughness = np.full(row.shape, 0.045, np.float32)
        roughness[np.isin(cover.material, _TREES)] = 0.17
        roughness[cover.material == _WATER] = 0.01
        brightness = cover.brightness * np.clip(1 + roughness * crowns, 0.4, 1.6)
        patches = 0.12 * self._moisture.at(row, column) + 0.06 * self._soil.at(row, column)
        variant = np.clip(cover.variant - patches + 0.06 * grain[1], 0, 1)
        return _Cover(cover.material, cover.height, brightness.astype(np.float32), variant.astype(np.float32))

    def _slope_light(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Sunlight on the gently rolling ground: 1 where it is flat."""
        return 1 + 0.10 * np.tanh(self._terrain.at(row, column))

    def _noise_draws(self, rows: range, tag: int, bands: int, margin: int = 0) -> np.ndarray:
        """Standard normal draws (band, row, column), each row of the scene from a generator of its own."""
        width = self._size + 2 * margin
        draws = [
            np.random.default_rng([self._seed, tag, row + _HALO]).standard_normal((bands, width), np.float32)
            for row in rows
        ]
        return np.stack(draws, axis=1)


class _SmoothField:
    """A smooth random field of about unit variance: cubic B-splines over a lattice of random numbers."""

    def __init__(self, size: int, spacing: float, rng: np.random.Generator) -> None:
        self._spacing = spacing
        self._origin = _HALO + 2 * spacing
        count = math.ceil((size + 2 * self._origin) / spacing) + 1
        # A cubic B-spline surface of unit white noise has a standard deviation of about 0.48.
        self._lattice = rng.standard_normal((count, count)) / 0.48

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the field at pixels of the scene, float32."""
        places = [(row + self._origin) / self._spacing, (column + self._origin) / self._spacing]
        field: np.ndarray = map_coordinates(self._lattice, places, np.float32, order=3, mode="nearest", prefilter=False)
        return field


def _shadows(height: np.ndarray) -> np.ndarray:
    """Return where something taller stands towards the sun (up and left), bool (row, column)."""
    shaded = np.zeros(height.shape, bool)
    for step in range(1, _LONGEST_SHADOW + 1):
        down, right = step, step // 2
        towards_sun = np.zeros_like(height)
        towards_sun[down:, right:] = height[: height.shape[0] - down, : height.shape[1] - right]
        shaded |= towards_sun - height > math.hypot(down, right) / _SHADOW_PIXELS_A_METRE
    return shaded


def _sky_share(wavelengths_nm: np.ndarray) -> np.ndarray:
    """Return the part of the light that comes from the blue sky, and is left in a shadow."""
    sky = 0.2 * (550.0 / wavelengths_nm) ** 2
    return sky / (0.8 + sky)


def _noise_levels(wavelengths_nm: np.ndarray) -> np.ndarray:
    """Return the noise's standard deviation in reflectance: silicon is least sensitive at both ends."""
    middle, reach = (FIRST_NM + LAST_NM) / 2, (LAST_NM - FIRST_NM) / 2
    return 0.0015 + 0.006 * np.abs((wavelengths_nm - middle) / reach) ** 4
