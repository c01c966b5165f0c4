"""The algorithm RGB→Hyperspectral."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Optional

from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from scdm_qgis.core.cascade_header import SAMPLERS, TRUNCATION_TARGETS, TRUNCATION_THRESHOLDS, read_header
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.job_values import per_stage
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.processing.device import DEVICE_HELP, PRECISION_HELP, device_parameter, precision_parameter
from scdm_qgis.processing.engine_client import is_temporary
from scdm_qgis.processing.groups import RECONSTRUCTION
from scdm_qgis.processing.job_algorithm import JobAlgorithm
from scdm_qgis.processing.parameter_values import Parameters, plain_value
from scdm_qgis.processing.raster_summary import raster_path, summarise_raster
from scdm_qgis.processing.rgb_style import show_in_natural_colours


class RgbToHyperspectralAlgorithm(JobAlgorithm):
    """Reconstruct a hyperspectral raster from an RGB one."""

    NAME = "rgb_to_hyperspectral"
    TITLE = "RGB→Hyperspectral"
    GROUP = RECONSTRUCTION
    JOB = RgbToHyperspectral
    TAGS = ("rgb", "reconstruct", "diffusion", "predict", "deep learning")
    ABOUT = (
        "Reconstructs a hyperspectral raster from an RGB raster with a cascade that was trained on the same kind "
        "of data. The result has the input's place, size and nodata pixels, and the training data's bands, "
        "wavelengths and unit. The RGB raster must be in the unit of the training data, as Simulate RGB from "
        "Hyperspectral makes it."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self._add_inputs()
        self._add_sampling()
        self._add_tiling()
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", "Hyperspectral raster"),
            "The reconstructed raster (GeoTIFF).",
        )
        self.add(
            QgsProcessingParameterRasterDestination("COARSE_OUTPUT", "Raster of the stage before", None, True, False),
            "What the last stage but one makes: fewer bands.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("UNCERTAINTY", "Uncertainty", None, True, False),
            "Standard deviation of the draws for each pixel and band, in the data's unit. Needs two samples or more. "
            "Models that were validated have fitted it to the errors they made there.",
        )
        self.addOutput(QgsProcessingOutputNumber("SECONDS", "Seconds it took"))
        self.addOutput(QgsProcessingOutputNumber("TILES", "Tiles computed"))

    def _add_inputs(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "RGB raster"),
            "The raster to reconstruct from, in the unit of the training data.",
        )
        self.add(
            QgsProcessingParameterFile("MODEL", "Model", fileFilter="Model files (*.safetensors);;All files (*)"),
            "The cascade file made by Assemble Cascade.",
        )
        self.add(
            QgsProcessingParameterString("RGB_BANDS", "Red, green and blue band", optional=True),
            "Three band numbers of the input such as 3,2,1; empty to go by wavelengths, or for bands 1, 2, 3 of a "
            "raster with three or four bands.",
        )
        self.add(
            QgsProcessingParameterExtent("EXTENT", "Extent", optional=True),
            "The part to reconstruct; empty for all of it.",
        )

    def _add_sampling(self) -> None:
        integer = QgsProcessingParameterNumber.Type.Integer
        self.add(
            QgsProcessingParameterNumber("SAMPLES", "Samples", integer, 0, minValue=0, maxValue=10000),
            "0 for the best estimate in one step: the lowest error, but smoother than real spectra. 1 for one draw: "
            "as rough as real spectra, with a larger error. 8 for the mean of as many draws, about as good as the "
            "best estimate, and their standard deviation, which takes some sixty times as long. Models that predict "
            "noise know no such estimate: for them 0 gives one draw.",
        )
        self.add(
            QgsProcessingParameterEnum("SAMPLER", "Sampler", list(SAMPLERS), False, None, True, True),
            "How a draw is made; empty for the model's, which its uncertainty was fitted with. unipc and dpmpp come in "
            "8 steps about as near to what the model can draw as ddim, the plain way, in 20. ddpm takes all steps of "
            "the model, 1000 as a rule, each with new noise: for models that predict noise, which need it. For "
            "SAMPLES 0 leave this empty.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("STEPS", "Steps", integer, optional=True, minValue=1, maxValue=100000),
            "Steps of a draw; empty for the model's, as many as training found enough, or for 20 (ddim) or 8 with "
            "another sampler than the model's. Fewer are faster and smoother. Leave empty with SAMPLES 0, whose "
            "estimate is best in one.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("GUIDANCE", "Guidance", optional=True),
            "Strength of guidance by the condition: one number for all stages, or one a stage such as 0,0.5; 0 is "
            "off, empty for the model's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("TRUNCATION", "Truncation", optional=True),
            "Percentile p_T of progressive dynamic truncation, above 0 and at most 1: one number for all stages, "
            "or one a stage; 1 is off, empty for the model's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "TRUNCATION_TARGET", "Truncation target", list(TRUNCATION_TARGETS), False, None, True, True
            ),
            "What is truncated: the noisy state or the predicted noise; empty for the model's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                "TRUNCATION_THRESHOLD", "Truncation threshold", list(TRUNCATION_THRESHOLDS), False, None, True, True
            ),
            "Where the threshold comes from: the noise schedule, which is the same for all tiles, or each sample; "
            "empty for the model's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("SEED", "Seed", integer, 0, minValue=0),
            "The same number gives the same result on the same device.",
            advanced=True,
        )

    def _add_tiling(self) -> None:
        integer = QgsProcessingParameterNumber.Type.Integer
        self.add(
            QgsProcessingParameterNumber("TILE_SIZE", "Tile size", integer, optional=True, minValue=8, maxValue=4096),
            "Side of a tile in pixels; empty for what suits the model. Smaller needs less memory.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("OVERLAP", "Overlap", integer, optional=True, minValue=0),
            "Pixels that two neighbouring tiles share, fewer than the tile size; empty for a tenth of it. More "
            "take longer: every pixel shared is computed twice.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("BATCH_SIZE", "Batch size", integer, 0, minValue=0, maxValue=4096),
            "Tiles computed together, by one thread of a processor or by the GPU; 0 for automatic. Smaller needs less "
            "memory.",
            advanced=True,
        )
        self.add(device_parameter(), DEVICE_HELP, advanced=True)
        self.add(precision_parameter(), PRECISION_HELP, advanced=True)
        self.add(
            QgsProcessingParameterString("CLUSTER", "Cluster", optional=True),
            "Address of a running Dask scheduler whose workers are to compute, such as tcp://192.168.1.5:8786; empty "
            "for this machine. The workers need this plugin and its packages.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean("RESUME", "Resume", False, optional=True),
            "Go on from where an interrupted run with the same output and settings stood. The result is that of a run "
            "without interruption.",
            advanced=True,
        )

    def extra_values(self, parameters: Parameters, context: QgsProcessingContext) -> Dict[str, Any]:
        """Return EXTENT in the input's coordinate system, in pixels where its file has none."""
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if plain_value(parameters.get("EXTENT"), context) is None or layer is None:
            return {"extent": None}
        extent = self.parameterAsExtent(parameters, "EXTENT", context, layer.crs())
        x, y = (extent.xMinimum(), extent.xMaximum()), (extent.yMinimum(), extent.yMaximum())
        raster = summarise_raster(raster_path("INPUT", layer, context) or "")
        if not raster.has_place:
            place_to_pixel = gdal.InvGeoTransform(raster.geotransform)
            corners = [gdal.ApplyGeoTransform(place_to_pixel, *corner) for corner in itertools.product(x, y)]
            x, y = zip(*corners)
        return {"extent": [min(x), min(y), max(x), max(y)]}

    def check_inputs(self, job: RgbToHyperspectral) -> None:
        """Check the model file, that the raster has the bands the model needs, and what is resumed."""
        if job.resume and any(map(is_temporary, job.output_paths())):
            raise UserError(
                "A run with a temporary output cannot be taken up again.", "Give every output the name it had before."
            )
        header = read_header(job.model)
        header.check_complete()
        per_stage("GUIDANCE", job.guidance, len(header.stages))
        per_stage("TRUNCATION", job.truncation, len(header.stages))
        summarise_raster(job.input).rgb_bands(job.rgb_bands, by_position=True)

    def processAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Dict[str, Any]:
        """Run the job; layers that are loaded afterwards are shown in natural colours."""
        results = super().processAlgorithm(parameters, context, feedback)
        for name in ("OUTPUT", "COARSE_OUTPUT"):
            if name in results:
                show_in_natural_colours(results[name], context)
        return results
