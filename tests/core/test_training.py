import json
from dataclasses import replace

import pytest
import torch

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.moving_average import MovingAverage
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.reconstruction import StageSampler, settings_for
from scdm_qgis.core.training import (
    Batch,
    Training,
    TrainingSettings,
    draw,
    stage_loss,
    train,
)
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

    def __call__(self, iteration, count, part=slice(None)):
        shape = (count, self._stage.header.condition.count, self._size, self._size)
        generator = torch.Generator().manual_seed(iteration)
        corners = 2 * torch.rand((*shape[:2], 2, 2), generator=generator) - 1
        condition = torch.nn.functional.interpolate(corners, shape[2:], mode="bilinear", align_corners=True)
        bend = 0.3 * condition[:, :1].square() - 0.1
        target = (self._stage.anchor.expect(condition).estimate if self._stage.anchor else 0) + bend.expand(
            -1, len(self._stage.header.bands), -1, -1
        )
        valid = (torch.rand(count, 1, self._size, self._size, generator=generator) < 0.8).float()
        return Batch(target[part], condition[part], valid[part])


def no_report(training):
    pass


def trained(stage, how, judge=None):
    training = Training(stage, how)
    train(training, Squares(stage), no_report, how.iterations, judge)
    return training.best_network(), training


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_an_anchored_stage_learns_what_regression_cannot(make_stage, loss):
    torch.manual_seed(0)
    stage = make_stage(1)
    patches = Squares(stage)
    how = settings(loss=loss, iterations=200, learning_rate=1e-2)
    stage.network, training = trained(stage, how)
    batch = patches(1000, 8)
    with torch.inference_mode():
        sample = StageSampler(stage, settings_for(stage.header, draw=False))
        estimated = sample(sample.see(batch.condition), None)
        own = (estimated - batch.target).square().mean().item()
        regression = (stage.anchor.expect(batch.condition).estimate - batch.target).square().mean().item()
    assert own < 0.6 * regression
    assert training.losses[-1][1] < training.losses[0][1]
    assert training.losses[-1][0] == 200


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_the_other_predictions_learn_too(make_stage, prediction):
    stage = make_stage(1, prediction=prediction)
    losses = [loss for _, loss in trained(stage, settings(iterations=200, sam_weight=0.0))[1].losses]
    assert sum(losses[-50:]) < 0.9 * sum(losses[:50])


def test_same_seed_same_weights(make_stage):
    first, second = (trained(make_stage(1), settings(iterations=5))[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_divergence_is_said(make_stage):
    stage = make_stage(1)
    with pytest.raises(UserError, match="diverged"):
        trained(stage, settings(learning_rate=1e30, cosine_decay=False))


def test_empty_conditions_reach_the_network(make_stage):
    stage = make_stage(1, untrained_output=True)
    seen = []
    stage.network.first_condition.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    batch, schedule = Squares(stage)(0, 64), stage.schedule()
    for share in (0.5, 0.0):
        how = settings(p_unconditional=share)
        draws = draw(schedule, tuple(batch.target.shape), slice(None), 0, how, torch.device("cpu"))
        stage_loss(stage, schedule, batch, draws, how)
    empty = (seen[0].flatten(1) == 0).all(dim=1).float().mean().item()
    assert 0.3 < empty < 0.7
    assert torch.equal(seen[1], stage.network_condition(batch.condition))


def test_noise_of_training_is_as_correlated_as_residuals(make_stage):
    """A regression that is right leaves nothing but noise to predict; what cancels between bands leaves no noise."""
    stage = make_stage(1)
    bands = len(stage.header.bands)
    stage = replace(stage, anchor=replace(stage.anchor, mixing=torch.full((bands, bands), bands**-0.5)))
    batch, schedule = Squares(stage)(0, 2), stage.schedule()
    batch = replace(batch, target=stage.anchor.expect(batch.condition).estimate)
    shape = tuple(batch.target.shape)
    draws = draw(schedule, shape, slice(None), 0, settings(sam_weight=0.0), torch.device("cpu"))
    assert stage_loss(stage, schedule, batch, draws, settings(sam_weight=0.0)) > 0.01
    cancelling = replace(draws, normals=draws.normals - draws.normals.mean(dim=1, keepdim=True))
    assert stage_loss(stage, schedule, batch, cancelling, settings(sam_weight=0.0)) < 1e-8


def test_a_part_of_the_draws_is_cut_from_the_whole(make_stage):
    schedule, shape = make_stage(1).schedule(), (8, 2, 4, 4)
    how = settings(mean_share=0.5)
    whole = draw(schedule, shape, slice(None), 3, how, torch.device("cpu"))
    part = draw(schedule, shape, slice(4, 8), 3, how, torch.device("cpu"))
    other = draw(schedule, shape, slice(None), 4, how, torch.device("cpu"))
    for name in ("t", "normals", "noisy", "keep"):
        assert torch.equal(getattr(whole, name)[4:], getattr(part, name))
    assert not torch.equal(whole.normals, other.normals)
    zero = whole.noisy.flatten() == 0
    assert zero.any() and not zero.all()
    assert (whole.t[zero] == schedule.timesteps - 1).all()
    assert (whole.normals[zero] == 0).all() and (whole.normals[~zero] != 0).all()


def test_a_training_taken_up_again_equals_one_that_was_not_interrupted(make_stage):
    how = settings(iterations=9, validations=3)

    def judge(network):
        return float(network.conv_out.weight.abs().sum()), 0.0

    network, training = trained(make_stage(1), how, judge)
    stage = make_stage(1)
    interrupted = Training(stage, how)

    class CutError(Exception):
        pass

    def cut(training):
        if training.iteration == 5:
            raise CutError

    with pytest.raises(CutError):
        train(interrupted, Squares(stage), cut, how.iterations, judge)
    values = json.loads(json.dumps(interrupted.values()))
    stage = make_stage(1)
    again = Training(stage, how)
    again.restore(interrupted.tensors(), values)
    assert again.iteration == 5
    train(again, Squares(stage), no_report, how.iterations, judge)
    other = again.best_network()
    assert again.losses == training.losses
    assert again.judgements == training.judgements
    before, after = training.tensors(), again.tensors()
    assert set(before) == set(after)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


def test_the_best_judged_weights_are_kept_and_an_early_stop_comes_after_three_worse(make_stage):
    scores = iter([3.0, 1.0, 2.0, 1.5, 2.5, 0.5])
    kept = []

    def judge(network):
        kept.append({key: value.clone() for key, value in network.state_dict().items()})
        return next(scores), 0.1

    network, training = trained(make_stage(1), settings(iterations=60, validations=6, early_stop=True), judge)
    assert training.iteration == 50
    assert [rmse for _, rmse, _ in training.judgements] == [3.0, 1.0, 2.0, 1.5, 2.5]
    assert all(torch.equal(value, kept[1][key]) for key, value in network.state_dict().items())
    assert torch.equal(training.last_network().conv_out.weight, kept[-1]["conv_out.weight"])
    assert not torch.equal(network.conv_out.weight, kept[-1]["conv_out.weight"])
    training.go_back_to_best()
    assert torch.equal(training.last_network().conv_out.weight, network.conv_out.weight)


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
