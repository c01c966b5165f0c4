"""The dock comes and goes and leaves nothing: no widget, no file, no map tool."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any, List

import pytest
from qgis.core import (
    QgsApplication,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.gui import QgsMapToolPan
from qgis.PyQt.QtCore import QCoreApplication, QEvent, Qt
from qgis.PyQt.QtWidgets import QComboBox, QDockWidget

from tests.in_qgis.open_dock import OpenDock, X, Y


def open_rasters() -> List[str]:
    """Return the rasters of pytest's folders that this process has open."""
    gc.collect()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.islink(link)]
    return sorted(target for target in targets if "/pytest-" in target and ".tif" in target)


def reading_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scdm profile reader")]


def test_no_file_stays_open_when_layers_come_and_go(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    paths = [rasters.write(tmp_path / f"{index}.tif", rasters.smooth(6)) for index in range(4)]
    extent = QgsRasterLayer(paths[0], "extent").extent()
    dock.show(extent)
    before = open_rasters()
    for turn in range(200):
        layer = dock.add(paths[turn % 4], f"layer {turn}")
        dock.move(X, Y)
        if turn % 10 == 0:
            readings = dock.hover(X, Y)
            assert readings[layer.id()].curve is not None
            assert len([path for path in open_rasters() if path.endswith(".tif")]) > len(before)
        QgsProject.instance().removeMapLayer(layer.id())
        dock.move(X, Y)
    dock._wait(lambda: open_rasters() == before)
    assert dock.panel._layer_table.rowCount() == 0


def test_a_layer_that_is_gone_is_not_opened_again_by_what_was_asked_before(
    rasters: Any, tmp_path: Path, qtbot: Any
) -> None:
    from scdm_qgis.profile.reader import Place, ProfileReader

    place = Place("one", rasters.write(tmp_path / "one.tif", rasters.smooth(6)), X, Y)
    reader = ProfileReader()
    try:
        reader.keep_only(["one"])
        with qtbot.waitSignal(reader.pinned) as kept:
            reader.pin(1, [place])
        assert kept.args[1]["one"].curve is not None and place.path in open_rasters()
        reader.keep_only([])
        with qtbot.waitSignal(reader.pinned) as gone:
            reader.pin(2, [place])
        assert gone.args[1]["one"].curve is None and place.path not in open_rasters()
    finally:
        reader.stop()
    assert not reader.running


def test_hiding_the_dock_closes_the_files_and_gives_the_mouse_back(dock: OpenDock, pair: Any) -> None:
    dock.hover(X, Y)
    assert dock.canvas.mapTool() is dock.panel.tool
    held = len(open_rasters())
    dock.dock.hide()
    assert dock.canvas.mapTool() is not dock.panel.tool
    assert not dock.dock.pick.isChecked()
    dock._wait(lambda: len(open_rasters()) == held - 2)
    dock.dock.pick.trigger()
    assert dock.dock.isVisible() and dock.dock.pick.isChecked()
    assert len(dock.hover(X, Y)) == 2
    dock.dock.pick.trigger()
    assert dock.canvas.mapTool() is not dock.panel.tool and dock.dock.isVisible()


def test_what_was_read_before_the_plugin_went_is_not_shown_after_it(dock: OpenDock, pair: Any, qtbot: Any) -> None:
    dock.hover(X, Y)
    reader, arrived = dock.panel._reader, threading.Event()
    reader.hovered.connect(lambda *_: arrived.set(), Qt.ConnectionType.DirectConnection)
    dock.move(X + 50, Y)
    assert arrived.wait(5)  # in the reading thread: the window has not heard of it
    with qtbot.captureExceptions() as exceptions:
        dock.plugin.unload()
        QCoreApplication.processEvents()
    assert exceptions == []


def test_fifty_times_on_and_off_leaves_nothing(
    plugin: Any, qgis_iface: Any, project: QgsProject, rasters: Any, tmp_path: Path, qtbot: Any
) -> None:
    from scdm_qgis import classFactory

    project.addMapLayer(QgsRasterLayer(rasters.write(tmp_path / "scene.tif", rasters.smooth()), "scene"))
    window, canvas = qgis_iface.mainWindow(), qgis_iface.mapCanvas()
    window.show()
    canvas.show()
    plugin.unload()

    def state() -> List[Any]:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
        docks = [dock for dock in window.findChildren(QDockWidget) if "Scdm" in dock.objectName()]
        return [
            docks,
            len(QgsApplication.topLevelWidgets()),
            len(canvas.scene().items()),
            reading_threads(),
            open_rasters(),
            len(os.listdir("/proc/self/fd")),
        ]

    states = []
    for turn in range(50):
        one = classFactory(qgis_iface)
        one.initGui()
        if turn % 2:
            opened = OpenDock(one, canvas, lambda until: qtbot.waitUntil(until, timeout=5000))
            opened.show(QgsRectangle(500000, 5799600, 500360, 5800000))
            assert opened.hover(X, Y)
            opened.click(X, Y)
            assert reading_threads()
        one.unload()
        one.unload()
        states.append(state())
    plugin.initGui()
    assert states[-1][0] == [] and states[-1][3] == []
    assert states[-1][:5] == states[1][:5]
    assert states[-1][5] <= states[1][5] + 1  # QGIS's own: the map may hold the layer's file open while it is drawn


def test_without_pyqtgraph_the_numbers_and_the_files_remain(
    plugin: Any, qgis_iface: Any, project: QgsProject, rasters: Any, tmp_path: Path, qtbot: Any, monkeypatch: Any
) -> None:
    from scdm_qgis.profile import panel

    monkeypatch.setattr(panel, "SpectralPlot", None)
    monkeypatch.setattr("sys.platform", "linux")
    from qgis.PyQt.QtWidgets import QLabel

    from scdm_qgis import classFactory

    plugin.unload()
    one = classFactory(qgis_iface)
    one.initGui()
    qgis_iface.mainWindow().show()
    try:
        dock = OpenDock(one, qgis_iface.mapCanvas(), lambda until: qtbot.waitUntil(until, timeout=5000))
        values = rasters.smooth()
        dock.add(rasters.write(tmp_path / "truth.tif", values), "truth")
        dock.add(rasters.write(tmp_path / "prediction.tif", values + 7), "prediction")
        dock.show(QgsRectangle(500000, 5799600, 500360, 5800000))
        dock.settle()
        texts = [label.text() for label in dock.panel.findChildren(QLabel)]
        said = [text for text in texts if "pyqtgraph" in text]
        assert len(said) == 1 and "sudo apt install python3-pyqtgraph" in said[0]
        dock.hover(X, Y)
        dock.click(X, Y)
        assert dock.numbers()[0]["RMSE"] == "7"
        for kind in ("csv", "sli"):
            dock.panel.export(kind, str(tmp_path / f"out.{kind}"))
            assert (tmp_path / f"out.{kind}").stat().st_size > 0
        dock.panel.export("png", str(tmp_path / "out.png"))
        assert "needs pyqtgraph" in dock.panel._status.text()
    finally:
        one.unload()
        plugin.initGui()


def test_a_dock_that_lacks_a_package_says_so_in_the_width_it_has(
    qgis_processing: None, plugin: Any, qgis_iface: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from scdm_qgis import classFactory

    monkeypatch.delitem(sys.modules, "scdm_qgis.profile.panel", raising=False)
    monkeypatch.setitem(sys.modules, "scdm_qgis.profile.comparison", None)  # any module that panel.py imports
    plugin.unload()
    one = classFactory(qgis_iface)
    one.initGui()
    qgis_iface.mainWindow().show()
    try:
        one._dock.pick.trigger()
        label = one._dock.widget()
        assert label.text().startswith("The dock needs ") and one._dock.panel is None
        assert label.minimumSizeHint().width() < 400
        assert label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
        assert not one._dock.pick.isChecked()
    finally:
        one.unload()
        plugin.initGui()


def test_nothing_of_the_dock_is_loaded_before_it_is_opened(checkout: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, '/usr/share/qgis/python/plugins')\n"
        "import scdm_qgis.plugin\n"
        "print([name for name in sys.modules if name.startswith('scdm_qgis.profile')])\n"
        "import scdm_qgis.profile.dock\n"
        "print([name for name in sys.modules if name.startswith(('scdm_qgis.profile.', 'pyqtgraph', 'scipy'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkout)
    assert done.stdout.splitlines() == ["[]", "['scdm_qgis.profile.dock']"], done.stderr


def test_the_button_gives_the_map_the_tool_it_had(dock: OpenDock) -> None:
    pan = QgsMapToolPan(dock.canvas)
    dock.dock.pick.trigger()
    dock.canvas.setMapTool(pan)
    dock.dock.pick.trigger()
    assert dock.canvas.mapTool() is dock.panel.tool
    assert dock.panel._status.text().startswith("Move the mouse over the map")
    dock.dock.pick.trigger()
    assert dock.canvas.mapTool() is pan
    assert dock.panel._status.text().startswith("Press the first button")
    dock.dock.pick.trigger()
    other = QgsMapToolPan(dock.canvas)
    dock.canvas.setMapTool(other)
    dock.dock.hide()
    assert dock.canvas.mapTool() is other  # not the one it had before: the user has chosen since


def test_a_tool_that_is_gone_is_not_given_back(dock: OpenDock) -> None:
    dock.dock.pick.trigger()
    pan = QgsMapToolPan(dock.canvas)
    dock.canvas.setMapTool(pan)
    dock.dock.pick.trigger()
    pan.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    dock.dock.pick.trigger()
    assert dock.canvas.mapTool() is None


def test_a_dock_too_narrow_for_its_buttons_has_them_in_a_menu(dock: OpenDock) -> None:
    controls = dock.panel._controls
    assert not list(controls.findChildren(QComboBox)), "a box is lost where the row is too narrow"
    texts = [action.text() for action in controls.actions()]
    assert {"Window: 1 × 1", "Axis: wavelength", "Export"} <= set(texts)
    for action in controls.actions():
        if action.text() in ("Window: 1 × 1", "Axis: wavelength", "Export"):
            assert action.menu().actions() and action.menu().parent() is controls
    controls._window.actions()[2].trigger()
    assert controls.side == 5 and "Window: 5 × 5" in [action.text() for action in controls.actions()]
    assert [action.isChecked() for action in controls._window.actions()] == [False, False, True, False]


def test_the_dock_opens_without_scipy(checkout: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, '/usr/share/qgis/python/plugins'); sys.modules['scipy'] = None\n"
        "import numpy as np\n"
        "import scdm_qgis.profile.panel\n"
        "from scdm_qgis.core.metrics import mean_square_error, spectral_angle\n"
        "one = np.ones((3, 1, 1))\n"
        "print(mean_square_error(one, 3 * one), spectral_angle(one, one)[0, 0] < 1e-6)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkout)
    assert done.stdout.splitlines() == ["4.0 True"], done.stderr
