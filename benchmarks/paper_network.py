"""Print the size and the cost of the networks of all presets.

FLOPs are counted by torch (two per multiply-add) for one pass with the second stage's bands of
Houston 2018: 12 in, 48 out. No weights are allocated.

    python benchmarks/paper_network.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.unet import UNet
from scdm_qgis.core.unet_blocks import Downsample, SelfAttention

BANDS, CONDITION_BANDS = 48, 12


def measure(preset: str, size: int) -> None:
    """Print one preset's parameters, FLOPs and shape for a patch of `size` pixels a side."""
    config = PRESETS[preset].network
    attention = set()
    with torch.device("meta"):
        network = UNet(config, BANDS, CONDITION_BANDS).eval()
        for module in network.modules():
            if isinstance(module, SelfAttention):
                module.register_forward_hook(lambda m, i, output: attention.add(tuple(output.shape[-2:])))
        images = [torch.empty(1, bands, size, size) for bands in (BANDS, CONDITION_BANDS)]
        with FlopCounterMode(display=False) as counter:
            network(images[0], torch.zeros(1, dtype=torch.long), images[1])
    parameters = sum(parameter.numel() for parameter in network.parameters())
    halvings = sum(isinstance(layer, Downsample) for layer in network.encoder)
    print(
        f"{preset:8} {parameters / 1e6:7.2f} M parameters, {counter.get_total_flops() / 1e9:8.1f} GFLOP a pass at "
        f"{size} x {size}; {halvings + 1} resolutions, time embedding {network.time.mix.out_features}, "
        f"{len(network.decoder[0])} decoder blocks a resolution, attention at "
        f"{' and '.join(f'{height} x {width}' for height, width in sorted(attention, reverse=True)) or 'none'}"
    )


if __name__ == "__main__":
    for name, preset in PRESETS.items():
        for side in sorted({preset.patch_size, 256}):
            measure(name, side)
