"""The algorithm Import MATLAB Cube."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessingParameterFile,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
)

from scdm_qgis.engine.jobs import ImportMatlabCube
from scdm_qgis.processing.groups import DATA
from scdm_qgis.processing.job_algorithm import JobAlgorithm


class ImportMatlabCubeAlgorithm(JobAlgorithm):
    """Turn a MATLAB cube into a GeoTIFF."""

    NAME = "import_matlab_cube"
    TITLE = "Import MATLAB Cube"
    GROUP = DATA
    JOB = ImportMatlabCube
    TAGS = ("matlab", "mat", "import", "convert")
    ABOUT = (
        "Turns a hyperspectral cube in a MATLAB file, as public benchmark scenes often come, into a GeoTIFF with "
        "wavelengths. MATLAB files hold no georeference, so the result has none."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterFile("INPUT", "MATLAB file", fileFilter="MATLAB files (*.mat);;All files (*)"),
            "A .mat file of version 5 or 7.3 that holds an array of rows, columns and bands.",
        )
        self.add(
            QgsProcessingParameterString("VARIABLE", "Variable", optional=True),
            "Name of the array in the file; empty where the file holds only one of three dimensions.",
        )
        self.add(
            QgsProcessingParameterString("WAVELENGTHS", "Wavelengths in nm", optional=True),
            "One wavelength a band separated by commas, or the first and the last such as 430-860 for evenly "
            "spread bands; empty where they are unknown.",
        )
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Imported cube"), "The cube as a GeoTIFF.")
