"""Reconstruct a hyperspectral raster from an RGB raster, tile by tile."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.cascade_header import CascadeHeader, StageHeader, Truncation
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.reconstruction import SamplingSettings, reconstruct, settings_for
from scdm_qgis.engine.device import choose_bfloat16, choose_device
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.job_values import per_stage
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.unlike_input import warn_of_unlike_input
from scdm_qgis.raster.cube import Cube, fill_invalid, open_cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat, choose_nodata
from scdm_qgis.raster.stream import TileBlender
from scdm_qgis.raster.tiles import Lattice, Tile, Window

SMALLEST_TILE = 32
"""Tiles of models trained on tiny scenes are not smaller than this by default."""

OVERLAP_SHARE = 4
"""The overlap is this fraction of a tile by default."""

BATCH_PIXELS = {"cpu": 256 * 256, "cuda": 16 * 256 * 256, "mps": 4 * 256 * 256}
"""Pixels of an automatic batch by type of device."""


def run(job: RgbToHyperspectral, events: EventWriter) -> Dict[str, Any]:
    """Write the reconstruction; raises UserError for anything the user can put right."""
    started = time.monotonic()
    cascade = Cascade.load(job.model)
    cascade.header.check_complete()
    if job.coarse_output is not None and len(cascade.stages) < 2:
        raise UserError("The model has one stage, so there is no coarser one to write.", "Leave COARSE_OUTPUT empty.")
    device = choose_device(job.device)
    with open_cube(job.input) as cube:
        tiling = _tiling(job, cube, cascade.header)
        warn_of_unlike_input(cube, tiling.rgb_bands, tiling.window, cascade.header, events)
        tiles = _TileReconstructor(
            cascade.to(device),
            _settings(job, cascade.header),
            draws=max(1, job.samples),
            seed=job.seed,
            batch_size=job.batch_size or max(1, BATCH_PIXELS[device.type] // tiling.lattice.tile_size**2),
            bfloat16=choose_bfloat16(job.precision, device),
            events=events,
        )
        count = _reconstruct_raster(job, cube, tiling, tiles, events)
    return {
        "OUTPUT": job.output,
        "COARSE_OUTPUT": job.coarse_output,
        "UNCERTAINTY": job.uncertainty,
        "SECONDS": round(time.monotonic() - started, 3),
        "TILES": count,
    }


@dataclass(frozen=True)
class _Tiling:
    """What is read and where: the RGB bands, the lattice, and the window of the raster that is wanted."""

    rgb_bands: Tuple[int, int, int]
    lattice: Lattice
    window: Window


def _tiling(job: RgbToHyperspectral, cube: Cube, header: CascadeHeader) -> _Tiling:
    usable = [not bad for bad in cube.spectrum.bad]
    rgb = choose_rgb_bands(job.rgb_bands, cube.band_count, cube.spectrum.wavelengths_nm, usable, by_position=True)
    # The networks normalise over the whole tile, so they do best on tiles of the size they were trained on.
    tile_size = job.tile_size or max(SMALLEST_TILE, *(stage.patch_size for stage in header.stages))
    overlap = tile_size // OVERLAP_SHARE if job.overlap is None else job.overlap
    return _Tiling(rgb, Lattice(cube.height, cube.width, tile_size, overlap), extent_window(job.extent, cube))


def extent_window(extent: Optional[Sequence[float]], cube: Cube) -> Window:
    """Return the pixels of a raster that an extent touches.

    Args:
        extent: [xmin, ymin, xmax, ymax] in the raster's CRS; in pixels (x a column, y a row) where it
            has none, or no geotransform; None for all of it.
        cube: the raster.

    Raises:
        UserError: the extent lies outside the raster.
    """
    if extent is None:
        return 0, 0, cube.height, cube.width
    xmin, ymin, xmax, ymax = extent
    corners = [(x, y) for x in (xmin, xmax) for y in (ymin, ymax)]
    if cube.has_place:
        corners = [~cube.transform * corner for corner in corners]
    slack = 1e-6  # an edge on a pixel's border must not take the next pixel in
    columns, rows = zip(*corners)
    left, top = max(0, math.floor(min(columns) + slack)), max(0, math.floor(min(rows) + slack))
    right, bottom = (
        min(cube.width, math.ceil(max(columns) - slack)),
        min(cube.height, math.ceil(max(rows) - slack)),
    )
    if left >= right or top >= bottom:
        raise UserError("EXTENT does not touch the raster.", "Draw it on the raster, in the raster's CRS.")
    return top, left, bottom - top, right - left


def _settings(job: RgbToHyperspectral, header: CascadeHeader) -> List[SamplingSettings]:
    stages = header.stages
    guidance = per_stage("GUIDANCE", job.guidance, len(stages))
    percentiles = per_stage("TRUNCATION", job.truncation, len(stages))
    settings = []
    for i, stage in enumerate(stages):
        own = stage.truncation
        truncation = Truncation(
            percentiles[i] if percentiles else own.percentile,
            job.truncation_target or own.target,
            job.truncation_threshold or own.threshold,
        )
        if truncation.threshold == "schedule" and truncation.percentile < 1 and stage.second_moment is None:
            raise UserError(
                "The model does not say how spread its training data is, which TRUNCATION_THRESHOLD schedule needs.",
                "Set TRUNCATION_THRESHOLD to sample.",
            )
        weight = guidance[i] if guidance else None
        settings.append(settings_for(stage, job.samples > 0, job.sampler, job.steps, weight, truncation))
    return settings


class _TileReconstructor:
    """Turn RGB tiles in data units into spectra in data units, batch by batch."""

    def __init__(
        self,
        cascade: Cascade,
        settings: List[SamplingSettings],
        draws: int,
        seed: int,
        batch_size: int,
        bfloat16: bool,
        events: EventWriter,
    ) -> None:
        self.header = cascade.header
        self.settings = settings
        self.draws = draws
        self.batch_size = batch_size
        self._cascade = cascade
        self._seed = seed
        self._bfloat16 = bfloat16
        self._events = events
        self._device = cascade.stages[0].device

    @property
    def steps_per_tile(self) -> int:
        """Sampling steps a tile takes, over all stages and draws."""
        return self.draws * sum(settings.steps for settings in self.settings)

    @property
    def margin(self) -> int:
        """Pixels around a tile that its reconstruction depends on."""
        return self._cascade.context_radius

    def __call__(
        self, rgb: np.ndarray, valid: np.ndarray, origins: List[Tuple[int, int]], progress: Progress
    ) -> Tuple[List[np.ndarray], np.ndarray]:
        """Reconstruct tiles of one size.

        Args:
            rgb: with `margin` on every side (tile, 3, row, column) in data units.
            valid: pixels of `rgb` that count (tile, row, column).
            origins: (row, column) of each tile in the raster.
            progress: told of every step.

        Returns:
            The mean over draws of every stage's bands, and the standard deviation of the last stage's,
            each (tile, band, row, column) in data units.
        """
        try:
            return self._draw_all(rgb, valid, origins, progress)
        except torch.OutOfMemoryError as error:
            if len(rgb) == 1:
                raise UserError(
                    "The GPU's memory is too small even for one tile.", "Lower TILE_SIZE, or set DEVICE to cpu."
                ) from error
            self.batch_size = math.ceil(len(rgb) / 2)
        torch.cuda.empty_cache()
        self._events.warning(
            f"The GPU's memory is too small for {len(rgb)} tiles at once; going on with {self.batch_size}. "
            f"Set BATCH_SIZE to {self.batch_size} to start there."
        )
        half = self.batch_size
        first, first_deviation = self(rgb[:half], valid[:half], origins[:half], progress)
        second, second_deviation = self(rgb[half:], valid[half:], origins[half:], progress)
        return (
            [np.concatenate(pair) for pair in zip(first, second)],
            np.concatenate([first_deviation, second_deviation]),
        )

    def _draw_all(
        self, rgb: np.ndarray, valid: np.ndarray, origins: List[Tuple[int, int]], progress: Progress
    ) -> Tuple[List[np.ndarray], np.ndarray]:
        normalisation = self.header.normalisation
        tiles = torch.from_numpy((rgb - np.float32(normalisation.offset)) / np.float32(normalisation.scale))
        tiles = tiles.to(self._device)
        counting = torch.from_numpy(valid[:, None].astype(np.float32)).to(self._device)
        means: List[torch.Tensor] = []
        squares = torch.zeros(())
        for draw in range(self.draws):
            outputs = reconstruct(
                self._cascade,
                tiles,
                counting,
                self.settings,
                self._seed,
                draw,
                origins,
                self._bfloat16,
                after_step=lambda: progress.advance(len(rgb), "Reconstructing"),
            )
            if draw == 0:
                means, squares = outputs, torch.zeros_like(outputs[-1])
                continue
            # Welford 1962: mean and sum of squared deviations without keeping the draws.
            difference = outputs[-1] - means[-1]
            means = [mean + (output - mean) / (draw + 1) for mean, output in zip(means, outputs)]
            squares += difference * (outputs[-1] - means[-1])
        deviation = (squares / max(1, self.draws - 1)).sqrt() * normalisation.scale
        return (
            [(mean * normalisation.scale + normalisation.offset).cpu().numpy() for mean in means],
            deviation.cpu().numpy(),
        )


@dataclass
class _Product:
    """One output raster: which of the reconstructor's results it takes, its writer and its blender."""

    stage: StageHeader
    stage_number: Optional[int]
    writer: CubeWriter
    blender: TileBlender


def _reconstruct_raster(
    job: RgbToHyperspectral, cube: Cube, tiling: _Tiling, tiles: _TileReconstructor, events: EventWriter
) -> int:
    """Reconstruct all tiles that touch the window and return how many there were."""
    places = tiling.lattice.places(tiling.window)
    count = len(places[0]) * len(places[1])
    progress = Progress(events, count * tiles.steps_per_tile)
    _log_plan(job, tiling, tiles, count, events)
    any_valid = False
    with ExitStack() as stack:
        products = _open_products(job, cube, tiling, tiles, stack)
        for row in tiling.lattice.tile_rows(tiling.window):
            for batch, rgb, valid in _filled_batches(cube, tiling, row, tiles, progress):
                any_valid = True
                means, deviation = tiles(rgb, valid, [(tile.row, tile.column) for tile in batch], progress)
                for product in products:
                    values = deviation if product.stage_number is None else means[product.stage_number]
                    for tile, tile_values in zip(batch, values):
                        product.blender.add(tile, tile_values)
            for product in products:
                product.blender.end_tile_row(row[0].lattice_row)
        if not any_valid:
            raise UserError(
                "The raster has no valid pixel in its red, green and blue bands: all of it is nodata.",
                "Choose another raster, EXTENT or RGB_BANDS.",
            )
    clipped = sum(product.writer.clipped for product in products)
    if clipped:
        height, width = tiling.window[2:]
        share = clipped / (height * width * sum(len(product.stage.bands) for product in products))
        events.warning(
            f"{clipped} values ({share:.1%}) lay outside the output's data type and were clipped to its limits. "
            "Where that is much, check that the input has the unit of the training data."
        )
    return count


def _open_products(
    job: RgbToHyperspectral, cube: Cube, tiling: _Tiling, tiles: _TileReconstructor, stack: ExitStack
) -> List[_Product]:
    header = tiles.header
    tags = {
        "SCDM_MODEL": _sha256(job.model),
        "SCDM_SEED": str(job.seed),
        "SCDM_SAMPLER": ",".join(settings.sampler for settings in tiles.settings),
        "SCDM_STEPS": ",".join(str(settings.steps) for settings in tiles.settings),
        "SCDM_SAMPLES": str(job.samples),
        "SCDM_GUIDANCE": ",".join(f"{settings.guidance_weight:g}" for settings in tiles.settings),
        "SCDM_TRUNCATION": ",".join(f"{settings.truncation.percentile:g}" for settings in tiles.settings),
    }
    policy = header.nodata_policy
    last = len(header.stages) - 1
    wanted: List[Tuple[str, Optional[int], str, float]] = [
        (job.output, last, policy.dtype, choose_nodata(policy.dtype, policy.nodata))
    ]
    if job.coarse_output is not None:
        wanted.append((job.coarse_output, last - 1, policy.dtype, wanted[0][3]))
    if job.uncertainty is not None:
        wanted.append((job.uncertainty, None, "float32", math.nan))
    products = []
    for path, number, dtype, nodata in wanted:
        stage = header.stages[last if number is None else number]
        writer = stack.enter_context(CubeWriter(path, _output_format(cube, tiling.window, stage, dtype, nodata, tags)))
        emit = _masked_writer(cube, tiling, stage, number is None, writer)
        blender = TileBlender(tiling.lattice, tiling.window, len(stage.bands), emit)
        products.append(_Product(stage, number, writer, blender))
    return products


def _output_format(
    cube: Cube, window: Window, stage: StageHeader, dtype: str, nodata: float, tags: Dict[str, str]
) -> OutputFormat:
    row, column, height, width = window
    return OutputFormat(
        height=height,
        width=width,
        dtype=dtype,
        nodata=nodata,
        crs=cube.crs,
        transform=cube.transform * cube.transform.translation(column, row),
        wavelengths_nm=stage.wavelengths_nm,
        fwhm_nm=stage.fwhm_nm,
        band_count=len(stage.bands),
        tags=tags,
    )


def _masked_writer(cube: Cube, tiling: _Tiling, stage: StageHeader, uncertain: bool, writer: CubeWriter) -> Any:
    """Return a function that writes pieces with the mask of the input's RGB bands.

    Bands that an anchored model both sees and predicts are the input's own, exactly; nothing about them
    is uncertain.
    """
    top, left = tiling.window[:2]
    known = enumerate(stage.condition.rgb_bands) if stage.prediction == "residual" else ()
    copied = [(colour, stage.bands.index(band)) for colour, band in known if band in stage.bands]

    def write(row: int, column: int, values: np.ndarray) -> None:
        rgb, valid = cube.read(tiling.rgb_bands, row, column, *values.shape[1:])
        for colour, index in copied:
            values[index] = 0 if uncertain else np.where(valid, rgb[colour], 0)
        writer.write(row - top, column - left, values, valid)

    return write


def _filled_batches(
    cube: Cube, tiling: _Tiling, row: List[Tile], tiles: _TileReconstructor, progress: Progress
) -> Iterator[Tuple[List[Tile], np.ndarray, np.ndarray]]:
    """Yield neighbouring tiles of one size with their RGB and validity, margins included.

    Nodata pixels are filled; tiles without valid pixels are skipped.
    """
    batch: List[Tile] = []
    values: List[np.ndarray] = []
    masks: List[np.ndarray] = []
    margin = tiles.margin
    for tile in row:
        rgb, valid = _read_with_margin(cube, tiling.rgb_bands, tile, margin)
        if not valid[margin : margin + tile.height, margin : margin + tile.width].any():
            progress.advance(tiles.steps_per_tile, "Reconstructing")
            continue
        if batch and (len(batch) >= tiles.batch_size or values[-1].shape != rgb.shape):
            yield batch, np.stack(values), np.stack(masks)
            batch, values, masks = [], [], []
        batch.append(tile)
        values.append(fill_invalid(rgb, valid))
        masks.append(valid)
    if batch:
        yield batch, np.stack(values), np.stack(masks)


def _read_with_margin(cube: Cube, bands: Sequence[int], tile: Tile, margin: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return a tile's values (band, row, column) and validity (row, column), grown by a margin on every side.

    What lies outside the raster is invalid.
    """
    top, left = max(tile.row - margin, 0), max(tile.column - margin, 0)
    bottom = min(tile.row + tile.height + margin, cube.height)
    right = min(tile.column + tile.width + margin, cube.width)
    values, valid = cube.read(bands, top, left, bottom - top, right - left)
    before = margin - (tile.row - top), margin - (tile.column - left)
    after = tile.row + tile.height + margin - bottom, tile.column + tile.width + margin - right
    outside = list(zip(before, after))
    return np.pad(values, [(0, 0), *outside]), np.pad(valid, outside)


def _log_plan(
    job: RgbToHyperspectral, tiling: _Tiling, tiles: _TileReconstructor, count: int, events: EventWriter
) -> None:
    red, green, blue = tiling.rgb_bands
    lattice = tiling.lattice
    events.info(f"Red, green, blue are bands {red}, {green}, {blue} of the input.")
    events.info(
        f"{count} tiles of {lattice.tile_size} pixels a side with an overlap of {lattice.overlap}, "
        f"{tiles.batch_size} at a time."
    )
    for stage, settings in zip(tiles.header.stages, tiles.settings):
        what = f"{tiles.draws} draws" if tiles.draws > 1 else "one draw" if settings.draw else "posterior mean"
        events.info(
            f"Stage {stage.index}: {len(stage.bands)} bands, {what} by {settings.sampler} in {settings.steps} steps, "
            f"guidance {settings.guidance_weight:g}, truncation {settings.truncation.percentile:g}."
        )
        if settings.truncation.target == "noise" and settings.truncation.percentile < 1:
            events.warning(
                "Truncating the predicted noise, as printed in the paper, is known to diverge; prefer state."
            )
    if job.samples == 0 and any(settings.draw for settings in tiles.settings):
        events.warning(
            "SAMPLES 0 gives one draw here: a model that predicts noise has no posterior mean to estimate at once."
        )


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
