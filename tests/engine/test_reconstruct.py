import math
import os
from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.shutil import copy

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.context import context_maps
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import assemble, reconstruct, tile_reconstructor
from scdm_qgis.engine.jobs import AssembleCascade, RgbToHyperspectral
from scdm_qgis.engine.train import CONTEXT_SIGMAS
from scdm_qgis.raster.cube import open_cube
from tests.conftest import write_raster
from tests.engine.conftest import GEOREFERENCE, spectra


@pytest.fixture
def model(regressions_only):
    return regressions_only


@pytest.fixture
def run(tmp_path, model, recorder):
    def start(source, name="out.tif", **options):
        output = str(tmp_path / name)
        values = {"rgb_bands": "5,3,2", "device": "cpu", "precision": "float32"}
        job = RgbToHyperspectral(
            input=source, model=options.pop("model", model), output=output, **{**values, **options}
        )
        return output, reconstruct.run(job, recorder.events)

    return start


def read(path):
    with open_cube(path) as cube:
        return cube.read(range(1, cube.band_count + 1))


def regressions(path, rgb):
    """Return what the two regressions make of RGB (3, row, column) in data units, the RGB bands as they are."""
    cascade = Cascade.load(path)
    offset, scale = cascade.header.normalisation.offset, cascade.header.normalisation.scale
    image = torch.from_numpy((rgb - offset) / scale).float()[None]
    seen = torch.cat([image, context_maps(image, torch.ones_like(image[:, :1]), CONTEXT_SIGMAS)], dim=1)
    coarse = cascade.stages[0].anchor.expect(seen).estimate
    fine = cascade.stages[1].anchor.expect(torch.cat([coarse, seen], dim=1)).estimate[0].numpy() * scale + offset
    fine[[4, 2, 1]] = rgb
    return fine


def test_every_pixel_is_what_the_regressions_make_of_it(run, make_cube, model):
    path, results = run(make_cube(), tile_size=32, overlap=8)
    values, valid = read(path)
    assert valid.all()
    assert np.abs(values - regressions(model, spectra()[[4, 2, 1]])).max() <= 0.6  # rounded to whole numbers
    assert results["TILES"] == 4 * 3
    assert results["SECONDS"] > 0


@pytest.mark.parametrize(("tile_size", "overlap"), [(8, 0), (16, 13), (23, 5), (64, 16), (200, 50)])
def test_tiling_does_not_change_what_each_pixel_gets(run, make_cube, model, tile_size, overlap):
    path, _ = run(make_cube(), tile_size=tile_size, overlap=overlap)
    assert np.abs(read(path)[0] - regressions(model, spectra()[[4, 2, 1]])).max() <= 0.6


def test_the_rgb_bands_are_copied_and_certain(run, make_cube, tmp_path):
    uncertainty = str(tmp_path / "uncertainty.tif")
    path, _ = run(make_cube(), samples=2, uncertainty=uncertainty, steps=2)
    assert np.array_equal(read(path)[0][[4, 2, 1]], spectra()[[4, 2, 1]])
    deviation = read(uncertainty)[0]
    assert (deviation[[4, 2, 1]] == 0).all()
    assert (np.delete(deviation, [4, 2, 1], axis=0) > 0).mean() > 0.99


def test_georeference_wavelengths_type_and_tags(run, make_cube):
    path, _ = run(make_cube(), seed=3)
    with rasterio.open(path) as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == GEOREFERENCE
        assert dataset.dtypes[0] == "uint16"
        assert dataset.nodata == 65535
        assert dataset.descriptions[0] == "430 nm" or "430" in dataset.descriptions[0]
        assert dataset.tags(1)["wavelength"].startswith("430")
        assert float(dataset.tags(1, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(0.43)
        tags = dataset.tags()
        assert len(tags["SCDM_MODEL"]) == 64 and tags["SCDM_PRODUCT"] == "reconstruction"
        assert (tags["SCDM_SEED"], tags["SCDM_SAMPLER"], tags["SCDM_STEPS"]) == ("3", "ddim,ddim", "1,1")


def test_mask_is_that_of_the_rgb_bands(run, make_cube):
    values = spectra()
    values[4, 10:30, 20:40] = 0  # a band that is used
    values[8, 50:60, 50:60] = 0  # a band that is not
    path, _ = run(make_cube("holes.tif", values, nodata=0), tile_size=16, overlap=4)
    expected = np.ones((96, 64), bool)
    expected[10:30, 20:40] = False
    assert (read(path)[1] == expected).all()


def test_all_nodata_is_an_error_and_leaves_nothing(run, make_cube, tmp_path):
    with pytest.raises(UserError, match="all of it is nodata"):
        run(make_cube("empty.tif", np.zeros_like(spectra()), nodata=0))
    assert not [name for name in os.listdir(tmp_path) if name.startswith("out")]


def test_extent_gives_the_pixels_of_the_whole(run, make_cube):
    """Twelve pixels from the left, 40 from the top: the tiles are the same, so the pixels are."""
    source = make_cube()
    whole = read(run(source, tile_size=32, overlap=8, samples=1)[0])[0]
    extent = [400000 + 12 * 5, 5800000 - 70 * 5, 400000 + 50 * 5, 5800000 - 40 * 5]
    path, _ = run(source, "part.tif", tile_size=32, overlap=8, samples=1, extent=extent)
    with rasterio.open(path) as dataset:
        assert dataset.transform * (0, 0) == (400060, 5799800)
    assert np.array_equal(read(path)[0], whole[:, 40:70, 12:50])


def test_a_part_of_a_raster_without_place_lies_where_qgis_shows_it(run, tmp_path):
    """Which is upright below the x axis; the engine counts an extent's rows from the top."""
    source = write_raster(tmp_path / "nowhere.tif", spectra())
    whole, _ = run(source, tile_size=32, overlap=8)
    part, _ = run(source, "part.tif", tile_size=32, overlap=8, extent=[12, 40, 50, 70])
    with rasterio.open(part) as dataset:
        assert dataset.transform == Affine(1, 0, 12, 0, -1, -40)
    with rasterio.open(whole) as dataset:
        assert dataset.transform == Affine.identity()
    assert np.array_equal(read(part)[0], read(whole)[0][:, 40:70, 12:50])


def test_bands_of_other_wavelengths_than_the_models_are_pointed_out(run, make_cube, recorder):
    """The model knows those of its RGB bands, 5, 3 and 2."""
    source = make_cube()
    run(source)
    assert "the model was trained with bands of" not in recorder.messages()
    run(source, rgb_bands="2,3,5")
    assert "Check the numbers and the order of RGB_BANDS" in recorder.messages()


def test_an_input_unlike_the_training_data_is_pointed_out_before_the_start(run, make_cube, recorder):
    run(make_cube())
    assert "pixels" not in recorder.messages().replace("pixels a side", "")
    stretched = np.clip((spectra() - 1000.0) / 8, 0, 255).astype(np.uint8)
    run(make_cube("picture.tif", stretched), name="other.tif")
    said = recorder.messages()
    assert "another unit or scale" in said
    assert "values lie from 0 to 255" in said
    assert said.index("another unit or scale") < said.index("Spectra of pixels unlike the training data are guesses")
    run(make_cube("brighter.tif", (1.3 * spectra()).astype(np.uint16)), name="third.tif")
    assert "are brighter than the training data" in recorder.messages()


@pytest.mark.parametrize("kind", ["mosaic", "archive"])
def test_an_output_that_the_input_consists_of_is_refused(run, make_cube, tmp_path, kind):
    source = make_cube()
    if kind == "mosaic":
        destroyed, name = source, str(tmp_path / "mosaic.vrt")
        copy(source, name, driver="VRT")
    else:
        destroyed = str(tmp_path / "archive.zip")
        with ZipFile(destroyed, "w") as archive:
            archive.write(source, "cube.tif")
        name = f"/vsizip/{destroyed}/cube.tif"
    with open(destroyed, "rb") as file:
        before = file.read()
    with pytest.raises(UserError, match="is a file that an input consists of"):
        run(name, os.path.basename(destroyed))
    with open(destroyed, "rb") as file:
        assert file.read() == before


def test_extent_outside_is_refused(run, make_cube):
    with pytest.raises(UserError, match="does not touch"):
        run(make_cube(), extent=[0, 0, 10, 10])


def test_coarse_output_is_the_stage_before(run, make_cube, tmp_path, model):
    coarse = str(tmp_path / "coarse.tif")
    run(make_cube(), coarse_output=coarse)
    values, _ = read(coarse)
    header = Cascade.load(model).header
    assert len(values) == len(header.stages[0].bands) == 5
    with open_cube(coarse) as cube:
        assert cube.spectrum.wavelengths_nm == header.stages[0].wavelengths_nm


def test_coarse_output_of_one_stage_is_refused(run, make_cube, train_stage, tmp_path):
    single, _ = train_stage(make_cube(), 1, "single.safetensors", stages=1)
    run(make_cube(), model=single)
    with pytest.raises(UserError, match="one stage"):
        run(make_cube(), model=single, coarse_output=str(tmp_path / "coarse.tif"))


def test_draws_lie_about_the_estimate(run, make_cube, tmp_path):
    uncertainty = str(tmp_path / "deviation.tif")
    estimate = read(run(make_cube())[0])[0]
    two = read(run(make_cube(), samples=2, uncertainty=uncertainty)[0])[0]
    assert np.abs(estimate - two).max() <= 1  # both rounded to whole numbers
    with rasterio.open(uncertainty) as dataset:
        assert dataset.tags()["SCDM_PRODUCT"] == "uncertainty"
        assert dataset.dtypes[0] == "float32"
        assert math.isnan(dataset.nodata)


@pytest.mark.parametrize("sampler", ["dpmpp", "unipc"])
def test_second_order_samplers_need_fewer_steps_for_the_same_draw(run, make_cube, sampler):
    source = make_cube(values=spectra()[:, :24, :24].astype(np.float32))

    def draw(sampler, steps):
        path, _ = run(source, f"{sampler}{steps}.tif", samples=1, sampler=sampler, steps=steps)
        with rasterio.open(path) as dataset:
            assert (dataset.tags()["SCDM_SAMPLER"], dataset.tags()["SCDM_STEPS"]) == (
                f"{sampler},{sampler}",
                f"{steps},{steps}",
            )
        return read(path)[0]

    limit = draw("ddim", 100)
    ours, theirs = (np.abs(draw(name, 10) - limit).mean() for name in (sampler, "ddim"))
    assert 0 < ours < theirs
    assert np.abs(draw(sampler, 2) - draw("ddim", 2)).max() < 0.01 * np.abs(limit - draw("ddim", 2)).max()


def test_same_seed_same_file_whatever_the_batch(run, make_cube):
    source = make_cube()
    results = [
        read(run(source, f"{batch}.tif", samples=1, seed=4, batch_size=batch, tile_size=32, overlap=8)[0])[0]
        for batch in (1, 3)
    ]
    assert np.abs(results[0] - results[1]).max() <= 1
    other = read(run(source, "other.tif", samples=1, seed=5, batch_size=3, tile_size=32, overlap=8)[0])[0]
    assert np.abs(other - results[1]).max() > 1


def test_out_of_memory_halves_the_batch(run, make_cube, monkeypatch, recorder):
    real, sizes = tile_reconstructor.reconstruct, []

    def small_device(cascade, tiles, *arguments, **options):
        sizes.append(len(tiles))
        if len(tiles) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(cascade, tiles, *arguments, **options)

    source = make_cube()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # a GPU computes one batch after the other
    expected = read(run(source, "before.tif", tile_size=16, overlap=0, batch_size=4)[0])[0]
    monkeypatch.setattr(tile_reconstructor, "reconstruct", small_device)
    values = read(run(source, "after.tif", tile_size=16, overlap=0, batch_size=4)[0])[0]
    assert np.abs(values - expected).max() <= 1
    assert sizes[:3] == [4, 2, 2]
    assert max(sizes[3:]) == 2
    assert "Set BATCH_SIZE to 2" in recorder.messages()


def test_out_of_memory_for_one_tile_says_what_to_change(run, make_cube, monkeypatch, tmp_path):
    def no_memory(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tile_reconstructor, "reconstruct", no_memory)
    with pytest.raises(UserError, match="Lower TILE_SIZE"):
        run(make_cube())
    assert not os.path.exists(tmp_path / "out.tif")
    assert not os.path.exists(tmp_path / "out.part.tif")


def test_incomplete_models_are_refused(run, make_cube, train_stage):
    stage, _ = train_stage(make_cube(), 2, "only.safetensors")
    with pytest.raises(UserError, match="holds stage 2 of 2"):
        run(make_cube(), model=stage)


def test_assembling_needs_every_stage(make_cube, train_stage, tmp_path, recorder):
    stage, _ = train_stage(make_cube(), 2)
    with pytest.raises(UserError, match="holds stage 2 of 2"):
        assemble.run(AssembleCascade([stage], str(tmp_path / "c.safetensors")), recorder.events)
    assert not os.path.exists(tmp_path / "c.safetensors")


def test_progress_reaches_the_end(run, make_cube, recorder):
    run(make_cube(), tile_size=16, overlap=4, samples=2)
    percents = [line["percent"] for line in recorder.lines if line["event"] == "progress"]
    assert percents[-1] == pytest.approx(100)
