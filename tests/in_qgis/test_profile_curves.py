"""What the dock reads and draws under the mouse, and what its layers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsProject,
)
from qgis.PyQt.QtCore import QPointF, Qt

from tests.in_qgis.open_dock import OpenDock, X, Y


def test_hover_reads_the_pixel_under_the_mouse(dock: OpenDock, pair: Any) -> None:
    truth, prediction, values = pair
    readings = dock.hover(X, Y)
    np.testing.assert_array_equal(readings[truth.id()].curve.values, values[:, 10, 10])
    assert readings[prediction.id()].curve.values[0] == values[0, 10, 10] + 10
    assert dock.states() == ["read", "read"]
    dock._wait(lambda: "prediction against truth: SAM" in dock.panel._status.text())


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
