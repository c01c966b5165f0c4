"""Our network, truncation, guidance and posterior mean against numbers the released code computed."""

import json

import pytest
import torch
from safetensors.torch import load_file

from scdm_qgis.core.cascade_header import ScheduleConfig, Truncation
from scdm_qgis.core.denoiser import NoiseDenoiser
from scdm_qgis.core.guidance import GuidedDenoiser
from scdm_qgis.core.losses import prediction_loss, spectral_angle_loss
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.released_checkpoint import load_released_weights, read_released_weights
from scdm_qgis.core.samplers import posterior_mean
from scdm_qgis.core.schedule import Schedule
from scdm_qgis.core.truncation import TruncatedDenoiser
from scdm_qgis.core.unet import UNet

TIMES = (999, 500, 20, 0)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data / "authors_reference"


@pytest.fixture(scope="module")
def config(folder):
    return json.loads((folder / "reference_small.json").read_text())


@pytest.fixture(scope="module")
def numbers(folder):
    return load_file(folder / "reference_small.safetensors")


@pytest.fixture(scope="module")
def schedule(config):
    return Schedule(ScheduleConfig(timesteps=config["timesteps"]))


@pytest.fixture(scope="module")
def networks(folder, config):
    shape = NetworkConfig(
        config["base_channels"], tuple(config["channel_mults"]), tuple(config["attention_levels"]), dropout=0.1
    )
    networks = {}
    for weights in ("ema", "raw"):
        networks[weights] = UNet(shape, config["bands"], config["condition_bands"]).eval()
        load_released_weights(networks[weights], read_released_weights(str(folder / "reference_small.pth"), weights))
    return networks


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
def test_predicted_noise(networks, numbers, t, key, weights, empty):
    condition = torch.zeros_like(numbers["condition"]) if empty else numbers["condition"]
    assert_same(networks[weights](numbers["x_t"], at_time(t), condition), numbers[f"{key}_t{t}"])


def truncated(networks, config, schedule):
    guided = GuidedDenoiser(NoiseDenoiser(networks["ema"], schedule), config["guidance_weight"])
    return TruncatedDenoiser(guided, Truncation(config["pdt_lower"], "state", "sample"), schedule, None)


@pytest.mark.parametrize("t", TIMES)
def test_truncated_state(networks, config, schedule, numbers, t):
    assert_same(
        truncated(networks, config, schedule).state(1.5 * numbers["x_t"], at_time(t)), numbers[f"truncated_x_t{t}"]
    )


@pytest.mark.parametrize("t", TIMES)
@torch.no_grad()
def test_posterior_mean_with_guidance_and_truncation(networks, config, schedule, numbers, t):
    denoiser = truncated(networks, config, schedule)
    state = denoiser.state(1.5 * numbers["x_t"], at_time(t))
    prediction = denoiser(state, at_time(t), numbers["condition"])
    assert_same(posterior_mean(state, at_time(t), prediction, schedule), numbers[f"posterior_mean_t{t}"])


@torch.no_grad()
def test_forward_process_and_losses(networks, schedule, numbers):
    t, x_0, valid = at_time(300), numbers["x0"], torch.ones(2, 1, 32, 32)
    perturbed = schedule.add_noise(x_0, t, numbers["noise"])
    assert_same(perturbed, numbers["perturbed_t300"])
    prediction = NoiseDenoiser(networks["raw"], schedule)(perturbed, t, numbers["condition"])
    assert_same(prediction.x_0, numbers["x0_hat_t300"])
    assert_same(prediction_loss(prediction.eps, numbers["noise"], valid, "mse"), numbers["loss_mse_t300"])
    assert_same(spectral_angle_loss(x_0, prediction.x_0, valid), numbers["loss_sam_t300"])


def test_schedule(schedule, numbers):
    assert_same(schedule.abar, numbers["alphas_cumprod"])
