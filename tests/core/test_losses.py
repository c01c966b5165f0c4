import math

import pytest
import torch

from scdm_qgis.core.losses import mean_angle_loss, prediction_loss, spectral_angle_loss

ALL = torch.ones(1, 1, 1, 2)


def test_mean_squared_and_absolute_error():
    predicted = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])
    assert prediction_loss(predicted, torch.zeros_like(predicted), ALL, "mse").item() == pytest.approx(10 / 4)
    assert prediction_loss(predicted, torch.zeros_like(predicted), ALL, "l1").item() == pytest.approx(1)


def test_angle_loss_is_one_minus_cosine_and_ignores_length():
    spectra = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]])
    estimated = torch.tensor([[[[2.0, 3.0]], [[2.0, 3.0]]]])
    expected = 1 - (math.cos(math.pi / 4) + 1) / 2
    assert spectral_angle_loss(spectra, estimated, ALL).item() == pytest.approx(expected)


def test_mean_angle_is_that_of_spectra_in_data_units():
    black, angles = -2.0, torch.tensor([0.3, 0.05])
    true = torch.stack([torch.ones(2), torch.zeros(2)]).reshape(1, 2, 1, 2)
    estimated = torch.stack([angles.cos(), angles.sin()]).reshape(1, 2, 1, 2)
    loss = mean_angle_loss(5 * true + black, 3 * estimated + black, ALL, black)
    assert loss.item() == pytest.approx(float((2 * (angles / 2).sin()).mean()), rel=1e-3)
    still = true.clone().requires_grad_()
    mean_angle_loss(true, still, ALL, black).backward()
    assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, v: prediction_loss(a, b, v, "mse"),
        spectral_angle_loss,
        lambda a, b, v: mean_angle_loss(a, b, v, -9.0),
    ],
)
def test_invalid_pixels_do_not_count(loss):
    a = torch.tensor([[[[1.0, 5.0]], [[2.0, -7.0]]]])
    b = torch.tensor([[[[1.5, 0.0]], [[0.5, 1.0]]]])
    valid = torch.tensor([[[[1.0, 0.0]]]])
    alone = loss(a[..., :1], b[..., :1], valid[..., :1])
    assert torch.allclose(loss(a, b, valid), alone)
    assert torch.isfinite(loss(a, b, torch.zeros_like(valid)))
