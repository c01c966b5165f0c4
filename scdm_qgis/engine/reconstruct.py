"""Reconstruct a hyperspectral raster from an RGB raster, tile by tile."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Tuple

import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.cascade_header import CascadeHeader, Truncation
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.reconstruction import SamplingSettings, settings_for
from scdm_qgis.engine.computing import Computing
from scdm_qgis.engine.device import choose_device
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.fingerprint import of_raster
from scdm_qgis.engine.footprint import Footprint, check_footprint, fit_at_once, footprint
from scdm_qgis.engine.job_paths import check_apart
from scdm_qgis.engine.job_values import per_stage
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.journal import Done, Journal
from scdm_qgis.engine.output_rasters import OutputRasters, wanted_products
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.this_machine import ThisMachine
from scdm_qgis.engine.tile_batches import first_tile, plan_batches
from scdm_qgis.engine.tile_reconstructor import Sampling, TileSpectra
from scdm_qgis.engine.tiling import Tiling, check_any_valid, choose_tiling
from scdm_qgis.engine.unlike_input import warn_of_unlike_input
from scdm_qgis.engine.version import VERSION
from scdm_qgis.engine.write_behind import WriteBehind
from scdm_qgis.raster.block_cache import fit_block_cache
from scdm_qgis.raster.cube import Cube, open_cube
from scdm_qgis.raster.tiles import Tile

NOTEWORTHY_CLIPPING = 0.001
"""Share of values from which on clipping them is more than the odd noisy pixel."""


def run(job: RgbToHyperspectral, events: EventWriter) -> Dict[str, Any]:
    """Write the reconstruction; raises UserError for anything the user can put right."""
    started = time.monotonic()
    cascade = Cascade.load(job.model)
    header = cascade.header
    header.check_complete()
    if job.coarse_output is not None and len(header.stages) < 2:
        raise UserError("The model has one stage, so there is no coarser one to write.", "Leave COARSE_OUTPUT empty.")
    with open_cube(job.input) as cube, ExitStack() as stack:
        check_apart(job.output_paths(), cube.files)
        tiling = choose_tiling(job, cube, header)
        settings = _settings(job, header)
        check_any_valid(cube, tiling)
        warn_of_unlike_input(cube, tiling.rgb_bands, tiling.window, header, events)
        computing = stack.enter_context(_computing(job, cascade, cube, tiling, events))
        count = _reconstruct_raster(job, cascade, cube, tiling, settings, computing, events)
    return {
        "OUTPUT": job.output,
        "COARSE_OUTPUT": job.coarse_output,
        "UNCERTAINTY": job.uncertainty,
        "SECONDS": round(time.monotonic() - started, 3),
        "TILES": count,
    }


def _computing(
    job: RgbToHyperspectral, cascade: Cascade, cube: Cube, tiling: Tiling, events: EventWriter
) -> ContextManager[Computing]:
    if job.cluster is None:
        return nullcontext(ThisMachine(cascade, choose_device(job.device), cube, tiling, events))
    from scdm_qgis.engine.cluster import Cluster  # needs a package that only a cluster's users have

    return Cluster(job, cascade, cube, tiling, events)


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


def _reconstruct_raster(
    job: RgbToHyperspectral,
    cascade: Cascade,
    cube: Cube,
    tiling: Tiling,
    settings: List[SamplingSettings],
    computing: Computing,
    events: EventWriter,
) -> int:
    """Reconstruct all tiles that touch the window and return how many there are."""
    header = cascade.header
    products = wanted_products(job, header)
    tags = _tags(job, settings)
    fingerprint = _fingerprint(job, cube, tiling, settings, tags["SCDM_MODEL"], computing.device_type)
    journal = Journal([product.path for product in products], fingerprint)
    _, _, height, width = tiling.window
    taken_up = journal.read(height) if job.resume else None
    done = taken_up or _nothing_done(job, settings, len(products), computing)
    if taken_up is not None:
        events.info(f"{done.rows} of {height} rows are there already.")
    elif job.resume:
        events.warning(f"There is no interrupted run beside '{job.output}' to take up: starting at the beginning.")
    sampling = Sampling(tuple(settings), max(1, job.samples), job.seed, done.bfloat16)
    computing.batch_size = done.batch_size
    _log_plan(job, header, tiling, sampling, done, events)
    here = job.cluster is None and computing.device_type == "cpu"

    def needed(at_once: int) -> Footprint:
        size, balanced = done.batch_size, sampling.balanced
        return footprint(header, settings, tiling, products, size, at_once, balanced, done.rows, here)

    at_once = fit_at_once(computing.at_once(done.threads), needed)
    check_footprint(needed(at_once), products, events)
    fit_block_cache(cube, tiling.lattice.tile_size + 2 * cascade.context_radius)
    if taken_up is None:
        journal.remove()
    try:
        with ExitStack() as stack:
            read_again = stack.enter_context(open_cube(job.input))
            outputs = OutputRasters(products, header, read_again, tiling, tags, done.rows, done.clipped)
            stack.enter_context(outputs)
            if done.rows < height:
                first = first_tile(tiling.lattice, tiling.window, done.rows, done.batch_size)
                steps = (tiling.tile_count - first) * sampling.steps
                progress = Progress(events, steps, 100 * done.rows / height)
                batches = plan_batches(tiling.lattice, tiling.window, first, lambda: computing.batch_size)
                made = computing.spectra(batches, sampling, done.threads, at_once, progress)
                spectra = stack.enter_context(closing(made))
                _write_all(spectra, outputs, journal, lambda: replace(done, batch_size=computing.batch_size))
            _warn_of_clipping(outputs.clipped, height * width * outputs.band_count, events)
    except BaseException as error:
        if not journal.exists:
            journal.remove()
        elif not isinstance(error, Exception):  # cancelled; an error says itself what to do
            events.info(f"The work so far is kept beside '{journal.path}': run again with RESUME to go on from there.")
        raise
    journal.remove()
    return tiling.tile_count


def _nothing_done(
    job: RgbToHyperspectral, settings: List[SamplingSettings], products: int, computing: Computing
) -> Done:
    bfloat16 = computing.choose_bfloat16(job.precision)
    sampling = Sampling(tuple(settings), 1, job.seed, bfloat16)
    batch_size = job.batch_size or computing.automatic_batch_size(sampling)
    return Done(0, [0] * products, batch_size, computing.threads_a_batch(batch_size), bfloat16)


def _write_all(
    spectra: Iterator[Tuple[Tuple[Tile, ...], Optional[TileSpectra]]],
    outputs: OutputRasters,
    journal: Journal,
    plan: Callable[[], Done],
) -> None:
    """Write batches behind the computing of the next ones, and note in the journal how far that is."""

    def checkpoint() -> Done:
        rows, clipped = outputs.checkpoint()
        return replace(plan(), rows=rows, clipped=clipped)

    def take(tiles: Tuple[Tile, ...], made: Optional[TileSpectra]) -> None:
        if outputs.take(tiles, made):
            journal.save_when_due(checkpoint)

    with WriteBehind() as write:
        for tiles, made in spectra:
            write(take, tiles, made)
    if journal.exists:  # it must not call for rows of rasters that have their final names
        journal.save(checkpoint)


def _tags(job: RgbToHyperspectral, settings: List[SamplingSettings]) -> Dict[str, str]:
    return {
        "SCDM_MODEL": _sha256(job.model),
        "SCDM_SEED": str(job.seed),
        "SCDM_SAMPLER": ",".join(stage.sampler for stage in settings),
        "SCDM_STEPS": ",".join(str(stage.steps) for stage in settings),
        "SCDM_SAMPLES": str(job.samples),
        "SCDM_GUIDANCE": ",".join(f"{stage.guidance_weight:g}" for stage in settings),
        "SCDM_TRUNCATION": ",".join(f"{stage.truncation.percentile:g}" for stage in settings),
    }


def _fingerprint(
    job: RgbToHyperspectral,
    cube: Cube,
    tiling: Tiling,
    settings: List[SamplingSettings],
    model: str,
    device_type: str,
) -> Dict[str, Any]:
    """Return what an interrupted run must have in common with the one that takes it up."""
    return {
        "INPUT": of_raster(cube),
        "MODEL": model,
        "RGB_BANDS": tiling.rgb_bands,
        "EXTENT": tiling.window,
        "SAMPLER": [stage.sampler for stage in settings],
        "STEPS": [stage.steps for stage in settings],
        "GUIDANCE": [stage.guidance_weight for stage in settings],
        "TRUNCATION": [stage.truncation.percentile for stage in settings],
        "TRUNCATION_TARGET": [stage.truncation.target for stage in settings],
        "TRUNCATION_THRESHOLD": [stage.truncation.threshold for stage in settings],
        "SAMPLES": job.samples,
        "SEED": job.seed,
        "TILE_SIZE": tiling.lattice.tile_size,
        "OVERLAP": tiling.lattice.overlap,
        "BATCH_SIZE": job.batch_size,
        "DEVICE": device_type,
        "PRECISION": job.precision,
        "COARSE_OUTPUT": job.coarse_output,
        "UNCERTAINTY": job.uncertainty,
        "the version of the engine or of torch": [VERSION, torch.__version__],
    }


def _warn_of_clipping(clipped: int, values: int, events: EventWriter) -> None:
    if clipped:
        tell = events.warning if clipped > NOTEWORTHY_CLIPPING * values else events.info
        share = f"{100 * clipped / values:.3g} %"
        tell(
            f"{clipped} values ({share}) lay outside the output's data type and were clipped to its limits. "
            "Where that is much, check that the input has the unit of the training data."
        )


def _log_plan(
    job: RgbToHyperspectral, header: CascadeHeader, tiling: Tiling, sampling: Sampling, plan: Done, events: EventWriter
) -> None:
    red, green, blue = tiling.rgb_bands
    lattice = tiling.lattice
    events.info(f"Red, green, blue are bands {red}, {green}, {blue} of the input.")
    events.info(
        f"Tiles: {tiling.tile_count}, {lattice.tile_size} pixels a side, overlapping by {lattice.overlap}, "
        f"{plan.batch_size} to a batch."
    )
    for stage, settings in zip(header.stages, sampling.settings):
        what = f"{sampling.draws} draws" if sampling.draws > 1 else "one draw" if settings.draw else "posterior mean"
        events.info(
            f"Stage {stage.index}: {len(stage.bands)} bands, {what} by {settings.sampler}, steps {settings.steps}, "
            f"guidance {settings.guidance_weight:g}, truncation {settings.truncation.percentile:g}."
        )
        if settings.truncation.target == "noise" and settings.truncation.percentile < 1:
            events.warning(
                "Truncating the predicted noise, as printed in the paper, is known to diverge; prefer state."
            )
    if job.samples == 0 and any(settings.draw for settings in sampling.settings):
        events.warning(
            "SAMPLES 0 gives one draw here: a model that predicts noise has no posterior mean to estimate at once."
        )


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
