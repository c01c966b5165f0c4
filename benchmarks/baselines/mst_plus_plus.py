"""MST++ (Cai et al., "MST++: Multi-stage Spectral-wise Transformer for Efficient Spectral Reconstruction", CVPRW 2022).

Attention runs over channels instead of pixels. The paper has 31 bands and works in 31 channels; these are
kept for any number of bands, since the cost grows with their square: only the last layer has a channel a band,
and the long shortcut ends before it.
"""

from __future__ import annotations

from typing import List

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 31
STAGES = 3
LEVELS = 2
"""How often each stage halves the resolution."""


class SpectralAttention(nn.Module):
    """Multi-head self-attention over channels, with a position embedding made of two depthwise convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // CHANNELS
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.sharpness = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.out = nn.Conv2d(channels, channels, 1)
        self.position = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape (batch, channel, row, column)."""
        query, key, value = self.query_key_value(x).chunk(3, dim=1)
        rows = (part.reshape(len(x), self.heads, CHANNELS, -1) for part in (query, key, value))
        query_rows, key_rows, value_rows = rows
        alike = F.normalize(key_rows, dim=-1) @ F.normalize(query_rows, dim=-1).transpose(-2, -1)
        mixed = (alike * self.sharpness).softmax(dim=-1) @ value_rows
        return self.out(mixed.reshape(x.shape)) + self.position(value)


class SpectralBlock(nn.Module):
    """Spectral attention, then a feed-forward network of convolutions, each added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = SpectralAttention(channels)
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels, bias=False),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape (batch, channel, row, column)."""
        x = x + self.attention(x)
        return x + self.feed_forward(self.norm(x.movedim(1, -1)).movedim(-1, 1))


class SpectralTransformer(nn.Module):
    """One stage: a U of spectral blocks over `LEVELS` + 1 resolutions, added to its input."""

    def __init__(self) -> None:
        super().__init__()
        widths = [CHANNELS * 2**level for level in range(LEVELS + 1)]
        pairs = list(zip(widths, widths[1:]))
        self.embedding = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(SpectralBlock(width) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 4, stride=2, padding=1, bias=False) for fine, coarse in pairs)
        self.middle = SpectralBlock(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.fuse = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1, bias=False) for fine, _ in pairs)
        self.decoder = nn.ModuleList(SpectralBlock(width) for width in widths[:-1])
        self.mapping = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape; sides must be multiples of 2^LEVELS."""
        features, skips = self.embedding(x), []
        for block, down in zip(self.encoder, self.down):
            features = block(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for level in reversed(range(LEVELS)):
            features = self.fuse[level](torch.cat([self.up[level](features), skips[level]], dim=1))
            features = self.decoder[level](features)
        return self.mapping(features) + x


class MstPlusPlus(nn.Module):
    """From RGB (batch, 3, row, column) to spectra (batch, bands, row, column)."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False)
        stages: List[nn.Module] = [SpectralTransformer() for _ in range(STAGES)]
        self.body = nn.Sequential(*stages)
        self.last = nn.Conv2d(CHANNELS, bands, 3, padding=1, bias=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Run the stages with a long shortcut around them; sides are padded to what they need."""
        height, width = rgb.shape[-2:]
        padding = -width % 2**LEVELS, -height % 2**LEVELS
        features = self.first(F.pad(rgb, (0, padding[0], 0, padding[1]), mode="reflect"))
        return self.last(self.body(features) + features)[..., :height, :width]
