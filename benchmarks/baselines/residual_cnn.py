"""A plain convolutional network that predicts the residual over ridge regression in one pass."""

from __future__ import annotations

from torch import Tensor, nn

CHANNELS = 96
BLOCKS = 6
NORM_GROUPS = 8


class _Block(nn.Module):
    """Pre-activation residual block with group normalisation."""

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [nn.GroupNorm(NORM_GROUPS, CHANNELS), nn.SiLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResidualCnn(nn.Module):
    """From RGB (batch, 3, row, column) to residuals (batch, bands, row, column); starts from zero output."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        last = nn.Conv2d(CHANNELS, bands, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1),
            *(_Block() for _ in range(BLOCKS)),
            nn.GroupNorm(NORM_GROUPS, CHANNELS),
            nn.SiLU(),
            last,
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """Return the standardised residual."""
        return self.layers(rgb)
