"""The example model: train two stages, assemble, reconstruct, evaluate."""

from __future__ import annotations

import os

from qgis.core import QgsProcessingModelAlgorithm

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.groups import RECONSTRUCTION

_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models", "train_and_reconstruct.model3")


class ExampleModel(QgsProcessingModelAlgorithm):
    """A model whose name is readable though its id has no spaces, in the group of our own algorithms."""

    def displayName(self) -> str:
        """Return what the Toolbox shows."""
        return "Train and Reconstruct (example model)"

    def groupId(self) -> str:
        """Return the group's id."""
        return RECONSTRUCTION.id

    def createInstance(self) -> QgsProcessingModelAlgorithm:
        """Return a fresh copy."""
        copy = ExampleModel()
        copy.loadVariant(self.toVariant())
        copy.setProvider(self.provider())
        return copy


def load_example_model() -> ExampleModel:
    """Read the model from its file; raises UserError where that cannot be read."""
    model = ExampleModel()
    if not model.fromFile(_FILE):
        raise UserError(f"The example model '{_FILE}' cannot be read.", "Install the plugin again.")
    return model
