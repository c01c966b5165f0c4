"""The three sizes of network a user can choose, with the training settings that suit each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple

from scdm_qgis.core.errors import UserError

PREDICTIONS = ("noise", "velocity", "residual")
LOSSES = ("mse", "l1")


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a U-Net (paper III-B.1), apart from its input and output bands.

    Args:
        base_channels: width at full resolution; the time embedding has four times as many.
        channel_multipliers: width of each resolution as a multiple of `base_channels`.
        attention_levels: indices into `channel_multipliers` whose residual blocks end in self-attention.
        encoder_blocks: residual blocks per resolution in the encoder.
        decoder_blocks: residual blocks per resolution in the decoder.
        middle_attention: whether the first of the two middle blocks ends in self-attention.
        norm_groups: groups of every group normalisation.
        dropout: share of features dropped in each residual block while training.
    """

    base_channels: int
    channel_multipliers: Tuple[int, ...]
    attention_levels: Tuple[int, ...] = ()
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    middle_attention: bool = True
    norm_groups: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        levels = len(self.channel_multipliers)
        if not 1 <= self.norm_groups <= self.base_channels <= 4096 or self.base_channels % self.norm_groups:
            raise UserError(
                f"The network's base width must be a multiple of {self.norm_groups}, at most 4096.",
                "Correct base_channels.",
            )
        if not 1 <= levels <= 10 or any(not 1 <= multiplier <= 64 for multiplier in self.channel_multipliers):
            raise UserError("The network needs 1 to 10 width multipliers from 1 to 64.", "Correct channel_mults.")
        if any(not 0 <= level < levels for level in self.attention_levels):
            raise UserError(
                f"Attention levels must lie from 0 to {levels - 1}.",
                "Correct attention_levels: they index channel_mults.",
            )
        if not (1 <= self.encoder_blocks <= 16 and self.decoder_blocks == self.encoder_blocks + 1):
            raise UserError(
                "The decoder must have one block more than the encoder in each resolution.",
                "Correct the network settings.",
            )
        if not 0 <= self.dropout < 1:
            raise UserError("Dropout must lie from 0 to below 1.", "Correct the network settings.")

    @property
    def divisor(self) -> int:
        """Sides of a patch are padded to a multiple of this many pixels."""
        return 2 ** (len(self.channel_multipliers) - 1)

    def to_json(self) -> Dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Read the settings back; raises UserError or TypeError for anything else."""
        lists = {key: tuple(int(item) for item in values[key]) for key in ("channel_multipliers", "attention_levels")}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class Preset:
    """A network and how it is trained unless the user says otherwise.

    Args:
        network: the U-Net.
        prediction: what the network predicts, one of `PREDICTIONS`.
        patch_size: side of a training patch in pixels.
        batch_size: patches an iteration.
        iterations: optimiser steps of the first stage.
        later_iterations: those of each later stage, whose condition leaves a residual little to learn.
        learning_rate: Adam's step size.
        loss: `mse` or `l1`.
        cosine_decay: let the step size fall to zero along a half cosine; else it stays.
        ema_decay: decay of the weights' moving average, which is what is used afterwards.
        ema_start: iterations before the average begins; until then it copies the weights.
    """

    network: NetworkConfig
    prediction: str
    patch_size: int
    batch_size: int
    iterations: int
    later_iterations: int
    learning_rate: float
    loss: str
    cosine_decay: bool
    ema_decay: float
    ema_start: int


PRESETS: Dict[str, Preset] = {
    # Paper III-B.1: base 128, seven resolutions, attention where a 256 patch has 16 x 16 features (level 4).
    "paper": Preset(
        network=NetworkConfig(128, (1, 2, 2, 2, 2, 2, 2), attention_levels=(4,), dropout=0.1),
        prediction="noise",
        patch_size=256,
        batch_size=4,
        iterations=100_000,
        later_iterations=100_000,
        learning_rate=1e-4,
        loss="mse",
        cosine_decay=False,
        ema_decay=0.9999,
        ema_start=2000,
    ),
    "compact": Preset(
        network=NetworkConfig(64, (1, 2, 2, 2), attention_levels=(3,), norm_groups=16),
        prediction="residual",
        patch_size=64,
        batch_size=16,
        iterations=10_000,
        later_iterations=3_000,
        learning_rate=3e-4,
        loss="mse",
        cosine_decay=True,
        ema_decay=0.999,
        ema_start=200,
    ),
    "tiny": Preset(
        network=NetworkConfig(
            32, (1, 1, 2), encoder_blocks=1, decoder_blocks=2, middle_attention=False, norm_groups=8, dropout=0.1
        ),
        prediction="residual",
        patch_size=32,
        batch_size=8,
        iterations=500,
        later_iterations=100,
        learning_rate=2e-3,
        loss="mse",
        cosine_decay=True,
        ema_decay=0.99,
        ema_start=50,
    ),
}
