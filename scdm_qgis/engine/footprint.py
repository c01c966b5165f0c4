"""The memory and the disk space a reconstruction will take, checked and said before it starts."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import Callable, Dict, Sequence

import numpy as np
import psutil

from scdm_qgis.core.cascade_header import CascadeHeader
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.guidance import kept_bytes
from scdm_qgis.core.reconstruction import SamplingSettings
from scdm_qgis.engine import read_ahead, side_by_side, write_behind
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.output_rasters import Product
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import CACHE_BYTES
from scdm_qgis.raster.cube_writer import BLOCK

FEATURE_MAPS = 24
"""Maps of the network's first width that exist at once while it computes; measured, rounded up."""

GUIDED_FEATURE_MAPS = 36
"""The same where both guided passes do."""

_FLOAT = 4


@dataclass(frozen=True)
class Footprint:
    """What a run takes.

    Args:
        memory: bytes beyond what the process takes already, about.
        disk: bytes of each output's pixels before compression, in the order of the products.
    """

    memory: int
    disk: Sequence[int]


def footprint(
    header: CascadeHeader,
    settings: Sequence[SamplingSettings],
    tiling: Tiling,
    products: Sequence[Product],
    batch_size: int,
    at_once: int,
    balanced: bool,
    rows: int,
    computes_here: bool,
) -> Footprint:
    """Return what a run takes from a row of the window on.

    Args:
        header: of the model.
        settings: how each stage is sampled.
        tiling: bands, tiles and window.
        products: the rasters that are written.
        batch_size: tiles of a batch.
        at_once: batches that are computed at once.
        balanced: whether the starts of several draws are balanced.
        rows: first rows that are there already.
        computes_here: whether the networks compute in this machine's own memory.
    """
    lattice, (_, _, height, width) = tiling.lattice, tiling.window
    pixels_a_batch = batch_size * min(lattice.tile_size, lattice.height) * min(lattice.tile_size, lattice.width)
    memory = CACHE_BYTES
    disk = []
    for product in products:
        bands, size = len(header.stages[product.stage_number].bands), np.dtype(product.dtype).itemsize
        # What the tile row above leaves unfinished, and a row of blocks of the file that are not whole yet.
        memory += (bands + 1) * _FLOAT * (lattice.overlap * width + lattice.tile_size**2)
        memory += bands * size * min(BLOCK, height) * width
        disk.append(bands * size * (height - rows) * width)
    made = sum(len(stage.bands) for stage in header.stages) + len(header.stages[-1].bands)
    in_work = at_once * side_by_side.IN_WORK
    memory += (write_behind.DEPTH + 1 + in_work) * pixels_a_batch * made * _FLOAT
    memory += (read_ahead.DEPTH + in_work) * pixels_a_batch * 3 * _FLOAT
    if computes_here:
        widest = max(stage.network.base_channels for stage in header.stages)
        guided = [(stage, chosen.steps) for stage, chosen in zip(header.stages, settings) if chosen.guidance_weight > 0]
        memory += (GUIDED_FEATURE_MAPS if guided else FEATURE_MAPS) * at_once * pixels_a_batch * widest * _FLOAT
        if balanced:  # mean and deviation of the starts
            memory += 2 * at_once * pixels_a_batch * sum(len(stage.bands) for stage in header.stages) * _FLOAT
        memory += sum(kept_bytes(stage.network, lattice.tile_size, steps) for stage, steps in guided)
    return Footprint(memory, disk)


def fit_at_once(wanted: int, needed: Callable[[int], Footprint]) -> int:
    """Return how many batches of those wanted can be computed at once in the memory that is free; one at least."""
    free = psutil.virtual_memory().available
    return next((count for count in range(wanted, 1, -1) if needed(count).memory <= free), 1)


def check_footprint(needed: Footprint, products: Sequence[Product], events: EventWriter) -> None:
    """Say what a run takes and what is free, and warn where the disk may become full.

    Raises:
        UserError: the memory is too small.
    """
    free = psutil.virtual_memory().available
    events.info(f"It takes about {_gigabytes(needed.memory)} of memory; {_gigabytes(free)} are free.")
    if needed.memory > free:
        raise UserError(
            f"About {_gigabytes(needed.memory)} of memory are needed, but only {_gigabytes(free)} are free.",
            "Lower BATCH_SIZE, TILE_SIZE or OVERLAP, give an EXTENT less wide, or close other programs.",
        )
    wanted: Dict[int, int] = {}
    folders: Dict[int, str] = {}
    for product, size in zip(products, needed.disk):
        folder = os.path.dirname(os.path.abspath(product.path))
        disk = os.stat(folder).st_dev
        wanted[disk] = wanted.get(disk, 0) + size
        folders[disk] = folder
    for disk, size in wanted.items():
        room = shutil.disk_usage(folders[disk]).free
        events.info(f"At most {_gigabytes(size)} are written to '{folders[disk]}'; {_gigabytes(room)} are free.")
        if size > room:
            events.warning(
                f"The disk of '{folders[disk]}' may become full: compression saves some, but how much is not known. "
                "If it does, make space and run again with RESUME."
            )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{math.ceil(size / 1e6)} MB"
