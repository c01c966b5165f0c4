import pytest
import torch

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import PRESETS, NetworkConfig
from scdm_qgis.core.unet import UNet, pad_by_reflection
from scdm_qgis.core.unet_blocks import Downsample, SelfAttention, Upsample

SMALL = NetworkConfig(16, (1, 2, 2), attention_levels=(2,), norm_groups=8)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_paper_preset_has_the_papers_shape():
    """Seven resolutions from 256 to 4, time embedding 512, attention at 16 x 16 and in the middle."""
    config = PRESETS["paper"].network
    with torch.device("meta"):
        network = UNet(config, 48, 12)
        attended, resolutions = [], []
        for module in network.modules():
            if isinstance(module, SelfAttention):
                module.register_forward_hook(lambda m, inputs, output: attended.append(tuple(output.shape[-2:])))
            if isinstance(module, Downsample):
                module.register_forward_hook(lambda m, inputs, output: resolutions.append(output.shape[-1]))
        out = network(torch.zeros(1, 48, 256, 256), torch.zeros(1, dtype=torch.long), torch.zeros(1, 12, 256, 256))
    assert out.shape == (1, 48, 256, 256)
    assert network.time.mix.out_features == 512
    assert resolutions == 2 * [128, 64, 32, 16, 8, 4]
    # Two encoder blocks in each of two branches, three decoder blocks, one middle block.
    assert sorted(attended) == [(4, 4)] + 7 * [(16, 16)]
    assert all(len(blocks) == 3 for blocks in network.decoder)
    assert len([m for m in network.encoder if not isinstance(m, Downsample)]) == 14
    assert parameters(network) == pytest.approx(77.5e6, rel=0.005)


@pytest.mark.parametrize(("preset", "low", "high"), [("compact", 8e6, 12e6), ("tiny", 0.3e6, 1.5e6)])
@pytest.mark.parametrize(("bands", "condition_bands"), [(12, 3), (224, 29)])
def test_sizes_of_the_small_presets(preset, low, high, bands, condition_bands):
    with torch.device("meta"):
        assert low < parameters(UNet(PRESETS[preset].network, bands, condition_bands)) < high


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 7), (16, 16), (17, 4)])
def test_any_patch_size(size):
    network = UNet(SMALL, 5, 3).eval()
    out = network(torch.zeros(2, 5, *size), torch.tensor([0, 9]), torch.zeros(2, 3, *size))
    assert out.shape == (2, 5, *size)
    assert torch.isfinite(out).all()


def test_padding_mirrors_as_often_as_needed():
    row = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    padded = pad_by_reflection(row, 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]
    assert (padded == padded[:, :, :1]).all()


def test_whole_multiples_are_not_padded():
    x = torch.zeros(1, 1, 8, 16)
    assert pad_by_reflection(x, 8) is x


def test_both_branches_share_their_encoder():
    """With the first convolutions equal and equal inputs, both branches see the same features."""
    network = UNet(NetworkConfig(16, (1, 2), norm_groups=8), 3, 3).eval()
    network.first_condition.load_state_dict(network.first_noisy.state_dict())
    seen = []
    network.encoder[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x, torch.tensor([7]), x)
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])


def test_condition_and_time_matter():
    torch.manual_seed(0)
    network = UNet(SMALL, 4, 3).eval()
    x, condition, t = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8, 8), torch.tensor([500])
    out = network(x, t, condition)
    assert not torch.allclose(out, network(x, t, torch.zeros_like(condition)), atol=1e-4)
    assert not torch.allclose(out, network(x, torch.tensor([10]), condition), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_channels": 20, "channel_multipliers": (1,)},
        {"base_channels": 32, "channel_multipliers": ()},
        {"base_channels": 32, "channel_multipliers": (1, 2), "attention_levels": (2,)},
        {"base_channels": 32, "channel_multipliers": (1,), "decoder_blocks": 5},
    ],
)
def test_impossible_shapes_are_refused(settings):
    with pytest.raises(UserError):
        NetworkConfig(**settings)


def test_config_survives_json():
    config = PRESETS["paper"].network
    assert NetworkConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4)])
def test_four_products_a_pixel_upsample_like_nine(size, monkeypatch):
    monkeypatch.setattr("scdm_qgis.core.unet_blocks.FEWEST_PIXELS_BY_PHASE", 1)
    torch.manual_seed(0)
    layer, x = Upsample(3).double(), torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        assert (layer.for_sampling(x) - layer(x)).abs().max() < 1e-14
