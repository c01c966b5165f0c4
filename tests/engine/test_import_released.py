import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.cascade_header import read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine import import_released
from scdm_qgis.engine.jobs import ImportReleasedCheckpoint


@pytest.fixture
def run(real_data, tmp_path, recorder):
    """Import the reference checkpoint with its configuration, changed as asked."""

    def start(weights="ema", checkpoint=None, without=(), **changes):
        folder = real_data / "authors_reference"
        config = {**json.loads((folder / "reference_small.json").read_text()), **changes}
        path = tmp_path / "config.json"
        path.write_text(json.dumps({key: value for key, value in config.items() if key not in without}))
        output = str(tmp_path / "stage.safetensors")
        source = str(checkpoint or folder / "reference_small.pth")
        import_released.run(ImportReleasedCheckpoint(source, str(path), output, weights), recorder.events)
        return output

    return start


@pytest.mark.parametrize(("weights", "key"), [("ema", "eps_cond_t500"), ("raw", "eps_cond_rawweights_t500")])
@torch.no_grad()
def test_the_imported_stage_predicts_what_the_released_code_does(run, real_data, weights, key):
    stage = Cascade.load(run(weights)).stages[0]
    numbers = load_file(real_data / "authors_reference" / "reference_small.safetensors")
    ours = stage.network(numbers["x_t"], torch.full((2,), 500), numbers["condition"])
    assert (ours - numbers[key]).abs().max().item() <= 1e-5


def test_what_the_stage_file_says(run, recorder):
    stage = read_header(run(guidance_weight=0.5, wavelengths=[400, 500, 600, 700, 800, 900])).stages[0]
    assert stage.prediction == "noise"
    assert (stage.sampler, stage.steps, stage.schedule.timesteps) == ("ddpm", None, 1000)
    assert stage.guidance_weight == 0.5
    assert (stage.truncation.percentile, stage.truncation.target) == (0.96, "state")
    assert stage.truncation.threshold == "sample"
    assert stage.wavelengths_nm == (400, 500, 600, 700, 800, 900)
    assert stage.condition.rgb_bands == (0, 0, 0)
    assert "ignored size, schedule, note" in recorder.messages()


def test_second_moment_allows_the_scheduled_threshold(run):
    stage = read_header(run(second_moment=0.3)).stages[0]
    assert (stage.truncation.threshold, stage.second_moment) == ("schedule", 0.3)


def test_later_stages_see_the_stage_before(run):
    stage = read_header(run(stage=2, stages=2)).stages[0]
    assert (stage.index, stage.of) == (2, 2)
    assert stage.condition.previous_bands == (1, 2, 3)
    assert stage.condition.rgb_bands == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"without": ("bands",)}, "CONFIG lacks bands"),
        ({"bands": 7}, "does not fit the configuration"),
        ({"channel_mults": [1, 2, 2, 2]}, "does not fit the configuration"),
        ({"attention_levels": [1]}, "does not fit the configuration"),
        ({"base_channels": "many"}, "values of the wrong kind"),
        ({"bands": [6]}, "values of the wrong kind"),
        ({"base_channels": 33}, "multiple of 32"),
        ({"wavelengths": [400]}, "CONFIG has 1 wavelengths for"),
        ({"wavelengths": [400, float("nan")]}, "must be positive numbers"),
        ({"scale": "abc"}, "values of the wrong kind"),
        ({"offset": None}, "values of the wrong kind"),
        ({"bands": 3.7}, "values of the wrong kind"),
        ({"stage": 3, "stages": 2}, "Stage 3 of 2"),
        ({"scale": 0}, "scale must be a positive number"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(run, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        run(**changes)
    assert not (tmp_path / "stage.safetensors").exists()


def test_files_that_are_no_checkpoint_are_refused(run, tmp_path, real_data):
    text = tmp_path / "text.pth"
    text.write_text("hello")
    with pytest.raises(UserError, match="not a PyTorch checkpoint"):
        run(checkpoint=text)
    other = tmp_path / "other.pth"
    torch.save({"weights": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="holds no weights"):
        run(checkpoint=other)
    cut = tmp_path / "cut.pth"
    shutil.copy(real_data / "authors_reference" / "reference_small.pth", cut)
    cut.chmod(0o644)
    with open(cut, "r+b") as file:
        file.truncate(100_000)
    with pytest.raises(UserError, match="not a PyTorch checkpoint"):
        run(checkpoint=cut)


def test_code_in_a_checkpoint_is_not_run(run, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    path = tmp_path / "harmful.pth"
    torch.save({"ema_model.x": Harmful()}, path)
    with pytest.raises(UserError):
        run(checkpoint=path)
    assert not (tmp_path / "harm").exists()
