"""Layers and places the dock can read nothing of: a quiet, clear state each, and never a dialog."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from osgeo import gdal, osr
from qgis.core import (
    QgsApplication,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtWidgets import QDialog

from tests.in_qgis.open_dock import NO_CRS, UTM, OpenDock, X, Y


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
    assert dock.curves() == {}
    dock.show(layer.extent())
    dock.hover(X, Y)
    assert dock.states() == ["nodata"]
    pin = dock.click(X, Y)
    (row,) = dock.numbers()
    assert (row["Pin"], row["SAM (°)"]) == (str(pin.number), "")
    assert (row["Prediction"], row["Ground truth"]) == ("none chosen", "none chosen")
    assert dock.panel._layers.all()[0].role.title == "Other"
    table = dock.panel._layer_table
    table.cellWidget(0, 1).setCurrentIndex(table.cellWidget(0, 1).findData("ground_truth"))
    assert dock.numbers()[0]["Ground truth"] == "scene: nodata"
    assert dock.panel._number_table.item(0, 1).toolTip() == "Prediction: none chosen\nGround truth: scene: nodata"
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


def test_a_pin_is_read_again_when_its_file_is_back(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    truth, _, values = pair
    dock.hover(X, Y)
    (tmp_path / "truth.tif").rename(tmp_path / "away.tif")
    pin = dock.click(X, Y)
    assert pin.readings[truth.id()].curve is None
    assert dock.numbers()[0]["Ground truth"].startswith("truth: The file")
    (tmp_path / "away.tif").rename(tmp_path / "truth.tif")
    dock.hover(X + 10, Y)
    dock._wait(lambda: pin.readings[truth.id()].curve is not None)
    np.testing.assert_array_equal(pin.readings[truth.id()].curve.values, values[:, 10, 10])
    assert dock.numbers()[0]["Ground truth"] == "truth"


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


@pytest.mark.parametrize("what", ["__init__", "read_window"])
def test_a_raster_that_fails_in_an_unforeseen_way_leaves_the_others_readable(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from scdm_qgis.profile.reader import PixelReader

    whole = getattr(PixelReader, what)
    odd_path = rasters.write(tmp_path / "odd.tif", rasters.smooth())

    def fail(reader: Any, *given: Any) -> Any:
        if odd_path == (given[0] if what == "__init__" else reader.summary.path):
            raise ValueError("not what it seems")
        return whole(reader, *given)

    monkeypatch.setattr(PixelReader, what, fail)
    odd = dock.add(odd_path, "odd")
    dock.settle()
    readings = dock.hover(X, Y)
    assert dock.states()[:2] == ["read", "read"]
    assert readings[odd.id()].problem.startswith(f"'{odd_path}' cannot be read (not what it seems).")
    pin = dock.click(X, Y)
    assert [layer_id for layer_id, reading in pin.readings.items() if reading.curve is None] == [odd.id()]
    assert dialogs() == []
