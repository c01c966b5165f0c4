"""What the dock writes, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
)
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QColor, QImage
from qgis.PyQt.QtWidgets import QFileDialog, QMessageBox

from tests.in_qgis.open_dock import UTM, OpenDock, X, Y


def test_exports_hold_the_pins(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    import csv

    from qgis.PyQt.QtGui import QPainter
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
    assert layer.fields().count() == 4 + 16


def test_a_pin_without_a_place_in_the_first_ones_system_is_named(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path
) -> None:
    dock.click(X, Y)
    world = rasters.write(tmp_path / "world.tif", rasters.smooth(), crs=4326)
    dataset = gdal.Open(world, gdal.GA_Update)
    dataset.SetGeoTransform((-180, 10, 0, 90, 0, -4.5))
    del dataset
    layer = dock.add(world, "world")
    dock.settle()
    dock.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    dock.panel.pin(QgsPointXY(105, 0))  # a quarter of the globe off the zone's meridian
    pin = dock.panel._pins.all()[-1]
    dock._wait(lambda: pin.readings[layer.id()].curve is not None)
    dock.panel.export("points")
    said = dock.panel._status.text()
    assert said.startswith("Pin 2 has no place in EPSG:32633") and "write a CSV table" in said
    assert QgsProject.instance().mapLayersByName("Spectral profile pins") == []


def widths_of(colour: QColor, path: Path, column: int) -> List[int]:
    """Return how many pixels each crossing of a picture's column with lines of a colour is high."""
    image = QImage(str(path))
    here = [_distance(image.pixelColor(column, y), colour) < 60 for y in range(image.height())]
    runs = "".join("x" if one else " " for one in here).split()
    return [len(run) for run in runs]


def _distance(one: QColor, other: QColor) -> int:
    return sum(abs(a - b) for a, b in zip(one.getRgb()[:3], other.getRgb()[:3]))


def test_a_picture_shows_the_pins_alone_with_lines_as_wide_as_its_text_is_large(
    dock: OpenDock, pair: Any, tmp_path: Path
) -> None:
    from scdm_qgis.profile import plot

    truth, _, _ = pair
    pin = dock.click(X, Y)
    dock.panel._layers.choose(truth.id(), False)
    dock.hover(X + 150, Y - 150)
    dock.panel.export("png", str(tmp_path / "pins.png"))
    assert 3 <= max(widths_of(pin.colour, tmp_path / "pins.png", 800)) <= 16  # higher where it is steep
    dock.panel._hovered = {}
    dock.panel._show_all()
    dock.panel.export("png", str(tmp_path / "without.png"))
    assert QImage(str(tmp_path / "pins.png")) == QImage(str(tmp_path / "without.png")), "the mouse left a curve"
    assert dock.panel.plot.getPlotItem().size() != plot._PICTURE.size(), "the dock has the picture's layout"


def test_what_is_under_the_mouse_is_written_where_nothing_is_pinned(dock: OpenDock, pair: Any, tmp_path: Path) -> None:
    dock.panel.export("png", str(tmp_path / "empty.png"))
    dock.hover(X, Y)
    dock.panel.export("png", str(tmp_path / "hovered.png"))
    assert QImage(str(tmp_path / "empty.png")) != QImage(str(tmp_path / "hovered.png"))


def test_axes_and_curves_of_a_drawing_fit_whatever_the_screens_resolution(
    dock: OpenDock, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re
    import sys
    from types import SimpleNamespace

    dock.click(X, Y)
    exporter = sys.modules["pyqtgraph.exporters.SVGExporter"]
    drawings = []
    for resolution in (96.0, 60.5):
        screen = SimpleNamespace(logicalDotsPerInchX=lambda resolution=resolution: resolution)
        application = SimpleNamespace(primaryScreen=lambda screen=screen: screen)
        gui = SimpleNamespace(**{**vars(exporter.QtGui), "QGuiApplication": application})
        monkeypatch.setattr(exporter, "QtGui", gui)
        dock.panel.export("svg", str(tmp_path / "out.svg"))
        drawing = (tmp_path / "out.svg").read_text()
        points = re.findall(r'points="([^"]*)"', drawing)
        drawings.append([np.array(re.split("[ ,]", one.strip()), float) for one in points])
    assert len(drawings[0]) == len(drawings[1]) > 10
    for one, other in zip(*drawings):
        np.testing.assert_allclose(one, other, atol=1)


def test_no_file_is_replaced_unasked(
    dock: OpenDock, pair: Any, rasters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dock.add(rasters.write(tmp_path / "other.tif", rasters.smooth(6)), "other")
    dock.settle()
    dock.panel._layers.choose(other.id(), True)
    dock.click(X, Y)
    asked: List[str] = []
    answer: Dict[str, Any] = {"button": QMessageBox.StandardButton.No}

    def question(parent: Any, title: str, text: str, *buttons: Any) -> Any:
        asked.append(text)
        return answer["button"]

    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "out"), ""))
    dock.panel.export("sli")
    assert asked == [] and (tmp_path / "out.sli").is_file() and (tmp_path / "out_2.hdr").is_file()
    (tmp_path / "out.sli").unlink()
    (tmp_path / "out.hdr").unlink()
    (tmp_path / "out_2.sli").write_text("dear")
    dock.panel.export("sli")
    assert len(asked) == 1 and "out_2.sli" in asked[0] and "out_2.hdr" in asked[0] and "out.sli" not in asked[0]
    assert (tmp_path / "out_2.sli").read_text() == "dear" and not (tmp_path / "out.sli").exists()
    answer["button"] = QMessageBox.StandardButton.Yes
    dock.panel.export("sli")
    assert (tmp_path / "out_2.sli").stat().st_size == 6 * 8


def test_a_drawing_that_pyqtgraph_cannot_make_is_said(
    dock: OpenDock, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyqtgraph.exporters

    from scdm_qgis.profile import plot

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("not enough values to unpack")

    dock.click(X, Y)
    monkeypatch.setattr(pyqtgraph.exporters.SVGExporter, "export", fail)
    dock.panel.export("svg", str(tmp_path / "out.svg"))
    assert "Save a PNG instead." in dock.panel._status.text()
    assert not (tmp_path / "out.svg").exists()
    assert dock.panel.plot.getPlotItem().size() != plot._PICTURE.size()
