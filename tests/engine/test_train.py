import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors import safe_open

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.regression import fit_ridge
from scdm_qgis.core.training import Training
from scdm_qgis.engine import reconstruct, stage_trainer, train
from scdm_qgis.engine.jobs import RgbToHyperspectral, TrainCascadeStage
from tests.engine.conftest import spectra


def test_stage_file_says_what_is_needed(make_cube, train_stage):
    path, results = train_stage(make_cube(nodata=0), stage=2)
    header = read_header(path)
    (stage,) = header.stages
    assert (stage.index, stage.of) == (2, 2)
    assert stage.bands == tuple(range(1, 10))
    assert stage.wavelengths_nm == tuple(float(380 + 50 * band) for band in range(1, 10))
    assert stage.fwhm_nm == (40.0,) * 9
    assert stage.condition.previous_bands == (1, 2, 4, 6, 8) or len(stage.condition.previous_bands) == 5
    assert stage.condition.rgb_bands == (5, 3, 2) or all(1 <= band <= 9 for band in stage.condition.rgb_bands)
    assert (header.nodata_policy.dtype, header.nodata_policy.nodata) == ("uint16", 0)
    assert header.normalisation.offset == pytest.approx(spectra().mean(), rel=1e-6)
    assert header.normalisation.scale == pytest.approx(spectra().std(), rel=1e-6)
    (training,) = header.training
    assert training["scenes"][0]["name"] == "cube.tif"
    assert training["iterations"] == results["ITERATIONS_DONE"] == 2
    assert training["final_loss"] == results["FINAL_LOSS"]
    assert results["OUTPUT"] == path
    with safe_open(path, "pt") as file:
        assert all(key.startswith("stage2.") for key in list(file.keys()))


def test_stages_trained_apart_fit_together(make_cube, make_model):
    Cascade.load(make_model(make_cube())).header.check_complete()


def test_scenes_too_small_for_a_hold_out_are_judged_by_leaving_blocks_out(make_cube, train_stage, recorder):
    path, results = train_stage(make_cube(values=spectra(40, 40)), patch_size=16, iterations=6)
    assert results["VALIDATION_LOSS"] is None
    assert results["ITERATIONS_DONE"] == 6
    assert "too small to keep a part of them unseen" in recorder.messages()
    validation = read_header(path).training[0]["validation"]
    assert validation["left_out"]
    assert validation["stage"]["rmse"] <= 1.01 * validation["ridge"]["rmse"]
    assert 0 < validation["coverage"][0] < validation["coverage"][1] <= 1
    shrinkage = Cascade.load(path).stages[0].anchor.shrinkage
    assert ((shrinkage >= 0) & (shrinkage <= 1)).all()


@pytest.mark.parametrize("rows", [(33, 67), (0, 10), (90, 100)])
@pytest.mark.parametrize("far", [False, True])
def test_blocks_are_left_out_of_what_is_valid(make_cube, train_stage, rows, far):
    """Wherever the valid pixels lie, and be there one far from all others."""
    values = np.zeros((9, 100, 40), np.uint16)
    values[:, slice(*rows)] = spectra(rows[1] - rows[0], 40)
    if far:
        values[:, 99 - rows[0], 39] = spectra()[:, 0, 0]
    path, _ = train_stage(make_cube(values=values, nodata=0), patch_size=16, iterations=6)
    validation = read_header(path).training[0]["validation"]
    assert validation["left_out"]
    assert 0.1 < validation["coverage"][0] < validation["coverage"][1] <= 1


def test_a_scene_of_hardly_a_pixel_is_no_scene(make_cube, train_stage):
    values = np.zeros((9, 40, 40), np.uint16)
    values[:, 20, 5:20] = spectra()[:, 0, :15]
    with pytest.raises(UserError, match="Only 15 pixels of .*cube.tif"):
        train_stage(make_cube(values=values, nodata=0), patch_size=16, iterations=6)
    values[:, 20, 20] = spectra()[:, 0, 20]
    train_stage(make_cube(values=values, nodata=0), patch_size=16, iterations=6)


def test_no_hold_out_is_said(make_cube, train_stage, recorder):
    path, results = train_stage(make_cube(), validation_fraction=0)
    assert results["VALIDATION_LOSS"] is None
    assert "Nothing was validated" in recorder.messages()
    assert read_header(path).training[0]["validation"] is None


def test_an_interrupted_training_taken_up_again_gives_the_same_file(
    make_cube, train_stage, recorder, tmp_path, monkeypatch
):
    monkeypatch.setattr("scdm_qgis.engine.checkpoint.SECONDS_BETWEEN", 0.0)
    scene, how = make_cube(), {"iterations": 6, "name": "stage"}
    whole = Path(train_stage(scene, **{**how, "name": "whole"})[0]).read_bytes()
    step, steps = Training.step, []

    def interrupted(self, patches):
        steps.append(self.iteration)
        assert ".checkpoint" not in Path("/proc/self/maps").read_text(), "Windows would not let it be replaced"
        if len(steps) == 5:
            raise KeyboardInterrupt
        step(self, patches)

    monkeypatch.setattr(Training, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_stage(scene, **how)
    assert steps == [0, 1, 2, 3, 4]
    checkpoint = next(tmp_path.glob("*.checkpoint"))
    with pytest.raises(UserError, match="BATCH_SIZE is not what it was"):
        train_stage(scene, resume=True, batch_size=3, **how)
    path, _ = train_stage(scene, resume=True, **how)
    assert steps[5:] == [4, 5]
    assert Path(path).read_bytes() == whole
    assert not checkpoint.exists()
    train_stage(scene, resume=True, **how)
    assert "There is no checkpoint to go on from" in recorder.messages()


def test_a_training_is_taken_up_in_the_precision_it_began_in(make_cube, train_stage, monkeypatch):
    """Which is faster is measured anew each time, and may come out otherwise."""
    monkeypatch.setattr("scdm_qgis.engine.checkpoint.SECONDS_BETWEEN", 0.0)
    scene, how = make_cube(), {"iterations": 4, "name": "stage", "precision": "auto"}
    step, seen = Training.step, []

    def interrupted(self, patches):
        seen.append(self.settings.bfloat16)
        if len(seen) == 3:
            raise KeyboardInterrupt
        step(self, patches)

    monkeypatch.setattr(Training, "step", interrupted)
    monkeypatch.setattr(train, "choose_bfloat16", lambda precision, device: len(seen) == 0)
    with pytest.raises(KeyboardInterrupt):
        train_stage(scene, **how)
    train_stage(scene, resume=True, **how)
    assert seen == [True] * 5


def test_a_narrow_scene_is_pointed_out(make_cube, train_stage, recorder):
    path, _ = train_stage(make_cube(values=spectra(12, 60)), patch_size=16, iterations=2)
    assert read_header(path).stages[0].patch_size == 16
    assert "cube.tif' is only 12 pixels wide or high" in recorder.messages()


def test_a_damaged_checkpoint_is_refused_and_a_fresh_start_removes_it(make_cube, train_stage, tmp_path):
    path, _ = train_stage(make_cube(), name="stage")
    checkpoint = Path(f"{path}.checkpoint")
    checkpoint.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="damaged"):
        train_stage(make_cube(), name="stage", resume=True)
    train_stage(make_cube(), name="stage")
    assert not checkpoint.exists()


def test_two_processes_train_as_one_with_twice_the_batch(make_cube, tmp_path, checkout):
    """With a network without dropout: every process drops features of its own."""
    scene = make_cube()

    def trained_by(processes, batch_size):
        output = str(tmp_path / f"{processes}.safetensors")
        job = TrainCascadeStage(
            [scene],
            1,
            output,
            batch_size=batch_size,
            patch_size=16,
            rgb_bands="5,3,2",
            iterations=6,
            p_unconditional=0.3,
            learning_rate=1e-3,
            precision="float32",
            preset="compact",
            device="cpu",
        )
        job_file = tmp_path / "job.json"
        job_file.write_text(json.dumps(job.to_json()))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        done = subprocess.run(
            [*launcher, "-m", "scdm_qgis.engine", str(job_file)],
            cwd=checkout,
            # As many threads in all processes: others round the regression under the stage differently.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["event"] for line in done.stdout.splitlines()].count("result") == 1
        return Cascade.load(output).stages[0], read_header(output).training[0]["final_loss"]

    (one, loss), (two, loss_together) = trained_by(1, batch_size=4), trained_by(2, batch_size=2)
    assert loss_together == pytest.approx(loss, rel=1e-5)
    for key, value in one.network.state_dict().items():
        # Adam turns the rounding of a gradient of nearly nothing into a step of full size: a few weights may differ.
        difference = (value - two.network.state_dict()[key]).abs().mean()
        assert difference < 5e-5, key


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_other_predictions(make_cube, train_stage, prediction):
    path, results = train_stage(make_cube(), prediction=prediction, stage=2)
    stage = read_header(path).stages[0]
    assert stage.prediction == prediction
    assert stage.condition.rgb_bands == ()
    assert stage.sampler == ("ddpm" if prediction == "noise" else "unipc")
    assert stage.second_moment == pytest.approx(1.0, rel=0.2)
    assert results["VALIDATION_LOSS"] > 0


@pytest.mark.parametrize(
    ("prediction", "size", "steps"),
    [("residual", (96, 64), 7), ("residual", (40, 40), 7), ("velocity", (96, 64), 7), ("noise", (96, 64), None)],
    ids=["hold-out", "left-out blocks", "velocity", "noise"],
)
def test_the_steps_that_are_enough_are_kept_and_calibrated_for(
    make_cube, train_stage, recorder, monkeypatch, prediction, size, steps
):
    calibrated_for, gather = [], stage_trainer.gather_evidence

    def watch(stage, *arguments):
        calibrated_for.append(stage.header.steps)
        return gather(stage, *arguments)

    monkeypatch.setattr(stage_trainer, "fewest_steps", lambda trials: 7)
    monkeypatch.setattr(stage_trainer, "gather_evidence", watch)
    path, _ = train_stage(make_cube(values=spectra(*size)), prediction=prediction)
    assert read_header(path).stages[0].steps == steps
    assert set(calibrated_for) == ({7} if prediction == "residual" else set())
    assert ("Steps of a draw: 7" in recorder.messages()) == (steps is not None)


def test_same_seed_gives_the_same_file(make_cube, train_stage):
    scene = make_cube()
    files = [
        Path(train_stage(scene, name=name, seed=seed)[0]).read_bytes() for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_several_scenes(make_cube, train_stage):
    scenes = [make_cube("a.tif"), make_cube("b.tif", spectra(60, 80, seed=0))]
    path, _ = train_stage(scenes)
    names = [scene["name"] for scene in read_header(path).training[0]["scenes"]]
    assert names == ["a.tif", "b.tif"]


def test_patches_larger_than_the_scene(make_cube, train_stage, recorder):
    path, _ = train_stage(make_cube(values=spectra(13, 21)), patch_size=64)
    assert read_header(path).stages[0].patch_size == 21
    assert "PATCH_SIZE 64 does not fit" in recorder.messages()


def test_more_stages_than_the_bands_allow_are_refused(make_cube, train_stage):
    with pytest.raises(UserError, match="3 bands are too few for 2 stages"):
        train_stage(make_cube(), bands="1-3")
    with pytest.raises(UserError, match="9 bands are too few for 9 stages"):
        train_stage(make_cube(), stages=9)


def test_model_files_are_as_readable_as_other_files(make_cube, train_stage, tmp_path):
    path, _ = train_stage(make_cube())
    (tmp_path / "other").write_text("x")
    assert os.stat(path).st_mode == os.stat(tmp_path / "other").st_mode


def test_nan_and_infinite_pixels_are_nodata(make_cube, train_stage):
    values = spectra().astype(np.float32)
    values[3, 5:9, 5:9] = np.nan
    values[4, 20, 20] = np.inf
    path, results = train_stage(make_cube(values=values))
    assert np.isfinite(results["FINAL_LOSS"])
    assert read_header(path).training[0]["scenes"][0]["valid_pixels"] == 96 * 64 - 17


def test_report(make_cube, train_stage, tmp_path, recorder):
    report = str(tmp_path / "report.html")
    path, results = train_stage(make_cube("<b>scene.tif"), report=report)
    judged = read_header(path).training[0]["validation"]
    # After two iterations the network has next to nothing to say beside its regression, and both numbers are there.
    assert judged["stage"]["rmse"] == pytest.approx(judged["regression"]["rmse"], rel=0.05)
    assert f"Its regression alone, without the network: RMSE {judged['regression']['rmse']:.4g}" in recorder.messages()
    text = Path(report).read_text(encoding="utf-8")
    assert results["REPORT"] == report
    assert "ridge regression" in text and "Its regression alone, without the network" in text
    assert "data:image/svg+xml" in text
    assert "&lt;b&gt;scene" in text and "<b>scene" not in text


def test_progress_and_log(make_cube, train_stage, recorder):
    train_stage(make_cube(), iterations=20)
    percents = [line["percent"] for line in recorder.lines if line["event"] == "progress"]
    assert percents == sorted(percents)
    assert "Ridge regression there" in recorder.messages()


def test_nothing_is_left_after_a_failure(make_cube, train_stage, tmp_path):
    scene = make_cube()
    with pytest.raises(UserError, match="diverged"):
        train_stage(scene, sam_weight=1e39)
    assert os.listdir(tmp_path) == ["cube.tif"]


def test_training_beats_regression_on_a_real_scene(scene, train_stage):
    """A hundred iterations on Pavia University are enough to be better than ridge on its hold-out."""
    path, _ = train_stage(
        scene("pavia_university_train.tif"), rgb_bands="60,30,10", iterations=100, patch_size=32, batch_size=8
    )
    validation = read_header(path).training[0]["validation"]
    assert validation["stage"]["rmse"] < 0.95 * validation["ridge"]["rmse"]
    assert validation["stage"]["sam"] < 0.95 * validation["ridge"]["sam"]
    assert len(validation["curve"]) == 10 and validation["curve"][-1][0] == 60
    assert 0.6 < validation["coverage"][0] < 0.8 and 0.9 < validation["coverage"][1] < 0.98


@pytest.mark.parametrize("rows, columns", [(64, 64), (300, 140)])
def test_the_default_is_never_worse_than_ridge_regression(
    scene, make_raster, make_model, recorder, tmp_path, rows, columns
):
    """Neither after 50 iterations nor trained on 64 x 64 pixels, and tested on another scene."""
    with rasterio.open(scene("pavia_university_train.tif")) as dataset:
        train = dataset.read()[:, :rows, :columns]
    with rasterio.open(scene("pavia_university_test.tif")) as dataset:
        truth = dataset.read().astype(np.float64)
    how = {"rgb_bands": "60,30,10", "iterations": 50, "patch_size": None, "batch_size": None}
    model = make_model(make_raster(train, "train.tif"), **how)
    output = str(tmp_path / "output.tif")
    job = RgbToHyperspectral(scene("pavia_university_test.tif"), model, output, rgb_bands="60,30,10")
    reconstruct.run(job, recorder.events)
    with rasterio.open(output) as dataset:
        estimate = dataset.read()
    colours, unseen = (cube[[59, 29, 9]].reshape(3, -1).T for cube in (train, truth))
    ridge = fit_ridge(colours, train.reshape(len(train), -1).T).predict(unseen).T.reshape(truth.shape)
    rmse = [np.sqrt(np.square(cube - truth).mean()) for cube in (estimate, ridge)]
    assert rmse[0] <= 1.01 * rmse[1]


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_the_larger_presets_train_and_load(make_cube, train_stage, preset):
    path, results = train_stage(make_cube(), preset=preset, iterations=1, batch_size=1)
    stage = Cascade.load(path).stages[0]
    assert stage.header.network == PRESETS[preset].network
    assert np.isfinite(results["FINAL_LOSS"])
