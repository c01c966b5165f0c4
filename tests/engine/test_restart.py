"""A reconstruction that is killed, or runs out of disk, is taken up again and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import numpy as np
import psutil
import pytest
import rasterio
import torch

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import journal_path, partial_path
from scdm_qgis.engine import reconstruct
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.journal import Journal
from tests.engine.conftest import spectra

OUTPUTS = ("output", "coarse_output", "uncertainty")


@pytest.fixture
def make_job(tmp_path, make_cube, regressions_only):
    """Return a function that describes a run with three outputs; 8 rows of tiles, holes among them."""
    values = spectra(200, 64)
    values[:, 40:90, 10:50] = 0
    source = make_cube("source.tif", values, nodata=0)

    def make(name="out", **changes):
        outputs = {key: str(tmp_path / f"{name}_{key}.tif") for key in OUTPUTS}
        settings = {"rgb_bands": "5,3,2", "samples": 2, "steps": 1, "tile_size": 32, "overlap": 8, "batch_size": 2}
        return RgbToHyperspectral(
            input=source, model=regressions_only, device="cpu", **{**outputs, **settings, **changes}
        )

    return make


def pixels(job):
    arrays = []
    for key in OUTPUTS:
        with rasterio.open(getattr(job, key)) as dataset:
            arrays.append(dataset.read())
    return arrays


def assert_same(job, expected):
    for got, wanted in zip(pixels(job), expected):
        np.testing.assert_array_equal(got, wanted)


def leftovers(job):
    paths = [getattr(job, key) for key in OUTPUTS]
    return [name for name in [*map(journal_path, paths), *map(partial_path, paths)] if os.path.exists(name)]


class InterruptedHereError(Exception):
    pass


@pytest.fixture
def interrupted(make_job, recorder):
    """Return a function that starts the run, ends it by an exception after as many checkpoints, and returns its job."""
    save = Journal.save

    def after(count):
        left = [count]

        def save_or_fail(journal, checkpoint):
            if left[0] == 0:
                raise InterruptedHereError
            left[0] -= 1
            save(journal, checkpoint)

        job = make_job()
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedHereError):
            patch.setattr(Journal, "save", save_or_fail)
            patch.setattr(Journal, "save_when_due", save_or_fail)
            reconstruct.run(job, recorder.events)
        return job

    return after


@pytest.fixture
def expected(make_job, recorder):
    whole = make_job("whole")
    reconstruct.run(whole, recorder.events)
    assert leftovers(whole) == []
    return pixels(whole)


@pytest.mark.parametrize("checkpoints", [1, 3, 5, 7, 8])
def test_a_run_that_is_taken_up_gives_the_same_pixels(interrupted, expected, recorder, checkpoints):
    job = interrupted(checkpoints)
    assert len(leftovers(job)) == 4
    assert not os.path.exists(job.output)
    results = reconstruct.run(replace(job, resume=True), recorder.events)
    assert_same(job, expected)
    assert leftovers(job) == []
    assert results["TILES"] == 8 * 3


def test_only_what_is_missing_is_computed(interrupted, recorder):
    job = interrupted(7)
    before = len(recorder.lines)
    reconstruct.run(replace(job, resume=True), recorder.events)
    said = recorder.lines[before:]
    assert "128 of 200 rows are there already" in " ".join(line.get("message", "") for line in said)
    assert min(line["percent"] for line in said if line["event"] == "progress") >= 64


def test_before_the_first_checkpoint_nothing_is_left(interrupted):
    job = interrupted(0)
    assert leftovers(job) == []


def test_a_run_that_died_between_two_final_names_is_finished(make_job, expected, recorder, monkeypatch):
    job, real, left = make_job(), os.replace, [1]

    def replace_one(source, target):
        if str(source).endswith(".part.tif"):
            if left[0] == 0:
                raise InterruptedHereError
            left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_one)
    with pytest.raises(InterruptedHereError):
        reconstruct.run(job, recorder.events)
    monkeypatch.undo()
    assert len(leftovers(job)) == 3
    reconstruct.run(replace(job, resume=True), recorder.events)
    assert_same(job, expected)
    assert leftovers(job) == []


def test_without_resume_a_run_starts_afresh(interrupted, expected, recorder):
    job = interrupted(4)
    reconstruct.run(job, recorder.events)
    assert_same(job, expected)


def test_a_run_with_fewer_outputs_clears_away_what_the_interrupted_one_left(interrupted, expected, recorder):
    job = interrupted(3)
    fewer = replace(job, coarse_output=None, uncertainty=None)
    reconstruct.run(fewer, recorder.events)
    assert leftovers(job) == []


def test_a_copied_journal_touches_nothing_of_the_run_it_was_copied_from(interrupted, expected, recorder, tmp_path):
    job = interrupted(3)
    before = leftovers(job)
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    shutil.copy(journal_path(job.output), copied)
    elsewhere = replace(job, output=str(copied / os.path.basename(job.output)), coarse_output=None, uncertainty=None)
    reconstruct.run(elsewhere, recorder.events)
    assert leftovers(job) == before


def test_with_nothing_to_resume_a_run_starts_at_the_beginning(make_job, expected, recorder):
    job = make_job(resume=True)
    reconstruct.run(job, recorder.events)
    assert_same(job, expected)
    assert "There is no interrupted run beside" in recorder.messages()


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"seed": 1}, "SEED"), ({"samples": 3}, "SAMPLES"), ({"tile_size": 24}, "TILE_SIZE"), ({"steps": 2}, "STEPS"),
     ({"extent": [400000, 5799900, 400100, 5800000]}, "EXTENT"), ({"batch_size": 3}, "BATCH_SIZE")],
)  # fmt: skip
def test_other_settings_are_refused_and_what_is_done_stays(interrupted, recorder, changes, name):
    job = interrupted(4)
    with pytest.raises(UserError, match=f"cannot be taken up: {name} is not what it was.*without RESUME"):
        reconstruct.run(replace(job, resume=True, **changes), recorder.events)
    assert len(leftovers(job)) == 4


def test_another_input_or_a_missing_file_is_refused(interrupted, recorder):
    job = interrupted(4)
    os.utime(job.input, ns=(1, 1))
    with pytest.raises(UserError, match="INPUT is not what it was"):
        reconstruct.run(replace(job, resume=True), recorder.events)


def test_statistics_beside_the_input_change_nothing(interrupted, recorder):
    """QGIS writes them when a layer is looked at."""
    job = interrupted(4)
    with open(f"{job.input}.aux.xml", "w") as file:
        file.write("<PAMDataset><Metadata><MDI key='a'>b</MDI></Metadata></PAMDataset>")
    reconstruct.run(replace(job, resume=True), recorder.events)
    assert os.path.exists(job.output)


def test_too_little_memory_leaves_what_an_interrupted_run_has_done(interrupted, recorder, monkeypatch):
    job = interrupted(4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(50_000_000))
    with pytest.raises(UserError, match="memory are needed"):
        reconstruct.run(job, recorder.events)
    assert len(leftovers(job)) == 4


def test_a_lost_raster_or_a_damaged_journal_is_refused(interrupted, recorder):
    job = interrupted(4)
    whole = os.path.getsize(partial_path(job.output))
    os.truncate(partial_path(job.output), whole // 2)
    with pytest.raises(UserError, match=r"out_output.part.tif' is damaged. Run without RESUME"):
        reconstruct.run(replace(job, resume=True), recorder.events)
    os.truncate(partial_path(job.output), whole)
    os.remove(partial_path(job.uncertainty))
    with pytest.raises(UserError, match="is gone"):
        reconstruct.run(replace(job, resume=True), recorder.events)
    with open(journal_path(job.output), "w") as file:
        file.write('{"format": 1')
    with pytest.raises(UserError, match="damaged"):
        reconstruct.run(replace(job, resume=True), recorder.events)


def kill_at_random(job_file, chance):
    """Run the engine, with as many threads as this process has, kill it at random, and return its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    engine = subprocess.Popen(
        [sys.executable, "-m", "scdm_qgis.engine", str(job_file)], stdout=subprocess.PIPE, text=True, env=environment
    )
    for line in engine.stdout:
        if json.loads(line)["event"] == "progress" and chance.random() < 0.3:
            engine.send_signal(signal.SIGKILL)
            break
    engine.stdout.read()
    return engine.wait()


def test_kills_at_random_moments(make_job, expected, tmp_path):
    """SIGKILL gives a process no chance to tidy up, as a power cut does not."""
    job, job_file, chance, kills = make_job(resume=True), tmp_path / "job.json", random.Random(0), 0
    job_file.write_text(json.dumps(job.to_json()))
    while (status := kill_at_random(job_file, chance)) != 0:
        assert status == -signal.SIGKILL
        kills += 1
    assert kills > 0
    assert_same(job, expected)
    assert leftovers(job) == []


def test_a_full_disk_is_an_error_and_can_be_resumed(make_job, expected, recorder):
    job, before = make_job(), resource.getrlimit(resource.RLIMIT_FSIZE)
    size = os.path.getsize(make_job("whole").output)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 2 // 3, before[1]))
    try:
        with pytest.raises(UserError, match="free space.* then run again with RESUME"):
            reconstruct.run(job, recorder.events)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.path.exists(journal_path(job.output))
    reconstruct.run(replace(job, resume=True), recorder.events)
    assert_same(job, expected)
