"""The jobs an engine can run: one dataclass a job, to and from JSON.

A job checks its own numbers and choices when it is made, so that QGIS and the engine refuse the same
input with the same sentence; `check_paths` does the same for files. Neither needs torch or rasterio.
"""

from __future__ import annotations

import os
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, ClassVar, Dict, Mapping, Optional, Sequence, Tuple, Type, Union

from scdm_qgis.core.cascade_header import MOST_STAGES, SAMPLERS, TRUNCATION_TARGETS, TRUNCATION_THRESHOLDS
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import LOSSES, PREDICTIONS, PRESETS
from scdm_qgis.core.whole_file import partial_path
from scdm_qgis.engine.job_paths import absolute, check_folder, check_input, check_output, same_file_key
from scdm_qgis.engine.job_values import (
    BandText,
    PerStage,
    check_bands,
    check_choice,
    check_device,
    check_extent,
    check_flag,
    check_number,
    check_seed,
    check_text,
    read_per_stage,
    read_wavelengths,
)

PRECISIONS = ("auto", "float32", "bfloat16")
WEIGHTS = ("ema", "raw")
DEVICE_HINTS = ("auto", "cpu", "cuda", *(f"cuda:{number}" for number in range(8)), "mps")


@dataclass(frozen=True)
class Job:
    """What every job has: a name, its input paths and its output paths."""

    name: ClassVar[str]
    inputs_of: ClassVar[Tuple[str, ...]]
    outputs_of: ClassVar[Tuple[str, ...]]
    folders_of: ClassVar[Tuple[str, ...]] = ()
    """Folders the job writes into, made where there are none."""

    def to_json(self) -> Dict[str, Any]:
        """Return the job as JSON values; parameters left at None are left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {"job": self.name, **values}

    def input_paths(self) -> Tuple[str, ...]:
        """Return the paths of all files the job reads."""
        return self._paths(self.inputs_of)

    def output_paths(self) -> Tuple[str, ...]:
        """Return the paths of all files the job writes."""
        return self._paths(self.outputs_of)

    def with_absolute_paths(self) -> Job:
        """Return the same job with paths that hold wherever the engine runs.

        An input that is no file is left as it is: GDAL has other names for rasters, such as /vsizip/.
        """
        paths: Dict[str, Any] = {}
        for key in self.inputs_of + self.outputs_of + self.folders_of:
            value = getattr(self, key)
            output = key not in self.inputs_of
            if isinstance(value, str):
                paths[key] = absolute(value, output)
            elif value is not None:
                paths[key] = [absolute(path, output) for path in value]
        return replace(self, **paths)

    def check_paths(self) -> None:
        """Raise UserError for an input that is missing, or an output that cannot or must not be written."""
        for path in self.input_paths():
            check_input(path)
        outputs = self.output_paths()
        for path in outputs:
            check_output(path, self.input_paths())
        folders = self._paths(self.folders_of)
        written = {same_file_key(name) for path in outputs for name in (path, partial_path(path))}
        written.update(same_file_key(path) for path in folders)
        if len(written) != 2 * len(outputs) + len(folders):
            raise UserError("Two outputs have the same name.", "Give every output a name of its own.")
        for path in folders:
            check_folder(path)
            if any(same_file_key(path).startswith(same_file_key(output) + os.sep) for output in outputs):
                raise UserError(f"The folder '{path}' lies below an output file's name.", "Choose another folder.")

    def _paths(self, keys: Sequence[str]) -> Tuple[str, ...]:
        paths = []
        for key in keys:
            value = getattr(self, key)
            if isinstance(value, str):
                paths.append(value)
            elif value is not None:
                paths.extend(value)
        return tuple(paths)


@dataclass(frozen=True)
class CreateDemoScene(Job):
    """Make a synthetic hyperspectral scene with known materials."""

    name: ClassVar[str] = "create_demo_scene"
    inputs_of: ClassVar[Tuple[str, ...]] = ()
    outputs_of: ClassVar[Tuple[str, ...]] = ("output", "rgb_output")
    output: str
    size: int = 256
    bands: int = 48
    seed: int = 0
    crs: Optional[str] = None
    rgb_output: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_text("CRS", self.crs)
        check_number("SIZE", self.size, whole=True, low=16, high=20_000)
        check_number("BANDS", self.bands, whole=True, low=4, high=1000)
        check_seed(self.seed)


@dataclass(frozen=True)
class SimulateRgb(Job):
    """Cut red, green and blue out of a hyperspectral raster."""

    name: ClassVar[str] = "simulate_rgb"
    inputs_of: ClassVar[Tuple[str, ...]] = ("input",)
    outputs_of: ClassVar[Tuple[str, ...]] = ("output",)
    input: str
    output: str
    rgb_bands: BandText = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_bands("RGB_BANDS", self.rgb_bands)


@dataclass(frozen=True)
class ImportMatlabCube(Job):
    """Turn a MATLAB cube into a GeoTIFF."""

    name: ClassVar[str] = "import_matlab_cube"
    inputs_of: ClassVar[Tuple[str, ...]] = ("input",)
    outputs_of: ClassVar[Tuple[str, ...]] = ("output",)
    input: str
    output: str
    variable: Optional[str] = None
    wavelengths: Union[str, Sequence[float], None] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_text("VARIABLE", self.variable)
        read_wavelengths(self.wavelengths)


@dataclass(frozen=True)
class TrainCascadeStage(Job):
    """Train one stage of a cascade; None takes the preset's value."""

    name: ClassVar[str] = "train_cascade_stage"
    inputs_of: ClassVar[Tuple[str, ...]] = ("inputs",)
    outputs_of: ClassVar[Tuple[str, ...]] = ("output", "report")
    folders_of: ClassVar[Tuple[str, ...]] = ("tensorboard",)
    inputs: Sequence[str]
    stage: int
    output: str
    stages: int = 2
    rgb_bands: BandText = None
    bands: BandText = None
    preset: str = "tiny"
    patch_size: Optional[int] = None
    batch_size: Optional[int] = None
    iterations: Optional[int] = None
    learning_rate: Optional[float] = None
    loss: Optional[str] = None
    p_unconditional: float = 0.1
    sam_weight: float = 1.0
    timesteps: int = 1000
    ema_decay: Optional[float] = None
    prediction: Optional[str] = None
    validation_fraction: float = 0.15
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    early_stop: bool = False
    resume: bool = False
    report: Optional[str] = None
    tensorboard: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_flag("EARLY_STOP", self.early_stop)
        check_flag("RESUME", self.resume)
        check_bands("RGB_BANDS", self.rgb_bands)
        check_bands("BANDS", self.bands)
        if not self.inputs:
            raise UserError("No raster to train on was given.", "Add at least one hyperspectral raster to INPUTS.")
        check_number("STAGES", self.stages, whole=True, low=1, high=MOST_STAGES)
        check_number("STAGE", self.stage, whole=True, low=1)
        if self.stage > self.stages:
            raise UserError(
                f"STAGE {self.stage} does not exist in a cascade of {self.stages}.",
                f"STAGE must lie from 1 to {self.stages}.",
            )
        check_choice("PRESET", self.preset, tuple(PRESETS))
        check_number("PATCH_SIZE", self.patch_size, whole=True, low=8, high=2048)
        check_number("BATCH_SIZE", self.batch_size, whole=True, low=1, high=4096)
        check_number("ITERATIONS", self.iterations, whole=True, low=1, high=100_000_000)
        check_number("LEARNING_RATE", self.learning_rate, above=0, high=1)
        check_choice("LOSS", self.loss, LOSSES)
        check_number("P_UNCONDITIONAL", self.p_unconditional, low=0, high=1)
        check_number("SAM_WEIGHT", self.sam_weight, low=0)
        check_number("TIMESTEPS", self.timesteps, whole=True, low=2, high=100_000)
        check_number("EMA_DECAY", self.ema_decay, low=0, high=0.9999999)
        check_choice("PREDICTION", self.prediction, PREDICTIONS)
        check_number("VALIDATION_FRACTION", self.validation_fraction, low=0, high=0.9)
        check_device(self.device)
        check_choice("PRECISION", self.precision, PRECISIONS)
        check_seed(self.seed)


@dataclass(frozen=True)
class AssembleCascade(Job):
    """Put stage files together into one cascade file."""

    name: ClassVar[str] = "assemble_cascade"
    inputs_of: ClassVar[Tuple[str, ...]] = ("stage_files",)
    outputs_of: ClassVar[Tuple[str, ...]] = ("output",)
    stage_files: Sequence[str]
    output: str

    def __post_init__(self) -> None:
        _check_path_texts(self)
        if not self.stage_files:
            raise UserError("No stage file was given.", "Add the files made by Train Cascade Stage to STAGE_FILES.")


@dataclass(frozen=True)
class RgbToHyperspectral(Job):
    """Reconstruct a hyperspectral raster; None takes the model file's value."""

    name: ClassVar[str] = "rgb_to_hyperspectral"
    inputs_of: ClassVar[Tuple[str, ...]] = ("input", "model")
    outputs_of: ClassVar[Tuple[str, ...]] = ("output", "coarse_output", "uncertainty")
    input: str
    model: str
    output: str
    rgb_bands: BandText = None
    extent: Optional[Sequence[float]] = None
    sampler: Optional[str] = None
    steps: Optional[int] = None
    guidance: PerStage = None
    truncation: PerStage = None
    truncation_target: Optional[str] = None
    truncation_threshold: Optional[str] = None
    samples: int = 0
    seed: int = 0
    tile_size: Optional[int] = None
    overlap: Optional[int] = None
    batch_size: int = 0
    device: str = "auto"
    precision: str = "auto"
    cluster: Optional[str] = None
    resume: bool = False
    coarse_output: Optional[str] = None
    uncertainty: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_bands("RGB_BANDS", self.rgb_bands)
        check_extent(self.extent)
        check_choice("SAMPLER", self.sampler, SAMPLERS)
        check_number("STEPS", self.steps, whole=True, low=1, high=100_000)
        for weight in read_per_stage("GUIDANCE", self.guidance) or ():
            check_number("GUIDANCE", weight, low=0, high=1000)
        for percentile in read_per_stage("TRUNCATION", self.truncation) or ():
            check_number("TRUNCATION", percentile, above=0, high=1)
        check_choice("TRUNCATION_TARGET", self.truncation_target, TRUNCATION_TARGETS)
        check_choice("TRUNCATION_THRESHOLD", self.truncation_threshold, TRUNCATION_THRESHOLDS)
        check_number("SAMPLES", self.samples, whole=True, low=0, high=10_000)
        check_seed(self.seed)
        check_number("TILE_SIZE", self.tile_size, whole=True, low=8, high=4096)
        check_number("OVERLAP", self.overlap, whole=True, low=0)
        if self.tile_size is not None and self.overlap is not None and self.overlap >= self.tile_size:
            raise UserError(
                f"OVERLAP {self.overlap} is not smaller than TILE_SIZE {self.tile_size}.",
                "Choose an overlap of about a tenth of the tile size.",
            )
        check_number("BATCH_SIZE", self.batch_size, whole=True, low=0, high=4096)
        check_device(self.device)
        check_choice("PRECISION", self.precision, PRECISIONS)
        check_text("CLUSTER", self.cluster)
        if self.cluster is not None and not re.match(r"[a-z]+://[^/]+:\d+$", self.cluster):
            raise UserError(
                f"CLUSTER '{self.cluster}' is no address of a Dask scheduler.",
                "Give the one it prints when it starts, such as tcp://192.168.1.5:8786.",
            )
        check_flag("RESUME", self.resume)
        if self.uncertainty is not None and self.samples < 2:
            raise UserError(
                f"UNCERTAINTY needs at least two draws, but SAMPLES is {self.samples}.",
                "Set SAMPLES to 2 or more (8 is a good start), or leave UNCERTAINTY empty.",
            )


@dataclass(frozen=True)
class EvaluateReconstruction(Job):
    """Compare a reconstruction with the truth."""

    name: ClassVar[str] = "evaluate_reconstruction"
    inputs_of: ClassVar[Tuple[str, ...]] = ("prediction", "reference", "uncertainty")
    outputs_of: ClassVar[Tuple[str, ...]] = ("output_json", "output_html", "sam_map")
    prediction: str
    reference: str
    uncertainty: Optional[str] = None
    peak: Optional[float] = None
    output_json: Optional[str] = None
    output_html: Optional[str] = None
    sam_map: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_number("PEAK", self.peak, above=0, high=1e30)

    def check_uncertainty_bands(self, in_uncertainty: int, in_prediction: int) -> None:
        """Raise UserError where the two rasters differ in their number of bands."""
        if in_uncertainty != in_prediction:
            raise UserError(
                f"UNCERTAINTY '{self.uncertainty}' has {in_uncertainty} bands, "
                f"but PREDICTION '{self.prediction}' has {in_prediction}.",
                "Give the UNCERTAINTY that RGB→Hyperspectral wrote together with this reconstruction.",
            )


@dataclass(frozen=True)
class ImportReleasedCheckpoint(Job):
    """Turn a checkpoint of the authors' code into a stage file."""

    name: ClassVar[str] = "import_released_checkpoint"
    inputs_of: ClassVar[Tuple[str, ...]] = ("input", "config")
    outputs_of: ClassVar[Tuple[str, ...]] = ("output",)
    input: str
    config: str
    output: str
    weights: str = "ema"

    def __post_init__(self) -> None:
        _check_path_texts(self)
        check_choice("WEIGHTS", self.weights, WEIGHTS)


JOBS: Dict[str, Type[Job]] = {
    job.name: job
    for job in (
        CreateDemoScene,
        SimulateRgb,
        ImportMatlabCube,
        TrainCascadeStage,
        AssembleCascade,
        RgbToHyperspectral,
        EvaluateReconstruction,
        ImportReleasedCheckpoint,
    )
}


def job_from_json(values: Any) -> Job:
    """Read a job; raises UserError where it is none this engine knows."""
    if not isinstance(values, Mapping) or not isinstance(values.get("job"), str) or values["job"] not in JOBS:
        raise UserError("The job file names no known job.", f'Set "job" to one of: {", ".join(JOBS)}.')
    kind = JOBS[values["job"]]
    given = {key: value for key, value in values.items() if key != "job"}
    known = {field.name: field for field in fields(kind)}
    for key in given:
        if key not in known:
            raise UserError(f"The job has an unknown parameter '{key}'.", f"Known are: {', '.join(known)}.")
    for key, field in known.items():
        if field.default is MISSING and given.get(key) is None:
            raise UserError(f"{key.upper()} is missing.", f"Fill in {key.upper()}.")
    return kind(**{key: value for key, value in given.items() if value is not None})


def _check_path_texts(job: Job) -> None:
    for key in job.inputs_of + job.outputs_of + job.folders_of:
        value = getattr(job, key)
        several = key in ("inputs", "stage_files")
        texts = [value] if not several else value
        if several and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"{key.upper()} is not a list of paths.", "Give a list, even for one file.")
        for text in texts:
            if text is not None and (not isinstance(text, str) or not text.strip() or "\0" in text):
                raise UserError(f"{key.upper()} is not a path.", f"Fill in {key.upper()}.")
