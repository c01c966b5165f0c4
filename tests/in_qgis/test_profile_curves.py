"""What the dock reads and draws under the mouse, and what its layers are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsProject, QgsRectangle
from qgis.PyQt.QtCore import QPointF, Qt
from qgis.PyQt.QtGui import QColor, QPalette
from qgis.PyQt.QtWidgets import QApplication

from tests.in_qgis.open_dock import UTM, OpenDock, X, Y


def test_hover_reads_the_pixel_under_the_mouse(dock: OpenDock, pair: Any) -> None:
    truth, prediction, values = pair
    readings = dock.hover(X, Y)
    np.testing.assert_array_equal(readings[truth.id()].curve.values, values[:, 10, 10])
    assert readings[prediction.id()].curve.values[0] == values[0, 10, 10] + 10
    assert dock.states() == ["read", "read"]
    dock._wait(lambda: "prediction against truth: SAM" in dock.panel._status.text())


def test_what_is_plotted_is_what_gdallocationinfo_says(dock: OpenDock, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    area = QgsRectangle(500000, 5799600, 500400, 5800000)
    kinds = {32633: (gdal.GDT_UInt16, 0.0), 4326: (gdal.GDT_Float32, -9999.0), 3035: (gdal.GDT_Int16, -32768.0)}
    nodata = {}
    for epsg, (kind, none) in kinds.items():
        crs = QgsCoordinateReferenceSystem(f"EPSG:{epsg}")
        box = QgsCoordinateTransform(UTM, crs, QgsProject.instance()).transformBoundingBox(area)
        path = str(tmp_path / f"{epsg}.tif")
        dataset = gdal.GetDriverByName("GTiff").Create(path, 37, 23, 6, kind)
        dataset.SetProjection(crs.toWkt())
        dataset.SetGeoTransform((box.xMinimum(), box.width() / 37, 0, box.yMaximum(), 0, -box.height() / 23))
        for number in range(1, 7):
            values = generator.integers(1, 3000, (23, 37)).astype(float)
            values[generator.random(values.shape) < 0.2] = none
            dataset.GetRasterBand(number).SetNoDataValue(none)
            dataset.GetRasterBand(number).WriteArray(values)
        del dataset
        nodata[dock.add(path, str(epsg)).id()] = (path, none)
    dock.show(area.buffered(20))
    dock.settle()
    places: List[Any] = []
    dock.panel.tool.moved.connect(places.append)
    gaps = without = 0
    for x, y in generator.uniform([499985, 5799585], [500415, 5800015], (100, 2)):
        dock.hover(x, y)
        curves = dock.curves()
        for layer_id, (path, none) in nodata.items():
            place = [repr(places[-1].x()), repr(places[-1].y())]
            command = ["gdallocationinfo", "-valonly", "-l_srs", "EPSG:32633", path, *place]
            said = subprocess.run(command, capture_output=True, text=True).stdout.split()
            expected = np.array([np.nan if float(value) == none else float(value) for value in said])
            plotted = curves[0, layer_id][1] if (0, layer_id) in curves else np.array([])
            np.testing.assert_array_equal(plotted, expected)
            gaps += int(np.isnan(expected).sum())
            without += not len(expected)
    assert gaps > 100 and 0 < without < 60


def test_the_axis_is_in_nm_where_all_curves_have_wavelengths(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path
) -> None:
    truth, _, values = pair
    dock.hover(X, Y)
    x, y = dock.curves()[0, truth.id()]
    np.testing.assert_array_equal(x, 430 + 30 * np.arange(16))
    np.testing.assert_array_equal(y, values[:, 10, 10])
    assert [line.value() for line in dock.panel.plot._rgb_lines] == [640, 550, 460]
    dock.panel._controls._axis.choose(1)
    x, _ = dock.curves()[0, truth.id()]
    np.testing.assert_array_equal(x, np.arange(1, 17))
    assert [line.value() for line in dock.panel.plot._rgb_lines] == [8, 5, 2]
    dock.panel._controls._axis.choose(0)
    unknown = dock.add(rasters.write(tmp_path / "unknown.tif", values[:6], None), "unknown")
    dock.settle()
    dock.hover(X, Y)
    x, _ = dock.curves()[0, unknown.id()]
    np.testing.assert_array_equal(x, np.arange(1, 7))
    x, _ = dock.curves()[0, truth.id()]
    np.testing.assert_array_equal(x, np.arange(1, 17))
    label = dock.panel.plot.getAxis("bottom").labelText
    assert label == "Band (unknown has no wavelengths)"


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
    _, y = dock.curves()[0, layer.id()]
    assert np.flatnonzero(np.isnan(y)).tolist() == [4, 9]


def test_uncertainty_is_a_ribbon_around_the_prediction(dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path) -> None:
    truth, prediction, values = pair
    sigma = np.full(values.shape, 25, np.float32)
    layer = dock.add(rasters.write(tmp_path / "sigma.tif", sigma), "uncertainty")
    dock.settle()
    dock.hover(X, Y)
    assert (0, layer.id()) not in dock.curves()
    one, two = dock.panel.plot._drawn[0, prediction.id()]._ribbons
    middle = values[7, 10, 10] + 80
    assert one.path().contains(QPointF(640, middle + 24)) and not one.path().contains(QPointF(640, middle + 26))
    assert two.path().contains(QPointF(640, middle - 49)) and not two.path().contains(QPointF(640, middle - 51))
    assert all(ribbon.path().isEmpty() for ribbon in dock.panel.plot._drawn[0, truth.id()]._ribbons)


def test_the_window_mean_and_its_spread(dock: OpenDock, pair: Any) -> None:
    truth, _, values = pair
    dock.panel._controls._window.choose(2)
    curve = dock.hover(X, Y)[truth.id()].curve
    window = values[:, 8:13, 8:13].reshape(16, -1).astype(float)
    np.testing.assert_allclose(curve.values, window.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(curve.spread, window.std(axis=1), rtol=1e-9)
    assert curve.pixels == 25


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


def test_roles_are_readable_whenever_layers_come(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    table = dock.panel._layer_table
    dock.add(rasters.write(tmp_path / "one.tif", rasters.smooth()), "one")
    dock.settle()
    assert table.columnWidth(1) >= table.cellWidget(0, 1).sizeHint().width() > 0


def test_another_theme_brings_another_ink(dock: OpenDock, pair: Any) -> None:
    dock.hover(X, Y)
    before = QApplication.palette()
    night = QPalette(before)
    night.setColor(QPalette.ColorRole.WindowText, QColor("#fedcba"))
    plot = dock.panel.plot
    try:
        QApplication.setPalette(night)
        dock._wait(lambda: plot.getPlotItem().getAxis("left").textPen().color().name() == "#fedcba")
        assert plot.getPlotItem().getAxis("bottom").pen().color().name() == "#fedcba"
        assert plot._legend._ink.name() == "#fedcba"
        assert {entry.pen.color().name() for entry in plot._legend._entries} == {"#fedcba"}
        assert {items._line.opts["pen"].color().name() for items in plot._drawn.values()} == {"#fedcba"}
    finally:
        QApplication.setPalette(before)
