"""Which layers an algorithm takes, and in which forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from qgis.core import QgsProcessingException, QgsRasterLayer, QgsVectorLayer

Run = Callable[..., Dict[str, Any]]
Files = Dict[str, str]


@pytest.fixture
def web_layer() -> QgsRasterLayer:
    """Return a layer of map tiles from the web; nothing is fetched."""
    return QgsRasterLayer("type=xyz&url=http://localhost:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=3", "tiles", "wms")


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("simulate_rgb", "INPUT"), ("rgb_to_hyperspectral", "INPUT"), ("train_cascade_stage", "INPUTS")],
)
def test_a_web_layer_is_refused_with_the_way_out(
    run: Run, small_models: Files, web_layer: QgsRasterLayer, tmp_path: Path, name: str, parameter: str
) -> None:
    value = [web_layer] if parameter == "INPUTS" else web_layer
    parameters = {parameter: value, "STAGE": 1, "MODEL": small_models["cascade"], "OUTPUT": str(tmp_path / "out.tif")}
    with pytest.raises(QgsProcessingException) as caught:
        run(name, parameters)
    assert "The layer 'tiles' comes from 'wms', not from a file that GDAL reads. Save it as a GeoTIFF" in str(
        caught.value
    )


def test_a_vector_layer_is_refused(run: Run, tmp_path: Path) -> None:
    layer = QgsVectorLayer("Point", "points", "memory")
    with pytest.raises(QgsProcessingException) as caught:
        run("simulate_rgb", {"INPUT": layer, "OUTPUT": str(tmp_path / "out.tif")})
    assert "INPUT 'points' is not a raster layer." in str(caught.value)
