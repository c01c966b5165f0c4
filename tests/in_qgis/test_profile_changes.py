"""Layers that change while the dock is open: what it shows and what its pins hold follow them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.PyQt.QtXml import QDomDocument

from tests.in_qgis.open_dock import UTM, OpenDock, X, Y


def values_at(pin: Any, layer: QgsRasterLayer) -> List[float]:
    """Return what a pin holds of a layer; nothing where it was not read there."""
    reading = pin.readings.get(layer.id())
    return [] if reading is None or reading.curve is None else list(reading.curve.values)


def test_a_layer_chosen_behind_the_docks_back_is_read_once(
    dock: OpenDock, rasters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rasters.smooth()
    layer = dock.add(rasters.write(tmp_path / "picture.tif", values[:3], None), "picture")
    dock.show(layer.extent())
    dock.settle()
    asked: List[Any] = []
    read = dock.panel._reader.pin
    monkeypatch.setattr(dock.panel._reader, "pin", lambda pin, places: (asked.append(pin), read(pin, places)))
    layer.setDataSource(rasters.write(tmp_path / "many.tif", values), "many", "gdal")
    dock.panel.pin(QgsPointXY(X, Y))
    (pin,) = dock.panel._pins.all()
    dock._wait(lambda: values_at(pin, layer) == list(values[:, 10, 10]))
    dock.hover(X, Y)
    assert dock.states() == ["read"] and len(asked) <= 3


def test_pins_are_read_again_when_a_layers_coordinate_system_changes(dock: OpenDock, pair: Any) -> None:
    truth, _, values = pair
    pin = dock.click(X, Y)
    assert dock.numbers()[0]["Ground truth"] == "truth"
    truth.setCrs(QgsCoordinateReferenceSystem("EPSG:32634"))
    dock._wait(lambda: pin.readings[truth.id()].problem == "outside")
    assert dock.numbers()[0]["Ground truth"] == "truth: outside"
    truth.setCrs(UTM)
    dock._wait(lambda: values_at(pin, truth) == list(values[:, 10, 10]))


def test_a_layer_whose_file_was_missing_at_first_is_read_once_it_is_back(
    dock: OpenDock, rasters: Any, tmp_path: Path
) -> None:
    values = rasters.smooth()
    layer = QgsRasterLayer(rasters.write(tmp_path / "truth.tif", values), "truth")
    (tmp_path / "truth.tif").rename(tmp_path / "away.tif")
    QgsProject.instance().addMapLayer(layer)
    dock.show(layer.extent())
    dock.settle()
    pin = dock.click(X, Y)
    assert "cannot be read as a raster." in dock.states()[0]
    assert "cannot be read as a raster." in dock.numbers()[0]["Ground truth"] + pin.readings[layer.id()].problem
    (tmp_path / "away.tif").rename(tmp_path / "truth.tif")
    dock.hover(X, Y)
    dock._wait(lambda: values_at(pin, layer) == list(values[:, 10, 10]))
    dock.settle()
    (known,) = dock.panel._layers.all()
    assert known.role.title == "Ground truth" and known.problem == ""
    assert dock.hover(X, Y) and dock.states() == ["read"]


def test_a_broken_layer_is_read_once_it_is_repaired(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    layer = dock.add(str(tmp_path / "nowhere.tif"), "truth")
    dock.settle()
    assert "cannot be read as a raster." in dock.states()[0]
    layer.setDataSource(rasters.write(tmp_path / "truth.tif", values), "truth", "gdal")
    dock._wait(lambda: dock.states() == [""])
    dock.settle()
    dock.show(layer.extent())
    assert dock.panel._layers.all()[0].role.title == "Ground truth"
    np.testing.assert_array_equal(dock.hover(X, Y)[layer.id()].curve.values, values[:, 10, 10])


def test_another_data_source_is_described_and_read_at_the_pins(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path
) -> None:
    truth, _, values = pair
    pin = dock.click(X, Y)
    truth.setDataSource(rasters.write(tmp_path / "other.tif", values[:8] + 3, None), "truth", "gdal")
    dock._wait(lambda: values_at(pin, truth) == list(values[:8, 10, 10] + 3.0))
    dock.settle()
    description = dock.panel._layers.all()[0].description
    assert (description.band_count, description.wavelengths_nm) == (8, None)


@pytest.mark.parametrize("hidden", [False, True])
def test_pins_and_roles_follow_a_file_that_is_replaced(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    truth, _, values = pair
    pins = [dock.click(X + 10 * step, Y) for step in range(4)]
    asked: List[Any] = []
    read = dock.panel._reader.pin
    monkeypatch.setattr(dock.panel._reader, "pin", lambda pin, places: (asked.append(pin), read(pin, places)))
    if hidden:
        dock.dock.hide()
    new = rasters.write(tmp_path / "new.tif", values + 500)
    dataset = gdal.Open(new, gdal.GA_Update)
    dataset.SetMetadata({"SCDM_MODEL": "m", "SCDM_PRODUCT": "coarse stage"})
    del dataset
    os.replace(new, tmp_path / "truth.tif")
    if hidden:
        dock.dock.pick.trigger()
    dock.hover(X, Y)
    expected = [list(values[:, 10, column] + 500.0) for column in range(10, 14)]
    dock._wait(lambda: [values_at(pin, truth) for pin in pins] == expected)
    dock.settle()
    assert asked == pins
    assert dock.panel._layers.all()[0].role.title == "Coarse stage"
    assert dock.panel._layers.all()[0].run == (("SCDM_MODEL", "m"),)


def test_a_renamed_layer_has_its_new_name_and_a_role_that_fits(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    layer = dock.add(rasters.write(tmp_path / "scene.tif", rasters.smooth()), "scene")
    dock.settle()
    table = dock.panel._layer_table
    assert (table.item(0, 0).text(), table.cellWidget(0, 1).currentText()) == ("scene", "Other")
    layer.setName("reference")
    dock._wait(lambda: table.item(0, 0).text() == "reference")
    assert table.cellWidget(0, 1).currentText() == "Ground truth"


def test_a_layer_is_heard_of_no_longer_when_it_or_the_dock_goes(dock: OpenDock, pair: Any) -> None:
    truth, prediction, _ = pair
    signals = ("nameChanged()", "crsChanged()", "dataSourceChanged()")

    def heard(layer: QgsRasterLayer) -> List[int]:
        return [layer.receivers(getattr(layer, signal[:-2])) for signal in signals]

    with_dock = [heard(layer) for layer in (truth, prediction)]
    without: List[List[int]] = []
    project = QgsProject.instance()

    def hear(_: List[str]) -> None:
        without.append(heard(truth))

    project.layersWillBeRemoved.connect(hear)  # after the dock, which is told first
    project.removeMapLayer(truth.id())
    project.layersWillBeRemoved.disconnect(hear)
    dock.plugin.unload()
    without.append(heard(prediction))
    assert len(without) == 2
    for before, now in zip(with_dock, without):
        assert all(fewer < more for fewer, more in zip(now, before))


def test_only_layers_in_the_tree_are_shown_whenever_they_came(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    from scdm_qgis.profile.layers import ProfileLayers

    project = QgsProject.instance()
    path = rasters.write(tmp_path / "scene.tif", rasters.smooth())
    hidden, grouped = QgsRasterLayer(path, "hidden"), QgsRasterLayer(path, "grouped")
    project.addMapLayer(hidden, False)
    project.addMapLayer(grouped, False)
    project.layerTreeRoot().addGroup("results").addGroup("inner").addLayer(grouped)
    dock.add(path, "scene")
    dock.settle()
    opened_now = ProfileLayers(project, dock.panel._reader)
    for layers in (dock.panel._layers, opened_now):
        assert sorted(layer.name for layer in layers.all()) == ["grouped", "scene"]
    opened_now.stop()
    assert dock.panel._layer_table.rowCount() == 2
    project.write(str(tmp_path / "project.qgz"))
    project.read(str(tmp_path / "project.qgz"))
    dock.settle()
    assert sorted(layer.name for layer in dock.panel._layers.all()) == ["grouped", "scene"]


def test_a_style_from_another_layer_brings_neither_its_role_nor_its_tick(dock: OpenDock, pair: Any) -> None:
    from scdm_qgis.profile.curves import Role

    truth, prediction, _ = pair
    dock.panel._layers.set_role(prediction.id(), Role.PREDICTION)
    dock.panel._layers.choose(prediction.id(), False)
    style = QDomDocument()
    prediction.exportNamedStyle(style)
    truth.importNamedStyle(style)
    dock.settle()
    one, other = dock.panel._layers.all()
    assert (one.name, one.role, one.chosen) == ("truth", Role.TRUTH, True)
    assert (other.name, other.role, other.chosen) == ("prediction", Role.PREDICTION, False)
    assert set(dock.hover(X, Y)) == {truth.id()}


def test_the_numbers_under_the_mouse_go_with_their_layer(dock: OpenDock, pair: Any) -> None:
    truth, prediction, _ = pair
    status = dock.panel._status
    dock.hover(X, Y)
    dock._wait(lambda: status.text().startswith("prediction against truth: SAM"))
    truth.setName("reference")
    dock._wait(lambda: status.text().startswith("prediction against reference: SAM"))
    QgsProject.instance().removeMapLayer(prediction.id())
    assert status.text() == ""
    dock.panel.export("csv", "")
    said = status.text()
    QgsProject.instance().removeMapLayer(truth.id())
    assert said and status.text() == said
