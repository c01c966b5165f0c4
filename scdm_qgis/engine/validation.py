"""How well a stage does on the part of the scenes it was not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Dict, Optional

import numpy as np
import torch

from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.cascade_header import Normalisation
from scdm_qgis.core.metrics import spectral_angle
from scdm_qgis.core.reconstruction import sample_stage, settings_for
from scdm_qgis.core.residual import Anchor
from scdm_qgis.core.training import Batch, TrainingSettings, stage_loss
from scdm_qgis.engine.training_scenes import ScenePatches

LARGEST_NUMBER_OF_BLOCKS = 256
"""Hold-outs of large scenes are judged on this many blocks, spread evenly."""

LOSS_SEED = 0

NO_HOLD_OUT = (
    "Nothing was validated: VALIDATION_FRACTION is 0, or the scenes are too small to set a part of them aside. "
    "Everything was trained on."
)


@dataclass(frozen=True)
class Validation:
    """The hold-out's numbers; each stage is judged on its true condition.

    Args:
        loss: the training loss.
        rmse: of the posterior-mean estimate, data units; None for noise prediction, which has no such
            estimate and whose draws take the full schedule.
        sam: its mean spectral angle in radians, None likewise.
        ridge_rmse: of ridge regression from the same condition.
        ridge_sam: its mean spectral angle in radians.
    """

    loss: float
    rmse: Optional[float]
    sam: Optional[float]
    ridge_rmse: float
    ridge_sam: float

    def to_json(self) -> Dict[str, Optional[float]]:
        """Return the numbers as JSON values."""
        return asdict(self)


class _Errors:
    """Sums over valid pixels from which RMSE and SAM follow."""

    def __init__(self, normalisation: Normalisation) -> None:
        self._normalisation = normalisation
        self._squares, self._values, self._angles, self._pixels = 0.0, 0, 0.0, 0

    def add(self, estimate: torch.Tensor, batch: Batch) -> None:
        valid = batch.valid[0, 0].cpu().numpy() > 0
        estimated, true = (
            x[0].cpu().numpy().astype(np.float64)[:, valid] * self._normalisation.scale + self._normalisation.offset
            for x in (estimate, batch.target)
        )
        self._squares += float(np.square(estimated - true).sum())
        self._values += true.size
        self._angles += float(np.nansum(spectral_angle(estimated[:, None], true[:, None])))
        self._pixels += true.shape[1]

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self._squares / self._values))

    @property
    def sam(self) -> float:
        return self._angles / self._pixels


def validate(
    stage: Stage, baseline: Anchor, patches: ScenePatches, normalisation: Normalisation, settings: TrainingSettings
) -> Optional[Validation]:
    """Judge a trained stage on the hold-outs, block by block; None where there is no hold-out.

    Args:
        stage: the stage with the weights to keep.
        baseline: ridge regression from the stage's condition, fitted to the training part.
        patches: gives the hold-outs.
        normalisation: data units to network units.
        settings: how it was trained, for the loss.
    """
    blocks = [block for block in patches.hold_out_blocks() if block[1].any()]
    if not blocks:
        return None
    chosen = np.unique(np.linspace(0, len(blocks) - 1, min(len(blocks), LARGEST_NUMBER_OF_BLOCKS)).round().astype(int))
    judged = stage.header.prediction != "noise"
    sampling = settings_for(stage.header, draw=False)
    own, ridge, losses = _Errors(normalisation), _Errors(normalisation), []
    torch.manual_seed(LOSS_SEED)
    with torch.inference_mode():
        for index in chosen:
            batch = patches.batch([blocks[index]])
            losses.append(float(stage_loss(stage, stage.schedule(), batch, replace(settings, p_unconditional=0.0))))
            ridge.add(baseline.predict(batch.condition), batch)
            if judged:
                own.add(sample_stage(stage, batch.condition, sampling, None, settings.bfloat16), batch)
    return Validation(
        float(np.mean(losses)), own.rmse if judged else None, own.sam if judged else None, ridge.rmse, ridge.sam
    )
