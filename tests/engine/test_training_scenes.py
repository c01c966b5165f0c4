import numpy as np
import pytest

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.training_scenes import (
    choose_bands,
    load_scene,
    measure_normalisation,
    output_policy,
    split_scene,
)
from scdm_qgis.raster.cube import open_cube


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


def test_a_band_must_lie_at_one_place_of_the_spectrum(make_raster):
    def shifted(by):
        def change(dataset):
            for band in range(1, dataset.count + 1):
                dataset.update_tags(band, wavelength=str(400 + 50 * band + by * (band == 6)), wavelength_units="nm")

        return change

    paths = [make_raster(counting_cube(), f"{by}.tif", change=shifted(by)) for by in (0, 4, 6)]
    near, far = ([open_cube(path) for path in pair] for pair in (paths[:2], paths[::2]))
    assert choose_bands(near, None, None).target == (1, 2, 3, 4, 5, 6)
    with pytest.raises(UserError, match=r"Band 6 of .*0.tif' lies at 700 nm, that of .*6.tif' at 706 nm"):
        choose_bands(far, None, None)
    assert choose_bands(far, "1-5", None).target == (1, 2, 3, 4, 5)


def test_a_band_that_is_bad_in_any_raster_is_left_out(make_raster):
    def change(dataset):
        dataset.update_tags(ns="ENVI", bbl="{1,1,1,1,1,0}")

    cubes = [open_cube(make_raster(counting_cube(), "a.tif")), open_cube(make_raster(counting_cube(), "b.tif", change))]
    for order in (cubes, cubes[::-1]):
        assert choose_bands(order, None, "3,2,1").target == (1, 2, 3, 4, 5)


def test_small_scenes_are_trained_on_as_a_whole():
    valid = np.ones((40, 40), bool)
    training, held = split_scene(valid, 0.15, 32)
    assert held is None
    assert (training.height, training.width) == (40, 40)
    assert split_scene(np.ones((400, 40), bool), 0.0, 32)[1] is None


@pytest.mark.parametrize(("height", "width"), [(200, 60), (60, 200)])
def test_the_hold_out_is_the_end_of_the_longer_side_behind_a_guard(height, width):
    training, held = split_scene(np.ones((height, width), bool), 0.2, 16)
    if height > width:
        assert (held.row, held.height, held.column, held.width) == (160, 40, 0, width)
        assert (training.row, training.height, training.width) == (0, 152, width)
    else:
        assert (held.column, held.width, held.row, held.height) == (160, 40, 0, height)
        assert (training.column, training.width, training.height) == (0, 152, height)


def test_where_the_end_is_nodata_the_other_end_is_held_out():
    valid = np.ones((400, 40), bool)
    valid[330:] = False
    training, held = split_scene(valid, 0.15, 32)
    assert (held.row, held.height) == (0, 60)
    assert (training.row, training.height) == (76, 324)
    valid[:70] = False
    assert split_scene(valid, 0.15, 32)[1] is None


def test_a_hold_out_never_takes_nearly_all_that_is_valid():
    valid = np.zeros((400, 40), bool)
    valid[330:] = True
    valid[0, 0] = True
    training, held = split_scene(valid, 0.15, 32)
    assert held is None and (training.height, training.width) == (400, 40)


def test_nodata_is_filled_and_masked(make_raster):
    values = counting_cube()
    values[2, 10:20, 10:20] = 0
    scene, bands = load(make_raster(values, nodata=0), fraction=0)
    assert not scene.valid[10:20, 10:20].any()
    assert scene.valid.sum() == 100 * 40 - 100
    assert (scene.values[2] >= 3000).all()
    assert measure_normalisation([scene], bands).offset == pytest.approx(values[:, scene.valid].mean(), rel=1e-6)


@pytest.mark.parametrize("size", [1e60, 1e200])
def test_values_too_large_for_single_precision_are_refused(make_raster, size):
    scene, bands = load(make_raster(np.random.default_rng(0).random((4, 50, 50)) * size))
    with pytest.raises(UserError, match="too large to compute with"):
        measure_normalisation([scene], bands)


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
