"""How long the profile dock takes from a mouse event on the map to the drawn curves, and whether the map stays live.

Four rasters of 4096 x 4096 pixels and 300 bands: prediction, ground truth and one more of 16 bits, and an
uncertainty of 32. Once they are laid out as this plugin's outputs (pixel-interleaved, 64 x 64 blocks, deflate),
once as many files of others are (256 x 256 blocks). Only the part under the map holds values, the rest of the
files is sparse. The map shows an RGB raster of the same size. The mouse jumps from place to place at random; GDAL's
cache is kept small, so that nearly every place has to be unpacked. Once the map rests, and once it is moved five
times a second, so that QGIS draws all the time. A timer that should fire every 5 ms tells how long QGIS's window was
not free: its longest gaps.

    python -m benchmarks.hover [--moves 200] [--side 640]
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Tuple

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from osgeo import gdal, osr
from qgis.core import QgsApplication, QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsRectangle
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QEventLoop, QPointF, Qt, QTimer
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtWidgets import QMenu

BANDS, SIZE = 300, 4096
CACHE_BYTES = 48 * 2**20
LAYERS = (("prediction", "uint16"), ("ground truth", "uint16"), ("other", "uint16"), ("uncertainty", "float32"))
PATIENCE_SECONDS = 10.0
TICK_MS, PAN_MS = 5, 200


def write_scene(path: str, kind: str, block: int, side: int, seed: int, bands: int = BANDS) -> None:
    """Write smooth spectra with noise into the upper left `side` x `side` pixels of a sparse file."""
    types = {"uint16": (gdal.GDT_UInt16, 2), "float32": (gdal.GDT_Float32, 3)}
    data_type, predictor = types[kind]
    options = ["TILED=YES", f"BLOCKXSIZE={block}", f"BLOCKYSIZE={block}", "INTERLEAVE=PIXEL", "COMPRESS=DEFLATE"]
    options += [f"PREDICTOR={predictor}", "SPARSE_OK=TRUE", "BIGTIFF=YES"]
    dataset = gdal.GetDriverByName("GTiff").Create(path, SIZE, SIZE, bands, data_type, options)
    system = osr.SpatialReference()
    system.ImportFromEPSG(32633)
    dataset.SetProjection(system.ExportToWkt())
    dataset.SetGeoTransform((500000.0, 1.0, 0.0, 5800000.0, 0.0, -1.0))
    for number in range(1, bands + 1):
        wavelength = {"wavelength": str(400 + 7 * (number - 1)), "wavelength_units": "Nanometers"}
        dataset.GetRasterBand(number).SetMetadata(wavelength)
    generator = np.random.default_rng(seed)
    position = np.linspace(0, 6, bands)[:, None, None]
    for row in range(0, side, block):
        phase = np.sin(np.arange(row, row + block) / 30)[:, None] + np.sin(np.arange(side) / 40)
        values = 2000 + 1000 * np.sin(position + phase) + generator.normal(0, 15, (bands, block, side))
        if kind == "float32":
            values = np.abs(values) / 40
        strip = np.ascontiguousarray(values[:, : min(block, side - row)].astype(kind))
        dataset.WriteRaster(0, row, side, strip.shape[1], strip.tobytes(), band_list=list(range(1, bands + 1)))
    del dataset


class Stopwatch:
    """The window's side of the measurement: sends mouse events, waits for the picture, counts gaps and pans."""

    def __init__(self, canvas: QgsMapCanvas, side: int) -> None:
        from scdm_qgis.profile.panel import ProfilePanel

        self._canvas, self._side = canvas, side
        self._menu = QMenu()
        iface = SimpleNamespace(mapCanvas=lambda: canvas, activeLayer=lambda: None)
        self.panel = ProfilePanel(iface, self._menu.addAction("pick"))
        self.panel.resize(1200, 320)
        self.panel.show()
        canvas.setMapTool(self.panel.tool)
        self._shown, self._drawn_at = False, 0.0
        self.panel._reader.hovered.connect(self._mark)  # after the panel's own: it has the curves by then
        self._last_tick = time.perf_counter()
        self.gaps: List[float] = []
        self.pans = self.pictures = 0
        self._ticks, self._pan = QTimer(), QTimer()
        self._ticks.timeout.connect(self._tick)
        self._pan.timeout.connect(self._move_map)
        canvas.mapCanvasRefreshed.connect(self._count_picture)

    def measure(self, moves: int, panning: bool) -> List[float]:
        """Return the seconds from mouse event to drawn curves, for jumps to random places."""
        wait_until(lambda: not self._canvas.isDrawing())
        self.gaps, self.pans, self.pictures = [], 0, 0
        self._last_tick = time.perf_counter()
        self._ticks.start(TICK_MS)
        if panning:
            self._pan.start(PAN_MS)
        seconds = []
        jumps = random.Random(1)
        for _ in range(moves):
            position = QPointF(jumps.randrange(40, self._side - 40), jumps.randrange(40, self._side - 40))
            self._shown = False
            started = time.perf_counter()
            send_mouse(self._canvas, position)
            wait_until(lambda: self._shown)
            seconds.append(self._drawn_at - started)
            pause(0.02)
        self._ticks.stop()
        self._pan.stop()
        return seconds

    def _mark(self, *_: Any) -> None:
        self.panel.plot.viewport().repaint()  # now instead of with Qt's next events, to know when it is done
        self._drawn_at = time.perf_counter()
        self._shown = True

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last_tick)
        self._last_tick = now

    def _move_map(self) -> None:
        self.pans += 1
        center = self._canvas.center()
        center.setX(center.x() + (3 if self.pans % 20 < 10 else -3))
        self._canvas.setCenter(center)
        self._canvas.refresh()

    def _count_picture(self) -> None:
        self.pictures += 1


def send_mouse(canvas: QgsMapCanvas, position: QPointF) -> None:
    """Send the map the event of a mouse that moves without a button."""
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(QEvent.Type.MouseMove, position, none, none, Qt.KeyboardModifier.NoModifier)
    QCoreApplication.sendEvent(canvas.viewport(), event)


def wait_until(done: Any) -> None:
    """Run the window's events until something holds."""
    limit = time.perf_counter() + PATIENCE_SECONDS
    while not done():
        if time.perf_counter() > limit:
            raise SystemExit("Nothing was drawn.")
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def pause(seconds: float) -> None:
    """Run the window's events for some time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 2)


def milliseconds(seconds: List[float]) -> Tuple[float, float, float]:
    """Return median, 95th percentile and maximum."""
    middle, high = np.percentile(seconds, [50, 95])
    return 1000 * float(middle), 1000 * float(high), 1000 * max(seconds)


def run(folder: Path, block: int, arguments: argparse.Namespace) -> None:
    """Measure one layout of files."""
    project = QgsProject.instance()
    for seed, (name, kind) in enumerate(LAYERS):
        path = str(folder / f"{name.replace(' ', '_')}_{block}.tif")
        write_scene(path, kind, block, arguments.side, seed)
        project.addMapLayer(QgsRasterLayer(path, name))
    picture = str(folder / "rgb.tif")
    write_scene(picture, "uint16", 64, arguments.side, 9, bands=3)
    os.sync()  # or the system writes while we measure
    shown = QgsRasterLayer(picture, "RGB")
    canvas = QgsMapCanvas()
    canvas.resize(arguments.side, arguments.side)
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    canvas.setLayers([shown])
    canvas.show()
    canvas.setExtent(QgsRectangle(500000, 5800000 - arguments.side, 500000 + arguments.side, 5800000))
    watch = Stopwatch(canvas, arguments.side)
    watch.measure(20, panning=False)  # opens the files
    for panning in (False, True):
        watch_seconds = watch.measure(arguments.moves, panning)
        latency, gaps = milliseconds(watch_seconds), milliseconds(watch.gaps)
        print(
            f"| {block} × {block} | {'moving' if panning else 'at rest'} | {latency[0]:.0f} | {latency[1]:.0f} "
            f"| {gaps[1]:.0f} | {gaps[2]:.0f} | {watch.pans} | {watch.pictures} |",
            flush=True,
        )
    watch.panel.close_down()
    watch.panel.deleteLater()
    project.clear()
    canvas.deleteLater()
    del watch, canvas
    gc.collect()  # widgets must go before the application does
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    for path in folder.iterdir():
        path.unlink()


def main() -> None:
    """Print one line for each layout and state of the map."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--side", type=int, default=640, help="pixels of map and data")
    arguments = parser.parse_args()
    application = QgsApplication([], True)
    application.initQgis()
    gdal.SetCacheMax(CACHE_BYTES)
    print("milliseconds\n")
    print("| blocks | map | to drawn curves, median | 95 % | window not free, 95 % | at most | pans | drawn maps |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for block in (64, 256):
            run(Path(name), block, arguments)
    application.exitQgis()


if __name__ == "__main__":
    main()
