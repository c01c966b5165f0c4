"""Layers that change while the dock is open: what it shows and what its pins hold follow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProject, QgsRasterLayer

from tests.in_qgis.open_dock import UTM, OpenDock, X, Y


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
    dock._wait(lambda: layer.id() in pin.readings and pin.readings[layer.id()].curve is not None)
    np.testing.assert_array_equal(pin.readings[layer.id()].curve.values, values[:, 10, 10])
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
    dock._wait(lambda: pin.readings[truth.id()].curve is not None)
    np.testing.assert_array_equal(pin.readings[truth.id()].curve.values, values[:, 10, 10])


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
