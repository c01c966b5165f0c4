"""Train one stage of a cascade and write its file and report."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import torch

from scdm_qgis.core.bands import stage_band_indices
from scdm_qgis.core.cascade import Cascade, Stage
from scdm_qgis.core.cascade_header import (
    CascadeHeader,
    Condition,
    ScheduleConfig,
    StageHeader,
    Truncation,
)
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.processes import Processes
from scdm_qgis.core.reconstruction import DRAW_STEPS
from scdm_qgis.core.training import Training, TrainingSettings
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.checkpoint import Checkpoint
from scdm_qgis.engine.device import choose_bfloat16, choose_device
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.engine.process_group import joined_processes
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.scene_patches import ScenePatches
from scdm_qgis.engine.stage_trainer import LEFT_OUT_ITERATIONS, StageTrainer
from scdm_qgis.engine.tensorboard_log import check_tensorboard
from scdm_qgis.engine.training_report import render_training_report
from scdm_qgis.engine.training_scenes import (
    BandChoice,
    Scene,
    choose_bands,
    load_scene,
    measure_normalisation,
    measure_rgb,
    output_policy,
)
from scdm_qgis.engine.validation import NO_HOLD_OUT, WORSE_THAN_RIDGE, Validation
from scdm_qgis.engine.version import CREATED_WITH
from scdm_qgis.raster.cube import Cube, open_cube

PAPER_GUIDANCE_WEIGHT = 0.5
"""ICMG's s of noise-prediction stages after the first; the paper gives none, 2.5 is its code's upper end."""

MEAN_SHARE = 0.75
"""Share of training samples that teach the posterior mean itself."""

FEW_STEP_SAMPLER = "unipc"
"""How stages draw that can do so in few steps: it is nearest in as many steps to what they can draw."""

CONTEXT_SIGMAS = (1.0, 2.0, 4.0, 8.0)
"""Widths in pixels of the context maps under an anchored stage."""


def run(job: TrainCascadeStage, events: EventWriter) -> Dict[str, Any]:
    """Train the stage; raises UserError for anything the user can put right."""
    with joined_processes(choose_device(job.device)) as device:
        return _run(job, device, events)


def _run(job: TrainCascadeStage, device: torch.device, events: EventWriter) -> Dict[str, Any]:
    if job.tensorboard is not None:
        check_tensorboard()
    recipe = choose_recipe(job)
    events.progress(0, "Reading the scenes")
    with ExitStack() as stack:
        cubes = [stack.enter_context(open_cube(path)) for path in job.inputs]
        bands = choose_bands(cubes, job.bands, job.rgb_bands)
        policy = output_policy(cubes)
        recipe = replace(recipe, patch_size=fitting_patch_size(cubes, recipe.patch_size, events))
    check_stage_counts(len(bands.target), job.stages)
    scenes = [load_scene(path, bands, job.validation_fraction, recipe.patch_size) for path in job.inputs]
    normalisation = measure_normalisation(scenes, bands)
    header = stage_header(job, recipe, bands)
    checkpoint = Checkpoint(job.output, _fingerprint(job, recipe, header, scenes))
    # What suits the device is found by timing, which may come out otherwise the next time.
    taken_up = checkpoint.was_bfloat16() if job.resume else None
    bfloat16 = choose_bfloat16(job.precision, device) if taken_up is None else taken_up
    settings = training_settings(job, recipe, bfloat16)
    patches = ScenePatches(header, scenes, bands.all, normalisation, job.seed, device)
    _log_plan(job, recipe, header, bands, f"{device} in {'bfloat16' if bfloat16 else 'float32'}", events)
    unseen = job.validation_fraction > 0
    left_out = unseen and recipe.prediction == "residual" and all(part is None for _, part in patches.splits)
    work = settings.iterations + (2 * math.ceil(settings.iterations / LEFT_OUT_ITERATIONS) if left_out else 0)
    trainer = StageTrainer(
        header, normalisation, settings, device, events, Progress(events, work, 2, 97), job.tensorboard
    )
    stage, training, validation = trainer.train(patches, checkpoint, job.resume)
    if left_out:
        stage, validation = trainer.calibrate_by_leaving_out(stage, patches)
    _log_validation(validation, job.stage, events)
    cascade_header = CascadeHeader(
        stages=(header_with_second_moment(stage, patches),),
        normalisation=normalisation,
        nodata_policy=policy,
        training=(_provenance(job, recipe, scenes, training, validation),),
        created_with=CREATED_WITH,
        rgb_distribution=measure_rgb(scenes, bands),
    )
    if training.processes.rank == 0:
        with written_whole(job.output) as partial:
            Cascade(cascade_header, (replace(stage, header=cascade_header.stages[0]),)).save(partial)
        if job.report is not None:
            with written_whole(job.report) as partial, open(partial, "w", encoding="utf-8") as file:
                file.write(render_training_report(job, cascade_header, training.losses, validation))
        checkpoint.remove()
    return {
        "OUTPUT": job.output,
        "REPORT": job.report,
        "FINAL_LOSS": training.last_loss,
        "VALIDATION_LOSS": None if validation is None else validation.loss,
        "ITERATIONS_DONE": training.iteration,
    }


@dataclass(frozen=True)
class Recipe:
    """What the user may leave to the preset; see `presets.Preset`."""

    patch_size: int
    batch_size: int
    iterations: int
    learning_rate: float
    loss: str
    ema_decay: float
    prediction: str


def choose_recipe(job: TrainCascadeStage) -> Recipe:
    """Return the user's values, and the preset's where the user gave none."""
    preset = PRESETS[job.preset]
    if job.stage > 1:
        preset = replace(preset, iterations=preset.later_iterations)
    values = {}
    for name in (field.name for field in fields(Recipe)):
        given = getattr(job, name)
        values[name] = getattr(preset, name) if given is None else given
    return Recipe(**values)


def check_stage_counts(band_count: int, stages: int) -> None:
    """Raise UserError unless every stage adds bands to those of the stage before."""
    counts = [3] + [len(stage_band_indices(band_count, stage, stages)) for stage in range(1, stages + 1)]
    if any(coarse >= fine for coarse, fine in zip(counts, counts[1:])):
        raise UserError(
            f"{band_count} bands are too few for {stages} stages: every stage must add bands to those before it, "
            "the first to red, green and blue.",
            "Lower STAGES, or give rasters or BANDS with more bands.",
        )


def fitting_patch_size(cubes: Sequence[Cube], wanted: int, events: EventWriter) -> int:
    """Return the patch size that fits into the longer side of every scene, at most the one wanted.

    All patches are as narrow as the narrowest scene.
    """
    size = min(wanted, *(max(cube.height, cube.width) for cube in cubes))
    if size < wanted:
        events.warning(f"PATCH_SIZE {wanted} does not fit into the smallest scene: patches have {size} pixels a side.")
    narrowest = min(cubes, key=lambda cube: min(cube.height, cube.width))
    side = min(narrowest.height, narrowest.width)
    if side < size:
        events.warning(
            f"'{narrowest.path}' is only {side} pixels wide or high, so that no patch is larger than that in this "
            "direction. Leave it out where other scenes are larger."
        )
    return size


def stage_header(job: TrainCascadeStage, recipe: Recipe, bands: BandChoice) -> StageHeader:
    """Return what the stage will say of itself; the second moment is measured later."""
    preset = PRESETS[job.preset]

    def bands_of(stage: int) -> Tuple[int, ...]:
        return tuple(bands.target[i] for i in stage_band_indices(len(bands.target), stage, job.stages))

    own = bands_of(job.stage)
    previous = bands_of(job.stage - 1) if job.stage > 1 else ()
    # The paper's later stages see the coarser image only; ours see the RGB image too, which costs nothing.
    sees_rgb = job.stage == 1 or recipe.prediction == "residual"
    noise = recipe.prediction == "noise"
    return StageHeader(
        index=job.stage,
        of=job.stages,
        bands=own,
        wavelengths_nm=_of_bands(bands.wavelengths_nm, own),
        fwhm_nm=_of_bands(bands.fwhm_nm, own),
        condition=Condition(
            previous, bands.rgb if sees_rgb else (), CONTEXT_SIGMAS if recipe.prediction == "residual" else ()
        ),
        network=preset.network,
        patch_size=recipe.patch_size,
        prediction=recipe.prediction,
        schedule=ScheduleConfig.of_timesteps(job.timesteps),
        sampler="ddpm" if noise else FEW_STEP_SAMPLER,
        steps=None if noise else min(DRAW_STEPS[FEW_STEP_SAMPLER], job.timesteps),
        guidance_weight=PAPER_GUIDANCE_WEIGHT if noise and job.stage > 1 else 0.0,
        truncation=Truncation(_truncation_percentile(job.stage) if noise else 1.0),
        second_moment=1.0,
    )


def _truncation_percentile(stage: int) -> float:
    """Return the paper's p_T for Houston 2018: 0.96 in stage 1, 0.88 after it."""
    return 0.96 if stage == 1 else 0.88


def _of_bands(values: Dict[int, float], bands: Sequence[int]) -> Optional[Tuple[float, ...]]:
    return tuple(values[band] for band in bands) if all(band in values for band in bands) else None


def training_settings(job: TrainCascadeStage, recipe: Recipe, bfloat16: bool) -> TrainingSettings:
    """Return how the core trains."""
    preset = PRESETS[job.preset]
    return TrainingSettings(
        batch_size=recipe.batch_size,
        iterations=recipe.iterations,
        learning_rate=recipe.learning_rate,
        cosine_decay=preset.cosine_decay,
        loss=recipe.loss,
        p_unconditional=job.p_unconditional,
        mean_share=0.0 if recipe.prediction == "noise" else MEAN_SHARE,
        sam_weight=job.sam_weight,
        ema_decay=recipe.ema_decay,
        ema_start=min(preset.ema_start, recipe.iterations // 2),
        seed=job.seed,
        bfloat16=bfloat16,
        early_stop=job.early_stop,
    )


def header_with_second_moment(stage: Stage, patches: ScenePatches) -> StageHeader:
    """Return the stage's header with the mean of x_0 squared over the training pixels, for tau(t)."""
    if stage.anchor is not None:
        return stage.header  # standardised residuals have 1
    squares, values = 0.0, 0
    for _, _, target in patches.training_rows():
        squares, values = squares + float(np.square(target, dtype=np.float64).sum()), values + target.size
    return replace(stage.header, second_moment=squares / values)


def _log_plan(
    job: TrainCascadeStage,
    recipe: Recipe,
    header: StageHeader,
    bands: BandChoice,
    computing: str,
    events: EventWriter,
) -> None:
    red, green, blue = bands.rgb
    events.info(
        f"Stage {header.index} of {header.of}: {header.condition.image_count} bands in, {len(header.bands)} of "
        f"{len(bands.target)} bands out; red, green, blue are bands {red}, {green}, {blue}."
    )
    events.info(f"Preset {job.preset}, {recipe.prediction} prediction, {recipe.iterations} iterations on {computing}.")


def _log_validation(validation: Optional[Validation], stage_index: int, events: EventWriter) -> None:
    if validation is None:
        events.warning(NO_HOLD_OUT)
        return
    where = "Left-out blocks" if validation.left_out else "Hold-out"
    if validation.loss is not None:
        events.info(f"{where}: loss {validation.loss:.4f}.")
    events.info(f"Ridge regression there: RMSE {validation.ridge.rmse:.4g}, SAM {validation.ridge.sam:.4f} rad.")
    if validation.stage is None:
        return
    given = " given the true bands of the stage before" if stage_index > 1 else ""
    events.info(f"This stage there{given}: RMSE {validation.stage.rmse:.4g}, SAM {validation.stage.sam:.4f} rad.")
    if validation.regression is not None:
        alone = validation.regression
        events.info(f"Its regression alone, without the network: RMSE {alone.rmse:.4g}, SAM {alone.sam:.4f} rad.")
    if validation.coverage is not None:
        one, two = validation.coverage
        events.info(f"Within one and two standard deviations of draws there: {one:.0%} and {two:.0%} of the errors.")
    if not validation.beats_ridge:
        events.warning(WORSE_THAN_RIDGE)


def _fingerprint(
    job: TrainCascadeStage, recipe: Recipe, header: StageHeader, scenes: Sequence[Scene]
) -> Dict[str, Any]:
    """Return what must not change between a training's interruption and its resumption."""
    return {
        "INPUTS": [scene.provenance() for scene in scenes],
        "PRESET": job.preset,
        **{name.upper(): value for name, value in asdict(recipe).items()},
        "P_UNCONDITIONAL": job.p_unconditional,
        "SAM_WEIGHT": job.sam_weight,
        "VALIDATION_FRACTION": job.validation_fraction,
        "EARLY_STOP": job.early_stop,
        "PRECISION": job.precision,
        "SEED": job.seed,
        # How it will draw is chosen afterwards, and no part of the training.
        "the stage": {key: value for key, value in header.to_json().items() if key not in ("sampler", "steps")},
        "the number of processes": Processes().count,
        "the version of the plugin": CREATED_WITH,
    }


def _provenance(
    job: TrainCascadeStage,
    recipe: Recipe,
    scenes: Sequence[Scene],
    training: Training,
    validation: Optional[Validation],
) -> Dict[str, Any]:
    return {
        "scenes": [scene.provenance() for scene in scenes],
        "preset": job.preset,
        **asdict(recipe),
        "iterations": training.iteration,
        "seed": job.seed,
        "final_loss": training.last_loss,
        "validation": None if validation is None else validation.to_json(),
    }
