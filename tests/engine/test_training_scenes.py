import numpy as np
import pytest
import torch

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.training_scenes import (
    ScenePatches,
    choose_bands,
    load_scene,
    measure_normalisation,
    output_policy,
    split_scene,
)
from scdm_qgis.raster.cube import open_cube

CPU = torch.device("cpu")


def counting_cube(bands=6, height=100, width=40):
    """Return values that tell band, row and column apart."""
    band, row, column = np.mgrid[1 : bands + 1, :height, :width]
    return (1000 * band + 10 * row + column % 10).astype(np.uint16)


def with_wavelengths(dataset):
    for band in range(1, dataset.count + 1):
        dataset.update_tags(band, wavelength=str(400 + 50 * band), wavelength_units="Nanometers")


def load(path, bands=None, rgb="3,2,1", fraction=0.15, patch_size=16):
    with open_cube(path) as cube:
        chosen = choose_bands([cube], bands, rgb)
    return load_scene(path, chosen, fraction, patch_size), chosen


def test_bands_that_are_bad_or_empty_are_left_out(make_raster):
    values = counting_cube()
    values[4] = 0

    def change(dataset):
        with_wavelengths(dataset)
        dataset.update_tags(ns="ENVI", bbl="{1,0,1,1,1,1}")

    path = make_raster(values, nodata=0, change=change)
    with open_cube(path) as cube:
        bands = choose_bands([cube], None, None)
        assert bands.target == (1, 3, 4, 6)
        # 640, 550 and 460 nm: 550 itself is band 3; 450 is band 1; 650 is empty, so 600 stands for red.
        assert bands.rgb == (4, 3, 1)
        assert bands.wavelengths_nm[3] == 550
        with pytest.raises(UserError, match="Band 5 has no valid pixel"):
            choose_bands([cube], "1-6", None)
        assert choose_bands([cube], "1,2,3", "3,2,1").target == (1, 2, 3)


def test_rasters_must_have_the_same_bands_and_type(make_raster):
    paths = [
        make_raster(counting_cube(), "a.tif"),
        make_raster(counting_cube(5), "b.tif"),
        make_raster(counting_cube().astype(np.float32), "c.tif"),
    ]
    cubes = [open_cube(path) for path in paths]
    with pytest.raises(UserError) as error:
        choose_bands(cubes[:2], None, "1,2,3")
    for part in ("a.tif", "b.tif", "6 bands", "5"):
        assert part in error.value.message
    with pytest.raises(UserError, match="uint16.*float32"):
        output_policy([cubes[0], cubes[2]])


@pytest.mark.parametrize(("height", "width"), [(200, 60), (60, 200)])
def test_no_patch_touches_the_hold_out_or_its_guard(make_raster, height, width):
    scene, bands = load(make_raster(counting_cube(height=height, width=width)), fraction=0.2, patch_size=16)
    held = scene.hold_out
    long_side, held_side, trained_side = (
        (height, held.height, scene.training.height) if height > width else (width, held.width, scene.training.width)
    )
    assert held_side == 40
    assert trained_side == long_side - 40 - 8
    assert max(held.row + held.height, held.column + held.width) == long_side
    normalisation = measure_normalisation([scene], bands)
    scene.values[:] = 5
    scene.values[(slice(None), *held.slices)] = 9
    patches = ScenePatches([scene], bands.target, bands.rgb, bands.all, normalisation, 16, True, 0, CPU)
    assert all(
        torch.equal(batch.target, torch.full_like(batch.target, batch.target[0, 0, 0, 0])) for batch in cuts(patches)
    )
    held_values = np.concatenate([values.ravel() for values, _ in patches.hold_out_blocks()])
    assert (held_values == 9).all()
    assert held_values.size == 6 * held.height * held.width


def cuts(patches):
    return [patches(8) for _ in range(50)]


def test_small_scenes_are_trained_on_as_a_whole():
    valid = np.ones((40, 40), bool)
    training, held = split_scene(valid, 0.15, 32)
    assert held is None
    assert (training.height, training.width) == (40, 40)
    assert split_scene(np.ones((400, 40), bool), 0.0, 32)[1] is None


def test_a_hold_out_without_data_is_none():
    valid = np.ones((400, 40), bool)
    valid[330:] = False
    assert split_scene(valid, 0.15, 32)[1] is None


def test_patches_are_the_scene(make_raster):
    """Without turning, every patch is a piece of the scene, band for band, and condition fits target."""
    path = make_raster(counting_cube())
    scene, bands = load(path, fraction=0, patch_size=8)
    normalisation = measure_normalisation([scene], bands)
    patches = ScenePatches([scene], (2, 5), (3, 2, 1), bands.all, normalisation, 8, False, 0, CPU)
    batch = patches(20)
    assert batch.target.shape == (20, 2, 8, 8)
    assert batch.condition.shape == (20, 3, 8, 8)
    target = (batch.target * normalisation.scale + normalisation.offset).round().int().numpy()
    condition = (batch.condition * normalisation.scale + normalisation.offset).round().int().numpy()
    assert (target[:, 1] - target[:, 0] == 3000).all()
    assert (condition[:, 0] - condition[:, 2] == 2000).all()
    assert (condition[:, 1] == target[:, 0]).all()
    assert (np.diff(target, axis=2) == 10).all()


def test_turned_patches_stay_consistent(make_raster):
    scene, bands = load(make_raster(counting_cube()), fraction=0, patch_size=8)
    patches = ScenePatches(
        [scene], (2, 5), (3, 2, 1), bands.all, measure_normalisation([scene], bands), 8, True, 0, CPU
    )
    batch = patches(40)
    assert torch.allclose(batch.condition[:, 1], batch.target[:, 0])
    assert len({tuple(patch[0, 0].tolist()) for patch in batch.target.diff(dim=2).sign()}) > 1


def test_nodata_is_filled_and_masked(make_raster):
    values = counting_cube()
    values[2, 10:20, 10:20] = 0
    scene, bands = load(make_raster(values, nodata=0), fraction=0)
    assert not scene.valid[10:20, 10:20].any()
    assert scene.valid.sum() == 100 * 40 - 100
    assert (scene.values[2] >= 3000).all()
    assert measure_normalisation([scene], bands).offset == pytest.approx(values[:, scene.valid].mean(), rel=1e-6)
    patches = ScenePatches(
        [scene], bands.target, bands.rgb, bands.all, measure_normalisation([scene], bands), 16, True, 0, CPU
    )
    assert any((patches(1).valid == 0).any() for _ in range(50))
    assert sum(len(target) for _, target in patches.training_rows()) == scene.valid.sum()


def test_constant_and_empty_rasters_are_refused(make_raster):
    scene, bands = load(make_raster(np.full((4, 50, 50), 7, np.uint16)))
    with pytest.raises(UserError, match="the same"):
        measure_normalisation([scene], bands)
    with pytest.raises(UserError, match="nodata"):
        load(make_raster(np.zeros((4, 50, 50), np.uint16), nodata=0))
    disjoint = np.zeros((4, 50, 50), np.uint16)
    disjoint[:2, :25] = 5
    disjoint[2:, 25:] = 5
    with pytest.raises(UserError, match="valid in all bands"):
        load(make_raster(disjoint, nodata=0))


def test_provenance_tells_scenes_apart(make_raster):
    first = load(make_raster(counting_cube(), "a.tif"))[0].provenance()
    again = load(make_raster(counting_cube(), "a.tif"))[0].provenance()
    changed = counting_cube()
    changed[0, 0, 0] += 1
    other = load(make_raster(changed, "a.tif"))[0].provenance()
    assert first == again
    assert first["sha256"] != other["sha256"]
    assert (first["height"], first["width"], first["bands"]) == (100, 40, 6)


def test_potsdam_leaves_its_empty_bands_out(scene):
    loaded, bands = load(scene("enmap_potsdam.tif"), rgb=None, patch_size=32)
    assert len(bands.target) == 218
    assert loaded.valid.mean() == pytest.approx(0.6, abs=0.02)
    for number, colour_nm in zip(bands.rgb, (640, 550, 460)):
        assert bands.wavelengths_nm[number] == pytest.approx(colour_nm, abs=6)
