"""The algorithm Create Demo Scene."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import QgsProcessingParameterCrs, QgsProcessingParameterNumber, QgsProcessingParameterRasterDestination

from scdm_qgis.engine.jobs import CreateDemoScene
from scdm_qgis.processing.groups import DATA
from scdm_qgis.processing.job_algorithm import JobAlgorithm


class CreateDemoSceneAlgorithm(JobAlgorithm):
    """Make a synthetic hyperspectral scene to try the plugin on."""

    NAME = "create_demo_scene"
    TITLE = "Create Demo Scene"
    GROUP = DATA
    JOB = CreateDemoScene
    TAGS = ("synthetic", "example", "test data", "simulate")
    ABOUT = (
        "Makes a synthetic hyperspectral scene of vegetation, soils, asphalt, roofs and water. "
        "It has wavelengths, a coordinate system, mixed pixels and sensor noise, so that the whole way from training "
        "to evaluation can be tried without any data. Two scenes with different seeds share their materials: train "
        "on one, reconstruct the other."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        integer = QgsProcessingParameterNumber.Type.Integer
        self.add(
            QgsProcessingParameterNumber("SIZE", "Size in pixels", integer, 256, minValue=16, maxValue=20000),
            "Pixels a side.",
        )
        self.add(
            QgsProcessingParameterNumber("BANDS", "Number of bands", integer, 48, minValue=4, maxValue=1000),
            "Bands of the scene, spread evenly over the visible and near infrared.",
        )
        self.add(
            QgsProcessingParameterNumber("SEED", "Seed", integer, 0, minValue=0),
            "Another number makes another scene of the same materials; the same number makes the same scene.",
        )
        self.add(
            QgsProcessingParameterCrs("CRS", "Coordinate system", optional=True),
            "Coordinate system of the scene; empty for a UTM zone.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", "Demo scene"),
            "The hyperspectral scene (GeoTIFF).",
        )
        self.add(
            QgsProcessingParameterRasterDestination("RGB_OUTPUT", "RGB of the demo scene", None, True, False),
            "The scene's red, green and blue bands as a raster of their own: an input for RGB→Hyperspectral.",
        )
