"""What a cascade file says about itself, readable without torch.

A cascade file is a safetensors file: eight bytes of header length, a JSON header, then tensors. The
header's metadata key ``scdm`` holds the JSON described here. A stage file is a cascade file that holds
one stage.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import PREDICTIONS, NetworkConfig
from scdm_qgis.core.rgb_distribution import RgbDistribution

FORMAT = 1
METADATA_KEY = "scdm"
SAMPLERS = ("ddpm", "ddim", "dpmpp", "unipc")
MOST_STAGES = 10
LARGEST_PATCH_SIZE = 4096
LARGEST_CONTEXT_SIGMA = 64.0
TRUNCATION_TARGETS = ("state", "noise")
TRUNCATION_THRESHOLDS = ("schedule", "sample")
_LARGEST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Normalisation:
    """Data units to network units: (value - offset) / scale."""

    offset: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and math.isfinite(self.scale) and self.scale > 0):
            raise UserError("The normalisation's scale must be a positive number.", "Correct offset and scale.")

    def is_close_to(self, other: Normalisation) -> bool:
        """Tell whether both come from the same pixels: sums differ by rounding with the order of the scenes."""
        tolerance = 1e-9 * self.scale
        return abs(self.offset - other.offset) <= tolerance and abs(self.scale - other.scale) <= tolerance


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule: beta grows linearly over `timesteps` steps (released code: 1e-4 to 0.02 over 1000)."""

    timesteps: int = 1000
    beta_first: float = 1e-4
    beta_last: float = 0.02

    def __post_init__(self) -> None:
        if not 2 <= self.timesteps <= 100_000:
            raise UserError("TIMESTEPS must lie from 2 to 100000.", "The paper's value is 1000.")
        if not 0 < self.beta_first <= self.beta_last < 1:
            raise UserError("The schedule's betas must grow within 0 and 1.", "The paper's are 0.0001 and 0.02.")

    @classmethod
    def of_timesteps(cls, timesteps: int) -> ScheduleConfig:
        """Return the schedule of another length that ends in the same noise, as the released code scales it."""
        factor = 1000 / max(timesteps, 1)
        return cls(timesteps, min(1e-4 * factor, 0.999), min(0.02 * factor, 0.999))


@dataclass(frozen=True)
class Truncation:
    """Progressive dynamic truncation (eq. 20).

    Args:
        percentile: p_T at the start of sampling, growing linearly to 1; 1 is off.
        target: `state` clamps x_t before the network sees it, `noise` the predicted noise.
        threshold: `schedule` takes tau(t) from the schedule and the second moment, `sample` from
            the quantile of each sample.
    """

    percentile: float = 1.0
    target: str = "state"
    threshold: str = "schedule"

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 1:
            raise UserError(
                "TRUNCATION must lie above 0 and at most 1.", "1 turns it off; the paper uses 0.88 to 0.97."
            )
        if self.target not in TRUNCATION_TARGETS:
            raise UserError(f"'{self.target}' is no truncation target.", "Choose state or noise.")
        if self.threshold not in TRUNCATION_THRESHOLDS:
            raise UserError(f"'{self.threshold}' is no truncation threshold.", "Choose schedule or sample.")


@dataclass(frozen=True)
class Condition:
    """What a stage is conditioned on: the previous stage's bands, the RGB image's, and its context maps.

    Args:
        previous_bands: 1-based source numbers of the previous stage's bands; empty in stage 1.
        rgb_bands: source numbers of red, green, blue where the stage sees the RGB image, else empty;
            0 where the image's bands are none of the source's.
        context_sigmas: widths of the context maps in pixels (`context.context_maps`), three bands each;
            the regression under an anchored stage sees them, the network does not.
    """

    previous_bands: Tuple[int, ...]
    rgb_bands: Tuple[int, ...]
    context_sigmas: Tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.image_count == 0 or len(self.rgb_bands) not in (0, 3):
            raise UserError(
                "A stage is conditioned on the stage before, on three RGB bands, or on both.",
                "Train the stage again; an imported first stage needs condition_bands 3.",
            )
        if any(not 0 < sigma <= LARGEST_CONTEXT_SIGMA for sigma in self.context_sigmas) or (
            self.context_sigmas and not self.rgb_bands
        ):
            raise UserError("The widths of the stage's context maps are impossible.", "Train the stage again.")

    @property
    def image_count(self) -> int:
        """Number of condition bands without the context maps, which come last."""
        return len(self.previous_bands) + len(self.rgb_bands)

    @property
    def count(self) -> int:
        """Number of all condition bands."""
        return self.image_count + 3 * len(self.context_sigmas)


@dataclass(frozen=True)
class StageHeader:
    """One stage: what it predicts, from what, with which network and settings.

    Args:
        index: 1-based place in the cascade.
        of: stages the cascade has.
        bands: 1-based source numbers of the predicted bands.
        wavelengths_nm: their wavelengths, None where unknown.
        fwhm_nm: their widths, None where unknown.
        condition: what the network is conditioned on.
        network: the U-Net's shape.
        patch_size: side of the training patches in pixels.
        prediction: one of `presets.PREDICTIONS`.
        schedule: the noise schedule.
        sampler: default sampler of draws, one of `SAMPLERS`.
        steps: default number of steps of a draw; None is the full schedule.
        guidance_weight: default s of ICMG (eq. 19); 0 is off.
        truncation: default of progressive dynamic truncation.
        second_moment: mean of x_0 squared over the training data in network units, for tau(t); None
            where unknown (imported networks), which allows the per-sample threshold only.
    """

    index: int
    of: int
    bands: Tuple[int, ...]
    wavelengths_nm: Optional[Tuple[float, ...]]
    fwhm_nm: Optional[Tuple[float, ...]]
    condition: Condition
    network: NetworkConfig
    patch_size: int
    prediction: str
    schedule: ScheduleConfig
    sampler: str
    steps: Optional[int]
    guidance_weight: float
    truncation: Truncation
    second_moment: Optional[float]

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of <= MOST_STAGES:
            raise UserError(
                f"Stage {self.index} of {self.of} does not exist.",
                f"STAGE must lie from 1 to STAGES, STAGES from 1 to {MOST_STAGES}.",
            )
        if not 1 <= self.patch_size <= LARGEST_PATCH_SIZE or (self.steps is not None and self.steps < 1):
            raise UserError("The stage's patch size or number of steps is impossible.", "Train the stage again.")
        if not 0 <= self.guidance_weight < math.inf:
            raise UserError("The guidance weight must be a number of at least 0.", "Correct guidance_weight.")
        if self.second_moment is not None and not 0 <= self.second_moment < math.inf:
            raise UserError("The second moment must be a number of at least 0.", "Correct second_moment.")
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise UserError("A stage must predict at least one band, each once.", "Train the stage again.")
        for values in (self.wavelengths_nm, self.fwhm_nm):
            if values is not None and len(values) != len(self.bands):
                raise UserError("The stage's wavelengths do not fit its bands.", "Train the stage again.")
        if self.prediction not in PREDICTIONS:
            raise UserError(f"'{self.prediction}' is no prediction.", "Choose noise, velocity or residual.")
        if self.sampler not in SAMPLERS:
            raise UserError(f"'{self.sampler}' is no sampler.", f"Choose one of: {', '.join(SAMPLERS)}.")
        if self.second_moment is None and self.truncation.threshold == "schedule" and self.truncation.percentile < 1:
            raise UserError(
                "The truncation threshold cannot come from the schedule: the training data's second moment is unknown.",
                "Set TRUNCATION_THRESHOLD to sample, or give second_moment when importing.",
            )

    def to_json(self) -> Dict[str, Any]:
        """Return the stage as JSON values."""
        values = asdict(self)
        values["wavelengths"] = values.pop("wavelengths_nm")
        values["fwhm"] = values.pop("fwhm_nm")
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StageHeader:
        """Read a stage back; raises UserError, KeyError, TypeError or ValueError for anything else."""
        condition = values["condition"]
        return cls(
            index=int(values["index"]),
            of=int(values["of"]),
            bands=tuple(int(band) for band in values["bands"]),
            wavelengths_nm=_floats(values["wavelengths"]),
            fwhm_nm=_floats(values["fwhm"]),
            condition=Condition(
                tuple(int(band) for band in condition["previous_bands"]),
                tuple(int(band) for band in condition["rgb_bands"]),
                tuple(float(sigma) for sigma in condition.get("context_sigmas", ())),
            ),
            network=NetworkConfig.from_json(values["network"]),
            patch_size=int(values["patch_size"]),
            prediction=values["prediction"],
            schedule=ScheduleConfig(**values["schedule"]),
            sampler=values["sampler"],
            steps=None if values["steps"] is None else int(values["steps"]),
            guidance_weight=float(values["guidance_weight"]),
            truncation=Truncation(**values["truncation"]),
            second_moment=None if values["second_moment"] is None else float(values["second_moment"]),
        )


@dataclass(frozen=True)
class NodataPolicy:
    """Data type of the training scenes, and their nodata value where they have one."""

    dtype: str
    nodata: Optional[float]


@dataclass(frozen=True)
class CascadeHeader:
    """Everything a cascade file says about itself.

    Args:
        stages: the stages the file holds, in order.
        normalisation: shared by all stages.
        nodata_policy: what outputs are written as.
        training: provenance, one entry a stage in the same order: scenes with size and sha256 of
            pixels, iterations, seed, losses, validation metrics.
        created_with: name and version of the program that wrote the file.
        rgb_distribution: of the training scenes' pixels; None where unknown (imported networks).
    """

    stages: Tuple[StageHeader, ...]
    normalisation: Normalisation
    nodata_policy: NodataPolicy
    training: Tuple[Mapping[str, Any], ...]
    created_with: str
    rgb_distribution: Optional[RgbDistribution] = None

    def to_json(self) -> Dict[str, Any]:
        """Return the header as JSON values."""
        policy = asdict(self.nodata_policy)
        if policy["nodata"] is not None and not math.isfinite(policy["nodata"]):
            policy["nodata"] = str(policy["nodata"])  # JSON knows no NaN
        return {
            "format": FORMAT,
            "stages": [stage.to_json() for stage in self.stages],
            "normalisation": asdict(self.normalisation),
            "nodata_policy": policy,
            "training": list(self.training),
            "created_with": self.created_with,
            "rgb_distribution": None if self.rgb_distribution is None else self.rgb_distribution.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CascadeHeader:
        """Read a header back; raises UserError, KeyError, TypeError or ValueError for anything else."""
        if values["format"] != FORMAT:
            raise UserError(
                f"The model file has format {values['format']}; this version reads format {FORMAT}.",
                "Update the plugin, or train the model again.",
            )
        policy = values["nodata_policy"]
        nodata = None if policy["nodata"] is None else float(policy["nodata"])
        distribution = values.get("rgb_distribution")
        return cls(
            stages=tuple(StageHeader.from_json(stage) for stage in values["stages"]),
            normalisation=Normalisation(**values["normalisation"]),
            nodata_policy=NodataPolicy(str(policy["dtype"]), nodata),
            training=tuple(values["training"]),
            created_with=str(values["created_with"]),
            rgb_distribution=None if distribution is None else RgbDistribution.from_json(distribution),
        )

    def check_complete(self) -> None:
        """Raise UserError unless the stages are 1..K, each conditioned on the one before."""
        present = [stage.index for stage in self.stages]
        stages = self.stages[-1].of
        if present != list(range(1, stages + 1)) or any(stage.of != stages for stage in self.stages):
            listed = ", ".join(str(index) for index in present)
            raise UserError(
                f"The model file holds stage {listed} of {stages}.",
                f"Give the files of stages 1 to {stages} to Assemble Cascade and use the file it makes.",
            )
        rgb_bands = {stage.condition.rgb_bands for stage in self.stages if stage.condition.rgb_bands}
        if len(rgb_bands) > 1:
            raise UserError(
                "The stages were trained with different RGB_BANDS, or with the same in another order.",
                "Train all stages with the same RGB_BANDS.",
            )
        for coarse, fine in zip(self.stages, self.stages[1:]):
            if fine.condition.previous_bands != coarse.bands:
                raise UserError(
                    f"Stage {fine.index} expects other bands than stage {coarse.index} makes.",
                    "Train all stages on the same scenes with the same BANDS.",
                )


def assemble_headers(headers: Sequence[CascadeHeader]) -> CascadeHeader:
    """Return the header of the cascade that stage files make together, stages in order.

    Raises:
        UserError: a stage twice or missing, or stages that were not trained on the same data.
    """
    pairs = [pair for header in headers for pair in zip(header.stages, header.training)]
    indices = [stage.index for stage, _ in pairs]
    for index in indices:
        if indices.count(index) > 1:
            raise UserError(f"Stage {index} was given twice.", "Give each stage's file once.")
    headers = sorted(headers, key=lambda header: header.stages[0].index)
    first = headers[0]
    for header in headers[1:]:
        if (
            not header.normalisation.is_close_to(first.normalisation)
            or header.nodata_policy.dtype != first.nodata_policy.dtype
        ):
            raise UserError(
                "The stages were trained on data of different range or type.",
                "Train all stages on the same scenes with the same RGB_BANDS and BANDS.",
            )
    pairs.sort(key=lambda pair: pair[0].index)
    cascade = replace(first, stages=tuple(stage for stage, _ in pairs), training=tuple(entry for _, entry in pairs))
    cascade.check_complete()
    return cascade


def _floats(values: Any) -> Optional[Tuple[float, ...]]:
    return None if values is None else tuple(float(value) for value in values)


def read_header(path: str) -> CascadeHeader:
    """Read what a cascade file says about itself, without its tensors.

    Raises:
        UserError: a file that is missing, truncated, or no cascade file.
    """
    not_a_model = UserError(
        f"'{path}' is not a model file of this plugin, or it is damaged.",
        "Choose a .safetensors file made by Train Cascade Stage, Assemble Cascade or Import Released SCDM Checkpoint.",
    )
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= _LARGEST_HEADER_BYTES:
                raise not_a_model
            header = json.loads(file.read(length))
            file.seek(0, 2)
            tensor_bytes = max(
                (entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0
            )
            if file.tell() != 8 + length + tensor_bytes:
                raise not_a_model
        cascade = CascadeHeader.from_json(json.loads(header["__metadata__"][METADATA_KEY]))
        if not cascade.stages or len(cascade.training) != len(cascade.stages):
            raise not_a_model
        return cascade
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"The model file '{path}' cannot be read ({error.strerror}).", "Check that it exists."
        ) from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        raise not_a_model from error
