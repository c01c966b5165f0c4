"""The scenes a stage is trained on: which bands, which pixels, and patches cut from them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Set, Tuple

import numpy as np

from scdm_qgis.core.bands import MATCH_TOLERANCE_NM, choose_rgb_bands, parse_band_numbers
from scdm_qgis.core.cascade_header import NodataPolicy, Normalisation
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.rgb_comparison import measure_distribution
from scdm_qgis.core.rgb_distribution import RgbDistribution
from scdm_qgis.core.rgb_noise import measure_detail
from scdm_qgis.engine.job_values import BandText
from scdm_qgis.raster.cube import Cube, fill_invalid, open_cube

SMALLEST_HOLD_OUT_PIXELS = 64
"""A hold-out with fewer valid pixels says nothing."""

FEWEST_PIXELS = 16
"""Valid pixels a scene must have: with fewer, nothing is left to leave out."""

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Region:
    """A rectangle of a scene, in pixels."""

    row: int
    column: int
    height: int
    width: int

    @property
    def slices(self) -> Tuple[slice, slice]:
        """Rows and columns, to index an array's last two axes."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)

    def part(self, upright: bool, first: int, length: int) -> Region:
        """Return some of its rows, where `upright`, or of its columns, counted from the region's first."""
        if upright:
            return Region(self.row + first, self.column, length, self.width)
        return Region(self.row, self.column + first, self.height, length)


@dataclass(frozen=True)
class BandChoice:
    """Bands used in training, by 1-based numbers of the source.

    Args:
        target: all bands the finished cascade predicts.
        rgb: the bands that stand for red, green and blue.
        wavelengths_nm: wavelength by band number, empty where unknown.
        fwhm_nm: width by band number, empty where unknown.
    """

    target: Tuple[int, ...]
    rgb: Tuple[int, int, int]
    wavelengths_nm: Dict[int, float]
    fwhm_nm: Dict[int, float]

    @property
    def all(self) -> Tuple[int, ...]:
        """All bands that are read."""
        return tuple(sorted({*self.target, *self.rgb}))


@dataclass
class Scene:
    """One scene in memory.

    Args:
        path: where it came from.
        values: the bands of `BandChoice.all` in the file's data type (band, row, column); invalid
            pixels hold their nearest valid neighbour's values.
        valid: False where any band is invalid (row, column).
        training: the part patches are cut from.
        hold_out: the part kept for validation, None where the scene is too small for one.
    """

    path: str
    values: np.ndarray
    valid: np.ndarray
    training: Region
    hold_out: Optional[Region]

    def provenance(self) -> Dict[str, Any]:
        """Return the file's name, size and sha256 of its pixels, for the model file."""
        bands, height, width = self.values.shape
        digest = hashlib.sha256()
        for band in self.values:
            digest.update(np.where(self.valid, band, 0).astype(band.dtype).tobytes())
        digest.update(np.packbits(self.valid).tobytes())
        return {
            "name": os.path.basename(self.path),
            "height": height,
            "width": width,
            "bands": bands,
            "valid_pixels": int(self.valid.sum()),
            "sha256": digest.hexdigest(),
        }


def choose_bands(cubes: Sequence[Cube], bands: BandText, rgb_bands: BandText) -> BandChoice:
    """Choose target and RGB bands: what the user names, else all that are neither bad nor empty.

    Raises:
        UserError: rasters with different bands, or bands that cannot be used.
    """
    first = cubes[0]
    for cube in cubes[1:]:
        if cube.band_count != first.band_count:
            raise UserError(
                f"'{first.path}' has {first.band_count} bands, '{cube.path}' has {cube.band_count}.",
                "Train on rasters with the same bands.",
            )
    empty: Set[int] = set()
    for cube in cubes:
        empty_here = cube.empty_bands()
        if len(empty_here) == cube.band_count:
            raise UserError(f"'{cube.path}' has no valid pixel: all of it is nodata.", "Choose another raster.")
        empty.update(empty_here)
    bad = [any(cube.spectrum.bad[i] for cube in cubes) for i in range(first.band_count)]
    usable = [not bad[i] and i + 1 not in empty for i in range(first.band_count)]
    target = parse_band_numbers(bands, first.band_count) or tuple(i + 1 for i, good in enumerate(usable) if good)
    rgb = choose_rgb_bands(rgb_bands, first.band_count, first.spectrum.wavelengths_nm, usable)
    unusable = sorted(empty.intersection({*target, *rgb}))
    if unusable:
        raise UserError(
            f"Band {unusable[0]} has no valid pixel in at least one raster.", "Leave it out of BANDS and RGB_BANDS."
        )
    if len(target) < 3:
        raise UserError(f"Only {len(target)} target bands are left.", "Give at least three bands.")
    for cube in cubes[1:]:
        _check_same_wavelengths(first, cube, sorted({*target, *rgb}))
    return BandChoice(target, rgb, _by_number(first.spectrum.wavelengths_nm), _by_number(first.spectrum.fwhm_nm))


def _check_same_wavelengths(first: Cube, second: Cube, numbers: Sequence[int]) -> None:
    """Raise UserError where a band that is used lies elsewhere in the spectrum of two rasters."""
    one, other = (_by_number(cube.spectrum.wavelengths_nm) for cube in (first, second))
    for number in numbers:
        if number in one and number in other and abs(one[number] - other[number]) > MATCH_TOLERANCE_NM:
            raise UserError(
                f"Band {number} of '{first.path}' lies at {one[number]:g} nm, that of '{second.path}' at "
                f"{other[number]:g} nm.",
                "Train on rasters with the same bands.",
            )


def _by_number(values: Optional[Sequence[Optional[float]]]) -> Dict[int, float]:
    return {number: value for number, value in enumerate(values or (), start=1) if value is not None}


def load_scene(path: str, bands: BandChoice, validation_fraction: float, patch_size: int) -> Scene:
    """Read a scene's bands into memory and set its hold-out aside.

    Raises:
        UserError: hardly any pixel is valid in all bands.
    """
    with open_cube(path) as cube:
        values = np.empty((len(bands.all), cube.height, cube.width), cube.dtype)
        valid = np.empty((cube.height, cube.width), bool)
        for row in range(0, cube.height, _ROWS_AT_ONCE):
            rows = slice(row, min(row + _ROWS_AT_ONCE, cube.height))
            values[:, rows], valid[rows] = cube.read_native(bands.all, row=row, height=rows.stop - row)
    if not valid.any():
        raise UserError(
            f"No pixel of '{path}' is valid in all bands used.",
            "Leave bands with much nodata out of BANDS, or choose another raster.",
        )
    if valid.sum() < FEWEST_PIXELS:
        raise UserError(
            f"Only {valid.sum()} pixels of '{path}' are valid in all bands used; {FEWEST_PIXELS} are the fewest that "
            "anything can be learned from.",
            "Choose a larger raster.",
        )
    training, hold_out = split_scene(valid, validation_fraction, patch_size)
    return Scene(path, fill_invalid(values, valid), valid, training, hold_out)


def split_scene(valid: np.ndarray, fraction: float, patch_size: int) -> Tuple[Region, Optional[Region]]:
    """Set an end of a scene aside, with half a patch of guard beside it.

    It is the last `fraction` of the longer side; the first where the last, or what is left then, is mostly nodata; an
    end of the shorter side where that is no better. No training patch touches the hold-out. A scene too small for
    that is trained on as a whole.

    Args:
        valid: valid pixels (row, column).
        fraction: share of the side.
        patch_size: side of a training patch.
    """
    height, width = valid.shape
    whole = Region(0, 0, height, width)
    wanted = max(SMALLEST_HOLD_OUT_PIXELS, 0.5 * fraction * valid.sum())
    for upright in (height >= width, height < width):
        side = height if upright else width
        held = round(fraction * side)
        kept = side - held - patch_size // 2
        if held == 0 or kept < 2 * patch_size:
            continue
        for kept_from, held_from in ((0, side - held), (side - kept, 0)):
            training, hold_out = whole.part(upright, kept_from, kept), whole.part(upright, held_from, held)
            to_train = 0.5 * kept / side * valid.sum()
            if valid[hold_out.slices].sum() >= wanted and valid[training.slices].sum() >= to_train:
                return training, hold_out
    return whole, None


def measure_normalisation(scenes: Sequence[Scene], bands: BandChoice) -> Normalisation:
    """Return mean and standard deviation of all valid target values of whole scenes.

    Whole scenes and all target bands, whatever the stage: stages trained apart agree exactly.

    Raises:
        UserError: all values are the same, or too large.
    """
    index = [bands.all.index(band) for band in bands.target]
    count, total, squares = 0, 0.0, 0.0
    for scene in scenes:
        if any(np.abs(band[scene.valid]).max() > np.finfo(np.float32).max for band in scene.values):
            raise UserError(
                "The raster holds values too large to compute with.", "Declare them as nodata if that is what they are."
            )
        for band in index:
            values = scene.values[band][scene.valid].astype(np.float64)
            count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    deviation = float(np.sqrt(max(squares / count - mean**2, 0.0)))
    if deviation <= 1e-6 * max(abs(mean), 1e-30):
        raise UserError("All values of the raster are the same.", "Choose a raster with content.")
    return Normalisation(float(mean), deviation)


def measure_rgb(scenes: Sequence[Scene], bands: BandChoice) -> RgbDistribution:
    """Return the distribution of all valid RGB pixels of whole scenes, in data units."""
    index = [bands.all.index(band) for band in bands.rgb]
    images = [(scene.values[index], scene.valid) for scene in scenes]
    return measure_distribution(
        np.concatenate([rgb[:, valid].T for rgb, valid in images]),
        np.concatenate([measure_detail(rgb, valid) for rgb, valid in images]),
    )


def output_policy(cubes: Sequence[Cube]) -> NodataPolicy:
    """Return the data type and nodata value outputs of the model will have.

    Raises:
        UserError: scenes of different data types.
    """
    for cube in cubes[1:]:
        if cube.dtype != cubes[0].dtype:
            raise UserError(
                f"'{cubes[0].path}' is {cubes[0].dtype}, '{cube.path}' is {cube.dtype}.",
                "Convert the rasters to one data type and one scale.",
            )
    return NodataPolicy(cubes[0].dtype, cubes[0].nodata)
