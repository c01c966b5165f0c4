"""Patches cut from scenes: those a stage is trained on, and those it is judged on."""

from __future__ import annotations

import copy
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from numpy.typing import NDArray

from scdm_qgis.core.cascade_header import Normalisation, StageHeader
from scdm_qgis.core.context import context_maps
from scdm_qgis.core.training import Batch, iteration_seed
from scdm_qgis.engine.training_scenes import Region, Scene

Indices = NDArray[np.int64]
Split = Tuple[Region, Optional[Region]]
"""A scene's part to train on, and its part to judge on."""


class ScenePatches:
    """All scenes on the training device, pixel after pixel, and patches gathered from them.

    A patch is a table of pixel numbers (row, column), so that cutting, turning and mirroring cost nothing
    and a batch is a single gather.

    Args:
        header: the stage to train: its target, its condition, its patch size.
        scenes: the scenes.
        all_bands: band numbers the scenes' arrays hold.
        normalisation: data units to network units.
        seed: of the random cuts.
        device: where the scenes lie.
    """

    def __init__(
        self,
        header: StageHeader,
        scenes: Sequence[Scene],
        all_bands: Sequence[int],
        normalisation: Normalisation,
        seed: int,
        device: torch.device,
    ) -> None:
        self.patch_size = header.patch_size
        self.black = -normalisation.offset / normalisation.scale
        """What 0 in data units is in normalised units."""
        # What a network learns of upright images only is worth less to a regression's residual than
        # eight times as many patches.
        self._symmetries = header.prediction == "residual"
        self._seed = seed
        target, condition, valid = [], [], []
        for scene in scenes:
            pixels = _normalised_pixels(scene, header, all_bands, normalisation, device)
            target.append(pixels[0])
            condition.append(pixels[1])
            valid.append(torch.from_numpy(scene.valid.reshape(-1)).to(device))
        self._target, self._condition, self._valid = torch.cat(target), torch.cat(condition), torch.cat(valid)
        self.masks = [scene.valid for scene in scenes]
        """Valid pixels of every scene (row, column)."""
        self.wholes = [Region(0, 0, *scene.valid.shape) for scene in scenes]
        sizes = [scene.valid.size for scene in scenes]
        self._firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._set_splits([(scene.training, scene.hold_out) for scene in scenes])

    def _set_splits(self, splits: Sequence[Split]) -> None:
        self.splits = list(splits)
        self._height = min(self.patch_size, *(training.height for training, _ in splits))
        self._width = min(self.patch_size, *(training.width for training, _ in splits))
        self._centres = [np.argwhere(mask[training.slices]) for mask, (training, _) in zip(self.masks, splits)]
        counts = np.array([len(centres) for centres in self._centres], np.float64)
        self._shares = counts / counts.sum()

    def with_splits(self, splits: Sequence[Split]) -> ScenePatches:
        """Return the same pixels with other parts to train on and to judge on, one split a scene."""
        other = copy.copy(self)
        other._set_splits(splits)
        return other

    def __call__(self, iteration: int, count: int, part: slice) -> Batch:
        """Return the given part of an iteration's `count` patches; each holds at least one valid pixel."""
        generator = np.random.default_rng(iteration_seed(self._seed, iteration))
        return self._gather(np.stack([self._cut(generator) for _ in range(count)])[part])

    def training_rows(self) -> Iterator[Tuple[float, np.ndarray, np.ndarray]]:
        """Yield the valid training pixels, a row of each scene at a time.

        Yields:
            The share of all rows with such pixels that came before, from 0 to below 1; normalised condition (pixel,
            condition band) and target (pixel, target band).
        """
        total, before = sum(len(np.unique(centres[:, 0])) for centres in self._centres), 0
        for first, mask, (training, _) in zip(self._firsts, self.masks, self.splits):
            rows, columns = training.slices
            for row in range(rows.start, rows.stop):
                pixels = first + row * mask.shape[1] + columns.start + np.flatnonzero(mask[row, columns])
                if len(pixels):
                    chosen = torch.from_numpy(pixels).to(self._target.device)
                    yield before / total, self._condition[chosen].cpu().numpy(), self._target[chosen].cpu().numpy()
                    before += 1

    def hold_out_batches(self, most: int, batch_size: int) -> List[Batch]:
        """Return the parts to judge on as patches, every valid pixel counting once.

        Patches at the far edges are moved back to full size, so that the network sees what it is used to;
        what they share with their neighbours counts in one of them only.

        Args:
            most: patches at most; where there are more, as many are taken, spread evenly.
            batch_size: patches a batch at most.
        """
        patches = [patch for index in range(len(self.splits)) for patch in self._hold_out_patches(index)]
        if not patches:
            return []
        chosen = np.unique(np.linspace(0, len(patches) - 1, min(len(patches), most)).round().astype(int))
        by_shape: Dict[Tuple[int, ...], List[Tuple[Indices, np.ndarray]]] = {}
        for number in chosen:
            by_shape.setdefault(patches[number][0].shape, []).append(patches[number])
        batches = []
        for group in by_shape.values():
            for start in range(0, len(group), batch_size):
                indices, fresh = zip(*group[start : start + batch_size])
                batch = self._gather(np.stack(indices))
                counts = torch.from_numpy(np.stack(fresh)[:, None]).to(batch.valid.device)
                batches.append(Batch(batch.target, batch.condition, batch.valid * counts))
        return batches

    def _hold_out_patches(self, scene: int) -> Iterator[Tuple[Indices, np.ndarray]]:
        """Yield pixel numbers and which of them no earlier patch had, for patches with valid pixels."""
        region = self.splits[scene][1]
        if region is None:
            return
        seen = np.zeros(self.masks[scene].shape, bool)
        height, width = min(self._height, region.height), min(self._width, region.width)
        for row in _starts(region.row, region.height, height):
            for column in _starts(region.column, region.width, width):
                window = (slice(row, row + height), slice(column, column + width))
                fresh = ~seen[window]
                seen[window] = True
                if (fresh & self.masks[scene][window]).any():
                    yield self._window(scene, row, column, height, width), fresh

    def _cut(self, generator: np.random.Generator) -> Indices:
        """Return the pixel numbers of a random training patch (row, column)."""
        scene = int(generator.choice(len(self.splits), p=self._shares))
        training, centres = self.splits[scene][0], self._centres[scene]
        row, column = centres[generator.integers(len(centres))]
        indices = self._window(
            scene,
            training.row + _start(generator, row, self._height, training.height),
            training.column + _start(generator, column, self._width, training.width),
            self._height,
            self._width,
        )
        if not self._symmetries:
            return indices
        turns = generator.integers(4) if self._height == self._width else 2 * generator.integers(2)
        indices = np.rot90(indices, turns)
        return indices[:, ::-1] if generator.integers(2) else indices

    def _window(self, scene: int, row: int, column: int, height: int, width: int) -> Indices:
        rows, columns = np.arange(row, row + height), np.arange(column, column + width)
        return np.asarray(self._firsts[scene] + rows[:, None] * self.masks[scene].shape[1] + columns)

    def _gather(self, indices: Indices) -> Batch:
        """Return the pixels numbered (patch, row, column)."""
        numbers = torch.from_numpy(np.ascontiguousarray(indices)).to(self._target.device)
        target, condition = (values[numbers].permute(0, 3, 1, 2) for values in (self._target, self._condition))
        return Batch(target, condition, self._valid[numbers][:, None].float())


def _normalised_pixels(
    scene: Scene,
    header: StageHeader,
    all_bands: Sequence[int],
    normalisation: Normalisation,
    device: torch.device,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return target (pixel, target band) and condition (pixel, condition band) of a whole scene."""

    def planes(bands: Sequence[int]) -> torch.Tensor:
        values = scene.values[[all_bands.index(band) for band in bands]].astype(np.float32)
        values = (values - np.float32(normalisation.offset)) / np.float32(normalisation.scale)
        return torch.from_numpy(values).to(device)

    condition = header.condition
    valid = torch.from_numpy(scene.valid.astype(np.float32)).to(device)
    parts = [planes(condition.previous_bands + condition.rgb_bands)]
    if condition.context_sigmas:
        parts.append(context_maps(planes(condition.rgb_bands)[None], valid[None, None], condition.context_sigmas)[0])
    target = planes(header.bands)
    return tuple(x.flatten(1).T.contiguous() for x in (target, torch.cat(parts)))  # type: ignore[return-value]


def _starts(first: int, length: int, patch: int) -> List[int]:
    """Return where patches start that cover a length, the last moved back to end with it."""
    starts = list(range(first, first + length - patch + 1, patch))
    return starts if starts[-1] + patch == first + length else [*starts, first + length - patch]


def _start(generator: np.random.Generator, pixel: int, patch: int, side: int) -> int:
    """Return where a patch starts that holds `pixel` and stays within the side."""
    return int(generator.integers(max(0, pixel - patch + 1), min(pixel, side - patch) + 1))
