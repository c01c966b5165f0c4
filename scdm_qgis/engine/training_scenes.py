"""The scenes a stage is trained on: which bands, which pixels, and patches cut from them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch

from scdm_qgis.core.bands import choose_rgb_bands, parse_band_numbers
from scdm_qgis.core.cascade_header import NodataPolicy, Normalisation
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.training import Batch
from scdm_qgis.engine.job_values import BandText
from scdm_qgis.raster.cube import Cube, fill_invalid, open_cube

SMALLEST_HOLD_OUT_PIXELS = 64
"""A hold-out with fewer valid pixels says nothing."""

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
        UserError: rasters with different band counts, or bands that cannot be used.
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
    usable = [not first.spectrum.bad[i] and i + 1 not in empty for i in range(first.band_count)]
    target = parse_band_numbers(bands, first.band_count) or tuple(i + 1 for i, good in enumerate(usable) if good)
    rgb = choose_rgb_bands(rgb_bands, first.band_count, first.spectrum.wavelengths_nm, usable)
    unusable = sorted(empty.intersection({*target, *rgb}))
    if unusable:
        raise UserError(
            f"Band {unusable[0]} has no valid pixel in at least one raster.", "Leave it out of BANDS and RGB_BANDS."
        )
    if len(target) < 3:
        raise UserError(f"Only {len(target)} target bands are left.", "Give at least three bands.")
    return BandChoice(target, rgb, _by_number(first.spectrum.wavelengths_nm), _by_number(first.spectrum.fwhm_nm))


def _by_number(values: Optional[Sequence[Optional[float]]]) -> Dict[int, float]:
    return {number: value for number, value in enumerate(values or (), start=1) if value is not None}


def load_scene(path: str, bands: BandChoice, validation_fraction: float, patch_size: int) -> Scene:
    """Read a scene's bands into memory and set its hold-out aside.

    Raises:
        UserError: no pixel is valid in all bands.
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
    training, hold_out = split_scene(valid, validation_fraction, patch_size)
    return Scene(path, fill_invalid(values, valid), valid, training, hold_out)


def split_scene(valid: np.ndarray, fraction: float, patch_size: int) -> Tuple[Region, Optional[Region]]:
    """Set the last `fraction` of a scene's longer side aside, with half a patch of guard before it.

    No training patch touches the hold-out. A scene too small for that, or whose hold-out would hold
    almost no valid pixel, is trained on as a whole.

    Args:
        valid: valid pixels (row, column).
        fraction: share of the longer side.
        patch_size: side of a training patch.
    """
    height, width = valid.shape
    whole = Region(0, 0, height, width)
    side = max(height, width)
    held = round(fraction * side)
    kept = side - held - patch_size // 2
    if held == 0 or kept < 2 * patch_size:
        return whole, None
    if height >= width:
        training, hold_out = Region(0, 0, kept, width), Region(side - held, 0, held, width)
    else:
        training, hold_out = Region(0, 0, height, kept), Region(0, side - held, height, held)
    if valid[hold_out.slices].sum() < SMALLEST_HOLD_OUT_PIXELS or not valid[training.slices].any():
        return whole, None
    return training, hold_out


def measure_normalisation(scenes: Sequence[Scene], bands: BandChoice) -> Normalisation:
    """Return mean and standard deviation of all valid target values of whole scenes.

    Whole scenes and all target bands, whatever the stage: stages trained apart agree exactly.

    Raises:
        UserError: all values are the same.
    """
    index = [bands.all.index(band) for band in bands.target]
    count, total, squares = 0, 0.0, 0.0
    for scene in scenes:
        for band in index:
            values = scene.values[band][scene.valid].astype(np.float64)
            count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    deviation = float(np.sqrt(max(squares / count - mean**2, 0.0)))
    if not np.isfinite(deviation):
        raise UserError(
            "The raster holds values too large to compute with.", "Declare them as nodata if that is what they are."
        )
    if deviation <= 1e-6 * max(abs(mean), 1e-30):
        raise UserError("All values of the raster are the same.", "Choose a raster with content.")
    return Normalisation(float(mean), deviation)


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


class ScenePatches:
    """Cut normalised patches out of scenes, as training wants them.

    Args:
        scenes: the scenes.
        target: band numbers of the target.
        condition: band numbers of the condition, in the network's order.
        all_bands: band numbers the scenes' arrays hold.
        normalisation: data units to network units.
        patch_size: side in pixels; a scene that is smaller makes all patches as small as itself.
        symmetries: turn and mirror patches at random.
        seed: of the random cuts.
        device: where the patches go.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        target: Sequence[int],
        condition: Sequence[int],
        all_bands: Sequence[int],
        normalisation: Normalisation,
        patch_size: int,
        symmetries: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self._scenes = scenes
        self._target = [all_bands.index(band) for band in target]
        self._condition = [all_bands.index(band) for band in condition]
        self._normalisation = normalisation
        self._height = min(patch_size, *(scene.training.height for scene in scenes))
        self._width = min(patch_size, *(scene.training.width for scene in scenes))
        self._symmetries = symmetries
        self._random = np.random.default_rng(seed)
        self._device = device
        self._centres = [np.argwhere(scene.valid[scene.training.slices]) for scene in scenes]
        counts = np.array([len(centres) for centres in self._centres], np.float64)
        self._shares = counts / counts.sum()

    def __call__(self, count: int) -> Batch:
        """Return `count` patches; each holds at least one valid pixel."""
        return self.batch([self._cut() for _ in range(count)])

    def hold_out_blocks(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield (values, valid) of the hold-outs, in blocks no larger than a patch."""
        for scene in self._scenes:
            if scene.hold_out is None:
                continue
            rows, columns = scene.hold_out.slices
            for row in range(rows.start, rows.stop, self._height):
                for column in range(columns.start, columns.stop, self._width):
                    block = (
                        slice(row, min(row + self._height, rows.stop)),
                        slice(column, min(column + self._width, columns.stop)),
                    )
                    yield scene.values[:, block[0], block[1]], scene.valid[block]

    def training_rows(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield normalised (condition, target) of all valid training pixels, a row of each scene at a time."""
        for scene in self._scenes:
            rows, columns = scene.training.slices
            for row in range(rows.start, rows.stop):
                pixels = scene.values[:, row, columns][:, scene.valid[row, columns]].T
                if len(pixels):
                    yield self._normalised(pixels[:, self._condition]), self._normalised(pixels[:, self._target])

    def batch(self, cuts: List[Tuple[np.ndarray, np.ndarray]]) -> Batch:
        """Turn (values, valid) cuts of one size into a normalised batch on the device."""
        values = np.stack([cut for cut, _ in cuts])
        valid = torch.from_numpy(np.stack([mask for _, mask in cuts])[:, None].astype(np.float32))
        target, condition = (
            torch.from_numpy(self._normalised(values[:, index])).to(self._device, non_blocking=True)
            for index in (self._target, self._condition)
        )
        return Batch(target, condition, valid.to(self._device, non_blocking=True))

    def _cut(self) -> Tuple[np.ndarray, np.ndarray]:
        number = self._random.choice(len(self._scenes), p=self._shares)
        scene, centres = self._scenes[number], self._centres[number]
        pixel = centres[self._random.integers(len(centres))]
        region = scene.training
        row = region.row + self._start(pixel[0], self._height, region.height)
        column = region.column + self._start(pixel[1], self._width, region.width)
        window = (slice(row, row + self._height), slice(column, column + self._width))
        values, valid = scene.values[:, window[0], window[1]], scene.valid[window]
        if not self._symmetries:
            return values, valid
        turns = self._random.integers(4) if self._height == self._width else 2 * self._random.integers(2)
        values, valid = np.rot90(values, turns, axes=(1, 2)), np.rot90(valid, turns)
        return (values[:, :, ::-1], valid[:, ::-1]) if self._random.integers(2) else (values, valid)

    def _start(self, pixel: int, patch: int, side: int) -> int:
        """Return where a patch starts that holds `pixel` and stays within the side."""
        lowest, highest = max(0, pixel - patch + 1), min(pixel, side - patch)
        return int(self._random.integers(lowest, highest + 1))

    def _normalised(self, values: np.ndarray) -> np.ndarray:
        offset, scale = self._normalisation.offset, self._normalisation.scale
        return ((values.astype(np.float32) - np.float32(offset)) / np.float32(scale)).astype(np.float32)
