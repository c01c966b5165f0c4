import json

import pytest

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.job_values import per_stage, read_per_stage, read_wavelengths
from scdm_qgis.engine.jobs import (
    JOBS,
    AssembleCascade,
    CreateDemoScene,
    EvaluateReconstruction,
    RgbToHyperspectral,
    SimulateRgb,
    job_from_json,
)

PATHS = {"input": "in.tif", "model": "m.safetensors", "output": "out.tif"}


def test_every_job_survives_json():
    required = {
        "inputs": ["a.tif"],
        "stage_files": ["a.st"],
        "stage": 1,
        "config": "c.json",
        "prediction": "p.tif",
        "reference": "r.tif",
        **PATHS,
    }
    for name, kind in JOBS.items():
        given = {key: value for key, value in required.items() if key in kind.__dataclass_fields__}
        if name == "train_cascade_stage":
            given["prediction"] = "noise"
        job = kind(**given)
        assert job_from_json(json.loads(json.dumps(job.to_json()))) == job
        assert job.to_json()["job"] == name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": -1}, "SAMPLES is -1"),
        ({"samples": 1.5}, "SAMPLES must be a whole number"),
        ({"seed": True}, "SEED must be a whole number"),
        ({"tile_size": 64, "overlap": 64}, "OVERLAP 64 is not smaller than TILE_SIZE 64"),
        ({"uncertainty": "u.tif", "samples": 1}, "at least two draws"),
        ({"guidance": "0,x"}, "not a list of numbers"),
        ({"guidance": -1}, "GUIDANCE is -1"),
        ({"truncation": 0}, "TRUNCATION is 0"),
        ({"truncation": "0.9,1.1"}, "TRUNCATION is 1.1"),
        ({"device": "gpu"}, "DEVICE 'gpu'"),
        ({"sampler": "magic"}, "SAMPLER 'magic'"),
        ({"extent": [0, 0, 0, 1]}, "no rectangle"),
        ({"output": ""}, "OUTPUT is not a path"),
        ({"steps": 0}, "STEPS is 0"),
        ({"rgb_bands": 7}, "RGB_BANDS is not a list of bands"),
        ({"rgb_bands": [1.5, 2, 3]}, "RGB_BANDS is not a list of bands"),
        ({"guidance": True}, "not a list of numbers"),
        ({"guidance": []}, "not a list of numbers"),
        ({"extent": [0, 0, float("inf"), 1]}, "no rectangle"),
    ],
)
def test_wrong_values_are_refused_with_the_parameters_name(options, sentence):
    with pytest.raises(UserError) as error:
        RgbToHyperspectral(**{**PATHS, **options})
    assert sentence in error.value.message
    assert error.value.remedy


@pytest.mark.parametrize("peak", [10**400, 1e300, float("nan"), 0])
def test_numbers_beyond_what_can_be_computed_with_are_refused(peak):
    with pytest.raises(UserError, match="PEAK (must be a number|is )"):
        EvaluateReconstruction("p.tif", "r.tif", peak=peak)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "unipc", None])
def test_samplers(sampler):
    job = RgbToHyperspectral(**PATHS, sampler=sampler)
    assert job_from_json(job.to_json()).sampler == sampler


def test_numbers_per_stage():
    assert read_per_stage("GUIDANCE", None) is None
    assert read_per_stage("GUIDANCE", " ") is None
    assert read_per_stage("GUIDANCE", "0, 0.5") == (0, 0.5)
    assert per_stage("GUIDANCE", 2, 3) == (2, 2, 2)
    assert per_stage("GUIDANCE", [1, 2], 2) == (1, 2)
    with pytest.raises(UserError, match="2 numbers, but the model has 3 stages"):
        per_stage("GUIDANCE", [1, 2], 3)


def test_wavelengths():
    assert read_wavelengths("430-860") == (430, 860)
    assert read_wavelengths("430, 440.5") == (430, 440.5)
    assert read_wavelengths([1, 2]) == (1, 2)
    assert read_wavelengths("") is None
    for wrong in ("a-b", "430;440", "-5", "nan", "1e12"):
        with pytest.raises(UserError):
            read_wavelengths(wrong)


def test_paths_are_checked(tmp_path):
    source = tmp_path / "in.tif"
    source.write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes"):
        SimulateRgb(str(source), str(tmp_path / "out.tif")).check_paths()
    source.write_bytes(b"x")
    SimulateRgb(str(source), str(tmp_path / "out.tif")).check_paths()
    for output, sentence in (
        (source, "also an input"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "out.tif", "does not exist"),
    ):
        with pytest.raises(UserError, match=sentence):
            SimulateRgb(str(source), str(output)).check_paths()
    (tmp_path / "out.part.tif").write_bytes(b"x")
    with pytest.raises(UserError, match="until it is whole"):
        SimulateRgb(str(tmp_path / "out.part.tif"), str(tmp_path / "out.tif")).check_paths()
    with pytest.raises(UserError, match="same name"):
        CreateDemoScene(str(tmp_path / "b.tif"), rgb_output=str(tmp_path / "b.part.tif")).check_paths()
    with pytest.raises(UserError, match="same name"):
        CreateDemoScene(str(tmp_path / "a.tif"), rgb_output=str(tmp_path / "a.tif")).check_paths()


def test_paths_become_absolute_where_they_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.tif").write_bytes(b"x")
    job = SimulateRgb("in.tif", "out.tif").with_absolute_paths()
    assert (job.input, job.output) == (str(tmp_path / "in.tif"), str(tmp_path / "out.tif"))
    assert SimulateRgb("/vsizip/a.zip/b.tif", "out.tif").with_absolute_paths().input == "/vsizip/a.zip/b.tif"
    job = AssembleCascade(["in.tif"], "out.st").with_absolute_paths()
    assert job.stage_files == [str(tmp_path / "in.tif")]
