"""The algorithm Import Released SCDM Checkpoint."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
)

from scdm_qgis.engine.jobs import WEIGHTS, ImportReleasedCheckpoint
from scdm_qgis.processing.groups import TRAINING
from scdm_qgis.processing.job_algorithm import JobAlgorithm


class ImportReleasedCheckpointAlgorithm(JobAlgorithm):
    """Turn a checkpoint of the authors' code into a stage file."""

    NAME = "import_released_checkpoint"
    TITLE = "Import Released SCDM Checkpoint"
    GROUP = TRAINING
    JOB = ImportReleasedCheckpoint
    TAGS = ("checkpoint", "pth", "weights", "convert", "model")
    ABOUT = (
        "Turns a network that was trained with the paper's released code into a stage file of this plugin. "
        "The file of weights is read without running any code it may hold."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterFile("INPUT", "Checkpoint", fileFilter="Checkpoints (*.pth *.pt);;All files (*)"),
            "The .pth file that the released code saved.",
        )
        self.add(
            QgsProcessingParameterFile("CONFIG", "Description", fileFilter="JSON files (*.json);;All files (*)"),
            "A JSON file that says what the checkpoint does not: base_channels, channel_mults, attention_levels, "
            "bands and condition_bands; and, where they differ from the usual, offset (0), scale (1), stage (1), "
            "stages (1), timesteps (1000), wavelengths, guidance_weight, pdt_lower and second_moment.",
        )
        self.add(
            QgsProcessingParameterEnum("WEIGHTS", "Weights", list(WEIGHTS), False, "ema", False, True),
            "The averaged weights (ema), which are the better ones, or those of the last step (raw).",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Stage file", "Model files (*.safetensors)"),
            "The stage, an input for Assemble Cascade.",
        )
