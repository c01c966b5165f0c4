"""Reads places of rasters outside the window's thread, so that the map never waits: the newest hover position wins.

One thread takes one request at a time; the layers of a request are read side by side, as unpacking them is what
takes the time, and GDAL does that on as many processors as there are threads.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Collection, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from qgis.PyQt.QtCore import QObject, pyqtSignal

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.pixel_reader import PixelReader
from scdm_qgis.profile.curves import Curve

OUTSIDE = "outside"
NODATA = "nodata"
GONE = "no longer chosen"
WAITING = "not read yet"
_THREAD_NAME = "scdm profile reader"
_SECONDS_TO_END = 5.0
_MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Place:
    """Where to read one layer.

    Args:
        layer_id: the layer.
        path: what GDAL opens.
        x, y: in the layer's coordinates.
        side: of the window around it in pixels.
        polygon: WKB in the layer's coordinates, to be read instead of the window.
    """

    layer_id: str
    path: str
    x: float
    y: float
    side: int = 1
    polygon: Optional[bytes] = None


@dataclass(frozen=True)
class Reading:
    """What a layer has at a place.

    Args:
        curve: its values, None where there are none.
        problem: a word or sentence that says why there are none.
        unreadable: whether the file was not opened, which may be possible later.
    """

    curve: Optional[Curve]
    problem: str = ""
    unreadable: bool = False


@dataclass(frozen=True)
class Description:
    """What a layer's file is, as far as roles and axes depend on it; only `problem` where it cannot be read."""

    wavelengths_nm: Optional[Tuple[Optional[float], ...]] = None
    bad: Tuple[bool, ...] = ()
    band_count: int = 0
    floating: bool = False
    tags: Tuple[Tuple[str, str], ...] = ()
    problem: str = ""


class ProfileReader(QObject):
    """What opens, reads and closes rasters in threads of its own; its signals arrive in the thread that made it."""

    hovered = pyqtSignal(object, object)
    """What was asked for, and a Reading by layer id."""
    pinned = pyqtSignal(object, object)
    """The pin, and a Reading by layer id."""
    described = pyqtSignal(str, str, object)
    """The layer's id, its path, and its Description: when that was asked for, and when the file is another one."""
    reopened = pyqtSignal(str)
    """The id of a layer whose file is another one than before: what was read of it no longer holds."""

    def __init__(self) -> None:
        super().__init__()
        self._wakes = threading.Condition()
        self._stopped = False
        self._kept: Optional[Collection[str]] = None
        self._hover: Optional[Tuple[object, Tuple[Place, ...]]] = None
        self._tasks: List[Callable[[_OpenRasters], None]] = []
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def hover(self, asked_for: object, places: Iterable[Place]) -> None:
        """Read places as soon as possible, instead of those last asked for that nobody has begun to read."""
        with self._wakes:
            self._hover = (asked_for, tuple(places))
            self._wakes.notify()

    def pin(self, pin: object, places: Iterable[Place]) -> None:
        """Read places, each of them sooner or later."""
        fixed = tuple(places)

        def read(rasters: _OpenRasters) -> None:
            readings = rasters.read_all(fixed)
            if not self._stopped:
                self.pinned.emit(pin, readings)

        self._add(read)

    def describe(self, layer_id: str, path: str) -> None:
        """Find out what a layer's file is."""

        def look(rasters: _OpenRasters) -> None:
            description = rasters.describe(layer_id, path)
            if not self._stopped:
                self.described.emit(layer_id, path, description)

        self._add(look)

    def keep_only(self, layer_ids: Collection[str]) -> None:
        """Read these layers alone from now on, and close the files of all others."""
        with self._wakes:
            self._kept = frozenset(layer_ids)
            self._wakes.notify()

    def stop(self) -> None:
        """Close all files and end the thread; one that hangs in a slow read ends after it, without a word."""
        with self._wakes:
            self._stopped = True
            self._wakes.notify()
        self._thread.join(_SECONDS_TO_END)

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def _add(self, task: Callable[[_OpenRasters], None]) -> None:
        with self._wakes:
            self._tasks.append(task)
            self._wakes.notify()

    def _tell_reopened(self, layer_id: str, path: str, description: Description) -> None:
        if not self._stopped:
            self.described.emit(layer_id, path, description)
            self.reopened.emit(layer_id)

    def _run(self) -> None:
        rasters = _OpenRasters(lambda: self._stopped, self._tell_reopened)
        hovered_last = False
        while True:
            with self._wakes:
                while not (self._stopped or self._kept is not None or self._hover or self._tasks):
                    self._wakes.wait()
                if self._stopped:
                    break
                kept, self._kept = self._kept, None
                # In turn: neither a mouse that never rests nor a long list of pins keeps the other waiting.
                hover = None if self._tasks and hovered_last else self._hover
                if hover:
                    self._hover = None
                task = self._tasks.pop(0) if self._tasks and not hover else None
                hovered_last = hover is not None
            if kept is not None:
                rasters.keep_only(kept)
            if task:
                task(rasters)
            if hover:
                readings = rasters.read_all(hover[1])
                if not self._stopped:
                    self.hovered.emit(hover[0], readings)
        rasters.stop()


class _OpenRasters:
    """One open file for each layer that is kept, opened anew when the file has been replaced."""

    def __init__(self, stopped: Callable[[], bool], reopened: Callable[[str, str, Description], None]) -> None:
        self._stopped = stopped
        self._reopened = reopened
        self._kept: Collection[str] = ()
        self._open: Dict[str, Tuple[str, object, PixelReader]] = {}
        self._seen: Dict[str, Optional[Tuple[str, object]]] = {}  # path and stamp; None where it could not be opened
        self._side_by_side = ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1), _THREAD_NAME)

    def stop(self) -> None:
        self.keep_only(())
        self._side_by_side.shutdown()

    def keep_only(self, layer_ids: Collection[str]) -> None:
        self._kept = layer_ids
        for layer_id in set(self._open) - set(layer_ids):
            self._open.pop(layer_id)[2].close()

    def describe(self, layer_id: str, path: str) -> Description:
        seen = path, _stamp(path)
        try:
            with _all_told_as_user_errors(path):
                reader = PixelReader(path)
                description = _description_of(reader)
                reader.close()
        except UserError as error:
            self._seen[layer_id] = None
            return Description(problem=str(error))
        self._seen[layer_id] = seen
        return description

    def read_all(self, places: Sequence[Place]) -> Dict[str, Reading]:
        """Read places of different layers: each file is used by one thread at a time."""
        readings = self._side_by_side.map(self._read, places)
        return {place.layer_id: reading for place, reading in zip(places, readings)}

    def _read(self, place: Place) -> Reading:
        if place.layer_id not in self._kept:  # removed since it was asked for: nothing may open it again
            return Reading(None, GONE, unreadable=True)
        try:
            with _all_told_as_user_errors(place.path):
                reader = self._reader(place.layer_id, place.path)
        except UserError as error:
            self._seen[place.layer_id] = None
            return Reading(None, str(error), unreadable=True)
        try:
            with _all_told_as_user_errors(place.path):
                return self._read_there(reader, place)
        except UserError as error:
            return Reading(None, str(error))

    def _read_there(self, reader: PixelReader, place: Place) -> Reading:
        if place.polygon is not None:
            window = reader.read_polygon(place.polygon, self._stopped)
            if window is None:
                return Reading(None, "no pixel has its centre in the polygon")
        else:
            pixel = reader.pixel_at(place.x, place.y)
            if pixel is None:
                return Reading(None, OUTSIDE)
            window = reader.read_window(*pixel, place.side)
        curve = Curve(window.mean, window.spread, window.pixels, reader.summary.spectrum)
        return Reading(curve, "" if (window.mean == window.mean).any() else NODATA)

    def _reader(self, layer_id: str, path: str) -> PixelReader:
        stamp = _stamp(path)
        known = self._open.get(layer_id)
        if known is not None:
            if known[:2] == (path, stamp):
                return known[2]
            self._open.pop(layer_id)[2].close()
            if known[1] is not None and stamp is None and known[0] == path:
                raise UserError(f"The file '{path}' is gone.", "Put it back, or remove the layer.")
        reader = PixelReader(path)
        self._open[layer_id] = (path, stamp, reader)
        if self._seen.get(layer_id, (path, stamp)) != (path, stamp):
            self._seen[layer_id] = path, stamp
            self._reopened(layer_id, path, _description_of(reader))
        return reader


def _description_of(reader: PixelReader) -> Description:
    summary = reader.summary
    tags = tuple(sorted(reader.tags.items()))
    return Description(summary.spectrum.wavelengths_nm, summary.spectrum.bad, summary.band_count, reader.floating, tags)


@contextmanager
def _all_told_as_user_errors(path: str) -> Iterator[None]:
    """Make a sentence about one raster of whatever goes wrong with it: the thread goes on with the others."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' cannot be read ({error}).", "Check that it is whole, or save it anew.") from error


def _stamp(path: str) -> Optional[Tuple[int, int, int]]:
    """Return what changes when a file is replaced; None for what is no local file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
