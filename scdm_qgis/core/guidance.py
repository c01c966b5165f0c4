"""Image-conditional mutual guidance (ICMG, eq. 19)."""

from __future__ import annotations

import threading
from typing import Dict, List, Tuple

import torch
from torch import Tensor

from scdm_qgis.core.precision import in_bfloat16
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.unet import EmptyCondition, UNet

CACHE_BYTES = 512 * 2**20
"""What a stage keeps of the empty condition's features takes at most so much memory."""


_FLOAT = 4


class GuidedNetwork:
    """A stage's U-Net as samplers ask it: pushed away from what it says to an empty (all-zero) condition.

    It is for sampling only: guided passes have no gradients. Several threads may ask it at once.

    out = out_c + s (out_c - out_0). What a network says of x_0 and eps is linear in its output, so both are
    guided with it.

    Args:
        network: the U-Net.
        weight: s; 0 asks the network once and changes nothing.
        bfloat16: whether it computes in bfloat16.
    """

    def __init__(self, network: UNet, weight: float = 0.0, bfloat16: bool = False) -> None:
        self._network = in_bfloat16(network) if bfloat16 else network
        self._weight = weight
        self._kept: Dict[Tuple[int, int, int], List[EmptyCondition]] = {}
        self._kept_bytes = 0
        self._turn = threading.Lock()

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the guided output, float32 (batch, band, row, column); all samples are at the same timestep."""
        if self._weight == 0:
            return self._network(x_t, t, condition).float()
        empty = self._empty(t, *x_t.shape[-2:])
        conditional, unconditional = self._network.forward_twice(x_t, t, condition, empty)
        return torch.lerp(unconditional.float(), conditional.float(), 1 + self._weight)

    def _empty(self, t: Tensor, height: int, width: int) -> List[EmptyCondition]:
        """Return the empty condition's features, kept for the next batch as far as there is room.

        Not on GPUs, which would have to be waited for to know the timestep; there a batch has many tiles, which
        share what is made for one.
        """
        if t.device.type != "cpu":
            return self._network.empty_condition(t, height, width)
        key = int(t[0]), height, width
        with self._turn:
            if key in self._kept:
                return self._kept[key]
        made = self._network.empty_condition(t, height, width)
        size = sum(tensor.nbytes for empty in made for tensor in (empty.rest, *empty.part))
        with self._turn:
            if key not in self._kept and self._kept_bytes + size <= CACHE_BYTES:
                self._kept[key] = made
                self._kept_bytes += size
        return made


def kept_bytes(config: NetworkConfig, tile_size: int, steps: int) -> int:
    """Return about how much memory a guided stage keeps for so many steps on tiles of one size.

    Of every decoder block that is its share of the condition, twice as wide as the block's output.
    """
    pixels = [(tile_size / 2**level) ** 2 for level in range(len(config.channel_multipliers))]
    widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
    features = sum(2 * config.decoder_blocks * width * count for width, count in zip(widths, pixels))
    return min(CACHE_BYTES, int(steps * features * _FLOAT))
