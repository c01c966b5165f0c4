"""The page a training leaves: what was trained on what, how the loss fell, and how good it became."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from matplotlib.figure import Figure

from scdm_qgis.core.cascade_header import CascadeHeader
from scdm_qgis.engine.calibration import NEW_SCENES
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.engine.report_page import Picture, Section, Table, picture, render_report
from scdm_qgis.engine.validation import NO_HOLD_OUT, WORSE_THAN_RIDGE, Judgement, Validation

EXPLANATION = (
    "RMSE is the root mean square error in the data's units, SAM the mean angle between predicted and true "
    "spectra in radians; lower is better for both."
)

TRUSTED_HERE = (
    "How much of what the network says counts was chosen on these pixels, too, so here the stage hardly does worse "
    "than its regression alone."
)

TRUE_BANDS_GIVEN = (
    "The stage was given the true bands of the stage before, so a cascade as a whole does worse than its last stage "
    "alone: use Evaluate Reconstruction to judge it."
)

LEFT_OUT = (
    "The scenes are too small to keep a part of them unseen, so the stage was trained on everything. The numbers are "
    "those of two shorter trainings that each left an end of every scene out."
)

HELD_OUT = (
    "The numbers are those of the stage while a part of the scenes was held out. After that it finished its training "
    "on everything, unless it was stopped early."
)


def render_training_report(
    job: TrainCascadeStage,
    header: CascadeHeader,
    losses: Sequence[Tuple[int, float]],
    validation: Optional[Validation],
) -> str:
    """Return the report as one HTML page.

    Args:
        job: what was asked.
        header: what the stage file says of itself.
        losses: (iteration, mean loss since the entry before).
        validation: the numbers on unseen pixels, None where nothing was validated.
    """
    stage = header.stages[0]
    curves = [_loss_curve(losses)]
    if validation is not None and validation.curve:
        curves.insert(0, _validation_curve(validation))
    return render_report(
        f"Training of stage {stage.index} of {stage.of}",
        [
            Section("Result on unseen pixels", _verdict(validation, stage.index), _validation_table(validation)),
            Section("While it was trained", pictures=curves),
            Section("Scenes", table=_scenes_table(header)),
            Section("Settings", table=_settings_table(job, header)),
        ],
    )


def _verdict(validation: Optional[Validation], stage_index: int) -> List[str]:
    if validation is None:
        return [NO_HOLD_OUT]
    if validation.stage is None:
        return [
            "A stage without a regression under it is judged by its loss here, because a reconstruction takes many "
            "passes. Use Evaluate Reconstruction to judge the cascade."
        ]
    sentences = [LEFT_OUT if validation.left_out else HELD_OUT]
    sentences.append(
        f"The stage's RMSE is {validation.stage.rmse:.5g}, that of plain ridge regression {validation.ridge.rmse:.5g}."
    )
    if not validation.beats_ridge:
        sentences.append(WORSE_THAN_RIDGE)
    sentences.append(EXPLANATION)
    if validation.regression is not None:
        sentences.append(TRUSTED_HERE)
    if stage_index > 1:
        sentences.append(TRUE_BANDS_GIVEN)
    if validation.coverage is not None:
        one, two = validation.coverage
        sentences.append(
            f"Of the errors, {one:.1%} lie within one standard deviation of draws and {two:.1%} within two, where the "
            "spread of draws was fitted to other pixels. Well-calibrated draws have 68.3% and 95.4%; here it may be "
            f"more, as the spread is made {NEW_SCENES} times as wide for the larger errors on other scenes."
        )
    return sentences


def _validation_table(validation: Optional[Validation]) -> Optional[Table]:
    if validation is None:
        return None
    own = ("", "") if validation.stage is None else _numbers(validation.stage)
    loss = "" if validation.loss is None else f"{validation.loss:.4f}"
    rows = [("This stage", *own, loss)]
    if validation.regression is not None:
        rows.append(("Its regression alone, without the network", *_numbers(validation.regression), ""))
    rows.append(("Plain ridge regression", *_numbers(validation.ridge), ""))
    return Table(("", "RMSE", "SAM (rad)", "Loss"), rows)


def _numbers(judgement: Judgement) -> Tuple[str, str]:
    return f"{judgement.rmse:.5g}", f"{judgement.sam:.4f}"


def _validation_curve(validation: Validation) -> Picture:
    """Draw the hold-out's RMSE and SAM while the stage was trained, ridge regression's beside them."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    iterations = [iteration for iteration, _, _ in validation.curve]
    curves = {
        "RMSE": ([rmse for _, rmse, _ in validation.curve], validation.ridge.rmse),
        "SAM (rad)": ([sam for _, _, sam in validation.curve], validation.ridge.sam),
    }
    for axes, (name, (values, ridge)) in zip(figure.subplots(1, 2), curves.items()):
        axes.plot(iterations, values, marker="o", markersize=3, linewidth=1, label="This stage")
        axes.axhline(ridge, color="grey", linestyle="--", linewidth=1, label="Ridge regression")
        axes.set_xlabel("Iteration")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return picture(figure, "RMSE and SAM on the hold-out while the stage was trained")


def _loss_curve(losses: Sequence[Tuple[int, float]]) -> Picture:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([iteration for iteration, _ in losses], [loss for _, loss in losses], linewidth=1)
    axes.set_xlabel("Iteration")
    axes.set_ylabel("Training loss")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    return picture(figure, "Training loss, each point the mean since the one before")


def _scenes_table(header: CascadeHeader) -> Table:
    return Table(
        ("File", "Rows", "Columns", "Bands used", "Valid pixels"),
        [
            tuple(str(scene[key]) for key in ("name", "height", "width", "bands", "valid_pixels"))
            for scene in header.training[0]["scenes"]
        ],
    )


def _settings_table(job: TrainCascadeStage, header: CascadeHeader) -> Table:
    stage, done = header.stages[0], header.training[0]
    bands = ", ".join(str(band) for band in stage.bands)
    conditions = stage.condition.previous_bands + stage.condition.rgb_bands
    return Table(
        ("Setting", "Value"),
        [
            ("Predicted bands", bands),
            ("Condition bands", ", ".join(str(band) for band in conditions)),
            ("Preset", job.preset),
            ("Prediction", stage.prediction),
            ("Iterations", str(done["iterations"])),
            ("Batch and patch size", f"{done['batch_size']} patches of {done['patch_size']} pixels a side"),
            ("Learning rate", f"{done['learning_rate']:g}"),
            ("Loss", f"{done['loss']}, spectral angle weighted {job.sam_weight:g}"),
            ("Seed", str(job.seed)),
        ],
    )
