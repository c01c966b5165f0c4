"""How many tiles are computed at once where the user does not say."""

from __future__ import annotations

import math
from typing import Callable

import torch

PIXELS = {"cpu": 64 * 192, "cuda": 16 * 256 * 256, "mps": 4 * 256 * 256}
"""Pixels of a batch by type of device, for each thread of a processor; more are no faster."""

SHARE_OF_MEMORY = 0.7
"""A batch takes at most this share of a GPU's free memory."""


def enough_tiles(device_type: str, tile_size: int, threads: int) -> int:
    """Return how many tiles keep a GPU, or so many threads of a processor, busy, whatever the memory."""
    pixels = PIXELS[device_type] * (threads if device_type == "cpu" else 1)
    return max(1, pixels // tile_size**2)


def enough_threads(tiles: int, tile_size: int) -> int:
    """Return how many threads of a processor the tiles of a batch keep busy."""
    return math.ceil(tiles * tile_size**2 / PIXELS["cpu"])


def automatic_batch_size(device: torch.device, tile_size: int, compute_one: Callable[[], None]) -> int:
    """Return how many tiles are enough to keep a GPU busy and fit into its memory.

    Args:
        device: what computes.
        tile_size: side of a tile in pixels.
        compute_one: computes one tile, so that a GPU's memory can be measured.
    """
    enough = enough_tiles(device.type, tile_size, threads=1)
    if device.type != "cuda":
        return enough
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    compute_one()
    taken = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return at_most(enough, int(SHARE_OF_MEMORY * free), taken)


def at_most(enough: int, free_bytes: int, bytes_a_tile: int) -> int:
    """Return how many of `enough` tiles fit into memory; one at least, which then shows whether it fits."""
    return max(1, min(enough, free_bytes // max(1, bytes_a_tile)))
