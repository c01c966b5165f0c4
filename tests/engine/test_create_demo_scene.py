"""The demo scene: physically sensible, the same for the same seed, whatever the strips."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import create_demo_scene
from scdm_qgis.engine.demo_scene import DemoScene
from scdm_qgis.engine.demo_spectra import MATERIALS, band_centres, material_spectra
from scdm_qgis.engine.events import EventWriter, parse_event
from scdm_qgis.engine.jobs import CreateDemoScene
from scdm_qgis.raster.cube import open_cube


def create(**settings: object) -> io.StringIO:
    log = io.StringIO()
    create_demo_scene.run(CreateDemoScene(**settings), EventWriter(log))  # type: ignore[arg-type]
    return log


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of seeds 0 and 1, 128 x 128 x 48, the first with its RGB image."""
    folder = tmp_path_factory.mktemp("scenes")
    create(output=str(folder / "0.tif"), rgb_output=str(folder / "0_rgb.tif"), size=128, seed=0)
    create(output=str(folder / "1.tif"), size=128, seed=1)
    return folder


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read().astype(np.float64)


def spectra() -> Dict[str, np.ndarray]:
    """Both ends of each material's variation, (2, band) with 10 nm bands from 400 to 1000 nm."""
    ends = material_spectra(np.arange(400, 1001, 10.0), 10.0)
    return {name: ends[:, index] for index, name in enumerate(MATERIALS)}


def at(spectrum: np.ndarray, nm: int) -> np.ndarray:
    return spectrum[..., (nm - 400) // 10]


@pytest.mark.parametrize("name", ["grass", "crop", "broadleaf tree", "conifer"])
def test_vegetation_has_green_peak_red_absorption_and_red_edge(name: str) -> None:
    plant = spectra()[name]
    assert (at(plant, 550) > at(plant, 490)).all() and (at(plant, 550) > at(plant, 670)).all()
    assert ((at(plant, 850) - at(plant, 670)) / (at(plant, 850) + at(plant, 670)) > 0.5).all()
    steepest = 400 + 10 * np.argmax(np.diff(plant, axis=1), axis=1)
    assert ((steepest >= 690) & (steepest <= 740)).all()


def test_materials_that_look_alike_differ_beyond_red() -> None:
    of = spectra()
    for one, other in (("grass", "artificial turf"), ("water", "blue roof")):
        gap = np.abs(of[one][0] - of[other][0])
        assert max(at(gap, 640), at(gap, 550), at(gap, 460)) < 0.012
        assert at(gap, 850) > 0.15


def test_all_spectra_are_reflectances_and_smooth() -> None:
    ends = material_spectra(*band_centres(121))
    assert ends.min() > 0 and ends.max() < 0.7
    assert np.abs(np.diff(ends, axis=2)).max() < 0.05  # within 5 nm, on the red edge
    assert np.abs(np.diff(ends, n=2, axis=2)).max() < 0.02


def test_water_is_dark_in_the_infrared() -> None:
    assert (at(spectra()["water"], 850) < 0.03).all()


def test_file_says_where_and_what_it_is(scene_folder: Path) -> None:
    with rasterio.open(scene_folder / "0.tif") as dataset:
        assert dataset.shape == (128, 128) and dataset.count == 48
        assert set(dataset.dtypes) == {"uint16"} and dataset.nodata == 65535
        assert dataset.crs == rasterio.crs.CRS.from_epsg(32633)
        west, across, _, north, _, down = dataset.transform.to_gdal()
        assert (across, down) == (1.0, -1.0)
        assert 300_000 < west < 400_000 and 5_700_000 < north < 5_900_000
        assert dataset.dataset_mask().all()
    with open_cube(str(scene_folder / "0.tif")) as cube:
        assert cube.spectrum.wavelengths_nm == pytest.approx(np.linspace(400, 1000, 48), abs=1e-5)
        assert cube.spectrum.fwhm_nm == pytest.approx([600 / 47] * 48, abs=1e-5)


def test_rgb_image_is_the_three_bands_that_simulate_rgb_takes(scene_folder: Path) -> None:
    cube, rgb = read(scene_folder / "0.tif"), read(scene_folder / "0_rgb.tif")
    centres, _ = band_centres(48)
    nearest = [int(np.argmin(np.abs(centres - nm))) for nm in (640, 550, 460)]
    assert np.array_equal(rgb, cube[nearest])
    with rasterio.open(scene_folder / "0_rgb.tif") as dataset:
        assert [colour.name for colour in dataset.colorinterp] == ["red", "green", "blue"]


def test_scene_has_plants_water_and_bare_ground(scene_folder: Path) -> None:
    for name in ("0.tif", "1.tif"):
        cube = read(scene_folder / name) / 10_000
        centres, _ = band_centres(48)
        red, infrared = cube[np.argmin(np.abs(centres - 670))], cube[np.argmin(np.abs(centres - 850))]
        ndvi = (infrared - red) / np.maximum(infrared + red, 0.01)
        assert 0.15 < (ndvi > 0.5).mean() < 0.85
        assert (ndvi[infrared > 0.3] > 0.5).any() and (ndvi[infrared > 0.3] < 0.2).any()
        assert ((infrared < 0.04) & (red < 0.08)).mean() > 0.01


def test_neighbouring_bands_and_pixels_are_alike(scene_folder: Path) -> None:
    cube = read(scene_folder / "0.tif")
    correlation = [np.corrcoef(cube[band].ravel(), cube[band + 1].ravel())[0, 1] for band in range(47)]
    assert min(correlation) > 0.9
    middle = cube[24]
    assert np.corrcoef(middle[:, :-1].ravel(), middle[:, 1:].ravel())[0, 1] > 0.7


def test_noise_grows_towards_the_ends_of_the_spectrum(scene_folder: Path) -> None:
    cube = read(scene_folder / "0.tif")
    centres, _ = band_centres(48)
    bend = cube[2:] - 2 * cube[1:-1] + cube[:-2]  # smooth spectra leave little but noise
    noise = np.median(np.abs(bend), axis=(1, 2))
    inner = centres[1:-1]
    assert noise[(inner > 560) & (inner < 660)].mean() * 2 < min(noise[0], noise[-1])


def test_same_seed_same_scene_other_seed_other_scene(scene_folder: Path, tmp_path: Path) -> None:
    create(output=str(tmp_path / "again.tif"), size=128, seed=0)
    first, second = read(scene_folder / "0.tif"), read(scene_folder / "1.tif")
    assert np.array_equal(read(tmp_path / "again.tif"), first)
    assert (first[20] != second[20]).mean() > 0.9
    assert abs(np.corrcoef(first[20].ravel(), second[20].ravel())[0, 1]) < 0.5
    # The same materials: on average the two places look alike.
    assert np.corrcoef(first.mean(axis=(1, 2)), second.mean(axis=(1, 2)))[0, 1] > 0.95


def test_scene_does_not_depend_on_the_strips() -> None:
    scene = DemoScene(96, *band_centres(6), seed=5)
    whole = scene.reflectance(0, 96)
    parts = np.concatenate([scene.reflectance(0, 17), scene.reflectance(17, 40), scene.reflectance(57, 39)], axis=1)
    assert np.array_equal(whole, parts)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    log = create(output=str(tmp_path / "x.tif"), size=130, bands=4)
    percents = [event["percent"] for event in map(parse_event, log.getvalue().splitlines()) if event]
    assert percents == sorted(percents) and percents[-1] == 100


@pytest.mark.parametrize(("crs", "pixel"), [("EPSG:25833", 1.0), ("EPSG:4326", 1e-5)])
def test_other_crs(tmp_path: Path, crs: str, pixel: float) -> None:
    create(output=str(tmp_path / "x.tif"), size=16, bands=4, crs=crs)
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.crs == rasterio.crs.CRS.from_user_input(crs)
        west, across, _, north, _, down = dataset.transform.to_gdal()
        assert (across, down) == pytest.approx((pixel, -pixel))
        (longitude,), (latitude,) = transform(dataset.crs, "EPSG:4326", [west], [north])
        assert (longitude, latitude) == pytest.approx((13.0, 52.4), abs=0.01)


@pytest.mark.parametrize("crs", ["EPSG:5773", "EPSG:4978", 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_a_crs_that_is_no_map_is_an_error(tmp_path: Path, crs: str) -> None:
    with pytest.raises(UserError, match="does not reach the demo scene's place"):
        create(output=str(tmp_path / "x.tif"), size=16, crs=crs)
    assert os.listdir(tmp_path) == []


def test_unknown_crs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CRS 'nonsense' is unknown"):
        create(output=str(tmp_path / "x.tif"), size=16, crs="nonsense")
    assert os.listdir(tmp_path) == []


def test_too_few_bands_for_rgb_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="BANDS to 8"):
        create(output=str(tmp_path / "x.tif"), rgb_output=str(tmp_path / "rgb.tif"), size=16, bands=4)
    assert os.listdir(tmp_path) == []
    create(output=str(tmp_path / "x.tif"), rgb_output=str(tmp_path / "rgb.tif"), size=16, bands=8)
    assert sorted(os.listdir(tmp_path)) == ["rgb.tif", "x.tif"]
