"""Whether a reconstruction shows where its tiles meet.

A cascade learns from one part of Pavia University and reconstructs another from three bands. For every band the
mean absolute step between neighbouring pixels across the borders of tiles, where one begins or ends, is divided by
that everywhere else. The mean over bands is the ratio printed; the bands copied from the input are left out. Content
has edges of its own, so the ratio is also divided by that of the truth at the same places, and by that of a
reconstruction in one tile. Noise that every tile draws for itself shows what noise that belongs to a place is for.

Blending hides the borders but not what lies between two: the mean of tiles that disagree is too smooth. A column of
its own has the mean absolute step inside overlaps over that outside, divided by the same of one tile.

    python -m benchmarks.seams [--iterations N] [--seed 0] [--picture FILE]
"""

from __future__ import annotations

import argparse
import io
import math
import os
import tempfile
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Sequence, Tuple
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.scenes import Split, make_splits, read_pixels
from benchmarks.trained_cascade import train_cascade
from scdm_qgis.core import reconstruction
from scdm_qgis.core.noise import PlacedNoise
from scdm_qgis.core.presets import PRESETS
from scdm_qgis.engine import reconstruct, tiling
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import RgbToHyperspectral, TrainCascadeStage
from scdm_qgis.raster.tiles import Lattice

DEVICE = "cpu"
SCENE = "Pavia University"

TILE = max(tiling.SMALLEST_TILE, PRESETS[TrainCascadeStage.preset].patch_size)
OVERLAP = tiling.default_overlap(TILE)
"""What a job takes that leaves both empty."""

WIDE = TILE // 4
"""An overlap that takes nearly half as long again."""

TARGET = 1.02
"""The ratio of the default overlap should be no more than this."""

NO_NOISE, PLACED, INDEPENDENT = "none", "of the place", "of the tile"

CROP_FIRST, CROP_SIDE = 12, 40
"""First row and column of the picture's crops, and their side: tiles meet there with either overlap."""

CROP_BAND = 77
"""Position of the band drawn, near infrared, among those compared."""

SHOWN_DIFFERENCE = 150
"""Differences of this many units are drawn white, their negatives black."""


class IndependentNoise:
    """Noise that every tile of a batch draws for itself; takes what `PlacedNoise` takes."""

    def __init__(self, seed: int, stage: int, draw: int, origins: Sequence[Tuple[int, int]], *form: Any) -> None:
        seeds = ((seed * 1_000_003 + row + 1) * 1_000_003 + column + 1 for row, column in origins)
        self._tiles = [PlacedNoise(own, stage, draw, [origin], *form) for own, origin in zip(seeds, origins)]

    def __call__(self, step: int) -> Tensor:
        """Return the noise of one step, float32 (tile, band, row, column)."""
        return torch.cat([tile(step) for tile in self._tiles])


@dataclass(frozen=True)
class Case:
    """One reconstruction: SAMPLES, what its noise depends on, and its overlap; None for all in one tile."""

    samples: int
    noise: str
    overlap: Optional[int]


MEAN, MEAN_WIDE, MEAN_CUT = (Case(0, NO_NOISE, overlap) for overlap in (OVERLAP, WIDE, 0))
DRAW, DRAW_WIDE, DRAW_CUT = (Case(1, PLACED, overlap) for overlap in (OVERLAP, WIDE, 0))
OWN_NOISE, OWN_NOISE_CUT = Case(1, INDEPENDENT, OVERLAP), Case(1, INDEPENDENT, 0)
CASES = (MEAN, MEAN_WIDE, MEAN_CUT, DRAW, DRAW_WIDE, DRAW_CUT, OWN_NOISE, OWN_NOISE_CUT)
"""Rows of the table."""


@dataclass(frozen=True)
class Scene:
    """The test scene, and how it is reconstructed.

    Args:
        path: of the scene.
        rgb_bands: what the reconstruction is made from.
        truth: the bands that are not copied from the input (band, row, column).
        compared: positions of these bands among all good ones.
    """

    path: str
    rgb_bands: Optional[Tuple[int, int, int]]
    truth: NDArray[np.float64]
    compared: Tuple[int, ...]

    @classmethod
    def read(cls, split: Split) -> Scene:
        """Read the test scene of a split."""
        path = split.test[SCENE]
        pixels = read_pixels(path, split.rgb_bands)
        compared = tuple(band for band in range(len(pixels.values)) if band not in pixels.rgb)
        return cls(path, split.rgb_bands, pixels.values[list(compared)].astype(np.float64), compared)

    def reconstruct(self, model: str, case: Case, seed: int) -> NDArray[np.float64]:
        """Return what a cascade makes of the scene, as `truth`."""
        whole = max(self.truth.shape[1:])
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "output.tif")
            job = RgbToHyperspectral(
                self.path,
                model,
                output,
                rgb_bands=self.rgb_bands,
                samples=case.samples,
                seed=seed,
                tile_size=whole if case.overlap is None else None,
                overlap=case.overlap or 0,
                device=DEVICE,
            )
            noise = IndependentNoise if case.noise == INDEPENDENT else PlacedNoise
            with patch.object(reconstruction, "PlacedNoise", noise):
                reconstruct.run(job, EventWriter(io.StringIO()))
            return read_pixels(output, (1, 2, 3)).values[list(self.compared)].astype(np.float64)


@dataclass(frozen=True)
class Borders:
    """Which steps from a pixel to the next, along one axis, have to do with two tiles.

    Args:
        crossing: whether a tile begins or ends between the pixels (step,).
        inside: whether both pixels belong to the same two tiles (step,).
    """

    crossing: NDArray[np.bool_]
    inside: NDArray[np.bool_]

    @classmethod
    def along(cls, length: int, tiles: int, overlap: int) -> Borders:
        """Return the borders along an axis of some pixels that some tiles cover."""
        crossing, inside = np.zeros(length - 1, bool), np.zeros(length - 1, bool)
        stride = TILE - overlap
        for begin in range(stride, tiles * stride, stride):
            end = begin + overlap  # of the tile before
            crossing[[begin - 1, end - 1]] = True
            inside[begin : end - 1] = True
        return cls(crossing, inside)


def step_ratios(values: NDArray[np.float64], overlap: int) -> Tuple[float, float]:
    """Return how large steps across borders are, and steps inside overlaps, over those elsewhere.

    Args:
        values: (band, row, column).
        overlap: of the tiles, in pixels.

    Returns:
        Means over bands. Elsewhere is all but borders for the first, and outside of overlaps for the second,
        which is NaN where tiles do not overlap.
    """
    height, width = values.shape[1:]
    lattice = Lattice(height, width, TILE, overlap)
    down = Borders.along(height, lattice.rows, overlap)
    across = Borders.along(width, lattice.columns, overlap)
    steps_down = np.abs(np.diff(values, axis=1))
    steps_across = np.abs(np.diff(values, axis=2)).swapaxes(1, 2)

    def mean_step(in_rows: NDArray[np.bool_], in_columns: NDArray[np.bool_]) -> NDArray[np.float64]:
        parts = steps_down[:, in_rows], steps_across[:, in_columns]
        return np.concatenate([part.reshape(len(values), -1) for part in parts], axis=1).mean(axis=1)

    borders = mean_step(down.crossing, across.crossing) / mean_step(~down.crossing, ~across.crossing)
    if not overlap:
        return float(borders.mean()), math.nan
    outside = [~(side.crossing | side.inside) for side in (down, across)]
    overlaps = mean_step(down.inside, across.inside) / mean_step(*outside)
    return float(borders.mean()), float(overlaps.mean())


def print_table(
    truth: NDArray[np.float64], whole: Dict[int, NDArray[np.float64]], results: Dict[Case, NDArray[np.float64]]
) -> None:
    """Print a line a reconstruction, and whether the default's borders are seen.

    Args:
        truth: (band, row, column), in data units.
        whole: the reconstructions in one tile by SAMPLES.
        results: the others.
    """
    print("| SAMPLES | noise | overlap | ratio | the truth's | ratio / truth's | ratio / one tile's ", end="")
    print("| inside overlaps / one tile's | mean difference from one tile |\n|---|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for case, values in results.items():
        assert case.overlap is not None
        (ratio, inside), (of_truth, _), (of_whole, inside_whole) = (
            step_ratios(cube, case.overlap) for cube in (values, truth, whole[case.samples])
        )
        shares = ratio / of_truth, ratio / of_whole
        smooth = f"{inside / inside_whole:.3f}" if case.overlap else ""
        difference = np.abs(values - whole[case.samples]).mean()
        print(
            f"| {case.samples} | {case.noise} | {case.overlap} | {ratio:.3f} | {of_truth:.3f} | {shares[0]:.3f} "
            f"| {shares[1]:.3f} | {smooth} | {difference:.1f} |"
        )
        if case in (MEAN, DRAW):
            worst = max(worst, ratio, *shares)
    print(f"\nThe default's largest ratio, divided or not, is {worst:.3f}; no more than {TARGET} is wanted.")
    print(f"The truth's mean is {truth.mean():.0f}.")


def draw_picture(
    path: str, truth: NDArray[np.float64], whole: NDArray[np.float64], results: Dict[Case, NDArray[np.float64]]
) -> None:
    """Draw crops of one band about some borders, and below them what tiles change.

    Args:
        path: of the PNG.
        truth: (band, row, column).
        whole: the draw in one tile.
        results: the reconstructions in several.
    """
    part = slice(CROP_FIRST, CROP_FIRST + CROP_SIDE)
    shown = (CROP_BAND, part, part)
    low, high = np.percentile(whole[shown], (1, 99))
    grey, change = (low, high), (-SHOWN_DIFFERENCE, SHOWN_DIFFERENCE)
    default, cut = f"overlap {OVERLAP}", "overlap 0"
    panels = (
        ("truth", truth, None, grey),
        (f"one draw, {default} (default)", results[DRAW], OVERLAP, grey),
        (f"one draw, {cut}, noise {INDEPENDENT}", results[OWN_NOISE_CUT], 0, grey),
        ("one draw in one tile", whole, None, grey),
        (f"{default} minus one tile", results[DRAW] - whole, OVERLAP, change),
        (f"{cut} minus one tile", results[DRAW_CUT] - whole, 0, change),
    )
    figure = Figure((10.5, 7.4), layout="constrained")
    for axes, (title, values, overlap, (black, white)) in zip(figure.subplots(2, 3).flat, panels):
        extent = (CROP_FIRST, CROP_FIRST + CROP_SIDE, CROP_FIRST + CROP_SIDE, CROP_FIRST)
        axes.imshow(values[shown], "gray", vmin=black, vmax=white, interpolation="nearest", extent=extent)
        axes.set_title(title, fontsize=11)
        begins = () if overlap is None else range(TILE - overlap, CROP_FIRST + CROP_SIDE, TILE - overlap)
        ticks = sorted({end for begin in begins for end in (begin, begin + (overlap or 0)) if end < part.stop})
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.tick_params(top=True, right=True, length=6)
    caption = "Ticks: where tiles begin and end. Black to white:"
    figure.supxlabel(f"{caption} {low:.0f} to {high:.0f}, of differences ±{SHOWN_DIFFERENCE}.", fontsize=11)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train, reconstruct in every way, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, help="of every stage; the default is the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="PNG to draw crops into")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = make_splits(folder)["pavia"]
        model = train_cascade(split, folder, seed=options.seed, iterations=options.iterations)
        scene = Scene.read(split)
        whole = {
            case.samples: scene.reconstruct(model, replace(case, overlap=None), options.seed) for case in (MEAN, DRAW)
        }
        results = {case: scene.reconstruct(model, case, options.seed) for case in CASES}
    print_table(scene.truth, whole, results)
    if options.picture:
        draw_picture(options.picture, scene.truth, whole[1], results)


if __name__ == "__main__":
    main()
