"""What training minimises (eq. 13-15), over valid pixels only."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

SHORTEST_SPECTRUM = 1e-3
"""Spectra shorter than this, in normalised units, have no direction worth learning."""

SMALLEST_CHORD = 1e-3
"""Keeps the gradient finite where the angle vanishes."""


def prediction_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, kind: str, weights: Optional[Tensor] = None
) -> Tensor:
    """Return the mean squared (`mse`, eq. 13) or absolute (`l1`, released code) error.

    Args:
        predicted: the network's output (batch, band, row, column).
        target: what it should be, like `predicted`.
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
        kind: `mse` or `l1`.
        weights: how much each value counts, like `predicted`; None counts all alike.
    """
    error = predicted - target
    error = error.abs() if kind == "l1" else error.square()
    if weights is not None:
        error = error * weights
    return (error * valid).sum() / (valid.sum() * error.shape[1]).clamp(min=1)


def spectral_angle_loss(spectra: Tensor, estimated: Tensor, valid: Tensor) -> Tensor:
    """Return 1 - mean over valid pixels of cos(spectrum, estimated spectrum) (eq. 14).

    Args:
        spectra: true spectra (batch, band, row, column).
        estimated: estimated spectra, like `spectra`.
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
    """
    cosine = F.cosine_similarity(spectra, estimated, dim=1)
    weight = valid[:, 0]
    return 1 - (cosine * weight).sum() / weight.sum().clamp(min=1)


def mean_angle_loss(spectra: Tensor, estimated: Tensor, valid: Tensor, black: float) -> Tensor:
    """Return the mean over valid pixels of the angle between spectrum and estimated spectrum, as seen from black.

    It is what SAM measures, but for the chord 2 sin(angle / 2), which stands for the angle, whose gradient is
    undefined at 0, and for spectra too short to have a direction.

    Args:
        spectra: true spectra (batch, band, row, column), normalised.
        estimated: estimated spectra, like `spectra`.
        valid: 1 where a pixel counts, 0 elsewhere (batch, 1, row, column).
        black: what 0 in data units is in normalised ones.
    """
    true, guessed = (F.normalize(x - black, dim=1, eps=SHORTEST_SPECTRUM) for x in (spectra, estimated))
    chord = ((true - guessed).square().sum(dim=1) + SMALLEST_CHORD**2).sqrt()
    weight = valid[:, 0]
    return torch.where(weight > 0, chord, 0).sum() / weight.sum().clamp(min=1)
