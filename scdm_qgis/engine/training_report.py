"""The page a training leaves: what was trained on what, how the loss fell, and how good it became."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from matplotlib.figure import Figure

from scdm_qgis.core.cascade_header import CascadeHeader
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.engine.report_page import Picture, Section, Table, picture, render_report
from scdm_qgis.engine.validation import NO_HOLD_OUT, Validation

EXPLANATION = (
    "RMSE is the root mean square error in the data's units, SAM the mean angle between predicted and true "
    "spectra in radians; lower is better for both. The stage was given the true coarser bands here, so a cascade "
    "as a whole does worse than its last stage alone: use Evaluate Reconstruction to judge it."
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
        validation: the hold-out's numbers, None without a hold-out.
    """
    stage = header.stages[0]
    return render_report(
        f"Training of stage {stage.index} of {stage.of}",
        [
            Section("Result on the hold-out", _verdict(validation), _validation_table(validation)),
            Section("Loss", pictures=[_loss_curve(losses)]),
            Section("Scenes", table=_scenes_table(header)),
            Section("Settings", table=_settings_table(job, header)),
        ],
    )


def _verdict(validation: Optional[Validation]) -> List[str]:
    if validation is None:
        return [NO_HOLD_OUT]
    if validation.rmse is None:
        return [
            "A stage that predicts noise is judged by its loss here, because one reconstruction takes its full "
            "schedule. Use Evaluate Reconstruction to judge the cascade."
        ]
    sentence = f"The stage's RMSE is {validation.rmse:.5g}, that of ridge regression {validation.ridge_rmse:.5g}."
    if validation.rmse > validation.ridge_rmse:
        sentence += " It does not beat plain regression: train longer, or on more scenes."
    return [sentence, EXPLANATION]


def _validation_table(validation: Optional[Validation]) -> Optional[Table]:
    if validation is None:
        return None
    rows = [("Ridge regression", f"{validation.ridge_rmse:.5g}", f"{validation.ridge_sam:.4f}", "")]
    own = (validation.rmse, validation.sam)
    texts = ("", "") if None in own else (f"{own[0]:.5g}", f"{own[1]:.4f}")
    return Table(("", "RMSE", "SAM (rad)", "Loss"), [("This stage", *texts, f"{validation.loss:.4f}"), *rows])


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
