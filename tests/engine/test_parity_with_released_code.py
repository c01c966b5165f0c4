"""The imported checkpoint against numbers the released code computed with it.

Network, truncation, guidance, posterior mean, forward process and losses, all through the stage file that
Import Released SCDM Checkpoint makes with the configuration that lies beside the checkpoint.
"""

import io

import pytest
import torch
from safetensors.torch import load_file

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.denoiser import NoiseDenoiser
from scdm_qgis.core.guidance import GuidedNetwork
from scdm_qgis.core.losses import prediction_loss, spectral_angle_loss
from scdm_qgis.core.samplers import posterior_mean
from scdm_qgis.core.truncation import TruncatedDenoiser
from scdm_qgis.engine import import_released
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import ImportReleasedCheckpoint

TIMES = (999, 500, 20, 0)
TOLERANCE = 1e-5
GUIDANCE_WEIGHT = 2.5  # what the reference's posterior means were computed with


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data / "authors_reference"


@pytest.fixture(scope="module")
def numbers(folder):
    return load_file(folder / "reference_small.safetensors")


@pytest.fixture(scope="module")
def stages(folder, tmp_path_factory):
    """The imported stage with averaged and with raw weights."""
    imported = {}
    for weights in ("ema", "raw"):
        output = str(tmp_path_factory.mktemp("imported") / f"{weights}.safetensors")
        source, config = (str(folder / f"reference_small.{ending}") for ending in ("pth", "json"))
        job = ImportReleasedCheckpoint(source, config, output, weights)
        import_released.run(job, EventWriter(io.StringIO()))
        imported[weights] = Cascade.load(output).stages[0]
    return imported


@pytest.fixture(scope="module")
def schedule(stages):
    return stages["ema"].schedule()


def assert_same(ours, released):
    difference = (ours - released).abs().max().item()
    assert difference <= TOLERANCE, f"largest difference {difference:.2e}"


def at_time(t):
    return torch.full((2,), t)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(
    ("key", "weights", "empty"),
    [("eps_cond", "ema", False), ("eps_uncond", "ema", True), ("eps_cond_rawweights", "raw", False)],
)
@torch.no_grad()
def test_predicted_noise(stages, numbers, t, key, weights, empty):
    condition = torch.zeros_like(numbers["condition"]) if empty else numbers["condition"]
    assert_same(stages[weights].network(numbers["x_t"], at_time(t), condition), numbers[f"{key}_t{t}"])


def truncated(stage, schedule):
    guided = GuidedNetwork(stage.network, stage.header.guidance_weight)
    return TruncatedDenoiser(
        NoiseDenoiser(guided, schedule), stage.header.truncation, schedule, stage.header.second_moment
    )


@pytest.mark.parametrize("t", TIMES)
def test_truncated_state(stages, schedule, numbers, t):
    assert_same(
        truncated(stages["ema"], schedule).state(1.5 * numbers["x_t"], at_time(t)), numbers[f"truncated_x_t{t}"]
    )


@pytest.mark.parametrize("t", TIMES)
@torch.no_grad()
def test_posterior_mean_with_guidance_and_truncation(stages, schedule, numbers, t):
    denoiser = truncated(stages["ema"], schedule)
    state = denoiser.state(1.5 * numbers["x_t"], at_time(t))
    prediction = denoiser(state, at_time(t), numbers["condition"])
    assert_same(posterior_mean(state, at_time(t), prediction, schedule), numbers[f"posterior_mean_t{t}"])


@torch.no_grad()
def test_forward_process_and_losses(stages, schedule, numbers):
    t, x_0, valid = at_time(300), numbers["x0"], torch.ones(2, 1, 32, 32)
    perturbed = schedule.add_noise(x_0, t, numbers["noise"])
    assert_same(perturbed, numbers["perturbed_t300"])
    prediction = NoiseDenoiser(stages["raw"].network, schedule)(perturbed, t, numbers["condition"])
    assert_same(prediction.x_0, numbers["x0_hat_t300"])
    assert_same(prediction_loss(prediction.eps, numbers["noise"], valid, "mse"), numbers["loss_mse_t300"])
    assert_same(spectral_angle_loss(x_0, prediction.x_0, valid), numbers["loss_sam_t300"])


def test_settings_come_from_the_configuration(stages):
    header = stages["ema"].header
    assert header.guidance_weight == GUIDANCE_WEIGHT
    assert (header.truncation.percentile, header.truncation.threshold) == (0.96, "sample")


def test_schedule(schedule, numbers):
    assert_same(schedule.abar, numbers["alphas_cumprod"])
