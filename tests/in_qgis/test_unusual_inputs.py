"""Inputs that look wrong and are not: they must work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Type

import numpy as np
from osgeo import gdal
from qgis.core import QgsProperty, QgsRasterLayer

Files = Dict[str, str]
Run = Callable[..., Dict[str, Any]]


def read(path: str) -> np.ndarray:
    return gdal.Open(path).ReadAsArray()


def train(run: Run, scene: str, output: Path) -> Dict[str, Any]:
    parameters = {
        "INPUTS": [scene],
        "STAGE": 1,
        "ITERATIONS": 2,
        "PATCH_SIZE": 16,
        "BATCH_SIZE": 1,
        "PRECISION": "float32",
    }
    return run("train_cascade_stage", {**parameters, "OUTPUT": str(output)})


def test_nan_and_infinite_pixels_are_nodata(run: Run, small_models: Files, rasters: Type[Any], tmp_path: Path) -> None:
    values = rasters.smooth().astype(np.float32)
    values[0, 3, 4] = np.nan
    values[7, 5, 6] = np.inf
    scene = rasters.write(tmp_path / "scene.tif", values)
    results = train(run, scene, tmp_path / "stage.safetensors")
    assert np.isfinite(results["FINAL_LOSS"])
    rgb = rasters.write(tmp_path / "rgb.tif", rasters.rgb_of(values), (640.0, 550.0, 460.0))
    output = str(tmp_path / "out.tif")
    run(
        "rgb_to_hyperspectral",
        {"INPUT": rgb, "MODEL": small_models["cascade"], "PRECISION": "float32", "OUTPUT": output},
    )
    dataset = gdal.Open(output)
    masked = dataset.GetRasterBand(1).GetMaskBand().ReadAsArray() == 0
    expected = np.zeros_like(masked)
    expected[5, 6] = True  # the NaN is in a band that is none of the three
    assert (masked == expected).all()


def test_names_may_have_spaces_and_any_letters(
    run: Run, small_models: Files, rasters: Type[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "Größe 例 'x' & y"
    folder.mkdir()
    values = rasters.smooth()
    rgb = rasters.write(folder / "Bild ä.tif", rasters.rgb_of(values), (640.0, 550.0, 460.0))
    model = folder / "Modell é.safetensors"
    model.write_bytes(Path(small_models["cascade"]).read_bytes())
    output = str(folder / "Ausgabe ö.tif")
    for source in (rgb, QgsRasterLayer(rgb, "Bild")):
        run("rgb_to_hyperspectral", {"INPUT": source, "MODEL": str(model), "PRECISION": "float32", "OUTPUT": output})
        assert read(output).shape == values.shape
        Path(output).unlink()


def test_a_raster_without_crs_works_with_an_extent(
    run: Run, small_models: Files, rasters: Type[Any], tmp_path: Path
) -> None:
    values = rasters.rgb_of(rasters.smooth())
    rgb = rasters.write(tmp_path / "rgb.tif", values, (640.0, 550.0, 460.0), crs=None)
    whole, part = str(tmp_path / "whole.tif"), str(tmp_path / "part.tif")
    parameters = {"INPUT": rgb, "MODEL": small_models["cascade"], "TILE_SIZE": 16, "OVERLAP": 4, "PRECISION": "float32"}
    run("rgb_to_hyperspectral", {**parameters, "OUTPUT": whole})
    # QGIS draws a raster without a place below the origin: rows 8 to 20, columns 4 to 10.
    run("rgb_to_hyperspectral", {**parameters, "EXTENT": "4,10,-20,-8", "OUTPUT": part})
    assert read(part).shape == (16, 12, 6)
    assert np.abs(read(part).astype(int) - read(whole)[:, 8:20, 4:10]).max() <= 1


def test_an_extent_is_given_in_any_crs(run: Run, small_models: Files, tmp_path: Path) -> None:
    output = str(tmp_path / "part.tif")
    extent = "500050,500150,5799800,5799900 [EPSG:32633]"
    run(
        "rgb_to_hyperspectral",
        {
            "INPUT": small_models["rgb"],
            "MODEL": small_models["cascade"],
            "PRECISION": "float32",
            "EXTENT": extent,
            "OUTPUT": output,
        },
    )
    dataset = gdal.Open(output)
    assert (dataset.RasterXSize, dataset.RasterYSize) == (10, 10)
    assert dataset.GetGeoTransform() == (500050.0, 10.0, 0.0, 5799900.0, 0.0, -10.0)


def test_band_numbers_may_be_a_list(run: Run, small_models: Files, tmp_path: Path) -> None:
    output = str(tmp_path / "rgb.tif")
    run("simulate_rgb", {"INPUT": small_models["scene"], "RGB_BANDS": [3, 2, 1], "OUTPUT": output})
    assert (read(output) == read(small_models["scene"])[[2, 1, 0]]).all()


def test_values_may_be_expressions(run: Run, tmp_path: Path) -> None:
    """As the model designer's data-defined parameters are."""
    output = str(tmp_path / "scene.tif")
    run("create_demo_scene", {"SIZE": QgsProperty.fromExpression("16 * 2"), "BANDS": 8, "OUTPUT": output})
    assert read(output).shape == (8, 32, 32)
