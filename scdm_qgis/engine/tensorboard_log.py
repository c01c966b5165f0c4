"""A training's curves for TensorBoard, where the user wants them and the package is there."""

from __future__ import annotations

import importlib.util
from typing import Optional

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.training import Training
from scdm_qgis.engine.validation import Judgement


def check_tensorboard() -> None:
    """Raise UserError unless the engine's Python has the package tensorboard."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "A TensorBoard log needs the package tensorboard, which the engine's Python does not have.",
            "Install tensorboard into it, or leave TENSORBOARD empty.",
        )


class TensorBoardLog:
    """Write what a training has read from its device anyway, so that the log costs no waiting.

    Args:
        folder: where TensorBoard will look; made where there is none.
        training: the training, new or taken up again; what the folder's log holds of iterations after its own
            is struck out.
    """

    def __init__(self, folder: str, training: Training) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only here: the package is optional

        self._writer = SummaryWriter(folder, purge_step=training.iteration + 1)
        self._losses, self._judgements = len(training.losses), len(training.judgements)
        self._ridge: Optional[Judgement] = None

    def compare_with(self, ridge: Judgement) -> None:
        """Write plain ridge regression's errors on the hold-out beside every judgement to come."""
        self._ridge = ridge

    def update(self, training: Training) -> None:
        """Write what is new since the last call."""
        for iteration, loss in training.losses[self._losses :]:
            self._writer.add_scalar("loss", loss, iteration)
            self._writer.add_scalar("learning_rate", training.learning_rate(iteration - 1), iteration)
        for iteration, rmse, sam in training.judgements[self._judgements :]:
            self._writer.add_scalar("hold-out/RMSE", rmse, iteration)
            self._writer.add_scalar("hold-out/SAM", sam, iteration)
            if self._ridge is not None:
                self._writer.add_scalar("hold-out/RMSE of ridge regression", self._ridge.rmse, iteration)
                self._writer.add_scalar("hold-out/SAM of ridge regression", self._ridge.sam, iteration)
        self._losses, self._judgements = len(training.losses), len(training.judgements)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()
