import numpy as np
import pytest
import torch

from scdm_qgis.core.context import context_maps
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.engine.scene_patches import ScenePatches
from scdm_qgis.engine.train import choose_recipe, stage_header
from scdm_qgis.engine.training_scenes import choose_bands, load_scene, measure_normalisation
from scdm_qgis.raster.cube import open_cube

ALL = slice(None)


def counting_cube(bands=6, height=100, width=40):
    """Return values that tell band, row and column apart."""
    band, row, column = np.mgrid[1 : bands + 1, :height, :width]
    return (1000 * band + 10 * row + column % 10).astype(np.uint16)


def make_patches(paths, fraction=0.0, patch_size=8, prediction="residual", change=lambda scene: None, bands="2,4,5"):
    """Return patches of the stage that predicts three bands from bands 3, 2, 1, and the normalisation."""
    with open_cube(paths[0]) as cube:
        chosen = choose_bands([cube], bands, "3,2,1")
    job = TrainCascadeStage(paths, 1, "unused.safetensors", stages=1, patch_size=patch_size, prediction=prediction)
    header = stage_header(job, choose_recipe(job), chosen)
    scenes = [load_scene(path, chosen, fraction, patch_size) for path in paths]
    normalisation = measure_normalisation(scenes, chosen)
    for scene in scenes:
        change(scene)
    return ScenePatches(header, scenes, chosen.all, normalisation, 0, torch.device("cpu")), normalisation


def data_units(values, normalisation):
    return (values * normalisation.scale + normalisation.offset).round().int().numpy()


@pytest.mark.parametrize(("height", "width"), [(200, 60), (60, 200)])
def test_no_patch_touches_the_hold_out_or_its_guard(make_raster, height, width):
    def paint(scene):
        scene.values[:] = 5
        scene.values[(ALL, *scene.hold_out.slices)] = 9

    path = make_raster(counting_cube(height=height, width=width))
    patches, normalisation = make_patches([path], fraction=0.2, patch_size=16, change=paint)
    for iteration in range(50):
        assert (data_units(patches(iteration, 8, ALL).target, normalisation) == 5).all()
    held = patches.hold_out_batches(1000, 16)
    assert all((data_units(batch.target, normalisation) == 9).all() for batch in held)
    assert sum(int(batch.valid.sum()) for batch in held) == 40 * 60


def test_every_hold_out_pixel_counts_once_even_where_patches_overlap(make_raster):
    path = make_raster(counting_cube(height=130, width=37))
    patches, normalisation = make_patches([path], fraction=0.2, patch_size=16)
    batches = patches.hold_out_batches(1000, 4)
    assert all(batch.target.shape[-2:] == (16, 16) for batch in batches)
    seen = np.concatenate(
        [data_units(batch.target, normalisation)[:, 0][batch.valid[:, 0].numpy() > 0] for batch in batches]
    )
    assert sorted(seen) == sorted(counting_cube(height=130, width=37)[1, 104:].ravel())
    assert len(patches.hold_out_batches(3, 16)[0].target) == 3


@pytest.mark.parametrize("prediction", ["residual", "velocity"])
def test_patches_are_the_scene(make_raster, prediction):
    """Every patch is a piece of the scene, band for band, and condition fits target; anchored ones are turned."""
    patches, normalisation = make_patches([make_raster(counting_cube())], prediction=prediction)
    batch = patches(0, 40, ALL)
    assert batch.target.shape == (40, 3, 8, 8)
    assert batch.condition.shape == (40, 15 if prediction == "residual" else 3, 8, 8)
    target, condition = (data_units(x, normalisation) for x in (batch.target, batch.condition))
    assert (target[:, 2] - target[:, 0] == 3000).all()
    assert (condition[:, 0] - condition[:, 2] == 2000).all()
    assert (condition[:, 1] == target[:, 0]).all()
    rows = np.diff(target[:, 0], axis=1)
    assert (rows == 10).all() == (prediction == "velocity")
    assert len({tuple(patch.ravel()) for patch in np.sign(rows)}) > 1 or prediction == "velocity"


def test_a_part_of_an_iteration_is_cut_from_the_whole(make_raster):
    patches, _ = make_patches([make_raster(counting_cube())])
    whole, part = patches(3, 8, ALL), patches(3, 8, slice(4, 8))
    assert torch.equal(whole.target[4:], part.target)
    assert torch.equal(whole.condition[4:], part.condition)
    assert not torch.equal(whole.target, patches(4, 8, ALL).target)


def test_context_maps_are_those_of_the_whole_scene(make_raster):
    values = np.random.default_rng(0).integers(1, 1000, (6, 60, 50)).astype(np.uint16)
    values[:, 20:25, 30:40] = 0
    patches, normalisation = make_patches([make_raster(values, nodata=0)], prediction="residual")
    rgb = torch.from_numpy((values[[2, 1, 0]].astype(np.float32) - normalisation.offset) / normalisation.scale)[None]
    valid = torch.from_numpy(values[:1] > 0).float()[None]
    maps = context_maps(rgb, valid, (1.0, 2.0, 4.0, 8.0))[0]
    rows = list(patches.training_rows())
    assert [share for share, _, _ in rows] == [row / 60 for row in range(60)]
    expected = maps[:, valid[0, 0] > 0].T.numpy()
    assert np.allclose(np.concatenate([condition[:, 3:] for _, condition, _ in rows]), expected, atol=1e-4)


def test_nodata_is_masked_and_several_scenes_take_turns(make_raster):
    holed = counting_cube()
    holed[2, 10:20, 10:20] = 0
    paths = [make_raster(holed, "a.tif", nodata=0), make_raster(counting_cube() + 10_000, "b.tif", nodata=0)]
    patches, normalisation = make_patches(paths)
    batches = [patches(iteration, 8, ALL) for iteration in range(20)]
    assert all((batch.valid.flatten(1).sum(dim=1) > 0).all() for batch in batches)
    assert any((batch.valid == 0).any() for batch in batches)
    first = np.concatenate([data_units(batch.target, normalisation)[:, 0, 0, 0] > 9000 for batch in batches])
    assert 0.3 < first.mean() < 0.7
    assert sum(len(target) for _, _, target in patches.training_rows()) == 2 * 100 * 40 - 100


def test_rows_of_nodata_count_for_nothing(make_raster):
    values = counting_cube()
    values[:, 10:90] = 0
    patches, _ = make_patches([make_raster(values, nodata=0)])
    assert [share for share, _, _ in patches.training_rows()] == [row / 20 for row in range(20)]


def test_other_splits_leave_the_pixels_where_they_are(make_raster):
    patches, normalisation = make_patches([make_raster(counting_cube())])
    (whole, _) = patches.splits[0]
    part = patches.with_splits([(type(whole)(0, 0, 50, 40), type(whole)(75, 0, 25, 40))])
    trained = np.concatenate([target for _, _, target in part.training_rows()])
    assert len(trained) == 50 * 40
    held = part.hold_out_batches(100, 16)
    assert data_units(held[0].target, normalisation)[:, 0].min() == counting_cube()[1, 75:].min()
    assert sum(len(target) for _, _, target in patches.training_rows()) == 100 * 40
