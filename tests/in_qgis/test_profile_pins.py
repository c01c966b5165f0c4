"""Pins: set, compared in the table, marked on the map, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QPointF, Qt
from qgis.PyQt.QtGui import QColor, QImage, QKeyEvent, QPainter
from qgis.PyQt.QtTest import QTest

from tests.in_qgis.open_dock import UTM, OpenDock, X, Y


def markers(dock: OpenDock) -> List[Any]:
    from scdm_qgis.profile.pin_marker import PinMarker

    return [item for item in dock.canvas.scene().items() if isinstance(item, PinMarker)]


def pins_in_table(dock: OpenDock) -> List[int]:
    return [int(row["Pin"]) for row in dock.numbers()]


def test_a_click_pins_and_the_numbers_are_those_of_the_evaluation(dock: OpenDock, pair: Any) -> None:
    from scdm_qgis.core.metrics import evaluate

    _, _, values = pair
    dock.click(X, Y)
    dock.click(X + 50, Y)
    spectrum = values[:, 10, 10].astype(float)
    higher = spectrum + 10 * np.arange(1, 17)
    expected = evaluate(higher[:, None, None], spectrum[:, None, None], np.ones((1, 1), bool), 1.0)
    first, second = dock.numbers()
    assert list(first.values())[1:] == [
        f"{np.degrees(expected.sam):.3f}",
        f"{expected.rmse:.5g}",
        "160",
        "880.0",
        "16",
        "1 x 1",
        "prediction",
        "truth",
    ]
    assert (first["Pin"], second["Pin"]) == ("1", "2")
    dock.show(QgsRectangle(X - 100, Y - 100, X + 100, Y + 100))
    for marker in markers(dock):
        place = dock.pixel(marker.center().x(), marker.center().y())
        assert (marker.pos().x(), marker.pos().y()) == pytest.approx((place.x(), place.y()), abs=1)
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
    assert pins_in_table(dock) == [1, 3]
    assert len(markers(dock)) == 2
    assert table.selected_pins() == [], "another pin took the place of the removed one"
    dock.panel._controls.removal_asked.emit()
    assert pins_in_table(dock) == [1, 3]
    dock.panel._controls.clearing_asked.emit()
    assert dock.numbers() == [] and markers(dock) == []
    assert dock.click(X, Y).number == 1


def test_the_selection_follows_its_pins(dock: OpenDock, pair: Any) -> None:
    for step in range(4):
        dock.click(X + 30 * step, Y)
    table = dock.panel._number_table
    table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    table.selectRow(1)
    assert table.selected_pins() == [3]
    dock.click(X, Y + 30)
    assert pins_in_table(dock) == [5, 4, 3, 2, 1]
    assert table.selected_pins() == [3]
    for code in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):  # a Mac's delete key is the second
        key = QKeyEvent(QEvent.Type.ShortcutOverride, code, Qt.KeyboardModifier.NoModifier)
        key.ignore()
        QCoreApplication.sendEvent(table, key)
        assert key.isAccepted(), "QGIS would delete features"
    QTest.keyClick(table, Qt.Key.Key_Delete)
    assert pins_in_table(dock) == [5, 4, 2, 1]
    dock.panel._number_table.show_rows([])
    dock.panel._show_numbers()
    assert pins_in_table(dock) == [5, 4, 2, 1] and table.selected_pins() == []
    table.selectRow(0)
    QTest.keyClick(table, Qt.Key.Key_Backspace)
    assert pins_in_table(dock) == [4, 2, 1]


def test_curves_of_an_earlier_pin_are_not_taken_for_those_of_a_new_one_with_its_number(
    dock: OpenDock, pair: Any
) -> None:
    truth, _, values = pair
    earlier = dock.click(X, Y)
    readings = dict(earlier.readings)
    dock.panel._controls.clearing_asked.emit()
    pin = dock.click(X + 50, Y)
    assert pin.number == earlier.number == 1
    dock.panel._reader.pinned.emit(earlier, readings)
    np.testing.assert_array_equal(pin.readings[truth.id()].curve.values, values[:, 10, 15])


def test_a_marker_shows_the_pins_number_and_colour_on_any_ground(dock: OpenDock, pair: Any) -> None:
    pin = dock.click(X, Y)
    (marker,) = markers(dock)
    picture = QImage(60, 60, QImage.Format.Format_RGB32)
    for ground in (Qt.GlobalColor.black, Qt.GlobalColor.white, pin.colour):
        picture.fill(ground)
        painter = QPainter(picture)
        painter.translate(20, 40)
        marker.paint(painter)
        painter.end()
        colours = {picture.pixelColor(x, y).name() for x in range(60) for y in range(60)}
        assert pin.colour.name() in colours and len(colours) > 2
        bare = QColor(ground).name()
        drawn = [(x, y) for x in range(60) for y in range(60) if picture.pixelColor(x, y).name() != bare]
        assert any(x > 28 and y < 40 for x, y in drawn), "no number beside the cross"
        assert all(marker.boundingRect().translated(20, 40).contains(QPointF(x, y)) for x, y in drawn)


def test_the_table_is_sorted_by_numbers_and_a_click_on_a_row_goes_to_the_pin(dock: OpenDock, pair: Any) -> None:
    for step in range(11):
        dock.click(X + 10 * step, Y)
    table = dock.panel._number_table
    table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert pins_in_table(dock) == list(range(11, 0, -1))
    table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    angles = [float(row["SAM (°)"]) for row in dock.numbers()]
    assert angles == sorted(angles)
    table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    place = table.visualItemRect(table.item(10, 2)).center()
    before = dock.canvas.extent()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, place)
    assert table.selected_pins() == [11] and dock.canvas.extent() == before
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    center = dock.canvas.extent().center()
    assert (center.x(), center.y()) == pytest.approx((X + 100, Y), abs=1)
    assert dock.canvas.extent().width() == pytest.approx(400, rel=0.3)


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
    assert dock.panel._status.text() == "Pin 1 is the mean of what is selected in 'areas'."
    assert dock.numbers()[0]["Window"] == "polygon"
    qgis_iface.setActiveLayer(truth)
    dock.panel.pin_selected_polygon()
    assert "Select a polygon" in dock.panel._status.text()
    assert len(dock.panel._pins.all()) == 1


def test_a_layer_that_comes_later_is_read_at_the_pins(dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path) -> None:
    _, _, values = pair
    pin = dock.click(X, Y)
    later = dock.add(rasters.write(tmp_path / "later.tif", values + 1), "later")
    dock._wait(lambda: later.id() in pin.readings and pin.readings[later.id()].curve is not None)
    np.testing.assert_array_equal(pin.readings[later.id()].curve.values, values[:, 10, 10] + 1)
    QgsProject.instance().removeMapLayer(later.id())
    assert len(pin.readings) == 2


def test_numbers_of_any_size_are_shown(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth().astype(np.float32) / 10000
    other = values + np.float32(0.0123)
    other[:, 20, 20] = -3.4e38
    truth = dock.add(rasters.write(tmp_path / "truth.tif", values), "truth")
    dock.add(rasters.write(tmp_path / "prediction.tif", other), "prediction")
    dock.show(truth.extent())
    dock.settle()
    dock.click(X, Y)
    dock.click(X + 100, Y - 100)
    first, second = dock.numbers()
    assert float(first["RMSE"]) == pytest.approx(0.0123, rel=1e-3)
    assert float(second["RMSE"]) == pytest.approx(3.4e38, rel=1e-3)


def test_spectra_without_a_common_band_are_said_to_have_none(dock: OpenDock, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    truth = dock.add(rasters.write(tmp_path / "truth.tif", values[:6], [430 + 30 * i for i in range(6)]), "truth")
    far = [1430 + 30 * i for i in range(6)]
    dock.add(rasters.write(tmp_path / "prediction.tif", values[:6], far), "prediction")
    dock.show(truth.extent())
    dock.settle()
    dock.click(X, Y)
    (row,) = dock.numbers()
    assert (row["SAM (°)"], row["Prediction"], row["Ground truth"]) == ("", "prediction", "truth (no band in common)")


def test_the_legend_names_layers_before_pins_where_room_is_scarce(dock: OpenDock, pair: Any) -> None:
    dock.click(X, Y)
    legend = dock.panel.plot._legend
    legend.fit(1000, 100)
    assert [entry.text for entry in legend._entries] == ["truth (ground truth)", "prediction", "Pin 1"]
    assert len(legend._corners) == 3 and legend.minimumHeight() == 16
    legend.fit(120, 40)
    assert len(legend._corners) == 2 and legend.minimumHeight() == 32
    legend.fit(1000, 10)
    assert legend._corners == [] and legend.minimumHeight() == 0
