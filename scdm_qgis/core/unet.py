"""The U-Net of a stage (paper III-B.1).

One encoder sees the noisy image, the same weights with their own first convolution see the condition;
the decoder takes both branches' features at every level. Tensors are (batch, band, row, column).
"""

from __future__ import annotations

import math
from typing import List, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scdm_qgis.core.presets import NetworkConfig


class TimeEmbedding(nn.Module):
    """Sinusoid of the base width, then Linear-SiLU-Linear to four times that width."""

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        half = base_channels // 2
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(-math.log(10000) / half * torch.arange(half)), persistent=False)
        self.expand = nn.Linear(base_channels, 4 * base_channels)
        self.mix = nn.Linear(4 * base_channels, 4 * base_channels)

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps (batch,) as (batch, 4 * base_channels)."""
        angles = torch.outer(t.to(self.frequencies.dtype), self.frequencies)
        return self.mix(F.silu(self.expand(torch.cat([angles.sin(), angles.cos()], dim=-1))))


class SelfAttention(nn.Module):
    """One-head attention over all pixels, added to its input."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        batch, channels, height, width = x.shape
        pixels = self.query_key_value(self.norm(x)).flatten(2).transpose(1, 2)
        query, key, value = (part.unsqueeze(1) for part in pixels.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.squeeze(1).transpose(1, 2).reshape(batch, channels, height, width))


class ResidualBlock(nn.Module):
    """Norm-SiLU-conv, plus the time embedding, norm-SiLU-dropout-conv, plus the shortcut; then attention."""

    def __init__(self, channels_in: int, channels_out: int, attention: bool, config: NetworkConfig) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(config.norm_groups, channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(4 * config.base_channels, channels_out)
        self.norm_out = nn.GroupNorm(config.norm_groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        self.attention = SelfAttention(channels_out, config.norm_groups) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return features of `channels_out` channels; `time` is the time embedding."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        return self.attention(h + self.shortcut(x))


class Downsample(nn.Module):
    """Halve the resolution: 3 x 3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return features at half the resolution."""
        return self.conv(x)


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features at twice the resolution."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """The denoising network of one stage.

    Args:
        config: its shape.
        bands: bands of the noisy image and of the output.
        condition_bands: bands of the condition.
    """

    def __init__(self, config: NetworkConfig, bands: int, condition_bands: int) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.base_channels)
        self.first_noisy = nn.Conv2d(bands, config.base_channels, 3, padding=1)
        self.first_condition = nn.Conv2d(condition_bands, config.base_channels, 3, padding=1)
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        self.encoder, skip_widths = self._build_encoder(widths)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(widths[-1], widths[-1], config.middle_attention, config),
                ResidualBlock(widths[-1], widths[-1], False, config),
            ]
        )
        self.decoder, self.upsamplers = self._build_decoder(widths, skip_widths)
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], bands, 3, padding=1)

    def _build_encoder(self, widths: List[int]) -> Tuple[nn.ModuleList, List[int]]:
        encoder, width = nn.ModuleList(), widths[0]
        skip_widths = [width]
        for level, level_width in enumerate(widths):
            for _ in range(self.config.encoder_blocks):
                attention = level in self.config.attention_levels
                encoder.append(ResidualBlock(width, level_width, attention, self.config))
                width = level_width
                skip_widths.append(width)
            if level < len(widths) - 1:
                encoder.append(Downsample(width))
                skip_widths.append(width)
        return encoder, skip_widths

    def _build_decoder(self, widths: List[int], skip_widths: List[int]) -> Tuple[nn.ModuleList, nn.ModuleList]:
        decoder, upsamplers, width = nn.ModuleList(), nn.ModuleList(), widths[-1]
        remaining = list(skip_widths)
        for level in reversed(range(len(widths))):
            blocks = nn.ModuleList()
            for _ in range(self.config.decoder_blocks):
                attention = level in self.config.attention_levels
                blocks.append(ResidualBlock(width + 2 * remaining.pop(), widths[level], attention, self.config))
                width = widths[level]
            decoder.append(blocks)
            if level > 0:
                upsamplers.append(Upsample(width))
        return decoder, upsamplers

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Predict from noisy samples.

        Args:
            x_t: noisy samples (batch, bands, row, column); any size from 1 x 1.
            t: timesteps (batch,).
            condition: (batch, condition_bands, row, column).

        Returns:
            (batch, bands, row, column).
        """
        height, width = x_t.shape[-2:]
        x_t, condition = (pad_by_reflection(x, self.config.divisor) for x in (x_t, condition))
        time = self.time(t)
        noisy_skips = self._encode(self.first_noisy(x_t), time)
        condition_skips = self._encode(self.first_condition(condition), time)
        x = noisy_skips[-1]
        for block in self.middle:
            x = block(x, time)
        for level, blocks in enumerate(self.decoder):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, noisy_skips.pop(), condition_skips.pop()], dim=1), time)
            if level < len(self.upsamplers):
                x = self.upsamplers[level](x)
        return self.conv_out(F.silu(self.norm_out(x)))[..., :height, :width]

    def _encode(self, x: Tensor, time: Tensor) -> List[Tensor]:
        """Return the features the decoder takes, finest first."""
        skips = [x]
        for layer in self.encoder:
            skips.append(layer(skips[-1], time))
        return skips


def pad_by_reflection(x: Tensor, divisor: int) -> Tensor:
    """Extend rows and columns at their ends to multiples of `divisor`.

    The image is mirrored about its last line, as often as needed; a side of 1 is repeated.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        padded = math.ceil(size / divisor) * divisor
        if padded != size:
            period = max(2 * (size - 1), 1)
            index = torch.arange(padded, device=x.device) % period
            x = x.index_select(dim, torch.where(index < size, index, period - index))
    return x
