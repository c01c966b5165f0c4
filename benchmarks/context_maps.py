"""What context maps cost, against convolving every band of every tile with its margin.

python -m benchmarks.context_maps [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Callable, List

import torch
from torch import Tensor
from torch.nn import functional as F

from scdm_qgis.core.context import context_maps, context_radius
from scdm_qgis.engine.batch_size import enough_tiles
from scdm_qgis.engine.train import CONTEXT_SIGMAS


def convolve(rgb: Tensor, valid: Tensor) -> Tensor:
    """Return the maps of the tiles by convolutions of single planes, rows and columns one after the other."""
    margin = context_radius(CONTEXT_SIGMAS)
    weighted, maps = torch.cat([rgb * valid, valid], dim=1), []
    for sigma in CONTEXT_SIGMAS:
        radius = context_radius([sigma])
        window = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
        planes, window = weighted.reshape(-1, 1, *rgb.shape[-2:]), window / window.sum()
        planes = F.conv2d(planes, window.reshape(1, 1, -1, 1), padding=(radius, 0))
        smoothed = F.conv2d(planes, window.reshape(1, 1, 1, -1), padding=(0, radius)).reshape(weighted.shape)
        maps.append(smoothed[:, :3] / smoothed[:, 3:].clamp(min=1e-12))
    return torch.cat(maps, dim=1)[..., margin:-margin, margin:-margin]


def seconds_of(run: Callable[[], Tensor]) -> float:
    """Return what one run takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@torch.inference_mode()
def compare(size: int, rounds: int) -> None:
    """Print how both ways compare for a batch of tiles of `size` pixels a side."""
    margin, count = context_radius(CONTEXT_SIGMAS), enough_tiles("cpu", size, torch.get_num_threads())
    rgb = torch.randn(count, 3, size + 2 * margin, size + 2 * margin, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(rgb[:, :1])
    ways = (lambda: convolve(rgb, valid), lambda: context_maps(rgb, valid, CONTEXT_SIGMAS, margin))
    difference = float((ways[0]() - ways[1]()).abs().max())
    times: List[List[float]] = [[seconds_of(way) for way in ways] for _ in range(rounds)]
    ratio = statistics.median(slow / fast for slow, fast in times)
    slow, fast = (1000 * statistics.median(column) / count for column in zip(*times))
    print(
        f"| {size} x {size}, {count} at once | {slow:.2f} | {fast:.2f} | {ratio:.1f} | {difference:.0e} |", flush=True
    )


def main() -> None:
    """Compare for tiles of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(
        "| tiles | convolutions, ms a tile | products, ms a tile | ratio | largest difference |\n|---|---|---|---|---|"
    )
    for size in (32, 64, 128):
        compare(size, options.rounds)


if __name__ == "__main__":
    main()
