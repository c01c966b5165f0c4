"""Sample Spectral Profiles: the table against the rasters, and what is said of wrong input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from qgis.core import (
    NULL,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

Run = Callable[..., Dict[str, Any]]
PIXELS = [(3, 5), (10, 10), (39, 35)]


@pytest.fixture
def points() -> QgsVectorLayer:
    """Return a point in the middle of each of three pixels of the small rasters, one outside, in EPSG:4326."""
    utm = QgsCoordinateReferenceSystem("EPSG:32633")
    layer = QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory")
    to = QgsCoordinateTransform(utm, layer.crs(), QgsProject.instance())
    features = []
    for row, column in [*PIXELS, (400, 10)]:
        feature = QgsFeature()
        place = QgsPointXY(500000 + 10 * column + 5, 5800000 - 10 * row - 5)
        feature.setGeometry(QgsGeometry.fromPointXY(to.transform(place)))
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    return layer


def rows_of(path: str) -> List[Tuple[Any, ...]]:
    layer = QgsVectorLayer(path, "table", "ogr")
    assert layer.isValid() and not layer.isSpatial()
    names = ("point_id", "raster", "band", "wavelength", "value")
    return [tuple(feature[name] for name in names) for feature in layer.getFeatures()]


def test_the_table_holds_what_the_rasters_hold(run: Run, points: Any, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    values[2, 10, 10] = 0
    one = rasters.write(tmp_path / "one.tif", values, nodata=0)
    other = QgsRasterLayer(rasters.write(tmp_path / "other.tif", values[:3] + 1, None), "the other")
    QgsProject.instance().addMapLayer(other)
    try:
        inputs = {"POINTS": points, "INPUTS": [one, other.id()], "OUTPUT": str(tmp_path / "table.gpkg")}
        feedback = QgsProcessingFeedback()
        rows = rows_of(run("sample_spectral_profiles", inputs, feedback)["OUTPUT"])
    finally:
        QgsProject.instance().removeMapLayer(other.id())
    expected = []
    for number, (row, column) in enumerate(PIXELS, start=1):
        for band in range(16):
            value = values[band, row, column]
            expected.append((number, "one", band + 1, 430.0 + 30 * band, NULL if value == 0 else float(value)))
        for band in range(3):
            expected.append((number, "the other", band + 1, NULL, float(values[band, row, column] + 1)))
    assert rows == expected
    assert "one: points read 3, outside 1" in feedback.textLog()
    assert feedback.progress() == 100


def test_an_empty_table_is_pointed_out(run: Run, rasters: Any, tmp_path: Path) -> None:
    nowhere = QgsVectorLayer("Point?crs=EPSG:4326", "nowhere", "memory")
    nowhere.dataProvider().addFeatures([QgsFeature()])
    inputs = {"POINTS": nowhere, "INPUTS": [rasters.write(tmp_path / "one.tif", rasters.smooth())]}
    feedback = QgsProcessingFeedback()
    rows = rows_of(run("sample_spectral_profiles", {**inputs, "OUTPUT": str(tmp_path / "t.csv")}, feedback)["OUTPUT"])
    assert rows == []
    assert "The table is empty" in feedback.textLog()


def test_the_window_is_averaged(run: Run, points: Any, rasters: Any, tmp_path: Path) -> None:
    values = rasters.smooth()
    path = rasters.write(tmp_path / "one.tif", values)
    inputs = {"POINTS": points, "INPUTS": [path], "WINDOW": 3, "OUTPUT": str(tmp_path / "table.csv")}
    rows = rows_of(run("sample_spectral_profiles", inputs)["OUTPUT"])
    assert len(rows) == 3 * 16
    means = [float(row[4]) for row in rows[16:32]]
    np.testing.assert_allclose(means, values[:, 9:12, 9:12].reshape(16, -1).mean(axis=1), rtol=1e-9)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"WINDOW": 4}, "WINDOW 4 has no pixel in its middle. Give an odd number of pixels"),
        ({"INPUTS": ["/nowhere/none.tif"]}, "'/nowhere/none.tif' cannot be read as a raster."),
        ({"INPUTS": []}, "INPUTS"),
        ({"POINTS": "/nowhere/points.gpkg"}, "POINTS"),
    ],
)
def test_what_is_wrong_is_said_before_the_start(
    run: Run, points: Any, rasters: Any, tmp_path: Path, parameters: Dict[str, Any], sentence: str
) -> None:
    path = rasters.write(tmp_path / "one.tif", rasters.smooth())
    inputs = {"POINTS": points, "INPUTS": [path], "OUTPUT": str(tmp_path / "table.gpkg"), **parameters}
    with pytest.raises(QgsProcessingException) as caught:
        run("sample_spectral_profiles", inputs)
    assert sentence in str(caught.value)
    assert not (tmp_path / "table.gpkg").exists()


def test_a_web_layer_is_refused_with_the_way_out(run: Run, points: Any, tmp_path: Path) -> None:
    web = QgsRasterLayer("type=xyz&url=http://localhost:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=3", "tiles", "wms")
    inputs = {"POINTS": points, "INPUTS": [web], "OUTPUT": str(tmp_path / "table.gpkg")}
    with pytest.raises(QgsProcessingException) as caught:
        run("sample_spectral_profiles", inputs)
    assert "The layer 'tiles' comes from 'wms'" in str(caught.value)


@pytest.mark.parametrize("name", ["table.gpkg", "table.csv", "table.shp"])
def test_cancel_leaves_nothing(run: Run, points: Any, rasters: Any, tmp_path: Path, name: str) -> None:
    asked = []

    class Impatient(QgsProcessingFeedback):
        def setProgress(self, percent: float) -> None:
            asked.append(percent)
            if percent > 30:
                self.cancel()

    path = rasters.write(tmp_path / "one.tif", rasters.smooth())
    (tmp_path / "out").mkdir()
    output = str(tmp_path / "out" / name)
    from qgis.core import QgsApplication, QgsProcessingContext

    algorithm = QgsApplication.processingRegistry().createAlgorithmById("scdm:sample_spectral_profiles")
    algorithm.run({"POINTS": points, "INPUTS": [path], "OUTPUT": output}, QgsProcessingContext(), Impatient())
    assert asked == [25, 50]
    assert os.listdir(tmp_path / "out") == []


def test_no_raster_stays_open(run: Run, points: Any, rasters: Any, tmp_path: Path) -> None:
    path = rasters.write(tmp_path / "one.tif", rasters.smooth())
    run("sample_spectral_profiles", {"POINTS": points, "INPUTS": [path], "OUTPUT": str(tmp_path / "table.gpkg")})
    opened = [
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if name.isdigit() and os.path.islink(f"/proc/self/fd/{name}")
    ]
    assert path not in opened
