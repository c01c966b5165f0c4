"""Tiles computed by the workers of a Dask cluster; this process reads what they cannot, and writes."""

from __future__ import annotations

import uuid
import warnings
from collections import deque
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Deque, Dict, Iterator, Optional, Tuple, Type

from distributed import Client, Future, TimeoutError
from distributed.scheduler import KilledWorker

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import cluster_worker
from scdm_qgis.engine.batch_size import PIXELS
from scdm_qgis.engine.cluster_worker import Abilities, TileWorker
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.fingerprint import as_json, of_raster
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.read_ahead import read_ahead
from scdm_qgis.engine.tile_batches import TileBatch, TilePixels, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileSpectra
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import Cube

BATCHES_A_WORKER = 2
"""Batches that are out at once: one is computed while the next is on its way."""

SECONDS_TO_CONNECT = 10


class Cluster:
    """One of the two kinds of `Computing`, as a context manager.

    Args:
        job: names the scheduler, the model and the input.
        cascade: the model, as this process has read it.
        cube: the input, which nothing else reads from while spectra are made.
        tiling: its tiles.
        events: told what the cluster is and what becomes of it.

    Raises:
        UserError: on entering: no scheduler answers, it has no workers, or they cannot do the job.
    """

    def __init__(
        self, job: RgbToHyperspectral, cascade: Cascade, cube: Cube, tiling: Tiling, events: EventWriter
    ) -> None:
        self.batch_size = 1
        self._job = job
        self._margin = cascade.context_radius
        self._cube = cube
        self._tiling = tiling
        self._events = events
        self._name = f"scdm-{uuid.uuid4().hex}"
        self._warned = False

    def __enter__(self) -> Cluster:
        self._client = self._connect()
        try:
            abilities = self._abilities()
            self.device_type = abilities.device_type
            self.threads = abilities.threads
            self._bfloat16 = abilities.bfloat16
            self._workers_read = abilities.reads_input
            with open(self._job.model, "rb") as file:
                model = file.read()
            source = self._job.input if self._workers_read else None
            plugin = TileWorker(self._name, model, self._job.device, self._tiling.rgb_bands, source)
            self._client.register_plugin(plugin, name=self._name)
        except BaseException:
            self._client.close()
            raise
        how = "read the input themselves" if self._workers_read else "get the input's pixels with each task"
        workers = len(self._client.nthreads())
        self._events.info(
            f"{workers} workers of {self._job.cluster} compute on {self.device_type} with {self.threads} threads each; "
            f"they {how} and send their results back."
        )
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self._client.unregister_worker_plugin(self._name)
        finally:
            self._client.close()

    def choose_bfloat16(self, precision: str) -> bool:
        """Return whether the networks are to compute in bfloat16: where that is right for every worker."""
        return self._bfloat16

    def automatic_batch_size(self, sampling: Sampling) -> int:
        """Return how many tiles keep a worker busy; workers halve what their memory is too small for."""
        return max(1, PIXELS[self.device_type] // self._tiling.lattice.tile_size**2)

    def spectra(
        self, batches: Iterator[TileBatch], sampling: Sampling, threads: int, progress: Progress
    ) -> Iterator[Tuple[TileBatch, Optional[TileSpectra]]]:
        """Yield every batch with what is made of it, see `Computing.spectra`."""
        out: Deque[Tuple[TileBatch, Any]] = deque()
        source = read_ahead(self._with_pixels(batches))
        more = True
        while more or out:
            while more and len(out) < BATCHES_A_WORKER * max(1, len(self._client.nthreads())):
                item = next(source, None)
                if item is None:
                    more = False
                    break
                batch, pixels = item
                out.append((batch, self._submit(batch, pixels, sampling, threads)))
            if out:
                batch, future = out.popleft()
                made, largest = self._result(future)
                progress.advance(len(batch.tiles) * sampling.steps, "Reconstructing")
                if largest is not None and largest < self.batch_size:
                    self._events.warning(
                        f"A worker's memory is too small for {self.batch_size} tiles at once; going on with {largest}."
                    )
                    self.batch_size = largest
                yield batch, made

    def _with_pixels(self, batches: Iterator[TileBatch]) -> Iterator[Tuple[TileBatch, Optional[TilePixels]]]:
        for batch in batches:
            if self._workers_read:
                yield batch, None
            else:
                yield batch, read_tiles(self._cube, self._tiling.rgb_bands, batch.tiles, self._margin)

    def _submit(self, batch: TileBatch, pixels: Optional[TilePixels], sampling: Sampling, threads: int) -> Future:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # pixels in the task survive a worker's death
            return self._client.submit(
                cluster_worker.compute, self._name, sampling, threads, batch.tiles, pixels, pure=False, retries=2
            )

    def _result(self, future: Future) -> Tuple[Optional[TileSpectra], Optional[int]]:
        """Wait for a result; Dask computes it anew where the worker is lost that had it."""
        while True:
            try:
                result: Tuple[Optional[TileSpectra], Optional[int]] = future.result(timeout=1)
                return result
            except TimeoutError:
                self._warn_without_workers()
            except CancelledError as error:
                raise UserError(
                    f"The connection to the scheduler {self._job.cluster} is lost.",
                    "Start it and its workers again, then run with RESUME.",
                ) from error
            except KilledWorker as error:
                raise UserError(
                    f"A batch of tiles has killed several workers ({error}).",
                    "Give them more memory, or lower BATCH_SIZE or TILE_SIZE.",
                ) from error

    def _warn_without_workers(self) -> None:
        if self._warned or self._client.nthreads():
            return
        self._warned = True
        self._events.warning(f"{self._job.cluster} has no workers left: waiting for new ones.")

    def _connect(self) -> Client:
        try:
            return Client(self._job.cluster, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"No Dask scheduler answers at {self._job.cluster}.",
                "Start one with 'dask scheduler' and give the address it prints, such as tcp://192.168.1.5:8786.",
            ) from error

    def _abilities(self) -> Abilities:
        """Return what the workers have in common."""
        try:
            answers: Dict[str, Abilities] = self._client.run(
                cluster_worker.describe,
                self._job.device,
                self._job.precision,
                self._job.input,
                as_json(of_raster(self._cube)),
            )
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"The workers of {self._job.cluster} cannot run the engine ({error}).",
                "Start them with a Python that has all of requirements.txt, and with PYTHONPATH set to the folder "
                "that holds scdm_qgis.",
            ) from error
        if not answers:
            raise UserError(
                f"The scheduler {self._job.cluster} has no workers.",
                f"Start some with: dask worker {self._job.cluster}",
            )
        workers = list(answers.values())
        if len({(worker.versions, worker.device_type) for worker in workers}) > 1:
            raise UserError(
                "The workers differ in their version of this plugin or of torch, or in their type of device, so that "
                "their tiles would not fit together.",
                "Give all the same versions, and set DEVICE to what all of them have.",
            )
        return Abilities(
            workers[0].versions,
            workers[0].device_type,
            min(worker.threads for worker in workers),
            all(worker.bfloat16 for worker in workers),
            all(worker.reads_input for worker in workers),
        )
