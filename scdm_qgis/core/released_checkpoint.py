"""Weights of the authors' released code, read into our network."""

from __future__ import annotations

from typing import Dict, Mapping

import torch
from torch import Tensor

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.unet import UNet

_PREFIXES = {"ema": "ema_model.", "raw": "model."}

_LAYERS = {
    "norm_1": "norm_in",
    "conv_1": "conv_in",
    "norm_2": "norm_out",
    "conv_2.1": "conv_out",
    "time_bias": "time",
    "residual_connection": "shortcut",
    "attention2.norm": "attention.norm",
    "attention2.to_qkv": "attention.query_key_value",
    "attention2.to_out": "attention.out",
    "downsample": "conv",
    "upsample.1": "conv",
}

_ENDS = {
    "time_mlp.1": "time.expand",
    "time_mlp.3": "time.mix",
    "init_conv": "first_noisy",
    "init_rgb": "first_condition",
    "out_norm": "norm_out",
    "out_conv": "conv_out",
}

_UNUSED = ("out_rgb.",)
"""A second head the released code trains nothing with."""


def read_released_weights(path: str, weights: str) -> Dict[str, Tensor]:
    """Return the released network's tensors by their released names.

    Args:
        path: a ``.pth`` state dict as the released training script saves it.
        weights: `ema` (the averaged weights, which the released code samples with) or `raw`.

    Raises:
        UserError: a file that is no such checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # weights_only: no code is run
    except Exception as error:  # torch.load raises whatever a damaged or foreign file provokes
        raise UserError(
            f"'{path}' is not a PyTorch checkpoint that can be read safely.",
            "Choose the .pth file of the released code.",
        ) from error
    prefix = _PREFIXES[weights]
    if not isinstance(state, Mapping) or not any(str(key).startswith(prefix) for key in state):
        raise UserError(
            f"The checkpoint holds no weights under '{prefix}'.",
            "Choose a checkpoint saved by the released training script.",
        )
    return {
        key[len(prefix) :]: value
        for key, value in state.items()
        if isinstance(key, str) and key.startswith(prefix) and not key[len(prefix) :].startswith(_UNUSED)
    }


def load_released_weights(network: UNet, released: Mapping[str, Tensor]) -> None:
    """Copy released tensors into `network`.

    Raises:
        UserError: tensors that do not fit the network's shape.
    """
    try:
        network.load_state_dict({_our_name(key, network.config): value for key, value in released.items()})
    except (RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            "The checkpoint does not fit the configuration.",
            "Check base_channels, channel_mults, attention_levels, bands and condition_bands in CONFIG.",
        ) from error


def _our_name(released: str, config: NetworkConfig) -> str:
    stem, _, kind = released.rpartition(".")
    if stem in _ENDS:
        return f"{_ENDS[stem]}.{kind}"
    room, index, layer = stem.split(".", 2)
    ours = _LAYERS[layer]
    if room == "downs":
        return f"encoder.{index}.{ours}.{kind}"
    if room == "mid":
        return f"middle.{index}.{ours}.{kind}"
    level, block = divmod(int(index), config.decoder_blocks + 1)
    if block == config.decoder_blocks:
        return f"upsamplers.{level}.{ours}.{kind}"
    return f"decoder.{level}.{block}.{ours}.{kind}"
