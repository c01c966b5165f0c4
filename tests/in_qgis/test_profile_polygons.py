"""Pins that are the mean of polygons, whatever the polygons and their coordinate systems are like."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

from tests.in_qgis.open_dock import NO_CRS, UTM, OpenDock, X, Y

WEB = QgsCoordinateReferenceSystem("EPSG:3857")
SQUARE = f"POLYGON(({X - 15} {Y - 15},{X + 15} {Y - 15},{X + 15} {Y + 15},{X - 15} {Y + 15},{X - 15} {Y - 15}))"
"""Three by three pixels around the place (X, Y)."""
BOW_TIE = f"POLYGON(({X - 15} {Y - 15},{X + 15} {Y + 15},{X + 15} {Y - 15},{X - 15} {Y + 15},{X - 15} {Y - 15}))"
NO_AREA = f"POLYGON(({X + 50} {Y},{X + 50} {Y},{X + 50} {Y},{X + 50} {Y}))"


def selected(wkts: Sequence[str], crs: QgsCoordinateReferenceSystem, drawn_in: Any = UTM) -> QgsVectorLayer:
    """Return a layer of polygons, all selected, that are given in UTM coordinates and kept in others."""
    layer = QgsVectorLayer("Polygon", "areas", "memory")
    layer.setCrs(crs)
    features = []
    for wkt in wkts:
        feature = QgsFeature()
        area = QgsGeometry.fromWkt(wkt)
        area.transform(QgsCoordinateTransform(UTM, drawn_in, QgsProject.instance()))
        feature.setGeometry(area)
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    layer.selectAll()
    return layer


def pin_of(dock: OpenDock, qgis_iface: Any, areas: QgsVectorLayer) -> Any:
    """Pin what is selected in a layer and return the pin once it has been read."""
    QgsProject.instance().addMapLayer(areas)
    qgis_iface.setActiveLayer(areas)
    dock.panel.pin_selected_polygon()
    assert "is the mean of what is selected" in dock.panel._status.text()
    pin = dock.panel._pins.all()[-1]
    dock._wait(lambda: all(reading.problem != "not read yet" for reading in pin.readings.values()))
    return pin


def assert_mean_of_the_square(pin: Any, layer: QgsRasterLayer, values: np.ndarray) -> None:
    reading = pin.readings[layer.id()]
    assert reading.problem == "" and reading.curve.pixels == 9
    np.testing.assert_allclose(reading.curve.values, values[:, 9:12, 9:12].mean(axis=(1, 2)), rtol=1e-12)


def test_a_raster_without_a_coordinate_system_lies_in_the_maps_under_a_polygon_that_has_one(
    dock: OpenDock, rasters: Any, tmp_path: Path, qgis_iface: Any
) -> None:
    values = rasters.smooth()
    layer = dock.add(rasters.write(tmp_path / "plain.tif", values), "plain")
    layer.setCrs(NO_CRS)
    dock.show(layer.extent())
    dock.settle()
    geographic = QgsCoordinateReferenceSystem("EPSG:4326")
    pin = pin_of(dock, qgis_iface, selected([SQUARE], geographic, geographic))
    assert_mean_of_the_square(pin, layer, values)
    dock.canvas.setExtent(QgsRectangle(0, 0, 1, 1))
    dock.panel._zoom_to(pin.number)
    center = dock.canvas.extent().center()
    assert (center.x(), center.y()) == pytest.approx((X, Y), abs=1)
    dock.canvas.setDestinationCrs(WEB)
    dock._wait(lambda: pin.readings[layer.id()].curve is None)
    dock.canvas.setDestinationCrs(UTM)
    dock._wait(lambda: pin.readings[layer.id()].curve is not None)
    assert_mean_of_the_square(pin, layer, values)


def test_a_polygon_without_a_coordinate_system_lies_in_the_maps(
    dock: OpenDock, rasters: Any, tmp_path: Path, qgis_iface: Any
) -> None:
    values = rasters.smooth()
    layer = dock.add(rasters.write(tmp_path / "scene.tif", values), "scene")
    to_web = QgsCoordinateTransform(UTM, WEB, QgsProject.instance())
    dock.show(to_web.transformBoundingBox(layer.extent()), WEB)
    dock.settle()
    pin = pin_of(dock, qgis_iface, selected([SQUARE], NO_CRS, WEB))
    assert_mean_of_the_square(pin, layer, values)
    assert {curve.crs for curve in dock.panel.pinned_curves()} == {"EPSG:3857"}


def test_polygons_that_cross_themselves_or_have_no_area_leave_the_others_selected(
    dock: OpenDock, rasters: Any, tmp_path: Path, qgis_iface: Any
) -> None:
    values = rasters.smooth()
    layer = dock.add(rasters.write(tmp_path / "scene.tif", values), "scene")
    dock.show(layer.extent())
    dock.settle()
    pin = pin_of(dock, qgis_iface, selected([BOW_TIE, SQUARE, NO_AREA], UTM))
    assert_mean_of_the_square(pin, layer, values)
    nothing = selected([NO_AREA], UTM)
    QgsProject.instance().addMapLayer(nothing)
    qgis_iface.setActiveLayer(nothing)
    dock.panel.pin_selected_polygon()
    assert dock.panel._status.text() == "No polygon of the layer 'areas' is selected."
    assert len(dock.panel._pins.all()) == 1
