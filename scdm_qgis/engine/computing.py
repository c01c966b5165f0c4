"""What computes tiles, be it this machine or a cluster."""

from __future__ import annotations

from typing import Generator, Iterator, Optional, Protocol, Tuple

from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.tile_reconstructor import Sampling, TileSpectra
from scdm_qgis.raster.tiles import Tile


class Computing(Protocol):
    """Turns batches of tiles into spectra.

    Attributes:
        device_type: `cpu`, `cuda` or `mps`.
        batch_size: tiles of a batch; it becomes smaller where that was too many for the memory.
    """

    device_type: str
    batch_size: int

    def choose_bfloat16(self, precision: str) -> bool:
        """Return whether the networks are to compute in bfloat16."""

    def automatic_batch_size(self, sampling: Sampling) -> int:
        """Return how many tiles are best for a batch."""

    def threads_a_batch(self, batch_size: int) -> int:
        """Return how many threads of the processor are to compute a batch of so many tiles."""

    def at_once(self, threads: int) -> int:
        """Return how many batches this process can best compute at once, with so many threads each."""

    def spectra(
        self,
        batches: Iterator[Tuple[Tile, ...]],
        sampling: Sampling,
        threads: int,
        at_once: int,
        progress: Progress,
    ) -> Generator[Tuple[Tuple[Tile, ...], Optional[TileSpectra]], None, None]:
        """Yield the tiles of every batch, in order, with what is made of them; None where none has a valid pixel.

        Args:
            batches: asked for as late as the computing allows.
            sampling: what is drawn.
            threads: threads of the processor a batch is computed by.
            at_once: batches computed at once; a cluster's workers compute what they have threads for.
            progress: told of the sampling steps.
        """
