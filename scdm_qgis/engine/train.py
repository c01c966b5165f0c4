"""Train one stage of a cascade and write its file and report."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

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
from scdm_qgis.core.reconstruction import DDIM_STEPS
from scdm_qgis.core.regression import RidgeMoments
from scdm_qgis.core.residual import Anchor
from scdm_qgis.core.training import TrainingSettings, train
from scdm_qgis.core.unet import UNet
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.device import choose_bfloat16, choose_device
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.training_report import render_training_report
from scdm_qgis.engine.training_scenes import (
    BandChoice,
    Scene,
    ScenePatches,
    choose_bands,
    load_scene,
    measure_normalisation,
    output_policy,
)
from scdm_qgis.engine.validation import NO_HOLD_OUT, Validation, validate
from scdm_qgis.engine.version import CREATED_WITH
from scdm_qgis.raster.cube import open_cube

RIDGE = 1e-4
"""Penalty of the regression under an anchored stage, relative to the condition's variance."""

PAPER_GUIDANCE_WEIGHT = 0.5
"""ICMG's s of noise-prediction stages after the first; the paper gives none, 2.5 is its code's upper end."""

MEAN_SHARE = 0.5
"""Share of training samples that teach the posterior mean itself."""

SMALLEST_RESIDUAL_SCALE = 1e-6
"""Floor of a residual's deviation in normalised units: a band the regression gets exactly has none."""


def run(job: TrainCascadeStage, events: EventWriter) -> Dict[str, Any]:
    """Train the stage; raises UserError for anything the user can put right."""
    device = choose_device(job.device)
    recipe = choose_recipe(job)
    events.progress(0, "Reading the scenes")
    with ExitStack() as stack:
        cubes = [stack.enter_context(open_cube(path)) for path in job.inputs]
        bands = choose_bands(cubes, job.bands, job.rgb_bands)
        policy = output_policy(cubes)
    check_stage_counts(len(bands.target), job.stages)
    scenes = [load_scene(path, bands, job.validation_fraction, recipe.patch_size) for path in job.inputs]
    normalisation = measure_normalisation(scenes, bands)
    recipe = replace(recipe, patch_size=fitting_patch_size(scenes, recipe.patch_size, events))
    header = stage_header(job, recipe, bands)
    patches = ScenePatches(
        scenes,
        header.bands,
        header.condition.previous_bands + header.condition.rgb_bands,
        bands.all,
        normalisation,
        recipe.patch_size,
        symmetries=header.prediction == "residual",
        seed=job.seed,
        device=device,
    )
    _log_plan(job, recipe, header, bands, device, events)
    anchor = fit_anchor(header, patches)
    stage = build_stage(header, anchor, job.seed).to(device)
    settings = training_settings(job, recipe, choose_bfloat16(job.precision, device))
    network, losses = _train(stage, patches, settings, events)
    stage = replace(stage, network=network)
    events.progress(97, "Validating on the hold-out")
    validation = validate(stage, anchor.to(device), patches, normalisation, settings)
    _log_validation(validation, events)
    cascade_header = CascadeHeader(
        stages=(header_with_second_moment(stage, patches),),
        normalisation=normalisation,
        nodata_policy=policy,
        training=(_provenance(job, recipe, scenes, losses, validation),),
        created_with=CREATED_WITH,
    )
    with written_whole(job.output) as partial:
        Cascade(cascade_header, (replace(stage, header=cascade_header.stages[0]),)).save(partial)
    if job.report is not None:
        with written_whole(job.report) as partial, open(partial, "w", encoding="utf-8") as file:
            file.write(render_training_report(job, cascade_header, losses, validation))
    return {
        "OUTPUT": job.output,
        "REPORT": job.report,
        "FINAL_LOSS": losses[-1][1],
        "VALIDATION_LOSS": None if validation is None else validation.loss,
        "ITERATIONS_DONE": settings.iterations,
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


def fitting_patch_size(scenes: Sequence[Scene], wanted: int, events: EventWriter) -> int:
    """Return the patch size that fits into every scene's training part, at most the one wanted."""
    smallest = min(max(scene.training.height, scene.training.width) for scene in scenes)
    if smallest < wanted:
        events.warning(
            f"PATCH_SIZE {wanted} does not fit into the smallest scene: patches have {smallest} pixels a side."
        )
    return min(wanted, smallest)


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
        condition=Condition(previous, bands.rgb if sees_rgb else ()),
        network=preset.network,
        patch_size=recipe.patch_size,
        prediction=recipe.prediction,
        schedule=ScheduleConfig.of_timesteps(job.timesteps),
        sampler="ddpm" if noise else "ddim",
        steps=None if noise else min(DDIM_STEPS, job.timesteps),
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
    )


def build_stage(header: StageHeader, anchor: Anchor, seed: int) -> Stage:
    """Return an untrained stage on the CPU.

    An anchored network starts from zero output, so that the stage starts as the regression itself.
    """
    torch.manual_seed(seed)
    network = UNet(header.network, len(header.bands), header.condition.count)
    if header.prediction != "residual":
        return Stage(header, network, None)
    for parameter in network.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    return Stage(header, network, anchor)


def fit_anchor(header: StageHeader, patches: ScenePatches) -> Anchor:
    """Fit the regression to all training pixels and measure what it leaves."""
    moments = RidgeMoments(header.condition.count, len(header.bands))
    for condition, target in patches.training_rows():
        moments.add(condition, target)
    regression = moments.solve(RIDGE)
    squares = np.zeros(len(header.bands))
    for condition, target in patches.training_rows():
        squares += np.square(target - regression.predict(condition.astype(np.float64))).sum(axis=0)
    scale = np.maximum(np.sqrt(squares / moments.pixels), SMALLEST_RESIDUAL_SCALE)
    weight, bias, scale = (torch.from_numpy(values).float() for values in (regression.weight, regression.bias, scale))
    return Anchor(weight, bias, scale)


def header_with_second_moment(stage: Stage, patches: ScenePatches) -> StageHeader:
    """Return the stage's header with the mean of x_0 squared over the training pixels, for tau(t)."""
    if stage.anchor is not None:
        return stage.header  # standardised residuals have 1
    squares, values = 0.0, 0
    for _, target in patches.training_rows():
        squares, values = squares + float(np.square(target, dtype=np.float64).sum()), values + target.size
    return replace(stage.header, second_moment=squares / values)


def _train(
    stage: Stage, patches: ScenePatches, settings: TrainingSettings, events: EventWriter
) -> Tuple[UNet, List[Tuple[int, float]]]:
    progress = Progress(events, settings.iterations, 2, 97)
    next_log = 0.1

    def after_iteration(iteration: int, loss: float) -> None:
        nonlocal next_log
        known = f", loss {loss:.4f}" if math.isfinite(loss) else ""
        progress.advance(1, f"Iteration {iteration} of {settings.iterations}{known}")
        if iteration >= next_log * settings.iterations:
            events.info(f"Iteration {iteration} of {settings.iterations}{known}.")
            next_log += 0.1

    return train(stage, patches, settings, after_iteration)


def _log_plan(
    job: TrainCascadeStage,
    recipe: Recipe,
    header: StageHeader,
    bands: BandChoice,
    device: torch.device,
    events: EventWriter,
) -> None:
    red, green, blue = bands.rgb
    events.info(
        f"Stage {header.index} of {header.of}: {header.condition.count} bands in, {len(header.bands)} of "
        f"{len(bands.target)} bands out; red, green, blue are bands {red}, {green}, {blue}."
    )
    events.info(f"Preset {job.preset}, {recipe.prediction} prediction, {recipe.iterations} iterations on {device}.")


def _log_validation(validation: Optional[Validation], events: EventWriter) -> None:
    if validation is None:
        events.warning(NO_HOLD_OUT)
        return
    events.info(f"Hold-out: loss {validation.loss:.4f}.")
    events.info(f"Ridge regression there: RMSE {validation.ridge_rmse:.4g}, SAM {validation.ridge_sam:.4f} rad.")
    if validation.rmse is None:
        return
    events.info(f"This stage there: RMSE {validation.rmse:.4g}, SAM {validation.sam:.4f} rad.")
    if validation.rmse > validation.ridge_rmse:
        events.warning(
            "The stage does not beat plain ridge regression on the hold-out: train longer, or on more scenes."
        )


def _provenance(
    job: TrainCascadeStage,
    recipe: Recipe,
    scenes: Sequence[Scene],
    losses: List[Tuple[int, float]],
    validation: Optional[Validation],
) -> Dict[str, Any]:
    return {
        "scenes": [scene.provenance() for scene in scenes],
        "preset": job.preset,
        **asdict(recipe),
        "seed": job.seed,
        "final_loss": losses[-1][1],
        "validation": None if validation is None else validation.to_json(),
    }
