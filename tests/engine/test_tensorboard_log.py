import math
import os
import sys
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.training import Training
from scdm_qgis.engine.job_paths import check_folder
from scdm_qgis.engine.jobs import TrainCascadeStage


def curve(folder, name):
    """Return a curve of the log as (iteration, value)."""
    log = EventAccumulator(folder)
    log.Reload()
    return [(event.step, event.value) for event in log.Scalars(name)]


def test_the_log_holds_what_the_training_went_through(make_cube, train_stage, tmp_path, monkeypatch):
    folder, step, trainings = str(tmp_path / "new" / "log"), Training.step, set()

    def watched(self, patches):
        trainings.add(self)
        step(self, patches)

    monkeypatch.setattr(Training, "step", watched)
    path, _ = train_stage(make_cube(), iterations=10, learning_rate=0.003, tensorboard=folder)
    validation = read_header(path).training[0]["validation"]
    (training,) = trainings
    assert len(training.losses) == 10
    assert curve(folder, "loss") == [(iteration, pytest.approx(loss)) for iteration, loss in training.losses]
    judged = validation["curve"]
    ridge = validation["ridge"]
    assert curve(folder, "hold-out/RMSE") == [(iteration, pytest.approx(rmse)) for iteration, rmse, _ in judged]
    assert curve(folder, "hold-out/SAM") == [(iteration, pytest.approx(sam)) for iteration, _, sam in judged]
    for name, value in (("RMSE", ridge["rmse"]), ("SAM", ridge["sam"])):
        beside = [(iteration, pytest.approx(value)) for iteration, _, _ in judged]
        assert curve(folder, f"hold-out/{name} of ridge regression") == beside
    rates = [0.5 * 0.003] + [0.003 * (1 + math.cos(math.pi * done / 10)) / 2 for done in range(1, 10)]
    assert curve(folder, "learning_rate") == [(done + 1, pytest.approx(rate)) for done, rate in enumerate(rates)]


@pytest.mark.parametrize("lost_from", [1, 5])  # where the first is lost, there is no checkpoint
def test_a_resumed_training_goes_on_with_its_log(make_cube, train_stage, tmp_path, monkeypatch, lost_from):
    monkeypatch.setattr("scdm_qgis.engine.checkpoint.SECONDS_BETWEEN", 0.0)
    scene, step, steps = make_cube(), Training.step, []

    def interrupted(self, patches):
        steps.append(self.iteration)
        if len(steps) == 8:
            raise KeyboardInterrupt
        if len(steps) == lost_from:  # what follows is logged, but lost to the checkpoint
            monkeypatch.setattr("scdm_qgis.engine.checkpoint.SECONDS_BETWEEN", 1e9)
        step(self, patches)

    how = {"iterations": 10, "name": "stage"}
    train_stage(scene, **{**how, "name": "whole"}, tensorboard=str(tmp_path / "whole_log"))
    monkeypatch.setattr(Training, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_stage(scene, **how, tensorboard=str(tmp_path / "log"))
    train_stage(scene, **how, resume=True, tensorboard=str(tmp_path / "log"))
    assert steps[8] == lost_from - 1
    for name in ("loss", "learning_rate", "hold-out/SAM", "hold-out/SAM of ridge regression"):
        assert curve(str(tmp_path / "log"), name) == curve(str(tmp_path / "whole_log"), name)


def test_without_the_package_nothing_is_read(make_cube, train_stage, tmp_path, monkeypatch, recorder):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match="Install tensorboard into it, or leave TENSORBOARD empty"):
        train_stage(make_cube(), tensorboard=str(tmp_path / "log"))
    assert recorder.lines == []
    assert not os.path.exists(tmp_path / "log")


def test_the_folder_is_made_absolute_and_must_not_be_a_file(make_cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = TrainCascadeStage([make_cube()], 1, str(tmp_path / "stage.safetensors"), tensorboard="log")
    absolute = job.with_absolute_paths()
    assert absolute.tensorboard == str(tmp_path / "log")
    absolute.check_paths()
    (tmp_path / "log").write_text("x")
    for folder in (absolute.tensorboard, os.path.join(absolute.tensorboard, "below")):
        with pytest.raises(UserError, match="log' is a file. Give a folder"):
            replace(absolute, tensorboard=folder).check_paths()


def test_folders_that_cannot_be_made_are_refused(make_cube, tmp_path, monkeypatch):
    output = str(tmp_path / "stage.safetensors")
    below = TrainCascadeStage([make_cube()], 1, output, tensorboard=os.path.join(output, "log"))
    with pytest.raises(UserError, match="lies below an output file's name"):
        below.check_paths()
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(UserError, match="drive of '/elsewhere/log' does not exist"):
        check_folder("/elsewhere/log")
