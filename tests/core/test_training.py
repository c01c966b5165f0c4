import pytest
import torch

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.reconstruction import sample_stage, settings_for
from scdm_qgis.core.training import Batch, MovingAverage, TrainingSettings, stage_loss, train
from scdm_qgis.core.unet import UNet


def settings(**changes):
    values = {
        "batch_size": 4,
        "iterations": 150,
        "learning_rate": 3e-3,
        "cosine_decay": True,
        "loss": "mse",
        "p_unconditional": 0.1,
        "mean_share": 0.0,
        "sam_weight": 1.0,
        "ema_decay": 0.95,
        "ema_start": 10,
        "seed": 0,
        "bfloat16": False,
    }
    return TrainingSettings(**{**values, **changes})


class Squares:
    """Patches whose target is regression plus the square of the first condition band."""

    def __init__(self, stage, size=8):
        self._stage, self._size = stage, size
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, count):
        shape = (count, self._stage.header.condition.count, self._size, self._size)
        corners = 2 * torch.rand((*shape[:2], 2, 2), generator=self._generator) - 1
        condition = torch.nn.functional.interpolate(corners, shape[2:], mode="bilinear", align_corners=True)
        bend = 0.3 * condition[:, :1].square() - 0.1
        target = (self._stage.anchor.predict(condition) if self._stage.anchor else 0) + bend.expand(
            -1, len(self._stage.header.bands), -1, -1
        )
        return Batch(target, condition, torch.ones(count, 1, self._size, self._size))


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_an_anchored_stage_learns_what_regression_cannot(make_stage, loss):
    torch.manual_seed(0)
    stage = make_stage(1)
    patches = Squares(stage)
    how = settings(loss=loss, iterations=200, learning_rate=1e-2)
    network, history = train(stage, patches, how, lambda iteration, value: None)
    stage.network = network
    batch = patches(8)
    with torch.inference_mode():
        estimated = sample_stage(stage, batch.condition, settings_for(stage.header, draw=False), None)
        own = (estimated - batch.target).square().mean().item()
        regression = (stage.anchor.predict(batch.condition) - batch.target).square().mean().item()
    assert own < 0.6 * regression
    assert history[-1][1] < history[0][1]
    assert history[-1][0] == 200


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_the_other_predictions_learn_too(make_stage, prediction):
    stage = make_stage(1, prediction=prediction)
    _, history = train(stage, Squares(stage), settings(), lambda iteration, value: None)
    assert history[-1][1] < 0.9 * history[0][1]


def test_same_seed_same_weights(make_stage):
    def trained():
        stage = make_stage(1)
        return train(stage, Squares(stage), settings(iterations=5), lambda iteration, value: None)[0].state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_divergence_is_said(make_stage):
    stage = make_stage(1)
    with pytest.raises(UserError, match="diverged"):
        train(stage, Squares(stage), settings(learning_rate=1e30, cosine_decay=False), lambda iteration, value: None)


def test_empty_conditions_reach_the_network(make_stage):
    stage = make_stage(1, untrained_output=True)
    seen = []
    stage.network.first_condition.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    batch = Squares(stage)(64)
    stage_loss(stage, stage.schedule(), batch, settings(p_unconditional=0.5))
    empty = (seen[0].flatten(1) == 0).all(dim=1).float().mean().item()
    assert 0.3 < empty < 0.7
    stage_loss(stage, stage.schedule(), batch, settings(p_unconditional=0.0))
    assert torch.equal(seen[1], batch.condition)


def test_moving_average():
    """Copies until it starts, then averages."""
    torch.manual_seed(0)

    network = UNet(NetworkConfig(8, (1,), norm_groups=4), 1, 1)
    average = MovingAverage(network, decay=0.5, start=1)

    def set_bias(value):
        with torch.no_grad():
            network.conv_out.bias.fill_(value)
        average.update(network)
        return average.network.conv_out.bias.item()

    assert set_bias(1.0) == 1.0
    assert set_bias(2.0) == pytest.approx(0.1 * 1 + 0.9 * 2)
    assert set_bias(2.0) == pytest.approx(2 / 11 * 1.9 + 9 / 11 * 2)
    for _ in range(50):
        last = set_bias(3.0)
    assert last == pytest.approx(3.0, abs=1e-3)
