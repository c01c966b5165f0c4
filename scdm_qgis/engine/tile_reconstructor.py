"""Spectra from RGB tiles, batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Callable, List, Optional, Tuple

import numpy as np
import torch

from scdm_qgis.core.cascade import Cascade
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.reconstruction import SamplingSettings, StageSampler, noises_of_draws, reconstruct
from scdm_qgis.engine.tile_batches import TilePixels
from scdm_qgis.raster.tiles import Tile

MOST_BALANCED = 64
"""More draws are as good alone, and balancing makes all their starts once more before the first."""

AfterStep = Callable[[int], None]
"""Takes how many tiles have taken a sampling step."""


@dataclass(frozen=True)
class Sampling:
    """What is drawn.

    Args:
        settings: one a stage.
        draws: draws of each tile.
        seed: of the noise.
        bfloat16: whether the networks compute in bfloat16.
    """

    settings: Tuple[SamplingSettings, ...]
    draws: int
    seed: int
    bfloat16: bool

    @property
    def steps(self) -> int:
        """Sampling steps a tile takes, over all stages and draws."""
        return self.draws * sum(settings.steps for settings in self.settings)

    @property
    def balanced(self) -> bool:
        """Whether the draws' starts are balanced, which they are where nothing but starts decides what is drawn."""
        return 1 < self.draws <= MOST_BALANCED and all(settings.starts_decide for settings in self.settings)


@dataclass(frozen=True)
class TileSpectra:
    """What is made of a batch, in data units.

    Args:
        tiles: those that were computed.
        means: the mean over draws of every stage's bands (tile, band, row, column).
        deviation: the standard deviation of the last stage's over draws, in the same form; None of a single one.
            Squares are divided by n where draws are balanced, their mean then being the posterior's, else by n - 1.
    """

    tiles: Tuple[Tile, ...]
    means: List[np.ndarray]
    deviation: Optional[np.ndarray]


class TileReconstructor:
    """Turn RGB tiles into spectra.

    Attributes:
        margin: pixels around a tile that its reconstruction depends on.
        largest_batch: the most tiles the device's memory has room for, once that is known.
    """

    def __init__(self, cascade: Cascade, sampling: Sampling) -> None:
        self.margin = cascade.context_radius
        self.largest_batch: Optional[int] = None
        self._normalisation = cascade.header.normalisation
        self._sampling = sampling
        self._stages = [
            StageSampler(stage, settings, sampling.bfloat16)
            for stage, settings in zip(cascade.stages, sampling.settings)
        ]
        self._device = cascade.stages[0].device

    def __call__(self, pixels: TilePixels, after_step: AfterStep = lambda tiles: None) -> TileSpectra:
        """Reconstruct the tiles of a batch; in two halves where the device's memory is too small for all.

        Several threads may ask at once.

        Raises:
            UserError: the device's memory is too small for one tile.
        """
        count = len(pixels.tiles)
        if self.largest_batch is None or count <= self.largest_batch:
            try:
                means, deviation = self._draw_all(pixels, after_step)
                return TileSpectra(pixels.tiles, means, deviation)
            except torch.OutOfMemoryError as error:
                if count == 1:
                    raise UserError(
                        "The GPU's memory is too small even for one tile.", "Lower TILE_SIZE, or set DEVICE to cpu."
                    ) from error
                self.largest_batch = math.ceil(count / 2)
            torch.cuda.empty_cache()
        half = math.ceil(count / 2)
        parts = [
            self(TilePixels(pixels.tiles[part], pixels.rgb[part], pixels.valid[part]), after_step)
            for part in (slice(half), slice(half, None))
        ]
        deviations = [part.deviation for part in parts if part.deviation is not None]
        return TileSpectra(
            pixels.tiles,
            [np.concatenate(pair) for pair in zip(*(part.means for part in parts))],
            np.concatenate(deviations) if deviations else None,
        )

    def _draw_all(self, pixels: TilePixels, after_step: AfterStep) -> Tuple[List[np.ndarray], Optional[np.ndarray]]:
        normalisation = self._normalisation
        rgb = (pixels.rgb - np.float32(normalisation.offset)) / np.float32(normalisation.scale)
        tiles = torch.from_numpy(rgb).to(self._device)
        counting = torch.from_numpy(pixels.valid[:, None].astype(np.float32)).to(self._device)
        means: List[torch.Tensor] = []
        squares: Optional[torch.Tensor] = None
        origins = [(tile.row, tile.column) for tile in pixels.tiles]
        height, width = (side - 2 * self.margin for side in tiles.shape[-2:])
        sampling = self._sampling
        by_stage = [
            noises_of_draws(one.stage, sampling.draws, sampling.balanced, sampling.seed, origins, height, width)
            for one in self._stages
        ]
        drawn = reconstruct(self._stages, tiles, counting, zip(*by_stage), partial(after_step, len(tiles)))
        for draw, outputs in enumerate(drawn):
            if draw == 0:
                means = outputs
                continue
            # Welford 1962: mean and sum of squared deviations without keeping the draws.
            difference = outputs[-1] - means[-1]
            means = [mean + (output - mean) / (draw + 1) for mean, output in zip(means, outputs)]
            square = difference * (outputs[-1] - means[-1])
            squares = square if squares is None else squares + square
        values = [(mean * normalisation.scale + normalisation.offset).cpu().numpy() for mean in means]
        if squares is None:
            return values, None
        independent = sampling.draws if sampling.balanced else sampling.draws - 1
        deviation = (squares / independent).sqrt() * normalisation.scale
        return values, deviation.cpu().numpy()
