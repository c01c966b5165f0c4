"""The algorithm Simulate RGB from Hyperspectral."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from scdm_qgis.engine.jobs import SimulateRgb
from scdm_qgis.processing.groups import DATA
from scdm_qgis.processing.job_algorithm import JobAlgorithm
from scdm_qgis.processing.raster_summary import summarise_raster


class SimulateRgbAlgorithm(JobAlgorithm):
    """Cut red, green and blue out of a hyperspectral raster."""

    NAME = "simulate_rgb"
    TITLE = "Simulate RGB from Hyperspectral"
    GROUP = DATA
    JOB = SimulateRgb
    TAGS = ("rgb", "band", "subset")
    ABOUT = (
        "Cuts a red, a green and a blue band out of a hyperspectral raster. "
        "Values, nodata, coordinate system and wavelengths stay as they are. The result is what a model that was "
        "trained on this sensor expects as its input."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Hyperspectral raster"),
            "The raster to take three bands from.",
        )
        self.add(
            QgsProcessingParameterString("RGB_BANDS", "Red, green and blue band", optional=True),
            "Three band numbers such as 60,30,10; empty for the bands nearest 640, 550 and 460 nm.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", "RGB raster"),
            "The three bands (GeoTIFF), in the order red, green, blue.",
        )

    def check_inputs(self, job: SimulateRgb) -> None:
        """Check that the raster opens and that its three bands are known."""
        summarise_raster(job.input).rgb_bands(job.rgb_bands)
