"""Train a stage on scenes, judge it on unseen pixels, and calibrate it with them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Callable, Optional, Tuple

import numpy as np
import torch

from scdm_qgis.core.cascade import Stage, make_network
from scdm_qgis.core.cascade_header import Normalisation, StageHeader
from scdm_qgis.core.training import Training, TrainingSettings, train
from scdm_qgis.core.unet import UNet
from scdm_qgis.engine import calibration, step_choice, validation
from scdm_qgis.engine.anchor import fit_anchor, fit_plain_ridge
from scdm_qgis.engine.calibration import Evidence, calibrate, gather_evidence, measure_coverage
from scdm_qgis.engine.checkpoint import Checkpoint
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.progress import Progress
from scdm_qgis.engine.scene_patches import ScenePatches, Split
from scdm_qgis.engine.step_choice import fewest_steps, try_steps
from scdm_qgis.engine.tensorboard_log import TensorBoardLog
from scdm_qgis.engine.training_scenes import Region
from scdm_qgis.engine.validation import (
    PATCHES_AT_ONCE,
    Errors,
    Validation,
    hold_out_loss,
    judge,
    posterior_mean,
)

JUDGED_SHARE = 0.6
"""Share of the iterations that keep off the hold-out."""

LEFT_OUT = 4
"""Scenes too small for a hold-out have one pixel in this many left out at either end of their longer side."""

LEFT_OUT_ITERATIONS = 3
"""A training with blocks left out takes one iteration in this many of the stage's own."""

LOGS = 10
"""Lines of log a training writes."""


@dataclass(frozen=True)
class StageTrainer:
    """What all trainings of one stage have in common.

    Args:
        header: the stage.
        normalisation: data units to network units.
        settings: how to train.
        device: where to train.
        events: where to log.
        progress: told of every iteration.
        tensorboard: folder of the TensorBoard log, None for none.
    """

    header: StageHeader
    normalisation: Normalisation
    settings: TrainingSettings
    device: torch.device
    events: EventWriter
    progress: Progress
    tensorboard: Optional[str]

    def train(
        self, patches: ScenePatches, checkpoint: Checkpoint, resume: bool
    ) -> Tuple[Stage, Training, Optional[Validation]]:
        """Train the stage; return it, calibrated and judged on the hold-out where there is one.

        An anchored stage that has been judged and calibrated finishes its training on everything, the
        hold-out included, which is too much of a few scenes to go unused.

        Raises:
            UserError: the training diverged, or cannot be taken up.
        """
        stage, left_out = self._new_stage(patches)
        training = Training(stage, self.settings)
        if resume and checkpoint.restore(training):
            self.events.info(f"Going on after iteration {training.iteration}.")
            self.progress.advance(training.iteration, "Going on")
        elif resume:
            self.events.info("There is no checkpoint to go on from: the training starts afresh.")
        elif training.processes.rank == 0:
            checkpoint.remove()
        first = training.processes.rank == 0
        log = TensorBoardLog(self.tensorboard, training) if first and self.tensorboard is not None else None
        try:
            after = self._after_iteration(checkpoint if first else None, log)
            return self._train(training, left_out, patches, after, log)
        finally:
            if log is not None:
                log.close()

    def _train(
        self,
        training: Training,
        left_out: np.ndarray,
        patches: ScenePatches,
        after: Callable[[Training], None],
        log: Optional[TensorBoardLog],
    ) -> Tuple[Stage, Training, Optional[Validation]]:
        stage = training.stage
        batches = patches.hold_out_batches(validation.MOST_PATCHES, PATCHES_AT_ONCE)
        if not batches:
            train(training, patches, after, self.settings.iterations)
            return replace(stage, network=training.last_network()), training, None
        ridge = judge(fit_plain_ridge(self.header, patches), batches, self.normalisation)
        self.events.info(f"Hold-out, plain ridge regression: RMSE {ridge.rmse:.4g}, SAM {ridge.sam:.4f} rad.")
        if log is not None:
            log.compare_with(ridge)
        result = Validation(False, None, None, ridge)
        if stage.anchor is None:
            train(training, patches, after, self.settings.iterations)
            stage = self._with_fewest_steps(replace(stage, network=training.last_network()), patches)
            return stage, training, replace(result, loss=hold_out_loss(stage, batches, self.settings))

        def judge_weights(network: UNet) -> Tuple[float, float]:
            estimate = posterior_mean(replace(stage, network=network), self.settings.bfloat16)
            judged = judge(estimate, batches, self.normalisation)
            self.events.info(
                f"Hold-out after iteration {training.iteration}: RMSE {judged.rmse:.4g}, SAM {judged.sam:.4f} rad."
            )
            return judged.rmse, judged.sam

        expect, judged_iterations = stage.anchor.expect, math.ceil(JUDGED_SHARE * self.settings.iterations)
        finishing = training.iteration > judged_iterations
        train(training, patches, after, judged_iterations, judge_weights)
        self.progress.say("Calibrating on the hold-out")
        judged = self._with_fewest_steps(replace(stage, network=training.best_network()), patches)
        evidence = self._evidence(judged, patches)
        calibrated = calibrate(judged, evidence, left_out)
        result = replace(
            result,
            regression=judge(lambda condition: expect(condition).estimate, batches, self.normalisation),
            loss=hold_out_loss(judged, batches, self.settings),
            stage=judge(posterior_mean(calibrated, self.settings.bfloat16), batches, self.normalisation),
            curve=tuple(training.judgements),
            coverage=measure_coverage(evidence, left_out),
        )
        if training.stopped_early:
            return calibrated, training, result
        if not finishing:
            training.go_back_to_best()
        everything = patches.with_splits([(whole, None) for whole in patches.wholes])
        # The regression takes the hold-out in as well; the network learns what is left of it.
        anchor, left_out = fit_anchor(self.header, everything)
        training.stage = replace(stage, header=judged.header, anchor=anchor.to(self.device))
        train(training, everything, after, self.settings.iterations)
        finished = replace(training.stage, network=training.last_network())
        return calibrate(finished, evidence, left_out), training, result

    def calibrate_by_leaving_out(self, stage: Stage, patches: ScenePatches) -> Tuple[Stage, Validation]:
        """Return a stage trained on everything, calibrated by shorter trainings that leave blocks out.

        Either end of every scene is left out once, with half a patch of guard beside it.
        """
        self.events.info(
            "The scenes are too small to keep a part of them unseen: everything was trained on. Two shorter "
            "trainings that leave an end of every scene out say how far the stage can be trusted."
        )
        settings = replace(self.settings, iterations=math.ceil(self.settings.iterations / LEFT_OUT_ITERATIONS))
        trainer = replace(self, settings=settings)
        folds, left = [], []
        for first in (True, False):
            part = patches.with_splits([_leave_end_out(mask, first, patches.patch_size) for mask in patches.masks])
            fold, residuals = trainer._new_stage(part)
            training = Training(fold, settings)
            train(training, part, trainer._after_iteration(None, None), settings.iterations)
            folds.append((replace(fold, network=training.last_network()), part))
            left.append(residuals)
        self.progress.say("Calibrating on the left-out blocks")
        header = self._with_fewest_steps(*folds[0]).header
        folds = [(replace(fold, header=header), part) for fold, part in folds]
        evidence = Evidence.join([self._evidence(fold, part) for fold, part in folds])
        left_out = np.concatenate(left)
        own, regression, ridge = (Errors(self.normalisation) for _ in range(3))
        for fold, part in folds:
            estimate = posterior_mean(calibrate(fold, evidence, left_out), settings.bfloat16)
            plain = fit_plain_ridge(self.header, part)
            for batch in part.hold_out_batches(validation.MOST_PATCHES, PATCHES_AT_ONCE):
                own.add(estimate(batch.condition), batch)
                if fold.anchor is not None:
                    regression.add(fold.anchor.expect(batch.condition).estimate, batch)
                ridge.add(plain(batch.condition), batch)
        coverage = measure_coverage(evidence, left_out)
        numbers = own.judgement(), ridge.judgement(), regression.judgement()
        result = Validation(True, None, *numbers, coverage=coverage)
        return calibrate(replace(stage, header=header), evidence, left_out), result

    def _with_fewest_steps(self, stage: Stage, patches: ScenePatches) -> Stage:
        """Return a stage whose draws take the fewest steps that are enough on the hold-out."""
        if stage.header.steps is None:
            return stage  # drawn with the full schedule
        batches = patches.hold_out_batches(step_choice.MOST_PATCHES, PATCHES_AT_ONCE)
        if not batches:
            return stage  # nothing to try on
        trials = try_steps(stage, batches, self.settings.seed, self.settings.bfloat16)
        steps = fewest_steps(trials)
        scale = self.normalisation.scale
        tried = ", ".join(f"{one.steps}: {one.rmse * scale:.4g} / {one.spread * scale:.4g}" for one in trials)
        self.events.info(f"Steps of a draw: {steps}. RMSE / spread of draws by steps, before calibration: {tried}.")
        return replace(stage, header=replace(stage.header, steps=steps))

    def _evidence(self, stage: Stage, patches: ScenePatches) -> Evidence:
        batches = patches.hold_out_batches(calibration.MOST_PATCHES, PATCHES_AT_ONCE)
        return gather_evidence(stage, batches, self.settings.seed, self.settings.bfloat16)

    def _new_stage(self, patches: ScenePatches) -> Tuple[Stage, np.ndarray]:
        """Return an untrained stage on the training device, and what its regression leaves (`fit_anchor`).

        An anchored network starts from zero output, so that the stage starts as the regression itself.
        """
        torch.manual_seed(self.settings.seed)
        header = self.header
        network = make_network(header)
        anchor, left_out = None, np.empty((0, len(header.bands)))
        if header.prediction == "residual":
            for parameter in network.conv_out.parameters():
                torch.nn.init.zeros_(parameter)
            anchor, left_out = fit_anchor(header, patches)
        return Stage(header, network, anchor).to(self.device), left_out

    def _after_iteration(
        self, checkpoint: Optional[Checkpoint], log: Optional[TensorBoardLog]
    ) -> Callable[[Training], None]:
        """Return what reports an iteration and keeps checkpoint and log fresh."""
        iterations = self.settings.iterations
        log_every = max(1, iterations // LOGS)
        started, first = time.monotonic(), None

        def after(training: Training) -> None:
            nonlocal first
            first = training.iteration - 1 if first is None else first
            done = training.iteration - first
            patches = done * self.settings.batch_size * training.processes.count
            rate = f"patches a second: {patches / max(time.monotonic() - started, 1e-9):.0f}"
            known = f", loss {training.last_loss:.4f}" if math.isfinite(training.last_loss) else ""
            self.progress.advance(1, f"Iteration {training.iteration} of {iterations}{known}, {rate}")
            if training.iteration % log_every == 0:
                self.events.info(f"Iteration {training.iteration} of {iterations}{known}, {rate}.")
            if log is not None:
                log.update(training)
            if checkpoint is not None:
                checkpoint.save_when_due(training)

        return after


def _leave_end_out(valid: np.ndarray, first: bool, patch_size: int) -> Split:
    """Return a scene without one end of its longer side and a guard, and that end.

    The longer side is that of the smallest rectangle around the valid pixels. The end holds one in `LEFT_OUT` of
    them; the guard has half a patch, but never so much that less than half of the pixels is left.

    Args:
        valid: valid pixels (row, column), at least `FEWEST_PIXELS`.
        first: whether the first end is left out, or the last.
        patch_size: side of a training patch.
    """
    upright = bool(np.ptp(np.flatnonzero(valid.any(axis=1))) >= np.ptp(np.flatnonzero(valid.any(axis=0))))
    counts = valid.sum(axis=1 if upright else 0)
    share = np.cumsum(counts if first else counts[::-1]) / counts.sum()
    # The last line with a valid pixel is always kept.
    held = min(int(np.searchsorted(share, 1 / LEFT_OUT)) + 1, int(np.searchsorted(share, 1)))
    guard = min(patch_size // 2, max(0, int(np.searchsorted(share, 0.5, "right")) - held))
    whole, kept = Region(0, 0, *valid.shape), len(counts) - held - guard
    kept_from, held_from = (held + guard, 0) if first else (0, kept + guard)
    return whole.part(upright, kept_from, kept), whole.part(upright, held_from, held)
