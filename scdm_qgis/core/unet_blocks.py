"""What the U-Net of a stage is made of (paper III-B.1). Tensors are (batch, channel, row, column)."""

from __future__ import annotations

import math
from typing import NamedTuple

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


class SkipPart(NamedTuple):
    """The share that one input of a decoder block has in its first convolution, and in its shortcut."""

    convolved: Tensor
    shortcut: Tensor

    def add_(self, other: SkipPart) -> SkipPart:
        """Add another input's share in place."""
        return SkipPart(self.convolved.add_(other.convolved), self.shortcut.add_(other.shortcut))


class DecoderBlock(ResidualBlock):
    """A residual block on three inputs: what comes from below, the noisy image's features, the condition's.

    `forward` takes them concatenated. A convolution of a concatenation is the sum of the convolutions of its
    parts, so where one input is used several times, its share is computed once by `noisy_part` or
    `condition_part` and handed to `join`: exact, apart from the order of additions. A group of the first
    normalisation that straddles two inputs depends on both, so its channels are left to `join`.

    Args:
        below: channels of what comes from below.
        skip: channels of the noisy image's features, and of the condition's.
        channels_out: channels of the output.
        attention: whether it ends in self-attention.
        config: shape of the network.
    """

    shortcut: nn.Conv2d  # the output never has as many channels as three inputs

    def __init__(self, below: int, skip: int, channels_out: int, attention: bool, config: NetworkConfig) -> None:
        super().__init__(below + 2 * skip, channels_out, attention, config)
        group = (below + 2 * skip) // config.norm_groups
        self._group, self._below, self._skip = group, below, skip
        # Channels of the groups that lie within one input.
        first = _up(below, group)
        self._noisy_channels = slice(first, max(first, (below + skip) // group * group))
        self._condition_channels = slice(_up(below + skip, group), below + 2 * skip)
        self._rest: Tensor
        rest = [*range(self._noisy_channels.start), *range(self._noisy_channels.stop, self._condition_channels.start)]
        self.register_buffer("_rest", torch.tensor(rest), persistent=False)

    def noisy_part(self, features: Tensor) -> SkipPart:
        """Return the share of the noisy image's features."""
        return self._part(features, self._below, self._noisy_channels)

    def condition_part(self, features: Tensor) -> SkipPart:
        """Return the share of the condition's features."""
        return self._part(features, self._below + self._skip, self._condition_channels)

    def condition_rest(self, features: Tensor) -> Tensor:
        """Return those of the condition's features that `join` needs beside their share."""
        return features[:, : self._condition_channels.start - self._below - self._skip]

    def join(self, below: Tensor, noisy: Tensor, condition_rest: Tensor, parts: SkipPart, time: Tensor) -> Tensor:
        """Return what `forward` returns; not for training: nothing is dropped.

        Args:
            below: what comes from below.
            noisy: the noisy image's features.
            condition_rest: the rest of the condition's, of the whole batch or of one sample for all.
            parts: the shares of noisy image and condition together.
            time: the time embedding of one timestep, which all samples are at.
        """
        start, stop = self._noisy_channels.start - self._below, self._noisy_channels.stop - self._below
        rest = [below, noisy[:, :start], noisy[:, stop:], condition_rest.expand(len(below), -1, -1, -1)]
        h = F.silu(self._normalise(torch.cat(rest, dim=1), self._rest), inplace=True)
        # All samples share a timestep, so the time embedding is one more bias.
        bias = self.conv_in.bias + self.time(F.silu(time))[0]
        h = F.conv2d(h, self.conv_in.weight[:, self._rest], bias, padding=1).add_(parts.convolved)
        h = self.conv_out(F.silu(self.norm_out(h), inplace=True))
        h += F.conv2d(below, self.shortcut.weight[:, : self._below], self.shortcut.bias)
        return self.attention(h.add_(parts.shortcut))

    def _part(self, features: Tensor, first: int, own: slice) -> SkipPart:
        shortcut = F.conv2d(features, self.shortcut.weight[:, first : first + self._skip])
        if own.start == own.stop:
            return SkipPart(torch.zeros_like(shortcut), shortcut)
        h = F.silu(self._normalise(features[:, own.start - first : own.stop - first], own), inplace=True)
        return SkipPart(F.conv2d(h, self.conv_in.weight[:, own], padding=1), shortcut)

    def _normalise(self, x: Tensor, channels: slice | Tensor) -> Tensor:
        """Apply the first normalisation to some of its channels, whole groups of them."""
        norm = self.norm_in
        return F.group_norm(x, x.shape[1] // self._group, norm.weight[channels], norm.bias[channels], norm.eps)


def _up(number: int, group: int) -> int:
    """Return the next multiple of a group's size."""
    return -(-number // group) * group


class Downsample(nn.Module):
    """Halve the resolution: 3 x 3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return features at half the resolution."""
        return self.conv(x)


WEIGHTS_OF_COPIES = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
"""Which of a kernel's three rows (last) lie on which of two input rows, for even and odd (first) output rows."""

FEWEST_PIXELS_BY_PHASE = 256
"""From so many input pixels on, over the whole batch, four products and their sums take less time than nine."""


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features at twice the resolution."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

    def for_sampling(self, x: Tensor) -> Tensor:
        """Return what `forward` returns, apart from the order of additions; not for training.

        The nine pixels under a kernel are copies of four. So every fourth pixel of the output, by even and odd rows
        and columns, is a convolution of the input with sums of weights: four products a pixel instead of nine.
        Matrix units take longer to write every other pixel than to multiply nine times, and for few pixels the sums
        are dearer than the products.
        """
        batch, _, height, width = x.shape
        if x.device.type != "cpu" or x.dtype == torch.bfloat16 or batch * height * width < FEWEST_PIXELS_BY_PHASE:
            return self(x)
        sums = x.new_tensor(WEIGHTS_OF_COPIES)
        kernels = torch.einsum("pai,qbj,ocij->pqocab", sums, sums, self.conv.weight)
        padded = F.pad(x, (1, 1, 1, 1))
        output = x.new_empty(batch, self.conv.out_channels, 2 * height, 2 * width)
        for row in (0, 1):
            for column in (0, 1):
                under = padded[:, :, row : row + height + 1, column : column + width + 1]
                output[:, :, row::2, column::2] = F.conv2d(under, kernels[row, column], self.conv.bias)
        return output
