"""The Processing provider: our algorithms, the example model, and the one setting."""

from __future__ import annotations

from typing import List

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from scdm_qgis.processing.assemble_cascade import AssembleCascadeAlgorithm
from scdm_qgis.processing.check_engine import CheckEngineAlgorithm
from scdm_qgis.processing.create_demo_scene import CreateDemoSceneAlgorithm
from scdm_qgis.processing.engine_python import SETTING, SETTING_TITLE
from scdm_qgis.processing.evaluate_reconstruction import EvaluateReconstructionAlgorithm
from scdm_qgis.processing.example_model import load_example_model
from scdm_qgis.processing.import_matlab_cube import ImportMatlabCubeAlgorithm
from scdm_qgis.processing.import_released_checkpoint import ImportReleasedCheckpointAlgorithm
from scdm_qgis.processing.job_algorithm import RASTER_ENDINGS
from scdm_qgis.processing.plugin_files import icon, icon_path
from scdm_qgis.processing.rgb_to_hyperspectral import RgbToHyperspectralAlgorithm
from scdm_qgis.processing.sample_spectral_profiles import SampleSpectralProfilesAlgorithm
from scdm_qgis.processing.simulate_rgb import SimulateRgbAlgorithm
from scdm_qgis.processing.train_cascade_stage import TrainCascadeStageAlgorithm

ALGORITHMS = (
    CreateDemoSceneAlgorithm,
    SimulateRgbAlgorithm,
    ImportMatlabCubeAlgorithm,
    TrainCascadeStageAlgorithm,
    AssembleCascadeAlgorithm,
    ImportReleasedCheckpointAlgorithm,
    RgbToHyperspectralAlgorithm,
    EvaluateReconstructionAlgorithm,
    SampleSpectralProfilesAlgorithm,
    CheckEngineAlgorithm,
)


class ScdmProvider(QgsProcessingProvider):
    """What the Toolbox shows under SCDM Spectral Super-Resolution."""

    def id(self) -> str:
        """Return the id, which never changes."""
        return "scdm"

    def name(self) -> str:
        """Return what the Toolbox shows."""
        return "SCDM Spectral Super-Resolution"

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return icon("plugin")

    def svgIconPath(self) -> str:
        """Return the path of the plugin's icon."""
        return icon_path("plugin")

    def load(self) -> bool:
        """Register the setting, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(Setting(self.name(), SETTING, SETTING_TITLE, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away again."""
        ProcessingConfig.removeSetting(SETTING)
        del ProcessingConfig.settingIcons[self.name()]

    def loadAlgorithms(self) -> None:
        """Add fresh algorithms.

        A model learns its outputs from the algorithms it is made of, which QGIS knows only once the provider
        is registered: refresh the algorithms then.
        """
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
        if QgsApplication.processingRegistry().providerById(self.id()) is not None:
            self.addAlgorithm(load_example_model())

    def supportsNonFileBasedOutput(self) -> bool:
        """Tell QGIS that outputs are files."""
        return False

    def supportedOutputRasterLayerExtensions(self) -> List[str]:
        """Return the endings of the one raster format that is written; QGIS 4 does not ask (`JobAlgorithm` checks)."""
        return [ending.lstrip(".") for ending in RASTER_ENDINGS]

    def defaultRasterFileExtension(self) -> str:
        """Return the ending of a raster output that is given none."""
        return "tif"

    def defaultRasterFileFormat(self) -> str:
        """Return the same to QGIS 4, by the name of GDAL's driver."""
        return "GTiff"
