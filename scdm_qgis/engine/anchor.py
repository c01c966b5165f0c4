"""Fit the regression under an anchored stage to the training scenes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from scdm_qgis.core.cascade_header import StageHeader
from scdm_qgis.core.light import Light
from scdm_qgis.core.regression import RidgeMoments, choose_ridge
from scdm_qgis.core.residual import Anchor
from scdm_qgis.engine.scene_patches import ScenePatches

RIDGES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 1))
"""Penalties to choose from, relative to the condition's variance."""

PLAIN_RIDGE = 1e-4
"""Penalty of the plain regression that a trained stage is compared with."""

BLOCKS = 8
"""The training pixels are cut into this many blocks of rows to choose the penalty."""

RIDGE_TOLERANCE = 0.02
"""What a stronger penalty may cost in RMSE on left-out blocks, relative."""

SMALLEST_BRIGHTNESS = 0.01
"""Mean brightness above zero, in normalised units, below which zero cannot be black."""

SMALLEST_RESIDUAL_SCALE = 1e-6
"""Floor of a residual's deviation in normalised units: a band the regression gets exactly has none."""

Regression = Callable[[Tensor], Tensor]


def fit_anchor(header: StageHeader, patches: ScenePatches) -> Anchor:
    """Fit the regression to all training pixels, with the penalty chosen by leaving blocks out."""
    condition = header.condition
    rgb_first = len(condition.previous_bands)
    blocks = [RidgeMoments(condition.count, len(header.bands)) for _ in range(BLOCKS)]
    brightness, pixels = 0.0, 0
    for share, seen, target in patches.training_rows():
        blocks[int(share * BLOCKS)].add(seen, target)
        brightness += float(seen[:, rgb_first : rgb_first + 3].mean(axis=1, dtype=np.float64).sum())
        pixels += len(seen)
    regression = reduce(add, blocks).solve(choose_ridge(blocks, RIDGES, RIDGE_TOLERANCE))
    mean = brightness / pixels - patches.black
    # Data whose mean is not above zero have no black; half their deviation, 1, stands for their light then.
    light = Light(patches.black, mean) if mean > SMALLEST_BRIGHTNESS else Light(brightness / pixels - 0.5, 0.5)
    weight, bias, ones = (
        torch.from_numpy(x).float() for x in (regression.weight, regression.bias, np.ones(len(header.bands)))
    )
    anchor = Anchor(rgb_first, light, weight, bias, ones, shrinkage=ones.clone(), spread=ones.clone())
    squares = torch.zeros(len(header.bands), dtype=torch.float64)
    for _, seen, target in patches.training_rows():
        truth, images = (torch.from_numpy(values).T[None, :, :, None] for values in (target, seen))
        squares += anchor.to_residual(truth, images).double().square().sum(dim=(0, 2, 3))
    deviation = (squares / pixels).sqrt().clamp(min=SMALLEST_RESIDUAL_SCALE)
    return replace(anchor, residual_scale=deviation.float())


def fit_plain_ridge(header: StageHeader, patches: ScenePatches) -> Regression:
    """Fit plain ridge regression, pixel by pixel from the condition without its context maps.

    It is what a trained stage is compared with.

    Returns:
        A function from condition to estimate, both normalised (batch, band, row, column).
    """
    seen = header.condition.image_count
    moments = RidgeMoments(seen, len(header.bands))
    for _, condition, target in patches.training_rows():
        moments.add(condition[:, :seen], target)
    regression = moments.solve(PLAIN_RIDGE)

    def predict(condition: Tensor) -> Tensor:
        weight, bias = (torch.from_numpy(x).to(condition) for x in (regression.weight, regression.bias))
        return torch.einsum("tc,bchw->bthw", weight, condition[:, :seen]) + bias[:, None, None]

    return predict
