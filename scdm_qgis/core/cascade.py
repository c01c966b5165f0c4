"""A stage, a cascade of stages, and their file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Dict, Optional, Sequence, Tuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from scdm_qgis.core.cascade_header import METADATA_KEY, CascadeHeader, StageHeader, assemble_headers, read_header
from scdm_qgis.core.context import context_radius
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.light import COLOUR_BANDS
from scdm_qgis.core.residual import Anchor
from scdm_qgis.core.schedule import Schedule
from scdm_qgis.core.unet import UNet


@dataclass
class Stage:
    """One stage ready to train or to use.

    Args:
        header: what it predicts, from what, and how.
        network: its U-Net.
        anchor: the regression under it where it predicts a residual, else None.
    """

    header: StageHeader
    network: UNet
    anchor: Optional[Anchor]

    def __post_init__(self) -> None:
        if (self.header.prediction == "residual") != (self.anchor is not None):
            raise ValueError("a stage has a regression exactly when it predicts a residual")

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.network.parameters()).device

    def schedule(self) -> Schedule:
        """Return the noise schedule on the stage's device."""
        return Schedule(self.header.schedule, self.device)

    def condition(self, previous: Optional[Tensor], rgb: Tensor, context: Tensor) -> Tensor:
        """Put together what the stage is conditioned on (`Condition`): previous bands, RGB, context maps.

        Args:
            previous: output of the stage before (batch, band, row, column), None in stage 1.
            rgb: the RGB image (batch, 3, row, column).
            context: its context maps at this stage's widths, without bands where the stage has none.
        """
        parts = [previous] if previous is not None and self.header.condition.previous_bands else []
        if self.header.condition.rgb_bands:
            parts.append(rgb)
        return torch.cat([*parts, context], dim=1)

    def network_condition(self, condition: Tensor) -> Tensor:
        """Return what the network sees of the condition (batch, band, row, column).

        It is the images alone; in an anchored stage also the colours of the RGB image, while the context
        maps are the regression's: networks of few scenes learn the scenes from them.
        """
        images = condition[:, : self.header.condition.image_count]
        if self.anchor is None:
            return images
        return torch.cat([images, self.anchor.light.colour(self.anchor.rgb(condition))], dim=1)

    def noise(self, normals: Tensor) -> Tensor:
        """Return the noise of the stage's diffusion (batch, band, row, column), made of independent normal numbers."""
        return normals if self.anchor is None else self.anchor.mix(normals)

    def to(self, device: torch.device | str) -> Stage:
        """Move the stage to a device."""
        self.network.to(device)
        return replace(self, anchor=None if self.anchor is None else self.anchor.to(device))

    def tensors(self) -> Dict[str, Tensor]:
        """Return all tensors by the names a cascade file gives them."""
        named = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        if self.anchor is not None:
            named.update({f"regression.{key}": value for key, value in self.anchor.tensors().items()})
        return {f"stage{self.header.index}.{key}": value.contiguous().cpu() for key, value in named.items()}


@dataclass
class Cascade:
    """Stages in order, and what they share.

    Args:
        header: what the file says; its stages are those of `stages`.
        stages: the stages.
    """

    header: CascadeHeader
    stages: Tuple[Stage, ...]

    @property
    def context_radius(self) -> int:
        """Pixels around a tile that its reconstruction depends on."""
        return max(context_radius(stage.header.condition.context_sigmas) for stage in self.stages)

    def to(self, device: torch.device | str) -> Cascade:
        """Move all stages to a device."""
        return Cascade(self.header, tuple(stage.to(device) for stage in self.stages))

    def save(self, path: str) -> None:
        """Write the cascade to `path`; the caller sees to it that the file appears whole."""
        tensors = {key: value for stage in self.stages for key, value in stage.tensors().items()}
        metadata = {METADATA_KEY: json.dumps(self.header.to_json(), allow_nan=False)}
        with open(path, "wb") as file:  # safetensors' own save_file makes files that only their owner may read
            file.write(save(tensors, metadata))

    @classmethod
    def load(cls, path: str) -> Cascade:
        """Read a cascade, or a stage file, onto the CPU.

        Raises:
            UserError: a file that is no cascade file, or whose tensors do not fit what it says.
        """
        header = read_header(path)
        try:
            tensors = load_file(path)
            stages = tuple(_load_stage(stage, tensors) for stage in header.stages)
        except (
            SafetensorError,
            RuntimeError,
            KeyError,
            ValueError,
            TypeError,
            OverflowError,
            OSError,
        ) as error:
            raise UserError(
                f"The model file '{path}' is damaged: its weights do not fit what it says of itself.",
                "Copy it again, or train the model again.",
            ) from error
        return cls(header, stages)


def make_network(header: StageHeader) -> UNet:
    """Return an untrained network for a stage."""
    colours = COLOUR_BANDS if header.prediction == "residual" else 0
    return UNet(header.network, len(header.bands), header.condition.image_count + colours)


def _load_stage(header: StageHeader, tensors: Dict[str, Tensor]) -> Stage:
    prefix = f"stage{header.index}."
    own = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    network = make_network(header)
    network.load_state_dict({key[len("network.") :]: value for key, value in own.items() if key.startswith("network.")})
    anchor = None
    if header.prediction == "residual":
        # Copied, as the network's are: what is loaded is the file itself, mapped into memory, which Windows lets nobody
        # remove or replace meanwhile.
        regression = {
            key[len("regression.") :]: value.clone() for key, value in own.items() if key.startswith("regression.")
        }
        anchor = Anchor.from_tensors(regression, len(header.bands), header.condition)
    return Stage(header, network.eval(), anchor)


def assemble(cascades: Sequence[Cascade]) -> Cascade:
    """Put stage files together into one cascade, stages in order; raises UserError where they do not fit."""
    header = assemble_headers([cascade.header for cascade in cascades])
    stages = sorted((stage for cascade in cascades for stage in cascade.stages), key=lambda stage: stage.header.index)
    return Cascade(header, tuple(stages))
