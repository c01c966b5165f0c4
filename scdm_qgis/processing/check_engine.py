"""The algorithm Check Engine."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
)

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.algorithm import ScdmAlgorithm
from scdm_qgis.processing.child_process import working_folder
from scdm_qgis.processing.engine_client import run_engine
from scdm_qgis.processing.engine_python import MODULES, find_engine_python
from scdm_qgis.processing.groups import ENGINE


class CheckEngineAlgorithm(ScdmAlgorithm):
    """Say what the engine runs on, and what to do where it cannot."""

    NAME = "check_engine"
    TITLE = "Check Engine"
    GROUP = ENGINE
    TAGS = ("torch", "python", "gpu", "cuda", "install", "environment")
    ABOUT = (
        "Finds the Python that computes for this plugin and tries it. "
        "It loads every library that is needed and computes on every device, and says what to do where something "
        "is missing."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the outputs; there are no parameters."""
        self.addOutput(QgsProcessingOutputString("PYTHON", "Python of the engine"))
        self.addOutput(QgsProcessingOutputString("TORCH", "Version of torch"))
        self.addOutput(QgsProcessingOutputString("DEVICES", "Devices that work"))

    def processAlgorithm(
        self, parameters: Dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Dict[str, Any]:
        """Try the engine's Python."""
        try:
            python = find_engine_python()
            with working_folder() as folder:
                return run_engine(python, ["-m", "scdm_qgis.engine.check", *MODULES], folder, feedback)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
