"""Noise that belongs to a place: a function of seed, stage, draw, step, global row and column, and band.

Overlapping tiles see the same noise where they overlap, whatever the tiling, the batch or the machine.
Integers come from Philox4x32-10 (Salmon et al. 2011), normals from them by Box and Muller.
"""

from __future__ import annotations

import math
from typing import Sequence, Tuple

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10

START = 0xFFFFFFFF
"""The step number of the noise that sampling starts from, x_T."""


def philox(counter: Tuple[Tensor, Tensor, Tensor, Tensor], key: Tuple[int, int]) -> Tuple[Tensor, ...]:
    """Return four 32-bit words for every counter, as int64 tensors (Philox4x32-10).

    Args:
        counter: four int64 tensors of 32-bit words that broadcast together.
        key: two 32-bit words.
    """
    c_0, c_1, c_2, c_3 = torch.broadcast_tensors(*counter)
    k_0, k_1 = key
    for _ in range(_ROUNDS):
        high_0, low_0 = _multiply(c_0, _MULTIPLIERS[0])
        high_1, low_1 = _multiply(c_2, _MULTIPLIERS[1])
        c_0, c_1, c_2, c_3 = high_1 ^ c_1 ^ k_0, low_1, high_0 ^ c_3 ^ k_1, low_0
        k_0, k_1 = (k_0 + _KEY_STEPS[0]) & _MASK, (k_1 + _KEY_STEPS[1]) & _MASK
    return c_0, c_1, c_2, c_3


def _multiply(word: Tensor, factor: int) -> Tuple[Tensor, Tensor]:
    """Return the high and low halves of a 32 x 32 bit product; int64 wraps, its bits stay right."""
    product = word * factor
    return (product >> 32) & _MASK, product & _MASK


class PlacedNoise:
    """Standard normal noise for a batch of tiles of one size.

    Args:
        seed: the user's seed, below 2^32.
        stage: 1-based stage, below 2^12.
        draw: 0-based draw, below 2^20.
        origins: (row, column) of each tile in the whole raster.
        bands: number of bands.
        height: rows of a tile.
        width: columns of a tile.
        device: where the noise is needed.
    """

    def __init__(
        self,
        seed: int,
        stage: int,
        draw: int,
        origins: Sequence[Tuple[int, int]],
        bands: int,
        height: int,
        width: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._key = (seed & _MASK, (stage << 20 | draw) & _MASK)
        self._bands = bands
        row, column = torch.tensor(list(origins), dtype=torch.int64, device=device).T
        self._row = (row[:, None] + torch.arange(height, device=device))[:, None, :, None]
        self._column = (column[:, None] + torch.arange(width, device=device))[:, None, None, :]
        self._quad = torch.arange(math.ceil(bands / 4), device=device)[None, :, None, None]

    def __call__(self, step: int) -> Tensor:
        """Return the noise of one step, float32 (tile, band, row, column)."""
        words = philox((self._row, self._column, self._quad, torch.full_like(self._quad, step)), self._key)
        normals = (*_normal_pair(words[0], words[1]), *_normal_pair(words[2], words[3]))
        return torch.stack(normals, dim=2).flatten(1, 2)[:, : self._bands]


def _normal_pair(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """Turn two 32-bit words into two normals (Box and Muller 1958)."""
    uniform = (first.float() + 0.5) * 2.0**-32
    radius = torch.sqrt(-2 * torch.log(uniform))
    angle = second.float() * (2 * math.pi * 2.0**-32)
    return radius * torch.cos(angle), radius * torch.sin(angle)
