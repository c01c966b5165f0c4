"""The algorithm Assemble Cascade."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import QgsProcessing, QgsProcessingParameterFileDestination, QgsProcessingParameterMultipleLayers

from scdm_qgis.core.cascade_header import assemble_headers, read_header
from scdm_qgis.engine.jobs import AssembleCascade
from scdm_qgis.processing.groups import TRAINING
from scdm_qgis.processing.job_algorithm import JobAlgorithm


class AssembleCascadeAlgorithm(JobAlgorithm):
    """Put the files of all stages together into one model file."""

    NAME = "assemble_cascade"
    TITLE = "Assemble Cascade"
    GROUP = TRAINING
    JOB = AssembleCascade
    TAGS = ("model", "join", "merge", "stages")
    ABOUT = (
        "Puts the files of all stages of a cascade together into one model file. "
        "It checks that the stages belong together. RGB→Hyperspectral uses the result."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterMultipleLayers("STAGE_FILES", "Stage files", QgsProcessing.SourceType.TypeFile),
            "The files made by Train Cascade Stage, one for each stage, in any order.",
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Cascade file", "Model files (*.safetensors)"),
            "The model file with all stages.",
        )

    def check_inputs(self, job: AssembleCascade) -> None:
        """Check that the files are stages of one cascade."""
        assemble_headers([read_header(path) for path in job.stage_files])
