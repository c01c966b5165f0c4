"""Train a network that maps RGB to spectra in one pass, for a given time, and apply it to whole scenes.

All networks are trained alike: bands standardised, squared errors weighted by the bands' variances so that
they count as in data units, patches turned and mirrored at random, AdamW, a step size that falls to zero
along a half cosine. None of this was tuned to these scenes, as the plugin's own settings were.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Callable, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.scenes import Pixels
from scdm_qgis.core.regression import LinearMap, fit_ridge
from scdm_qgis.engine.device import choose_bfloat16

PATCH = 32
BATCH = 16
WARM_UP_ITERATIONS = 20


@dataclass(frozen=True)
class Standard:
    """Mean and deviation a band, each (band, 1, 1)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, rows: np.ndarray) -> Standard:
        """Measure pixels (pixel, band)."""
        mean, deviation = (torch.from_numpy(x).float()[:, None, None] for x in (rows.mean(0), rows.std(0)))
        return cls(mean, deviation.clamp(min=1e-6 * float(deviation.max())))

    def apply(self, values: Tensor) -> Tensor:
        """Standardise (..., band, row, column)."""
        return (values - self.mean) / self.deviation

    def undo(self, values: Tensor) -> Tensor:
        """Turn standardised values back."""
        return values * self.deviation + self.mean


@dataclass(frozen=True)
class OneShotModel:
    """A trained network with all that is needed to apply it.

    Args:
        network: from standardised RGB to standardised targets.
        rgb: of the training scenes.
        target: of the spectra, or of what ridge regression leaves of them.
        ridge: the regression under the network, None for networks that predict the spectra themselves.
        bfloat16: whether the network computes in bfloat16.
    """

    network: nn.Module
    rgb: Standard
    target: Standard
    ridge: LinearMap | None
    bfloat16: bool

    @torch.inference_mode()
    def predict(self, scene: Pixels) -> np.ndarray:
        """Return a scene's spectra (band, row, column), the scene taken as a whole; invalid pixels are mean ones."""
        rgb = torch.from_numpy(scene.values[list(scene.rgb)].astype(np.float32))
        seen = torch.where(torch.from_numpy(scene.valid), self.rgb.apply(rgb), 0.0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            output = self.network(seen[None])[0]
        spectra = self.target.undo(output.float()).double()
        return (spectra if self.ridge is None else spectra + _regressed(self.ridge, rgb)).numpy()


def train_one_shot(
    make_network: Callable[[int], nn.Module], over_ridge: bool, scenes: Sequence[Pixels], seconds: float, seed: int
) -> Tuple[OneShotModel, int]:
    """Train for a time of the processor; return the model and the number of iterations.

    Args:
        make_network: returns an untrained network for a number of bands.
        over_ridge: whether it predicts what ridge regression leaves, or the spectra themselves.
        scenes: to learn from; invalid pixels do not count.
        seconds: how long to train, in processor time, so that what else the machine does takes nothing from it.
        seed: of weights and patches.
    """
    rgb_rows, rows = (np.concatenate(parts) for parts in zip(*(scene.rows() for scene in scenes)))
    ridge = fit_ridge(rgb_rows, rows) if over_ridge else None
    rgb = Standard.of(rgb_rows)
    target = Standard.of(rows if ridge is None else rows - ridge.predict(rgb_rows))
    patches = _Patches(scenes, rgb, target, ridge, seed)
    torch.manual_seed(seed)
    network, bfloat16 = make_network(len(target.mean)).train(), choose_bfloat16("auto", torch.device("cpu"))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    weights = target.deviation.square() / target.deviation.square().mean()
    started, iterations = time.process_time(), 0
    while (share := (time.process_time() - started) / seconds) < 1:
        for group in optimiser.param_groups:
            warm = min(1.0, (iterations + 1) / WARM_UP_ITERATIONS)
            group["lr"] = 1e-3 * warm * 0.5 * (1 + math.cos(math.pi * share))
        colours, truth, valid = patches.draw()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            output = network(colours)
        error = (output.float() - truth).square() * weights
        loss = (error * valid).sum() / (valid.sum() * len(weights))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        iterations += 1
    return OneShotModel(network.eval(), rgb, target, ridge, bfloat16), iterations


class _Patches:
    """Random patches of standardised scenes, each around a valid pixel."""

    def __init__(
        self, scenes: Sequence[Pixels], rgb: Standard, target: Standard, ridge: LinearMap | None, seed: int
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._scenes: List[Tuple[Tensor, Tensor, Tensor]] = []
        for scene in scenes:
            values = torch.from_numpy(scene.values.astype(np.float32))
            colours = values[list(scene.rgb)]
            truth = values if ridge is None else values - _regressed(ridge, colours).float()
            valid = torch.from_numpy(scene.valid).float()[None]
            self._scenes.append((rgb.apply(colours) * valid, target.apply(truth) * valid, valid))
        self._places = [np.argwhere(scene.valid) for scene in scenes]
        counts = np.array([len(places) for places in self._places], float)
        self._shares = counts / counts.sum()

    def draw(self) -> Tuple[Tensor, Tensor, Tensor]:
        """Return RGB, target and valid pixels, each (patch, band, row, column)."""
        return tuple(torch.stack(parts) for parts in zip(*(self._cut() for _ in range(BATCH))))  # type: ignore

    def _cut(self) -> List[Tensor]:
        number = self._random.choice(len(self._scenes), p=self._shares)
        places = self._places[number]
        pixel = places[self._random.integers(len(places))]
        scene = self._scenes[number]
        starts = [
            int(self._random.integers(max(0, at - PATCH + 1), min(at, side - PATCH) + 1))
            for at, side in zip(pixel, scene[0].shape[1:])
        ]
        rows, columns = (slice(start, start + PATCH) for start in starts)
        turns, mirrored = int(self._random.integers(4)), bool(self._random.integers(2))
        parts = [torch.rot90(part[:, rows, columns], turns, (1, 2)) for part in scene]
        return [part.flip(2) for part in parts] if mirrored else parts


def _regressed(ridge: LinearMap, rgb: Tensor) -> Tensor:
    """Return the regression's spectra (band, row, column) in float64."""
    pixels = rgb.double().flatten(1).T.numpy()
    return torch.from_numpy(ridge.predict(pixels).T.reshape(-1, *rgb.shape[1:]))
