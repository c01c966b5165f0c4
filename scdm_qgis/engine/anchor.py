"""Fit the regression under an anchored stage to the training scenes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import product
from operator import add
from typing import Callable, Iterator, Sequence, Tuple

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from scdm_qgis.core.cascade_header import StageHeader
from scdm_qgis.core.colour_terms import ColourTerms, choose_centres, kernel_between, views_with
from scdm_qgis.core.light import Light
from scdm_qgis.core.regression import LinearMap, RidgeMoments, choose_penalty
from scdm_qgis.core.residual import LARGEST_DOUBT, Anchor
from scdm_qgis.engine.scene_patches import ScenePatches

KERNEL_PENALTIES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3, 1e-1)
"""Penalties of the kernels to choose from, weakest first."""

LINEAR_RIDGES = (1e-6, 1e-4, 1e-2)
"""Penalties of the terms that are no kernels to choose from, relative to their variance, weakest first."""

PLAIN_RIDGE = 1e-4
"""Penalty of the plain regression that a trained stage is compared with."""

BLOCKS = 8
"""The training pixels are cut into this many blocks of rows to choose the penalty."""

MOST_CENTRES = 150
"""Kernels a view at most."""

MOST_PLACES = 10_000
"""Pixels, spread evenly, that the kernels' centres are chosen from."""

OUTERMOST_SHARE = 0.001
"""Share of the pixels at either end whose brightness the regression does not bend with."""

SMALLEST_BRIGHTNESS = 0.01
"""Mean brightness above zero, in normalised units, below which zero cannot be black."""

OWN_SHARE = 0.05
"""Share of a band's noise that no other band shares: no spectrum may be impossible, however few pixels there are."""

SMALLEST_RESIDUAL_SCALE = 1e-6
"""Floor of a residual's deviation in normalised units: a band the regression gets exactly has none."""

Regression = Callable[[Tensor], Tensor]


def fit_anchor(header: StageHeader, patches: ScenePatches) -> Tuple[Anchor, np.ndarray]:
    """Fit the regression to all training pixels, with the penalties chosen by leaving blocks out.

    Errors count relative to the pixel's brightness, as those of its residuals do.

    Returns:
        The regression; and what it leaves, standardised like its residuals, of up to `MOST_PLACES` training
        pixels if their block is left out of the fit (pixel, target band). Where all pixels lie in one block,
        none is left out.
    """
    bands, rgb_first = len(header.bands), len(header.condition.previous_bands)
    terms = _choose_terms(header, patches)
    inputs = header.condition.image_count + terms.count(len(header.condition.context_sigmas))
    ones = torch.ones(bands)
    nothing = torch.zeros(bands, inputs), torch.zeros(bands), torch.zeros(1 + terms.kernel_count)
    anchor = Anchor(rgb_first, terms, *nothing, ones, ones.clone(), ones.clone(), torch.eye(bands))

    blocks, pixels = [RidgeMoments(inputs, bands) for _ in range(BLOCKS)], 0
    for share, seen, target in patches.training_rows():
        condition = _as_row(seen)
        brightness = _as_pixels(terms.light.relative(anchor.rgb(condition)))[:, 0].astype(np.float64)
        blocks[int(share * BLOCKS)].add(_as_pixels(anchor.inputs(condition)), target, 1 / np.square(brightness))
        pixels += len(seen)
    views = (centres.double() for centres in terms.centres.values())
    between_centres = block_diag(*(kernel_between(centres.T[None, :, None], centres)[0, :, 0] for centres in views))

    def solve(moments: RidgeMoments, penalties: Tuple[float, float]) -> LinearMap:
        ridge, kernel = penalties
        return moments.solve(ridge, kernel * between_centres)

    whole, candidates = reduce(add, blocks), list(product(LINEAR_RIDGES, KERNEL_PENALTIES))
    penalties = choose_penalty(blocks, candidates, solve)
    anchor = _with_regression(anchor, solve(whole, penalties))
    without = [
        _with_regression(anchor, solve(whole - block, penalties)) if 0 < block.pixels < whole.pixels else anchor
        for block in blocks
    ]
    left_out, condition, numbers = _leave_out(without, patches, pixels)
    anchor = replace(anchor, doubt=_fit_doubt(left_out, anchor.kernels(condition), numbers, between_centres))

    squares = torch.zeros(bands, dtype=torch.float64)
    for _, seen, target in patches.training_rows():
        squares += anchor.expect(_as_row(seen)).to_residual(_as_row(target)).double().square().sum(dim=(0, 2, 3))
    scale = (squares / pixels).sqrt().clamp(min=SMALLEST_RESIDUAL_SCALE).float()
    anchor = replace(anchor, residual_scale=scale)
    left_out = left_out * _as_pixels(terms.light.relative(anchor.rgb(condition)) / anchor.expect(condition).scale)
    return replace(anchor, mixing=_fit_mixing(left_out)), left_out


def _leave_out(without: Sequence[Anchor], patches: ScenePatches, pixels: int) -> Tuple[np.ndarray, Tensor, np.ndarray]:
    """Return what regressions `without` a pixel's block leave of it, the pixels' condition, their blocks' numbers."""
    left, conditions, numbers = [], [], []
    for share, seen, target in _thinned(patches, pixels):
        number = int(share * BLOCKS)
        left.append(_as_pixels(without[number].expect(_as_row(seen)).to_residual(_as_row(target))))
        conditions.append(seen)
        numbers.append(np.full(len(seen), number))
    return np.concatenate(left), _as_row(np.concatenate(conditions)), np.concatenate(numbers)


def _fit_doubt(left_out: np.ndarray, kernels: Tensor, numbers: np.ndarray, between_centres: np.ndarray) -> Tensor:
    """Return `Anchor.doubt` from what is left of left-out pixels, their kernels and the numbers of their blocks."""
    by_band = np.sqrt(np.square(left_out).mean(axis=0)).clip(min=SMALLEST_RESIDUAL_SCALE)
    size = np.sqrt(np.square(left_out / by_band).mean(axis=1, keepdims=True)).clip(1 / LARGEST_DOUBT, LARGEST_DOUBT)
    pixels, blocks = _as_pixels(kernels), [RidgeMoments(len(between_centres), 1) for _ in range(BLOCKS)]
    for number, block in enumerate(blocks):
        block.add(pixels[numbers == number], np.log(size[numbers == number]))

    def solve(moments: RidgeMoments, penalty: float) -> LinearMap:
        return moments.solve(0, penalty * between_centres)

    regression = solve(reduce(add, blocks), choose_penalty(blocks, KERNEL_PENALTIES, solve))
    return torch.from_numpy(np.concatenate([regression.bias, regression.weight[0]])).float()


def _fit_mixing(left_out: np.ndarray) -> Tensor:
    """Return `Anchor.mixing` from what is left of left-out pixels (pixel, band): the root of their correlation.

    Every pixel counts the same, however much is left of it, and `OWN_SHARE` of a band's noise is its own.
    """
    size = np.sqrt(np.square(left_out).mean(axis=1, keepdims=True))
    shapes = left_out.astype(np.float64) / np.maximum(size, SMALLEST_RESIDUAL_SCALE)
    power = np.sqrt(np.square(shapes).sum(axis=0)).clip(min=SMALLEST_RESIDUAL_SCALE)
    correlation = (1 - OWN_SHARE) * (shapes.T @ shapes) / np.outer(power, power)
    np.fill_diagonal(correlation, 1)
    values, vectors = np.linalg.eigh(correlation)
    return torch.from_numpy(vectors * np.sqrt(values) @ vectors.T).float()


def _with_regression(anchor: Anchor, regression: LinearMap) -> Anchor:
    weight, bias = (torch.from_numpy(x).float() for x in (regression.weight, regression.bias))
    return replace(anchor, weight=weight, bias=bias)


def _choose_terms(header: StageHeader, patches: ScenePatches) -> ColourTerms:
    """Return kernels on colours of the training pixels."""
    first = len(header.condition.previous_bands)
    rgb = _as_row(np.concatenate([seen[:, first : first + 3] for _, seen, _ in patches.training_rows()]))
    pixels, brightness = rgb.shape[-1], float(rgb.double().mean())
    mean = brightness - patches.black
    # Data whose mean is not above zero have no black; half their deviation, 1, stands for their light then.
    light = Light(patches.black, mean) if mean > SMALLEST_BRIGHTNESS else Light(brightness - 0.5, 0.5)
    logarithms = light.colour(rgb)[0, -1, 0].sort().values
    ends = torch.tensor([OUTERMOST_SHARE, 1 - OUTERMOST_SHARE], dtype=torch.float64) * (pixels - 1)
    terms = ColourTerms(light, logarithms[ends.round().long()], {})
    chosen = _as_row(np.concatenate([seen[:, first:] for _, seen, _ in _thinned(patches, pixels)]))
    centres = {}
    for view in views_with(len(header.condition.context_sigmas)):
        places = terms.places(view, chosen[:, :3], chosen[:, 3:])[0, :, 0].T
        centres[view] = choose_centres(places.double(), MOST_CENTRES).float()
    return replace(terms, centres=centres)


def _thinned(patches: ScenePatches, pixels: int) -> Iterator[Tuple[float, np.ndarray, np.ndarray]]:
    """Yield up to `MOST_PLACES` of all training pixels, spread evenly, as `ScenePatches.training_rows` does."""
    chosen, before = np.linspace(0, pixels - 1, min(pixels, MOST_PLACES)).round().astype(np.int64), 0
    for share, seen, target in patches.training_rows():
        here = chosen[slice(*np.searchsorted(chosen, (before, before + len(seen))))] - before
        before += len(seen)
        if len(here):
            yield share, seen[here], target[here]


def _as_row(pixels: np.ndarray) -> Tensor:
    """Return pixels (pixel, band) as an image of one row (1, band, 1, pixel)."""
    return torch.from_numpy(pixels).T[None, :, None]


def _as_pixels(row: Tensor) -> np.ndarray:
    """Return an image of one row (1, band, 1, pixel) as pixels (pixel, band)."""
    return np.asarray(row[0, :, 0].T.numpy())


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
