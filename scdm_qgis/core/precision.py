"""Networks that compute in bfloat16."""

from __future__ import annotations

import copy

import torch

from scdm_qgis.core.unet import UNet


def in_bfloat16(network: UNet) -> UNet:
    """Return a copy that computes in bfloat16, in channels-last memory, which processors' units for it like.

    It takes float32 and returns bfloat16. Weights are rounded once, while autocast rounds them in every pass.
    The time embedding stays float32: its angles reach 1000 radians, of which bfloat16 keeps no phase.
    """
    copied = copy.deepcopy(network).to(dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    copied.time = copy.deepcopy(network.time)
    return copied
