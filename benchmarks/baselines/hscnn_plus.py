"""HSCNN+ (Shi et al., "HSCNN+: Advanced CNN-Based Hyperspectral Recovery from RGB Images", CVPRW 2018).

Of its two networks this is HSCNN-R, residual blocks in a row; the dense HSCNN-D takes several times as long
for each pass and would see a fraction of the patches in the same time.
"""

from __future__ import annotations

from torch import Tensor, nn

FILTERS = 64
BLOCKS = 16


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a ReLU between, added to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(FILTERS, FILTERS, 3, padding=1)
        self.second = nn.Conv2d(FILTERS, FILTERS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.relu(self.first(x)))


class HscnnPlus(nn.Module):
    """From RGB (batch, 3, row, column) to spectra (batch, bands, row, column)."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, FILTERS, 3, padding=1)
        self.blocks = nn.Sequential(*(_ResidualBlock() for _ in range(BLOCKS)))
        self.joint = nn.Conv2d(FILTERS, FILTERS, 3, padding=1)
        self.last = nn.Conv2d(FILTERS, bands, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """Add a global shortcut around all residual blocks, then map features to bands."""
        features = nn.functional.relu(self.first(rgb))
        return self.last(features + self.joint(self.blocks(features)))
