import copy

import pytest
import torch

from scdm_qgis.core import guidance
from scdm_qgis.core.guidance import GuidedNetwork, kept_bytes
from scdm_qgis.core.precision import in_bfloat16
from scdm_qgis.core.presets import PRESETS, NetworkConfig
from scdm_qgis.core.unet import UNet

TIME = 700
CONFIGS = {
    "groups straddle inputs": NetworkConfig(16, (1, 2, 2), attention_levels=(2,), norm_groups=8),
    "one group": NetworkConfig(8, (1, 2), encoder_blocks=1, decoder_blocks=2, norm_groups=1),
    "two groups": NetworkConfig(8, (1, 1), middle_attention=False, norm_groups=2),
    "a channel a group": NetworkConfig(8, (2, 1), norm_groups=8),
    "one resolution": NetworkConfig(32, (1,), norm_groups=32, dropout=0.1),
}


def make_network(config, bands=5, condition_bands=3):
    """Return a network none of whose parameters is a neutral one, so that each must be used in its place."""
    torch.manual_seed(0)
    network = UNet(config, bands, condition_bands).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return network


def inputs(batch=2, height=12, width=10, bands=5, condition_bands=3):
    random = torch.Generator().manual_seed(1)
    x_t = torch.randn(batch, bands, height, width, generator=random)
    condition = torch.randn(batch, condition_bands, height, width, generator=random)
    return x_t, torch.full((batch,), TIME), condition


def two_passes(network, x_t, t, condition, weight):
    """Equation 19 as it stands."""
    conditional, empty = network(x_t, t, condition), network(x_t, t, torch.zeros_like(condition))
    return conditional + weight * (conditional - empty)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.5])
@torch.inference_mode()
def test_guided_output_is_that_of_two_passes(config, weight):
    network, given = make_network(config), inputs()
    expected = two_passes(network, *given, weight)
    assert expected.std() > 0.05
    guided = GuidedNetwork(network, weight)
    for _ in range(2):  # with the empty condition's features made, and kept
        assert (guided(*given) - expected).abs().max() <= 5e-6 * (1 + weight)


@torch.inference_mode()
def test_features_that_are_kept_belong_to_a_timestep_and_a_size():
    network = make_network(CONFIGS["groups straddle inputs"])
    guided = GuidedNetwork(network, 1.0)
    for batch, height, width, time in [(1, 8, 8, TIME), (2, 8, 8, TIME), (1, 8, 12, TIME), (1, 8, 8, 3)]:
        x_t, _, condition = inputs(batch, height, width)
        t = torch.full((batch,), time)
        expected = two_passes(network, x_t, t, condition, 1.0)
        assert torch.allclose(guided(x_t, t, condition), expected, atol=1e-5)


def encoder_passes(network, guided, *given):
    passes = []
    hook = network.encoder[-1].register_forward_hook(lambda module, inputs, output: passes.append(output.shape[0]))
    guided(*given)
    hook.remove()
    return passes


@torch.inference_mode()
def test_what_is_shared_is_computed_once():
    """The noisy image and the condition each time, the empty condition once a timestep and for one sample."""
    network, given = make_network(CONFIGS["groups straddle inputs"]), inputs()
    guided = GuidedNetwork(network, 1.0)
    assert sorted(encoder_passes(network, guided, *given)) == [1, 2, 2]
    assert encoder_passes(network, guided, *given) == [2, 2]
    other_time = (given[0], given[1] - 1, given[2])
    assert sorted(encoder_passes(network, guided, *other_time)) == [1, 2, 2]


@torch.inference_mode()
def test_no_more_is_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(guidance, "CACHE_BYTES", 0)
    network, given = make_network(CONFIGS["groups straddle inputs"]), inputs()
    guided = GuidedNetwork(network, 1.0)
    for _ in range(2):
        assert len(encoder_passes(network, guided, *given)) == 3


@pytest.mark.parametrize("preset", ["tiny", "compact"])
@torch.inference_mode()
def test_what_is_kept_is_about_what_is_said(preset):
    config = PRESETS[preset].network
    made = UNet(config, 20, 3).empty_condition(torch.tensor([TIME]), 32, 32)
    taken = sum(tensor.nbytes for empty in made for tensor in (empty.rest, *empty.part))
    assert kept_bytes(config, 32, 1) == pytest.approx(taken, rel=0.1)


@torch.inference_mode()
def test_no_guidance_asks_the_network_once():
    network = make_network(CONFIGS["groups straddle inputs"])
    calls = []
    network.conv_out.register_forward_hook(lambda *_: calls.append(1))
    GuidedNetwork(network, 0.0)(*inputs())
    assert len(calls) == 1


@pytest.mark.parametrize("weight", [0.0, 1.0])
@torch.inference_mode()
def test_bfloat16_stays_close_and_leaves_the_network_alone(weight):
    network, given = make_network(CONFIGS["groups straddle inputs"]), inputs()
    before = copy.deepcopy(network.state_dict())
    expected = two_passes(network, *given, weight)
    low = GuidedNetwork(network, weight, bfloat16=True)(*given)
    assert low.dtype == torch.float32
    assert 1e-5 < (low - expected).abs().max() < 0.04 * expected.abs().max()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@torch.inference_mode()
def test_time_is_embedded_in_full_precision():
    """Neighbouring late timesteps, which bfloat16 cannot tell apart, have embeddings of their own."""
    network = make_network(CONFIGS["groups straddle inputs"])
    t = torch.tensor([998, 999])
    assert torch.equal(in_bfloat16(network).time(t), network.time(t))
    assert not torch.equal(*network.time(t))
