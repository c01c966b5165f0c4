"""The U-Net of a stage (paper III-B.1).

One encoder sees the noisy image, the same weights with their own first convolution see the condition;
the decoder takes both branches' features at every level. Tensors are (batch, band, row, column).
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.unet_blocks import DecoderBlock, Downsample, ResidualBlock, SkipPart, TimeEmbedding, Upsample


class EmptyCondition(NamedTuple):
    """What a decoder block needs of the features of an all-zero condition, see `DecoderBlock.join`."""

    rest: Tensor
    part: SkipPart


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
        encoder, width = nn.ModuleList(), self.config.base_channels
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
                blocks.append(DecoderBlock(width, remaining.pop(), widths[level], attention, self.config))
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
        size = x_t.shape[-2:]
        time, noisy_skips, condition_skips = self._both_encoded(x_t, t, condition)
        x = self._middle(noisy_skips[-1], time)
        for level, blocks in enumerate(self.decoder):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, noisy_skips.pop(), condition_skips.pop()], dim=1), time)
            if level < len(self.upsamplers):
                x = self.upsamplers[level](x)
        return self._last(x, size)

    def forward_twice(
        self, x_t: Tensor, t: Tensor, condition: Tensor, empty: Sequence[EmptyCondition]
    ) -> Tuple[Tensor, Tensor]:
        """Predict with a condition and with an empty one (eq. 19); not for training.

        The noisy image's encoder and the middle know nothing of the condition, nor do the noisy image's shares in
        the decoder, so they are computed once; those of the empty condition are given. All samples are at
        the same timestep.

        Args:
            x_t, t, condition: as in `forward`.
            empty: `empty_condition` at this timestep and size.

        Returns:
            What `forward` returns for the condition, and for zeros in its place.
        """
        size = x_t.shape[-2:]
        time, noisy_skips, condition_skips = self._both_encoded(x_t, t, condition)
        x = without = self._middle(noisy_skips[-1], time)
        given = iter(empty)
        for level, blocks in enumerate(self.decoder):
            for block in blocks:  # type: ignore[attr-defined]
                noisy, features = noisy_skips.pop(), condition_skips.pop()
                part, (rest, empty_part) = block.noisy_part(noisy), next(given)
                both = block.condition_part(features).add_(part)
                x = block.join(x, noisy, block.condition_rest(features), both, time)
                without = block.join(without, noisy, rest, part.add_(empty_part), time)
            if level < len(self.upsamplers):
                x, without = (self.upsamplers[level].for_sampling(of) for of in (x, without))  # type: ignore[operator]
        return self._last(x, size), self._last(without, size)

    def empty_condition(self, t: Tensor, height: int, width: int) -> List[EmptyCondition]:
        """Return what `forward_twice` needs of an all-zero condition.

        It depends on nothing but the timestep and the size.

        Args:
            t: timesteps; the first is taken.
            height: rows of the samples.
            width: their columns.
        """
        weight = self.first_condition.weight
        condition = weight.new_zeros(
            1, weight.shape[1], *(_padded(side, self.config.divisor) for side in (height, width))
        )
        skips = self._encode(self.first_condition(condition), self.time(t[:1]).to(weight.dtype))
        blocks = [block for level in self.decoder for block in level]  # type: ignore[attr-defined]
        return [
            EmptyCondition(block.condition_rest(features).clone(), block.condition_part(features))
            for block, features in zip(blocks, reversed(skips))
        ]

    def _both_encoded(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tuple[Tensor, List[Tensor], List[Tensor]]:
        """Return the time embedding and both branches' features, as the decoder takes them."""
        dtype = self.first_noisy.weight.dtype
        x_t, condition = (pad_by_reflection(x, self.config.divisor).to(dtype) for x in (x_t, condition))
        time = self.time(t).to(dtype)
        return time, self._encode(self.first_noisy(x_t), time), self._encode(self.first_condition(condition), time)

    def _middle(self, x: Tensor, time: Tensor) -> Tensor:
        for block in self.middle:
            x = block(x, time)
        return x

    def _last(self, x: Tensor, size: torch.Size) -> Tensor:
        """Return the output, cut to the samples' size."""
        return self.conv_out(F.silu(self.norm_out(x)))[..., : size[0], : size[1]]

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
        padded = _padded(size, divisor)
        if padded != size:
            period = max(2 * (size - 1), 1)
            index = torch.arange(padded, device=x.device) % period
            x = x.index_select(dim, torch.where(index < size, index, period - index))
    return x


def _padded(side: int, divisor: int) -> int:
    return math.ceil(side / divisor) * divisor
