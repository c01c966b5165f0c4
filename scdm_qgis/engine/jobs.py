"""The jobs an engine can run: one dataclass a job, to and from JSON.

A job checks its own numbers and choices when it is made, so that QGIS and the engine refuse the same
input with the same sentence; `check_paths` does the same for files. Neither needs torch or rasterio.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, ClassVar, Dict, Mapping, Optional, Sequence, Tuple, Type, Union

from scdm_qgis.core.cascade_header import MOST_STAGES, SAMPLERS, TRUNCATION_TARGETS, TRUNCATION_THRESHOLDS
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import LOSSES, PREDICTIONS, PRESETS
from scdm_qgis.core.whole_file import partial_path

PRECISIONS = ("auto", "float32", "bfloat16")
WEIGHTS = ("ema", "raw")
DEVICE_HINTS = ("auto", "cpu", "cuda", "mps")

BandText = Union[str, Sequence[int], None]
PerStage = Union[float, str, Sequence[float], None]


@dataclass(frozen=True)
class Job:
    """What every job has: a name, its input paths and its output paths."""

    name: ClassVar[str]
    inputs_of: ClassVar[Tuple[str, ...]]
    outputs_of: ClassVar[Tuple[str, ...]]

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
        absolute: Dict[str, Any] = {}
        for key in self.inputs_of + self.outputs_of:
            value = getattr(self, key)
            output = key in self.outputs_of
            if isinstance(value, str):
                absolute[key] = _absolute(value, output)
            elif value is not None:
                absolute[key] = [_absolute(path, output) for path in value]
        return replace(self, **absolute)

    def check_paths(self) -> None:
        """Raise UserError for an input that is missing, or an output that cannot or must not be written."""
        for path in self.input_paths():
            _check_input(path)
        outputs = self.output_paths()
        for path in outputs:
            _check_output(path, self.input_paths())
        written = {_same_file_key(name) for path in outputs for name in (path, partial_path(path))}
        if len(written) != 2 * len(outputs):
            raise UserError("Two outputs have the same name.", "Give every output a file of its own.")

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
        _check_text("CRS", self.crs)
        _check_number("SIZE", self.size, whole=True, low=16, high=20_000)
        _check_number("BANDS", self.bands, whole=True, low=4, high=1000)
        _check_seed(self.seed)


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
        _check_bands("RGB_BANDS", self.rgb_bands)


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
        _check_text("VARIABLE", self.variable)
        read_wavelengths(self.wavelengths)


@dataclass(frozen=True)
class TrainCascadeStage(Job):
    """Train one stage of a cascade; None takes the preset's value."""

    name: ClassVar[str] = "train_cascade_stage"
    inputs_of: ClassVar[Tuple[str, ...]] = ("inputs",)
    outputs_of: ClassVar[Tuple[str, ...]] = ("output", "report")
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
    report: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        _check_bands("RGB_BANDS", self.rgb_bands)
        _check_bands("BANDS", self.bands)
        if not self.inputs:
            raise UserError("No raster to train on was given.", "Add at least one hyperspectral raster to INPUTS.")
        _check_number("STAGES", self.stages, whole=True, low=1, high=MOST_STAGES)
        _check_number("STAGE", self.stage, whole=True, low=1)
        if self.stage > self.stages:
            raise UserError(
                f"STAGE {self.stage} does not exist in a cascade of {self.stages}.",
                f"STAGE must lie from 1 to {self.stages}.",
            )
        _check_choice("PRESET", self.preset, tuple(PRESETS))
        _check_number("PATCH_SIZE", self.patch_size, whole=True, low=8, high=2048)
        _check_number("BATCH_SIZE", self.batch_size, whole=True, low=1, high=4096)
        _check_number("ITERATIONS", self.iterations, whole=True, low=1, high=100_000_000)
        _check_number("LEARNING_RATE", self.learning_rate, above=0, high=1)
        _check_choice("LOSS", self.loss, LOSSES)
        _check_number("P_UNCONDITIONAL", self.p_unconditional, low=0, high=1)
        _check_number("SAM_WEIGHT", self.sam_weight, low=0)
        _check_number("TIMESTEPS", self.timesteps, whole=True, low=2, high=100_000)
        _check_number("EMA_DECAY", self.ema_decay, low=0, high=0.9999999)
        _check_choice("PREDICTION", self.prediction, PREDICTIONS)
        _check_number("VALIDATION_FRACTION", self.validation_fraction, low=0, high=0.9)
        _check_device(self.device)
        _check_choice("PRECISION", self.precision, PRECISIONS)
        _check_seed(self.seed)


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
    coarse_output: Optional[str] = None
    uncertainty: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        _check_bands("RGB_BANDS", self.rgb_bands)
        _check_extent(self.extent)
        _check_choice("SAMPLER", self.sampler, SAMPLERS)
        _check_number("STEPS", self.steps, whole=True, low=1, high=100_000)
        for weight in read_per_stage("GUIDANCE", self.guidance) or ():
            _check_number("GUIDANCE", weight, low=0, high=1000)
        for percentile in read_per_stage("TRUNCATION", self.truncation) or ():
            _check_number("TRUNCATION", percentile, above=0, high=1)
        _check_choice("TRUNCATION_TARGET", self.truncation_target, TRUNCATION_TARGETS)
        _check_choice("TRUNCATION_THRESHOLD", self.truncation_threshold, TRUNCATION_THRESHOLDS)
        _check_number("SAMPLES", self.samples, whole=True, low=0, high=10_000)
        _check_seed(self.seed)
        _check_number("TILE_SIZE", self.tile_size, whole=True, low=8, high=4096)
        _check_number("OVERLAP", self.overlap, whole=True, low=0)
        if self.tile_size is not None and self.overlap is not None and self.overlap >= self.tile_size:
            raise UserError(
                f"OVERLAP {self.overlap} is not smaller than TILE_SIZE {self.tile_size}.",
                "Choose an overlap of about a quarter of the tile size.",
            )
        _check_number("BATCH_SIZE", self.batch_size, whole=True, low=0, high=4096)
        _check_device(self.device)
        _check_choice("PRECISION", self.precision, PRECISIONS)
        if self.uncertainty is not None and self.samples < 2:
            raise UserError(
                f"UNCERTAINTY needs at least two draws, but SAMPLES is {self.samples}.",
                "Set SAMPLES to 2 or more (8 is a good start), or leave UNCERTAINTY empty.",
            )


@dataclass(frozen=True)
class EvaluateReconstruction(Job):
    """Compare a reconstruction with the truth."""

    name: ClassVar[str] = "evaluate_reconstruction"
    inputs_of: ClassVar[Tuple[str, ...]] = ("prediction", "reference")
    outputs_of: ClassVar[Tuple[str, ...]] = ("output_json", "output_html", "sam_map")
    prediction: str
    reference: str
    peak: Optional[float] = None
    output_json: Optional[str] = None
    output_html: Optional[str] = None
    sam_map: Optional[str] = None

    def __post_init__(self) -> None:
        _check_path_texts(self)
        _check_number("PEAK", self.peak, above=0)


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
        _check_choice("WEIGHTS", self.weights, WEIGHTS)


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


def read_per_stage(name: str, value: PerStage) -> Optional[Tuple[float, ...]]:
    """Read one number, a list, or text such as ``0,0.5`` into numbers; None stays None.

    Raises:
        UserError: text that holds anything but numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    single = [value] if not isinstance(value, (list, tuple)) else value
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else single
    try:
        if not parts or any(isinstance(part, bool) for part in parts):
            raise ValueError
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name} '{value}' is not a list of numbers.",
            "Give one number for all stages, or one a stage such as 0,0.5.",
        ) from error


def per_stage(name: str, value: PerStage, stages: int) -> Optional[Tuple[float, ...]]:
    """Return one number a stage, or None where the user gave none.

    Raises:
        UserError: neither one number nor one a stage.
    """
    numbers = read_per_stage(name, value)
    if numbers is None:
        return None
    if len(numbers) not in (1, stages):
        raise UserError(
            f"{name} has {len(numbers)} numbers, but the model has {stages} stages.", "Give one number, or one a stage."
        )
    return numbers * stages if len(numbers) == 1 else numbers


def read_wavelengths(value: Union[str, Sequence[float], None]) -> Optional[Tuple[float, ...]]:
    """Read a list of wavelengths in nm, or ``first-last`` as a pair of two; None stays None.

    A pair written with a hyphen stands for bands spread evenly from the first to the last; the caller
    knows how many.

    Raises:
        UserError: anything but positive numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    span = re.fullmatch(r"\s*([\d.]+)\s*-\s*([\d.]+)\s*", value) if isinstance(value, str) else None
    parts = span.groups() if span else value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"WAVELENGTHS '{value}' cannot be read.", "Give a list in nm, or the first and the last such as 430-860."
        ) from error
    if any(not (math.isfinite(number) and 0 < number < 1e6) for number in numbers):
        raise UserError("WAVELENGTHS must be positive numbers in nm below 1000000.", "Correct the list.")
    return numbers


def _check_path_texts(job: Job) -> None:
    for key in job.inputs_of + job.outputs_of:
        value = getattr(job, key)
        several = key in ("inputs", "stage_files")
        texts = [value] if not several else value
        if several and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"{key.upper()} is not a list of paths.", "Give a list, even for one file.")
        for text in texts:
            if text is not None and (not isinstance(text, str) or not text.strip() or "\0" in text):
                raise UserError(f"{key.upper()} is not a path.", f"Fill in {key.upper()} with a file.")


def _check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: Optional[float] = None,
    whole: bool = False,
) -> None:
    if value is None:
        return
    good = isinstance(value, int) if whole else isinstance(value, (int, float)) and abs(value) < math.inf
    if not good or isinstance(value, bool):
        raise UserError(f"{name} must be a {'whole ' if whole else ''}number, not '{value}'.", f"Correct {name}.")
    if not low <= value <= high or (above is not None and value <= above):
        bounds = f"above {above:g}" if above is not None else f"at least {low:.15g}" if low > -math.inf else ""
        upper = f"at most {high:.15g}" if high < math.inf else ""
        raise UserError(f"{name} is {value}.", f"It must be {' and '.join(part for part in (bounds, upper) if part)}.")


def _check_seed(seed: int) -> None:
    _check_number("SEED", seed, whole=True, low=0, high=2**31 - 1)


def _check_choice(name: str, value: Optional[str], choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        raise UserError(f"{name} '{value}' does not exist.", f"Choose one of: {', '.join(choices)}.")


def _check_device(device: Any) -> None:
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda|cuda:\d{1,3}|mps", device):
        raise UserError(
            f"DEVICE '{device}' does not exist.", "Choose auto, cpu, cuda, cuda:0 (or another number) or mps."
        )


def _check_bands(name: str, bands: Any) -> None:
    whole = isinstance(bands, (list, tuple)) and all(type(band) is int for band in bands)
    if not (bands is None or isinstance(bands, str) or whole):
        raise UserError(f"{name} is not a list of bands.", "Write band numbers such as 1-40,45.")


def _check_text(name: str, text: Any) -> None:
    if text is not None and not isinstance(text, str):
        raise UserError(f"{name} must be text, not '{text}'.", f"Correct {name}.")


def _check_extent(extent: Any) -> None:
    if extent is None:
        return
    numbers = isinstance(extent, (list, tuple)) and len(extent) == 4
    numbers = numbers and all(isinstance(edge, (int, float)) and abs(edge) < math.inf for edge in extent)
    if not numbers or not (extent[0] < extent[2] and extent[1] < extent[3]):
        raise UserError("EXTENT is no rectangle.", "Give [xmin, ymin, xmax, ymax] with the smaller values first.")


def _absolute(path: str, output: bool) -> str:
    return os.path.abspath(path) if output or os.path.exists(path) else path


def _same_file_key(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _check_input(path: str) -> None:
    if re.match(r"/vsi|[A-Za-z][A-Za-z0-9_]+:", path) and not os.path.exists(path):
        return  # GDAL's virtual files and subdatasets (NETCDF:"file":name): only GDAL can tell
    if not os.path.exists(path):
        raise UserError(f"'{path}' does not exist.", "Check the path.")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise UserError(f"'{path}' is empty (0 bytes).", "Choose another file, or copy it again.")


def _check_output(path: str, inputs: Sequence[str]) -> None:
    sources = {_same_file_key(source) for source in inputs}
    if _same_file_key(path) in sources:
        raise UserError(f"The output '{path}' is also an input.", "Write the output to another file.")
    if _same_file_key(partial_path(path)) in sources:
        raise UserError(
            f"The input '{partial_path(path)}' has the name under which the output is written until it is whole.",
            "Rename the input, or write the output to another file.",
        )
    if os.path.isdir(path):
        raise UserError(f"The output '{path}' is a folder.", "Give the name of a file in it.")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f"The folder '{folder}' does not exist.", "Create it, or choose another.")
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"The folder '{folder}' cannot be written to.", "Choose another folder, or change its permissions."
        )
    if os.path.exists(path):
        try:
            os.replace(path, path)  # does nothing, but Windows refuses it while another program has the file open
        except OSError as error:
            raise UserError(
                f"The output '{path}' is in use.", "Remove its layer from QGIS, or give another file name."
            ) from error
