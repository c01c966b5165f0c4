"""The U-Net of this plugin's own stages as a plain regression: no noise, no regression under it, no cascade."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.unet import UNet


class RegressionUNet(nn.Module):
    """From RGB (batch, 3, row, column) to spectra (batch, bands, row, column) by the preset `tiny`'s network.

    Its branch for the noisy image sees the RGB image as well, so that none of the network lies idle.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.network = UNet(PRESETS["tiny"].network, bands, 3)
        self.network.first_noisy = nn.Conv2d(3, PRESETS["tiny"].network.base_channels, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """Return spectra; the time is always 0."""
        return self.network(rgb, torch.zeros(len(rgb), dtype=torch.long), rgb)
