"""How well a stage does on pixels it was not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.cascade_header import Normalisation
from scdm_qgis.core.metrics import spectral_angle
from scdm_qgis.core.reconstruction import StageSampler, settings_for
from scdm_qgis.core.training import Batch, TrainingSettings, draw, stage_loss

MOST_PATCHES = 64
"""Hold-outs of large scenes are judged on this many patches, spread evenly."""

PATCHES_AT_ONCE = 16

NO_HOLD_OUT = (
    "Nothing was validated: VALIDATION_FRACTION is 0, or the scenes are too small to set a part of them aside. "
    "Everything was trained on."
)

WORSE_THAN_RIDGE = (
    "The stage does not beat plain ridge regression on unseen pixels: do not expect more of it than of a straight "
    "line. Train longer, or on more scenes."
)


@dataclass(frozen=True)
class Judgement:
    """Errors on unseen pixels: RMSE in data units, mean spectral angle in radians."""

    rmse: float
    sam: float


@dataclass(frozen=True)
class Validation:
    """A stage on unseen pixels; it is judged on its true condition.

    Args:
        left_out: whether the unseen pixels are blocks left out of short extra trainings, because the
            scenes are too small to keep a part of them unseen; else they are the hold-out.
        loss: the training loss there, None where blocks were left out.
        stage: of the posterior-mean estimate; None for stages without a regression, which have no such
            estimate worth judging in one pass.
        ridge: of plain ridge regression from the same condition.
        regression: of the regression under the stage's network alone; None where there is none.
        curve: (iteration, RMSE, SAM) while it was trained.
        coverage: shares of values within one and two standard deviations of draws, each measured with
            the spread fitted to other patches; None where nothing was calibrated.
    """

    left_out: bool
    loss: Optional[float]
    stage: Optional[Judgement]
    ridge: Judgement
    regression: Optional[Judgement] = None
    curve: Tuple[Tuple[int, float, float], ...] = ()
    coverage: Optional[Tuple[float, float]] = None

    @property
    def beats_ridge(self) -> bool:
        """Whether the stage's RMSE is lower than ridge regression's; True where it was not judged."""
        return self.stage is None or self.stage.rmse < self.ridge.rmse

    def to_json(self) -> Dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)


class Errors:
    """Sums over valid pixels from which RMSE and SAM follow."""

    def __init__(self, normalisation: Normalisation) -> None:
        self._normalisation = normalisation
        self._squares, self._values, self._angles, self._pixels = 0.0, 0, 0.0, 0

    def add(self, estimate: torch.Tensor, batch: Batch) -> None:
        """Take in a batch's normalised estimate."""
        valid = batch.valid[:, 0].cpu().numpy() > 0
        estimated, true = (
            x.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)[valid].T * self._normalisation.scale
            + self._normalisation.offset
            for x in (estimate, batch.target)
        )
        self._squares += float(np.square(estimated - true).sum())
        self._values += true.size
        self._angles += float(np.nansum(spectral_angle(estimated[:, None], true[:, None])))
        self._pixels += true.shape[1]

    def judgement(self) -> Judgement:
        """Return RMSE and SAM of all batches taken in."""
        return Judgement(float(np.sqrt(self._squares / self._values)), self._angles / self._pixels)


def posterior_mean(stage: Stage, bfloat16: bool) -> Callable[[Tensor], Tensor]:
    """Return what makes an anchored stage's posterior-mean estimate of a condition."""
    sample = StageSampler(stage, settings_for(stage.header, draw=False), bfloat16)
    return lambda condition: sample(sample.see(condition), None)


@torch.inference_mode()
def judge(estimate: Callable[[Tensor], Tensor], batches: Sequence[Batch], normalisation: Normalisation) -> Judgement:
    """Judge what estimates normalised bands from a condition."""
    errors = Errors(normalisation)
    for batch in batches:
        errors.add(estimate(batch.condition), batch)
    return errors.judgement()


@torch.inference_mode()
def hold_out_loss(stage: Stage, batches: Sequence[Batch], settings: TrainingSettings) -> float:
    """Return the training loss on unseen pixels, with draws of its own and no condition emptied."""
    schedule, settings = stage.schedule(), replace(settings, p_unconditional=0.0)
    losses = []
    for number, batch in enumerate(batches):
        draws = draw(schedule, tuple(batch.target.shape), slice(None), number, settings, batch.target.device)
        losses.append(float(stage_loss(stage, schedule, batch, draws, settings)))
    return float(np.mean(losses))
