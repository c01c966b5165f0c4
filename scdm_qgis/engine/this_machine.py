"""Tiles computed by this process: the next are read while one batch is computed."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Generator, Iterator, Optional, Tuple

import numpy as np
import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.engine.batch_size import automatic_batch_size
from scdm_qgis.engine.device import choose_bfloat16
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.read_ahead import read_ahead
from scdm_qgis.engine.tile_batches import TilePixels, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor, TileSpectra
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.tiles import Tile


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
        self.threads = torch.get_num_threads()
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
        """Return how many tiles are best computed at once."""
        size = self._tiling.lattice.tile_size
        reconstruct = TileReconstructor(self._cascade, sampling)

        def compute_one() -> None:
            side = size + 2 * reconstruct.margin
            nothing = np.zeros((1, 3, side, side), np.float32)
            reconstruct(TilePixels((Tile(0, 0, size, size, 0, 0),), nothing, np.ones((1, side, side), bool)))

        return automatic_batch_size(self._device, size, compute_one)

    def spectra(
        self, batches: Iterator[Tuple[Tile, ...]], sampling: Sampling, threads: int, progress: Progress
    ) -> Generator[Tuple[Tuple[Tile, ...], Optional[TileSpectra]], None, None]:
        """Yield every batch with what is made of it, see `Computing.spectra`."""
        torch.set_num_threads(threads)
        reconstruct = TileReconstructor(self._cascade, sampling)
        read = ((tiles, read_tiles(self._cube, self._tiling.rgb_bands, tiles, reconstruct.margin)) for tiles in batches)
        with closing(read_ahead(read)) as ahead:
            for tiles, pixels in ahead:
                count = len(pixels.tiles)
                progress.advance((len(tiles) - count) * sampling.steps, "Reconstructing")
                made = reconstruct(pixels, partial(progress.advance, count, "Reconstructing")) if count else None
                if reconstruct.largest_batch is not None:
                    self._lower_batch_size(reconstruct.largest_batch)
                yield tiles, made

    def _lower_batch_size(self, size: int) -> None:
        if size < self.batch_size:
            self._events.warning(
                f"The GPU's memory is too small for {self.batch_size} tiles at once; going on with {size}. "
                f"Set BATCH_SIZE to {size} to start there."
            )
            self.batch_size = size
