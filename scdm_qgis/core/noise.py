"""Noise that belongs to a place: a function of seed, stage, draw, step, global row and column, and band.

Overlapping tiles see the same noise where they overlap, whatever the tiling, the batch or the machine. Where the
starts of several draws are balanced, these also depend on how many draws there are.
Integers come from Philox4x32-10 (Salmon et al. 2011), normals from them by Box and Muller.
"""

from __future__ import annotations

import math
from typing import Callable, List, Sequence, Tuple

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10

START = 0xFFFFFFFF
"""The step number of the noise that sampling starts from, x_T."""

COUNTERS_AT_ONCE_ON_CPU = 2**16
"""A round makes eight passes over all counters: those of more fall out of a processor's cache. Those of four bands are
the least."""

SMALLEST_VARIANCE = 1e-12
"""Of starts at one place: two that are the same by chance have none."""

FEWEST_MATCHED = 3
"""Two starts of deviation 1 at every pixel and band would be nothing but 1 and -1."""

Noise = Callable[[int], Tensor]
"""Noise (batch, band, row, column) for the step that leaves timestep t, or `START`: normal, of deviation 1 in every
band; the starts of balanced draws nearly so."""


def philox(counter: Tuple[Tensor, Tensor, Tensor, Tensor], key: Tuple[int, int]) -> Tuple[Tensor, ...]:
    """Return four 32-bit words for every counter, as int64 tensors (Philox4x32-10).

    Args:
        counter: four int64 tensors of 32-bit words that broadcast together.
        key: two 32-bit words.
    """
    c_0, c_1, c_2, c_3 = (word.clone() for word in torch.broadcast_tensors(*counter))
    first, second = torch.empty_like(c_0), torch.empty_like(c_0)
    k_0, k_1 = key
    for _ in range(_ROUNDS):
        # 32 x 32 bit products; int64 wraps, their bits stay right.
        torch.mul(c_0, _MULTIPLIERS[0], out=first)
        torch.mul(c_2, _MULTIPLIERS[1], out=second)
        torch.bitwise_right_shift(second, 32, out=c_0).bitwise_and_(_MASK).bitwise_xor_(c_1).bitwise_xor_(k_0)
        torch.bitwise_right_shift(first, 32, out=c_2).bitwise_and_(_MASK).bitwise_xor_(c_3).bitwise_xor_(k_1)
        torch.bitwise_and(second, _MASK, out=c_1)
        torch.bitwise_and(first, _MASK, out=c_3)
        k_0, k_1 = (k_0 + _KEY_STEPS[0]) & _MASK, (k_1 + _KEY_STEPS[1]) & _MASK
    return c_0, c_1, c_2, c_3


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
        quads = self._quad.shape[1]
        if self._quad.device.type == "cpu":
            quads = max(1, COUNTERS_AT_ONCE_ON_CPU // (self._row.numel() * self._column.shape[-1]))
        pieces = [self._of_quads(step, part) for part in self._quad.split(quads, dim=1)]
        return torch.cat(pieces, dim=1)[:, : self._bands]

    def _of_quads(self, step: int, quad: Tensor) -> Tensor:
        """Return the noise of four bands for each quad."""
        words = philox((self._row, self._column, quad, torch.full_like(quad, step)), self._key)
        normals = (*_normal_pair(words[0], words[1]), *_normal_pair(words[2], words[3]))
        return torch.stack(normals, dim=2).flatten(1, 2)


class BalancedNoise:
    """The noise of one of several draws whose starts are balanced; see `balance`.

    Args:
        noise: of the draw alone.
        mean, deviation: what its start is standardised by (batch, band, row, column).
    """

    def __init__(self, noise: Noise, mean: Tensor, deviation: Tensor) -> None:
        self._noise = noise
        self._mean = mean
        self._deviation = deviation

    def __call__(self, step: int) -> Tensor:
        """Return the noise of one step, the start standardised."""
        noise = self._noise(step)
        return (noise - self._mean) / self._deviation if step == START else noise


def balance(noises: Sequence[Noise]) -> List[Noise]:
    """Return the noises of several draws with starts whose mean is 0 and whose deviation is 1 at every pixel and band.

    Draws that are made of their start alone then nearly have their posterior mean as their mean and their true
    deviation as their deviation, which independent draws do in large numbers only. Two draws are antithetic
    (Hammersley and Morton 1956); of more, moments are matched (Barraquand 1995). The deviation of fewer than
    `FEWEST_MATCHED` is 1 on average only.
    """
    mean = noises[0](START)
    squares = torch.zeros_like(mean)
    for count, noise in enumerate(noises[1:], start=2):
        # Welford 1962: starts that are nearly the same must not cancel.
        start = noise(START)
        difference = start - mean
        mean = mean + difference / count
        squares += difference * (start - mean)
    if len(noises) < FEWEST_MATCHED:
        deviation = torch.full_like(mean, math.sqrt(1 - 1 / len(noises)))
    else:
        deviation = (squares / len(noises)).clamp(min=SMALLEST_VARIANCE).sqrt()
    return [BalancedNoise(noise, mean, deviation) for noise in noises]


def _normal_pair(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """Turn two 32-bit words into two normals (Box and Muller 1958)."""
    uniform = (first.float() + 0.5) * 2.0**-32
    radius = torch.sqrt(-2 * torch.log(uniform))
    angle = second.float() * (2 * math.pi * 2.0**-32)
    return radius * torch.cos(angle), radius * torch.sin(angle)
