"""The algorithm Evaluate Reconstruction."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from scdm_qgis.core.bands import match_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.jobs import EvaluateReconstruction
from scdm_qgis.processing.groups import EVALUATION
from scdm_qgis.processing.job_algorithm import JobAlgorithm
from scdm_qgis.processing.raster_summary import summarise_raster


class EvaluateReconstructionAlgorithm(JobAlgorithm):
    """Compare a reconstruction with the true raster."""

    NAME = "evaluate_reconstruction"
    TITLE = "Evaluate Reconstruction"
    GROUP = EVALUATION
    JOB = EvaluateReconstruction
    TAGS = ("accuracy", "rmse", "sam", "psnr", "ssim", "validate", "compare", "uncertainty", "calibration")
    ABOUT = (
        "Compares a reconstructed hyperspectral raster with the true one, pixel by pixel. "
        "It gives the root mean square error in the data's unit, the mean spectral angle in radians, and the peak "
        "signal-to-noise ratio and structural similarity averaged over bands. "
        "With the reconstruction's uncertainty it also tells how often the errors stay within it."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer("PREDICTION", "Reconstruction"),
            "The raster to judge.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("REFERENCE", "True raster"),
            "The raster to judge it by, on the same grid. Bands are matched by wavelength, else by position.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("UNCERTAINTY", "Uncertainty", optional=True),
            "The standard deviations that RGB→Hyperspectral wrote together with the reconstruction, to be compared "
            "with the errors. Bands with deviation 0, which were copied from its input, are left out.",
        )
        self.add(
            QgsProcessingParameterNumber("PEAK", "Peak", QgsProcessingParameterNumber.Type.Double, optional=True),
            "Largest value the data can have, for PSNR and SSIM; empty for the true raster's maximum.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT_JSON", "Figures", "JSON files (*.json)", None, True, False),
            "All figures, also band by band, for scripts.",
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT_HTML", "Report", "HTML files (*.html)", None, True, False),
            "A page with figures, pictures, error map and example spectra that opens in any browser.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("SAM_MAP", "Spectral angle map", None, True, False),
            "The spectral angle of each pixel in radians.",
        )
        self.addOutput(QgsProcessingOutputNumber("RMSE", "Root mean square error"))
        self.addOutput(QgsProcessingOutputNumber("SAM", "Mean spectral angle in radians"))
        self.addOutput(QgsProcessingOutputNumber("MPSNR", "Mean PSNR in dB"))
        self.addOutput(QgsProcessingOutputNumber("MSSIM", "Mean SSIM"))
        self.addOutput(QgsProcessingOutputNumber("COVERAGE_1", "Share of errors within one standard deviation"))
        self.addOutput(QgsProcessingOutputNumber("COVERAGE_2", "Share of errors within two standard deviations"))

    def check_inputs(self, job: EvaluateReconstruction) -> None:
        """Check that the rasters open, that their bands can be paired, and that each has an uncertainty."""
        prediction, reference = summarise_raster(job.prediction), summarise_raster(job.reference)
        try:
            match_bands(
                prediction.spectrum.wavelengths_nm,
                prediction.band_count,
                reference.spectrum.wavelengths_nm,
                reference.band_count,
            )
        except UserError as error:
            raise UserError(
                f"'{prediction.path}' ({prediction.band_count} bands) cannot be compared with '{reference.path}' "
                f"({reference.band_count} bands). {error.message}",
                error.remedy,
            ) from error
        if job.uncertainty is not None:
            job.check_uncertainty_bands(summarise_raster(job.uncertainty).band_count, prediction.band_count)
