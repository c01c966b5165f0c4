"""Layers that change while the dock is open: what it shows and what its pins hold follow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from qgis.core import QgsPointXY

from tests.in_qgis.open_dock import OpenDock, X, Y


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
