"""The algorithm Train Cascade Stage."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from scdm_qgis.core.bands import parse_band_numbers
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import LOSSES, PREDICTIONS, PRESETS
from scdm_qgis.engine.jobs import TrainCascadeStage
from scdm_qgis.processing.device import DEVICE_HELP, PRECISION_HELP, device_parameter, precision_parameter
from scdm_qgis.processing.engine_client import is_temporary
from scdm_qgis.processing.groups import TRAINING
from scdm_qgis.processing.job_algorithm import JobAlgorithm
from scdm_qgis.processing.raster_summary import summarise_raster


class TrainCascadeStageAlgorithm(JobAlgorithm):
    """Train one stage of a cascade on hyperspectral rasters."""

    NAME = "train_cascade_stage"
    TITLE = "Train Cascade Stage"
    GROUP = TRAINING
    JOB = TrainCascadeStage
    TAGS = ("train", "deep learning", "diffusion", "model", "neural network")
    ABOUT = (
        "Trains one stage of a cascade of diffusion models on hyperspectral rasters. "
        "The first stage learns to make some of the bands from red, green and blue; each later stage makes more "
        "bands from those of the stage before. Train every stage on the same rasters with the same bands, then "
        "join the stages with Assemble Cascade."
    )

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self._add_data()
        self._add_training()
        self._add_recipe()
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Stage file", "Model files (*.safetensors)"),
            "The trained stage, an input for Assemble Cascade.",
        )
        self.add(
            QgsProcessingParameterFileDestination(
                "REPORT", "Training report", "HTML files (*.html)", None, True, False
            ),
            "A page with loss curves that opens in any browser.",
        )
        self.add(
            QgsProcessingParameterFile(
                "TENSORBOARD", "Folder of a TensorBoard log", QgsProcessingParameterFile.Behavior.Folder, optional=True
            ),
            "Where to write the training's curves for TensorBoard while it runs; empty for nowhere. Give every "
            "training a folder of its own. Needs the package tensorboard in the Python that computes.",
            advanced=True,
        )
        self.addOutput(QgsProcessingOutputNumber("FINAL_LOSS", "Training loss at the end"))
        self.addOutput(QgsProcessingOutputNumber("VALIDATION_LOSS", "Loss on the pixels held out"))
        self.addOutput(QgsProcessingOutputNumber("ITERATIONS_DONE", "Iterations done"))

    def _add_data(self) -> None:
        integer = QgsProcessingParameterNumber.Type.Integer
        self.add(
            QgsProcessingParameterMultipleLayers(
                "INPUTS", "Hyperspectral rasters", QgsProcessing.SourceType.TypeRaster
            ),
            "The rasters to learn from. All must have the same bands in the same unit.",
        )
        self.add(
            QgsProcessingParameterNumber("STAGE", "Stage", integer, minValue=1, maxValue=10),
            "Which stage to train: 1 is the one that sees the RGB image.",
        )
        self.add(
            QgsProcessingParameterNumber("STAGES", "Number of stages", integer, 2, minValue=1, maxValue=10),
            "How many stages the cascade has. Give the same number for every stage.",
        )
        self.add(
            QgsProcessingParameterString("RGB_BANDS", "Red, green and blue band", optional=True),
            "Three band numbers such as 60,30,10; empty for the bands nearest 640, 550 and 460 nm.",
        )
        self.add(
            QgsProcessingParameterString("BANDS", "Bands to predict", optional=True),
            "Band numbers and ranges such as 1-40,45; empty for all that are neither bad nor empty. "
            "Give the same for every stage.",
            advanced=True,
        )

    def _add_training(self) -> None:
        integer = QgsProcessingParameterNumber.Type.Integer
        double = QgsProcessingParameterNumber.Type.Double
        self.add(
            QgsProcessingParameterEnum("PRESET", "Preset", list(PRESETS), False, "tiny", False, True),
            "Size of the network, with settings that suit it: tiny trains in minutes on a processor, compact on one "
            "consumer GPU, paper is the published network and needs days on a large GPU.",
        )
        self.add(
            QgsProcessingParameterNumber("ITERATIONS", "Iterations", integer, optional=True, minValue=1),
            "Training steps; empty for the preset's. More take longer and are better up to a point: the report "
            "shows it.",
        )
        self.add(
            QgsProcessingParameterNumber("PATCH_SIZE", "Patch size", integer, optional=True, minValue=8, maxValue=2048),
            "Side of a training patch in pixels; empty for the preset's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("BATCH_SIZE", "Batch size", integer, optional=True, minValue=1, maxValue=4096),
            "Patches a training step; empty for the preset's. Smaller needs less memory.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "LEARNING_RATE", "Learning rate", double, optional=True, minValue=0, maxValue=1
            ),
            "Step size of the optimiser; empty for the preset's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "VALIDATION_FRACTION", "Validation fraction", double, 0.15, minValue=0, maxValue=0.9
            ),
            "Share of the pixels that is held out to see how good the stage is on what it has not seen; 0 for none. "
            "A stage that predicts a residual finishes its training on all pixels.",
            advanced=True,
        )
        self.add(device_parameter(), DEVICE_HELP, advanced=True)
        self.add(precision_parameter(), PRECISION_HELP, advanced=True)
        self.add(
            QgsProcessingParameterNumber("SEED", "Seed", integer, 0, minValue=0),
            "The same number gives the same training on the same device.",
            advanced=True,
        )

        self.add(
            QgsProcessingParameterBoolean("EARLY_STOP", "Stop early", False, optional=True),
            "Stop when the error on the pixels held out no longer falls. The best weights are kept either way.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean("RESUME", "Resume", False),
            "Go on from where an interrupted training of the same output stood. The result is that of a training "
            "without interruption.",
            advanced=True,
        )

    def _add_recipe(self) -> None:
        integer = QgsProcessingParameterNumber.Type.Integer
        double = QgsProcessingParameterNumber.Type.Double
        self.add(
            QgsProcessingParameterEnum("PREDICTION", "Prediction", list(PREDICTIONS), False, None, True, True),
            "What the network predicts; empty for the preset's. residual adds to a closed-form regression and is best "
            "for short training, noise is the paper's and needs the paper's long training.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum("LOSS", "Loss", list(LOSSES), False, None, True, True),
            "Squared (mse) or absolute (l1) error; empty for the preset's.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("SAM_WEIGHT", "Spectral angle weight", double, 1.0, minValue=0),
            "Weight of the spectral angle in the loss; 0 leaves it out.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "P_UNCONDITIONAL", "Share without condition", double, 0.1, minValue=0, maxValue=1
            ),
            "Share of the training patches that are shown without their condition, which guidance needs.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("TIMESTEPS", "Timesteps", integer, 1000, minValue=2, maxValue=100000),
            "Steps of the diffusion.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "EMA_DECAY", "Averaging of weights", double, optional=True, minValue=0, maxValue=1
            ),
            "Decay of the moving average of the weights, which is what is kept; empty for the preset's.",
            advanced=True,
        )

    def check_inputs(self, job: TrainCascadeStage) -> None:
        """Check that the rasters have the same bands, that the bands asked for exist, and what is resumed."""
        if job.resume and is_temporary(job.output):
            raise UserError(
                "A training whose OUTPUT is temporary cannot be taken up again.", "Give OUTPUT the name it had before."
            )
        rasters = [summarise_raster(path) for path in job.inputs]
        first = rasters[0]
        for raster in rasters[1:]:
            if raster.band_count != first.band_count:
                raise UserError(
                    f"'{first.path}' has {first.band_count} bands, but '{raster.path}' has {raster.band_count}.",
                    "Train on rasters with the same bands.",
                )
        first.rgb_bands(job.rgb_bands)
        parse_band_numbers(job.bands, first.band_count)
