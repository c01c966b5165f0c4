import math

import pytest
import torch

from scdm_qgis.core.losses import prediction_loss, spectral_angle_loss

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


@pytest.mark.parametrize("loss", [lambda a, b, v: prediction_loss(a, b, v, "mse"), spectral_angle_loss])
def test_invalid_pixels_do_not_count(loss):
    a = torch.tensor([[[[1.0, 5.0]], [[2.0, -7.0]]]])
    b = torch.tensor([[[[1.5, 0.0]], [[0.5, 1.0]]]])
    valid = torch.tensor([[[[1.0, 0.0]]]])
    alone = loss(a[..., :1], b[..., :1], valid[..., :1])
    assert torch.allclose(loss(a, b, valid), alone)
    assert torch.isfinite(loss(a, b, torch.zeros_like(valid)))
