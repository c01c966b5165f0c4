"""What a worker of a Dask cluster does: it holds the model once and computes batches of tiles."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, cast

import torch
from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.device import choose_bfloat16, choose_device
from scdm_qgis.engine.fingerprint import as_json, of_raster
from scdm_qgis.engine.tile_batches import TilePixels, read_tiles
from scdm_qgis.engine.tile_reconstructor import Sampling, TileReconstructor, TileSpectra
from scdm_qgis.engine.version import VERSION
from scdm_qgis.raster.cube import Cube, open_cube
from scdm_qgis.raster.tiles import Tile


@dataclass(frozen=True)
class Abilities:
    """What a worker has: versions, type of device, threads for each batch, and whether it reads the input."""

    versions: Tuple[str, str]
    device_type: str
    threads: int
    bfloat16: bool
    reads_input: bool


def describe(device: str, precision: str, input_path: str, fingerprint: Dict[str, Any], dask_worker: Any) -> Abilities:
    """Return what a worker has, which `Client.run` gives; raises UserError where it lacks the device."""
    chosen = choose_device(device)
    return Abilities(
        versions(),
        chosen.type,
        max(1, torch.get_num_threads() // dask_worker.state.nthreads),
        choose_bfloat16(precision, chosen),
        _reads(input_path, fingerprint),
    )


def _reads(path: str, fingerprint: Dict[str, Any]) -> bool:
    try:
        with open_cube(path) as cube:
            return as_json(of_raster(cube)) == fingerprint
    except UserError:
        return False


class TileWorker(WorkerPlugin):
    """The model on a worker, for as long as one run lasts; workers that join later get it, too.

    Dask only logs what `setup` raises and would send tasks all the same, so what is wrong with a worker is kept.

    Args:
        name: of this run.
        expected: versions and type of device of the workers the run began with.
        model: the bytes of the cascade file.
        device: as the user gave it.
        rgb_bands: of the input.
        input_path: of the input where all workers read it, None where its pixels come with the tasks.
    """

    def __init__(
        self,
        name: str,
        expected: Tuple[Tuple[str, str], str],
        model: bytes,
        device: str,
        rgb_bands: Sequence[int],
        input_path: Optional[str],
    ) -> None:
        self.name = name
        self.problem: Optional[str] = "it is not set up"
        self._expected = expected
        self._model = model
        self._device = device
        self._rgb_bands = rgb_bands
        self._input_path = input_path

    def setup(self, worker: Any) -> None:
        """Load the model and open the input."""
        self._cascade: Optional[Cascade] = None
        self._cube: Optional[Cube] = None
        self._reconstructors: Dict[Sampling, TileReconstructor] = {}
        self._preparing = threading.Lock()
        path = os.path.join(worker.local_directory, f"{self.name}.safetensors")
        try:
            device = choose_device(self._device)
            # A GPU's memory holds one batch, whatever threads Dask has. Dask sets OMP_NUM_THREADS to 1 for its workers.
            self._threads = max(torch.get_num_threads(), worker.state.nthreads) if device.type == "cpu" else 1
            self._room: Optional[threading.Semaphore] = None
            if (versions(), device.type) != self._expected:
                raise UserError("it has another version or type of device than the others", "")
            with open(path, "wb") as file:
                file.write(self._model)
            self._cascade = Cascade.load(path).to(device)
            os.remove(path)
            self._model = b""  # it need not be held twice
            self._cube = open_cube(self._input_path) if self._input_path is not None else None
            self.problem = None
        except Exception as error:
            self.problem = str(error)

    def teardown(self, worker: Any) -> None:
        """Let go of the model and the input; a task that is still running has its own hold on them."""
        self.problem = "its run has ended"
        self._cube, self._cascade = None, None
        self._reconstructors = {}

    def compute(
        self, sampling: Sampling, threads: int, tiles: Sequence[Tile], pixels: Optional[TilePixels]
    ) -> Tuple[Optional[TileSpectra], Optional[int]]:
        """Return what is made of a batch, None where it has no valid pixel; and the largest batch that fits."""
        with self._preparing:
            cascade, cube = self._cascade, self._cube
            if cascade is None:
                raise ValueError(f"a worker was asked although {self.problem}")
            if sampling not in self._reconstructors:
                self._reconstructors[sampling] = TileReconstructor(cascade, sampling)
            reconstruct = self._reconstructors[sampling]
            if pixels is None:
                if cube is None:
                    raise ValueError("a worker that does not read the input needs pixels")
                pixels = read_tiles(cube, self._rgb_bands, tiles, reconstruct.margin)
            if self._room is None:  # the first batch of the run tells how many threads each of them has
                self._room = threading.Semaphore(max(1, self._threads // threads))
        with self._room:
            torch.set_num_threads(threads)
            return reconstruct(pixels) if pixels.tiles else None, reconstruct.largest_batch


def compute(
    name: str, sampling: Sampling, threads: int, tiles: Sequence[Tile], pixels: Optional[TilePixels]
) -> Tuple[Optional[TileSpectra], Optional[int]]:
    """Compute a batch on the worker this runs on."""
    plugin = cast(TileWorker, get_worker().plugins[name])
    return plugin.compute(sampling, threads, tiles, pixels)


def problem(name: str, dask_worker: Any) -> Optional[str]:
    """Return what keeps a worker from computing, or None; `Client.run` gives the worker."""
    plugin: TileWorker = dask_worker.plugins[name]
    return plugin.problem


def versions() -> Tuple[str, str]:
    """Return the versions of the plugin and of torch where this runs."""
    return VERSION, torch.__version__
