"""The profile dock in the real QGIS, driven by mouse events on the map."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from osgeo import gdal, osr
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapToolPan, QgsVertexMarker
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QComboBox, QDialog, QDockWidget

UTM = QgsCoordinateReferenceSystem("EPSG:32633")
NO_CRS = QgsCoordinateReferenceSystem()
X, Y = 500105.0, 5799895.0
"""The middle of the pixel in row 10, column 10 of the small rasters."""


@pytest.fixture
def project() -> Iterator[QgsProject]:
    """Return the empty project; its layers are removed afterwards."""
    project = QgsProject.instance()
    project.clear()
    yield project
    project.clear()


class OpenDock:
    """The plugin's dock, opened by its button, and the mouse over the map."""

    def __init__(self, plugin: Any, canvas: Any, wait: Callable[..., None]) -> None:
        self.plugin, self.canvas, self._wait = plugin, canvas, wait
        self.dock = plugin._dock
        self.dock.pick.trigger()
        self.panel = self.dock.panel

    def show(self, extent: QgsRectangle, crs: QgsCoordinateReferenceSystem = UTM) -> None:
        self.canvas.setDestinationCrs(crs)
        self.canvas.setExtent(extent)

    def add(self, path: str, name: str) -> QgsRasterLayer:
        layer = QgsRasterLayer(path, name)
        QgsProject.instance().addMapLayer(layer)
        return layer

    def settle(self) -> None:
        """Wait until the files of all layers have been looked at."""
        layers = self.panel._layers
        self._wait(lambda: all(one.description or not one.path for one in layers.all()) and not layers._soon.isActive())

    def states(self) -> List[str]:
        """Return what the table of layers says of the place under the mouse."""
        table = self.panel._layer_table
        return [table.item(row, 2).text() for row in range(table.rowCount())]

    def numbers(self) -> List[List[Any]]:
        """Return the cells of the table of numbers."""
        table = self.panel._number_table
        role = Qt.ItemDataRole.DisplayRole
        rows, columns = range(table.rowCount()), range(table.columnCount())
        return [[table.item(row, column).data(role) for column in columns] for row in rows]

    def pixel(self, x: float, y: float) -> QPoint:
        return self.canvas.getCoordinateTransform().transform(QgsPointXY(x, y)).toQPointF().toPoint()

    def hover(self, x: float, y: float) -> Dict[str, Any]:
        """Move the mouse to a place on the map and return what was read there."""
        self.panel._hovered = {}
        self.move(x, y)
        self._wait(lambda: bool(self.panel._hovered))
        return self.panel._hovered

    def move(self, x: float, y: float) -> None:
        """Send the map the event of a mouse that moves."""
        position = QPointF(self.pixel(x, y))
        none = Qt.MouseButton.NoButton
        event = QMouseEvent(QEvent.Type.MouseMove, position, none, none, Qt.KeyboardModifier.NoModifier)
        QCoreApplication.sendEvent(self.canvas.viewport(), event)

    def click(self, x: float, y: float) -> Any:
        QTest.mouseClick(self.canvas.viewport(), Qt.MouseButton.LeftButton, pos=self.pixel(x, y))
        pin = self.panel._pins.all()[-1]
        self._wait(lambda: all(reading.problem != "not read yet" for reading in pin.readings.values()))
        return pin


@pytest.fixture
def dock(qgis_processing: None, plugin: Any, qgis_iface: Any, project: QgsProject, qtbot: Any) -> Iterator[OpenDock]:
    from scdm_qgis import classFactory

    plugin.unload()
    one = classFactory(qgis_iface)
    one.initGui()
    qgis_iface.mainWindow().show()
    qgis_iface.mapCanvas().resize(400, 400)
    qgis_iface.mapCanvas().show()
    opened = OpenDock(one, qgis_iface.mapCanvas(), lambda until: qtbot.waitUntil(until, timeout=5000))
    yield opened
    one.unload()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    plugin.initGui()


@pytest.fixture
def pair(dock: OpenDock, rasters: Any, tmp_path: Path) -> Tuple[QgsRasterLayer, QgsRasterLayer, np.ndarray]:
    """Add a ground truth and a prediction 10, 20, 30, ... above it; return both with the truth's values."""
    values = rasters.smooth()
    truth = dock.add(rasters.write(tmp_path / "truth.tif", values), "truth")
    higher = values + 10 * np.arange(1, 17, dtype=np.uint16)[:, None, None]
    prediction = dock.add(rasters.write(tmp_path / "prediction.tif", higher), "prediction")
    dock.show(truth.extent())
    dock.settle()
    return truth, prediction, values


def markers(dock: OpenDock) -> List[Any]:
    return [item for item in dock.canvas.scene().items() if isinstance(item, QgsVertexMarker)]


def test_hover_reads_the_pixel_under_the_mouse(dock: OpenDock, pair: Any) -> None:
    truth, prediction, values = pair
    readings = dock.hover(X, Y)
    np.testing.assert_array_equal(readings[truth.id()].curve.values, values[:, 10, 10])
    assert readings[prediction.id()].curve.values[0] == values[0, 10, 10] + 10
    assert dock.states() == ["read", "read"]
    dock._wait(lambda: "prediction against truth: SAM" in dock.panel._status.text())


def test_a_click_pins_and_the_numbers_are_those_of_the_evaluation(dock: OpenDock, pair: Any) -> None:
    from scdm_qgis.core.metrics import evaluate

    _, _, values = pair
    dock.click(X, Y)
    dock.click(X + 50, Y)
    spectrum = values[:, 10, 10].astype(float)
    higher = spectrum + 10 * np.arange(1, 17)
    expected = evaluate(higher[:, None, None], spectrum[:, None, None], np.ones((1, 1), bool), 1.0)
    first, second = dock.numbers()
    assert first[0] == 1 and first[6:] == ["prediction", "truth"]
    assert first[1] == pytest.approx(np.degrees(expected.sam), abs=5e-4)
    assert first[2] == pytest.approx(expected.rmse, rel=1e-4)
    assert first[3:6] == [160, 880, 16]
    assert second[0] == 2
    centers = sorted((round(marker.center().x()), round(marker.center().y())) for marker in markers(dock))
    assert centers == pytest.approx(np.array([(X, Y), (X + 50, Y)]), abs=2)
    colours = {pin.colour.name() for pin in dock.panel._pins.all()}
    assert len(colours) == 2


def test_pins_are_removed_one_by_one_and_all(dock: OpenDock, pair: Any) -> None:
    for step in range(3):
        dock.click(X + 30 * step, Y)
    table = dock.panel._number_table
    table.selectRow(1)
    dock.panel._controls.removal_asked.emit()
    assert [row[0] for row in dock.numbers()] == [1, 3]
    assert len(markers(dock)) == 2
    dock.panel._controls.clearing_asked.emit()
    assert dock.numbers() == [] and markers(dock) == []


def test_the_table_is_sorted_by_numbers_and_a_click_on_a_row_goes_to_the_pin(dock: OpenDock, pair: Any) -> None:
    for step in range(11):
        dock.click(X + 10 * step, Y)
    table = dock.panel._number_table
    table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [row[0] for row in dock.numbers()] == list(range(11, 0, -1))
    table.sortByColumn(2, Qt.SortOrder.AscendingOrder)
    errors = [row[2] for row in dock.numbers()]
    assert errors == sorted(errors)
    table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    table.cellClicked.emit(10, 2)
    center = dock.canvas.extent().center()
    assert (center.x(), center.y()) == pytest.approx((X + 100, Y), abs=1)
    assert dock.canvas.extent().width() == pytest.approx(400, rel=0.3)


def test_the_window_mean_and_its_spread(dock: OpenDock, pair: Any) -> None:
    truth, _, values = pair
    dock.panel._controls._window.choose(2)
    curve = dock.hover(X, Y)[truth.id()].curve
    window = values[:, 8:13, 8:13].reshape(16, -1).astype(float)
    np.testing.assert_allclose(curve.values, window.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(curve.spread, window.std(axis=1), rtol=1e-9)
    assert curve.pixels == 25


def test_the_mean_of_the_selected_polygon(dock: OpenDock, pair: Any, qgis_iface: Any) -> None:
    truth, _, values = pair
    layer = QgsVectorLayer("Polygon?crs=EPSG:4326", "areas", "memory")
    feature = QgsFeature()
    area = QgsGeometry.fromRect(QgsRectangle(500050, 5799900, 500100, 5799970))
    from qgis.core import QgsCoordinateTransform

    area.transform(QgsCoordinateTransform(UTM, layer.crs(), QgsProject.instance()))
    feature.setGeometry(area)
    layer.dataProvider().addFeatures([feature])
    QgsProject.instance().addMapLayer(layer)
    qgis_iface.setActiveLayer(layer)
    dock.panel.pin_selected_polygon()
    assert "No polygon of the layer 'areas' is selected." in dock.panel._status.text()
    layer.selectAll()
    dock.panel.pin_selected_polygon()
    pin = dock.panel._pins.all()[-1]
    dock._wait(lambda: pin.readings[truth.id()].curve is not None)
    inside = values[:, 3:10, 5:10].reshape(16, -1)
    np.testing.assert_allclose(pin.readings[truth.id()].curve.values, inside.mean(axis=1), rtol=1e-12)
    assert pin.readings[truth.id()].curve.pixels == 35
    qgis_iface.setActiveLayer(truth)
    dock.panel.pin_selected_polygon()
    assert "Select a polygon" in dock.panel._status.text()
    assert len(dock.panel._pins.all()) == 1


def curves_in_plot(dock: OpenDock) -> Dict[Any, Tuple[np.ndarray, np.ndarray]]:
    return {key: items._line.getData() for key, items in dock.panel.plot._drawn.items()}


def test_the_axis_is_in_nm_where_all_curves_have_wavelengths(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path
) -> None:
    truth, _, values = pair
    dock.hover(X, Y)
    x, y = curves_in_plot(dock)[0, truth.id()]
    np.testing.assert_array_equal(x, 430 + 30 * np.arange(16))
    np.testing.assert_array_equal(y, values[:, 10, 10])
    assert [line.value() for line in dock.panel.plot._rgb_lines] == [640, 550, 460]
    dock.panel._controls._axis.choose(1)
    x, _ = curves_in_plot(dock)[0, truth.id()]
    np.testing.assert_array_equal(x, np.arange(1, 17))
    assert [line.value() for line in dock.panel.plot._rgb_lines] == [8, 5, 2]
    dock.panel._controls._axis.choose(0)
    unknown = dock.add(rasters.write(tmp_path / "unknown.tif", values[:6], None), "unknown")
    dock.settle()
    dock.hover(X, Y)
    x, _ = curves_in_plot(dock)[0, unknown.id()]
    np.testing.assert_array_equal(x, np.arange(1, 7))
    x, _ = curves_in_plot(dock)[0, truth.id()]
    np.testing.assert_array_equal(x, np.arange(1, 17))


def test_bad_and_nodata_bands_break_the_line(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    values[4, 10, 10] = 0
    path = rasters.write(tmp_path / "gaps.tif", values, nodata=0)
    dataset = gdal.Open(path, gdal.GA_Update)
    dataset.SetMetadata({"bbl": "{1,1,1,1,1,1,1,1,1,0,1,1,1,1,1,1}"}, "ENVI")
    del dataset
    layer = dock.add(path, "gaps")
    dock.show(layer.extent())
    dock.settle()
    dock.hover(X, Y)
    _, y = curves_in_plot(dock)[0, layer.id()]
    assert np.flatnonzero(np.isnan(y)).tolist() == [4, 9]


def test_uncertainty_is_a_ribbon_around_the_prediction(dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path) -> None:
    truth, prediction, values = pair
    sigma = np.full(values.shape, 25, np.float32)
    layer = dock.add(rasters.write(tmp_path / "sigma.tif", sigma), "uncertainty")
    dock.settle()
    dock.hover(X, Y)
    assert (0, layer.id()) not in curves_in_plot(dock)
    one, two = dock.panel.plot._drawn[0, prediction.id()]._ribbons
    middle = values[7, 10, 10] + 80
    assert one.path().contains(QPointF(640, middle + 24)) and not one.path().contains(QPointF(640, middle + 26))
    assert two.path().contains(QPointF(640, middle - 49)) and not two.path().contains(QPointF(640, middle - 51))
    assert not any(ribbon.isVisible() for ribbon in dock.panel.plot._drawn[0, truth.id()]._ribbons)


def test_roles_are_guessed_can_be_changed_and_come_back_with_the_project(
    dock: OpenDock, pair: Any, project: QgsProject, tmp_path: Path
) -> None:
    def shown() -> List[Tuple[str, str, bool]]:
        return [(one.name, one.role.value, one.chosen) for one in dock.panel._layers.all()]

    assert shown() == [("truth", "ground_truth", True), ("prediction", "prediction", True)]
    table = dock.panel._layer_table
    roles = table.cellWidget(0, 1)
    roles.setCurrentIndex(roles.findData("coarse_stage"))
    table.item(1, 0).setCheckState(Qt.CheckState.Unchecked)
    assert shown() == [("truth", "coarse_stage", True), ("prediction", "prediction", False)]
    assert project.isDirty()
    project.write(str(tmp_path / "project.qgz"))
    project.clear()
    assert shown() == []
    project.read(str(tmp_path / "project.qgz"))
    dock.settle()
    assert sorted(shown()) == [("prediction", "prediction", False), ("truth", "coarse_stage", True)]


def test_a_layer_that_comes_later_is_read_at_the_pins(dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path) -> None:
    _, _, values = pair
    pin = dock.click(X, Y)
    later = dock.add(rasters.write(tmp_path / "later.tif", values + 1), "later")
    dock._wait(lambda: later.id() in pin.readings and pin.readings[later.id()].curve is not None)
    np.testing.assert_array_equal(pin.readings[later.id()].curve.values, values[:, 10, 10] + 1)
    QgsProject.instance().removeMapLayer(later.id())
    assert len(pin.readings) == 2


def test_exports_hold_the_pins(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    import csv

    from qgis.PyQt.QtGui import QImage, QPainter
    from qgis.PyQt.QtSvg import QSvgRenderer

    truth, _, values = pair
    dock.panel.export("csv", str(tmp_path / "none.csv"))
    assert "There is no pin with a curve. Click on the map" in dock.panel._status.text()
    dock.click(X, Y)
    dock.click(X + 50, Y - 50)
    for kind in ("png", "svg", "csv", "sli"):
        dock.panel.export(kind, str(tmp_path / f"out.{kind}"))
        assert f"out.{kind}" in dock.panel._status.text()
    assert QImage(str(tmp_path / "out.png")).width() == 1600
    drawing = (tmp_path / "out.svg").read_text()
    renderer = QSvgRenderer(str(tmp_path / "out.svg"))
    image = QImage(renderer.defaultSize(), QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    paper = dock.panel.plot._paper().name()
    assert {image.pixelColor(x, y).name() for x, y in ((1, 1), (image.width() - 2, image.height() - 2))} == {paper}
    assert "<svg" in drawing and drawing.count("<path") + drawing.count("<polyline") >= 4
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 16
    values_of_truth = [float(row["value"]) for row in rows if row["layer"] == "truth" and row["pin"] == "1"]
    np.testing.assert_array_equal(values_of_truth, values[:, 10, 10])
    assert {row["crs"] for row in rows} == {"EPSG:32633"}
    dock.panel.export("png", str(tmp_path / "missing" / "out.png"))
    assert "could not be written" in dock.panel._status.text()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out.csv",
        "out.hdr",
        "out.png",
        "out.sli",
        "out.svg",
    ]


def test_pins_become_a_point_layer(dock: OpenDock, pair: Any) -> None:
    truth, _, values = pair
    dock.click(X, Y)
    own = QgsCoordinateReferenceSystem.fromProj("+proj=utm +zone=33 +datum=WGS84 +units=km")
    dock.show(QgsRectangle(500, 5799.6, 500.36, 5800), own)
    dock.click(X / 1000 + 0.05, Y / 1000)
    dock.panel.export("points")
    layer = QgsProject.instance().mapLayersByName("Spectral profile pins")[0]
    assert layer.crs() == UTM
    assert layer.featureCount() == 4
    second = next(feature for feature in layer.getFeatures() if feature["pin"] == 2).geometry().asPoint()
    assert (second.x(), second.y()) == pytest.approx((X + 50, Y), abs=3)
    features = {feature["layer"]: feature for feature in layer.getFeatures() if feature["pin"] == 1}
    assert set(features) == {"truth", "prediction"}
    point = features["truth"].geometry().asPoint()
    assert (point.x(), point.y()) == pytest.approx((X, Y), abs=3)
    assert features["truth"]["nm_640"] == values[7, 10, 10]
    assert features["prediction"]["role"] == "Prediction"
    assert layer.fields().count() == 3 + 16


def dialogs() -> List[Any]:
    return [widget for widget in QgsApplication.topLevelWidgets() if isinstance(widget, QDialog) and widget.isVisible()]


def test_outside_and_nodata_are_said_quietly(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    values[:, 10, 10] = 0
    layer = dock.add(rasters.write(tmp_path / "scene.tif", values, nodata=0), "scene")
    dock.show(QgsRectangle(499000, 5799000, 501000, 5801000))
    dock.settle()
    dock.hover(500015, 5799995)
    dock.hover(499500, 5800500)
    assert dock.states() == ["outside"]
    assert curves_in_plot(dock) == {}
    dock.show(layer.extent())
    dock.hover(X, Y)
    assert dock.states() == ["nodata"]
    pin = dock.click(X, Y)
    assert dock.numbers()[0][:2] == [pin.number, ""]
    assert dialogs() == []


def test_a_layer_removed_while_hovering(dock: OpenDock, pair: Any) -> None:
    truth, prediction, _ = pair
    for step in range(20):
        dock.move(X + step, Y)
    QgsProject.instance().removeMapLayer(truth.id())
    for step in range(20):
        dock.move(X + step, Y)
    readings = dock.hover(X, Y)
    assert set(readings) == {prediction.id()}
    assert dock.panel._layer_table.rowCount() == 1
    assert dialogs() == []


def test_a_file_deleted_under_the_layer(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    truth, prediction, _ = pair
    dock.hover(X, Y)
    (tmp_path / "truth.tif").unlink()
    readings = dock.hover(X, Y)
    assert readings[truth.id()].curve is None
    assert "truth.tif' is gone. Put it back, or remove the layer." in dock.states()[0]
    assert dock.states()[1] == "read"
    dock.hover(X, Y)
    assert "truth.tif' cannot be read as a raster." in dock.states()[0]
    assert dialogs() == []


def test_a_file_that_is_replaced_is_read_anew(dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path) -> None:
    truth, _, values = pair
    dock.hover(X, Y)
    rasters.write(tmp_path / "new.tif", values + 500)
    os.replace(tmp_path / "new.tif", tmp_path / "truth.tif")
    readings = dock.hover(X, Y)
    np.testing.assert_array_equal(readings[truth.id()].curve.values, values[:, 10, 10] + 500)


def test_rasters_without_a_coordinate_system_lie_in_the_maps(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    layer = dock.add(rasters.write(tmp_path / "plain.tif", values, crs=None), "plain")
    layer.setCrs(NO_CRS)
    dock.show(layer.extent(), NO_CRS)
    dock.settle()
    readings = dock.hover(10.5, -7.5)
    np.testing.assert_array_equal(readings[layer.id()].curve.values, values[:, 7, 10])
    dock.show(layer.extent(), UTM)
    readings = dock.hover(12.5, -3.5)
    np.testing.assert_array_equal(readings[layer.id()].curve.values, values[:, 3, 12])
    pin = dock.click(12.5, -3.5)
    assert pin.readings[layer.id()].curve is not None


def test_a_web_layer_says_that_it_has_no_file(dock: OpenDock, pair: Any) -> None:
    web = QgsRasterLayer("type=xyz&url=http://localhost:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=3", "tiles", "wms")
    QgsProject.instance().addMapLayer(web)
    dock.settle()
    assert "The layer 'tiles' comes from 'wms'" in dock.states()[2]
    dock.panel._layers.choose(web.id(), True)
    readings = dock.hover(X, Y)
    assert readings[web.id()].curve is None
    assert dock.states()[:2] == ["read", "read"] and "'wms'" in dock.states()[2]
    assert dialogs() == []


def test_complex_numbers_have_no_spectrum(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    dataset = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "complex.tif"), 36, 40, 6, gdal.GDT_CFloat32)
    system = osr.SpatialReference()
    system.ImportFromEPSG(32633)
    dataset.SetProjection(system.ExportToWkt())
    dataset.SetGeoTransform((500000.0, 10.0, 0.0, 5800000.0, 0.0, -10.0))
    del dataset
    layer = dock.add(str(tmp_path / "complex.tif"), "waves")
    dock.settle()
    assert "holds complex numbers" in dock.states()[2]
    assert layer.id() in dock.hover(X, Y)
    assert dock.states()[:2] == ["read", "read"]
    assert dialogs() == []


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
        assert dock.numbers()[0][2] == 7
        for kind in ("csv", "sli"):
            dock.panel.export(kind, str(tmp_path / f"out.{kind}"))
            assert (tmp_path / f"out.{kind}").stat().st_size > 0
        dock.panel.export("png", str(tmp_path / "out.png"))
        assert "needs pyqtgraph" in dock.panel._status.text()
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


def test_roles_are_readable_whenever_layers_come(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    table = dock.panel._layer_table
    dock.add(rasters.write(tmp_path / "one.tif", rasters.smooth()), "one")
    dock.settle()
    assert table.columnWidth(1) >= table.cellWidget(0, 1).sizeHint().width() > 0


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
