"""Tiles computed by the workers of a Dask cluster; this process reads what they cannot, and writes."""

from __future__ import annotations

import time
import uuid
import warnings
from collections import deque
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Deque, Dict, FrozenSet, Generator, Iterator, Optional, Tuple, Type

from distributed import Client, Future, TimeoutError
from distributed.scheduler import KilledWorker

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import cluster_worker
from scdm_qgis.engine.batch_size import enough_tiles
from scdm_qgis.engine.cluster_worker import Abilities, TileWorker
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.fingerprint import as_json, of_raster
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.read_ahead import read_ahead
from scdm_qgis.engine.tile_batches import TilePixels, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileSpectra
from scdm_qgis.engine.tiling import Tiling
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.tiles import Tile

BATCHES_A_THREAD = 2
"""Batches that are out at once for each of Dask's threads, or each GPU: one is computed, the next is on its way."""

SECONDS_TO_CONNECT = 10

SECONDS_BETWEEN_LOOKS = 1
"""How often workers that have gone or come are looked for while a result is waited for."""

SECONDS_TO_LEAVE, SECONDS_TO_ASK = 10, 0.2
"""How long the workers may take to let go of the model, and how long it takes to ask them to."""


@dataclass(frozen=True)
class _Task:
    """The tiles of a batch, what the workers need for it, its result to be, and the workers it was given to."""

    tiles: Tuple[Tile, ...]
    arguments: Tuple[Any, ...]
    future: Future
    workers: FrozenSet[str]


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
        self._problems: Dict[str, Optional[str]] = {}
        self._ask_again: Dict[str, float] = {}
        self._said = 0

    def __enter__(self) -> Cluster:
        self._client = self._connect()
        try:
            abilities = self._abilities()
            self.device_type = abilities.device_type
            self._threads = abilities.threads
            self._bfloat16 = abilities.bfloat16
            self._workers_read = abilities.reads_input
            with open(self._job.model, "rb") as file:
                model = file.read()
            source = self._job.input if self._workers_read else None
            expected = (abilities.versions, abilities.device_type)
            plugin = TileWorker(self._name, expected, model, self._job.device, self._tiling.rgb_bands, source)
            self._client.register_plugin(plugin, name=self._name)
            if not self._ready_workers():
                raise UserError("No worker can compute.", "The warnings say why: mend that, or start others.")
        except BaseException as error:
            self._leave(error)
            raise
        how = "read the input themselves" if self._workers_read else "get the input's pixels with each task"
        self._events.info(
            f"They compute on {self.device_type}, threads a batch: {self._threads}, {how}, and send their results back."
        )
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._leave(error)

    def _leave(self, error: Optional[BaseException]) -> None:
        """Take the model off the workers; after an error without waiting until they have let go of it."""
        seconds = SECONDS_TO_LEAVE if error is None else SECONDS_TO_ASK
        with suppress(Exception):  # the rasters are whole, or the error to tell is another
            self._client.sync(self._client._unregister_worker_plugin, name=self._name, callback_timeout=seconds)
        with suppress(Exception):
            self._client.close(timeout=seconds)

    def _ready_workers(self) -> Dict[str, int]:
        """Return Dask's threads by address of the workers that can compute; say where their number has changed."""
        try:
            present = self._client.nthreads()
        except (OSError, TimeoutError) as error:
            raise self._lost() from error
        for worker in present.keys() - self._problems.keys():
            if not self._look_at(worker) and self._said:
                break  # others compute, and wait for this
        known = self._problems
        ready = {worker: threads for worker, threads in present.items() if worker in known and known[worker] is None}
        if len(ready) != self._said:
            waiting = "" if ready else ": waiting for new ones"
            self._events.info(f"{len(ready)} workers of {self._job.cluster} compute now{waiting}.")
            self._said = len(ready)
        return ready

    def _look_at(self, worker: str) -> bool:
        """Find out what keeps a worker from computing; return False where it did not answer.

        It will be asked again: workers do not answer before they have got the model.
        """
        if time.monotonic() < self._ask_again.get(worker, 0.0):
            return True
        seconds = SECONDS_BETWEEN_LOOKS if self._said else SECONDS_TO_CONNECT
        try:
            problem = self._problems[worker] = self._ask(worker, seconds)
        except Exception as error:
            problem = None if worker in self._ask_again else f"it cannot be asked yet ({error or type(error).__name__})"
            self._ask_again[worker] = time.monotonic() + SECONDS_TO_CONNECT
        if problem is not None:
            self._events.warning(f"The worker {worker} gets no tiles: {problem}.")
        return worker in self._problems

    def _ask(self, worker: str, seconds: float) -> Optional[str]:
        """Return what a worker says keeps it from computing; `Client.run` would wait for one that never answers."""
        answers: Dict[str, Optional[str]] = self._client.sync(
            self._client._run, cluster_worker.problem, self._name, workers=[worker], callback_timeout=seconds
        )
        return answers[worker]

    def _lost(self) -> UserError:
        return UserError(
            f"The connection to the scheduler {self._job.cluster} is lost.",
            "Start it and its workers again, then run with RESUME.",
        )

    def choose_bfloat16(self, precision: str) -> bool:
        """Return whether the networks are to compute in bfloat16: where that is right for every worker."""
        return self._bfloat16

    def automatic_batch_size(self, sampling: Sampling) -> int:
        """Return how many tiles keep a batch's threads busy; workers halve what a GPU's memory is too small for."""
        return enough_tiles(self.device_type, self._tiling.lattice.tile_size, self._threads)

    def threads_a_batch(self, batch_size: int) -> int:
        """Return the threads that a batch has on every worker, whatever its size."""
        return self._threads

    def at_once(self, threads: int) -> int:
        """Return 1: of the batches that the workers compute, this process holds one at a time."""
        return 1

    def spectra(
        self,
        batches: Iterator[Tuple[Tile, ...]],
        sampling: Sampling,
        threads: int,
        at_once: int,
        progress: Progress,
    ) -> Generator[Tuple[Tuple[Tile, ...], Optional[TileSpectra]], None, None]:
        """Yield every batch with what is made of it, see `Computing.spectra`."""
        out: Deque[_Task] = deque()
        with closing(read_ahead(self._with_pixels(batches))) as ahead:
            for tiles, pixels in ahead:
                while len(out) >= self._most_out():
                    yield self._next(out, sampling, progress)
                arguments = (self._name, sampling, threads, tiles, pixels)
                out.append(self._submit(tiles, arguments))
            while out:
                yield self._next(out, sampling, progress)

    def _most_out(self) -> int:
        """Return how many batches may be out; a worker with a GPU computes one at a time, whatever its threads."""
        ready = self._ready_workers()
        return BATCHES_A_THREAD * max(1, sum(ready.values()) if self.device_type == "cpu" else len(ready))

    def _next(
        self, out: Deque[_Task], sampling: Sampling, progress: Progress
    ) -> Tuple[Tuple[Tile, ...], Optional[TileSpectra]]:
        task = out.popleft()
        made, largest = self._result(task)
        progress.advance(len(task.tiles) * sampling.steps, "Reconstructing")
        if largest is not None and largest < self.batch_size:
            self._events.warning(
                f"A worker's memory is too small for {self.batch_size} tiles at once; going on with {largest}."
            )
            self.batch_size = largest
        return task.tiles, made

    def _with_pixels(
        self, batches: Iterator[Tuple[Tile, ...]]
    ) -> Iterator[Tuple[Tuple[Tile, ...], Optional[TilePixels]]]:
        for tiles in batches:
            if self._workers_read:
                yield tiles, None
            else:
                yield tiles, read_tiles(self._cube, self._tiling.rgb_bands, tiles, self._margin)

    def _submit(self, tiles: Tuple[Tile, ...], arguments: Tuple[Any, ...]) -> _Task:
        """Give a batch to the workers that can compute now, or to the first that can."""
        while not (workers := self._ready_workers()):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # pixels in the task survive a worker's death
            future = self._client.submit(
                cluster_worker.compute, *arguments, pure=False, retries=2, workers=list(workers)
            )
        return _Task(tiles, arguments, future, frozenset(workers))

    def _result(self, task: _Task) -> Tuple[Optional[TileSpectra], Optional[int]]:
        """Wait for a result; Dask computes it anew where the worker is lost that had it."""
        while True:
            try:
                result: Tuple[Optional[TileSpectra], Optional[int]] = task.future.result(timeout=SECONDS_BETWEEN_LOOKS)
                return result
            except CancelledError as error:
                raise self._lost() from error
            except TimeoutError:
                if task.future.done():
                    raise  # the task's own
                if not task.workers & self._ready_workers().keys():
                    task = self._submit(task.tiles, task.arguments)
            except KilledWorker as error:
                raise UserError(
                    f"A batch of tiles has killed several workers ({error}).",
                    "Give them more memory or fewer threads (--nthreads), or lower BATCH_SIZE or TILE_SIZE.",
                ) from error

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
            self._client.run_on_scheduler(cluster_worker.versions)  # it unpacks the tasks, too
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
                f"The scheduler {self._job.cluster} or a worker of it cannot run the engine ({error}).",
                "Start all of them with a Python that has the packages of requirements.txt, and with PYTHONPATH set to "
                "the folder that holds scdm_qgis.",
            ) from error
        if not answers:
            raise UserError(
                f"The scheduler {self._job.cluster} has no workers.",
                f"Start some, with PYTHONPATH set to the folder that holds scdm_qgis: dask worker {self._job.cluster}",
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
