"""Tiles computed by this process: some batches at once, while the next are read."""

from __future__ import annotations

import math
import threading
from concurrent.futures import CancelledError
from contextlib import ExitStack, closing
from functools import partial
from typing import Generator, Iterator, Optional, Tuple

import numpy as np
import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.engine.batch_size import automatic_batch_size, enough_threads, enough_tiles
from scdm_qgis.engine.device import choose_bfloat16
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.read_ahead import read_ahead
from scdm_qgis.engine.side_by_side import side_by_side
from scdm_qgis.engine.tile_batches import TilePixels, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor, TileSpectra
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.tiles import Tile

Batch = Tuple[Tuple[Tile, ...], TilePixels]
"""The tiles of a batch, and what is read of them."""


class ThisMachine:
    """One of the two kinds of `Computing`.

    Args:
        cascade: the model.
        device: what computes.
        cube: the input, which nothing else reads from while spectra are made.
        tiling: its tiles.
        events: told where a GPU's memory was too small for a batch.
    """

    def __init__(self, cascade: Cascade, device: torch.device, cube: Cube, tiling: Tiling, events: EventWriter) -> None:
        self.device_type = device.type
        self._threads = torch.get_num_threads()
        self.batch_size = 1
        self._cascade = cascade.to(device)
        self._device = device
        self._cube = cube
        self._tiling = tiling
        self._events = events

    def choose_bfloat16(self, precision: str) -> bool:
        """Return whether the networks are to compute in bfloat16."""
        return choose_bfloat16(precision, self._device)

    def automatic_batch_size(self, sampling: Sampling) -> int:
        """Return how many tiles are best for a batch."""
        size = self._tiling.lattice.tile_size
        if self.device_type == "cpu":  # a small raster's tiles are shared out among all threads
            return min(enough_tiles("cpu", size, 1), math.ceil(self._tiling.tile_count / self._threads))
        reconstruct = TileReconstructor(self._cascade, sampling)

        def compute_one() -> None:
            side = size + 2 * reconstruct.margin
            nothing = np.zeros((1, 3, side, side), np.float32)
            reconstruct(TilePixels((Tile(0, 0, size, size, 0, 0),), nothing, np.ones((1, side, side), bool)))

        return automatic_batch_size(self._device, size, compute_one)

    def threads_a_batch(self, batch_size: int) -> int:
        """Return one where a batch is small and there are others to compute beside it, else more.

        Threads that share the work of a small network wait for each other at every layer of it.
        """
        if self.device_type != "cpu":
            return self._threads
        enough = min(enough_threads(batch_size, self._tiling.lattice.tile_size), self._threads)
        batches = math.ceil(self._tiling.tile_count / batch_size)
        return self._threads // min(self._threads // enough, batches)

    def at_once(self, threads: int) -> int:
        """Return how many batches share the processor; a GPU's memory holds one."""
        return max(1, self._threads // threads) if self.device_type == "cpu" else 1

    def spectra(
        self,
        batches: Iterator[Tuple[Tile, ...]],
        sampling: Sampling,
        threads: int,
        at_once: int,
        progress: Progress,
    ) -> Generator[Tuple[Tuple[Tile, ...], Optional[TileSpectra]], None, None]:
        """Yield every batch with what is made of it, see `Computing.spectra`."""
        reconstruct = TileReconstructor(self._cascade, sampling)
        stopped, turn = threading.Event(), threading.Lock()

        def advance(steps: int) -> None:
            with turn:
                if stopped.is_set():
                    raise CancelledError
                progress.advance(steps, "Reconstructing")

        def compute(batch: Batch) -> Tuple[Tuple[Tile, ...], Optional[TileSpectra]]:
            tiles, pixels = batch
            advance((len(tiles) - len(pixels.tiles)) * sampling.steps)
            return tiles, reconstruct(pixels, advance) if pixels.tiles else None

        read = ((tiles, read_tiles(self._cube, self._tiling.rgb_bands, tiles, reconstruct.margin)) for tiles in batches)
        with ExitStack() as stack:
            ahead = stack.enter_context(closing(read_ahead(read)))
            made = side_by_side(compute, ahead, at_once, partial(torch.set_num_threads, threads))
            stack.enter_context(closing(made))
            stack.callback(stopped.set)
            for tiles, spectra in made:
                if reconstruct.largest_batch is not None:
                    self._lower_batch_size(reconstruct.largest_batch)
                yield tiles, spectra

    def _lower_batch_size(self, size: int) -> None:
        if size < self.batch_size:
            self._events.warning(
                f"The GPU's memory is too small for {self.batch_size} tiles at once; going on with {size}. "
                f"Set BATCH_SIZE to {size} to start there."
            )
            self.batch_size = size
