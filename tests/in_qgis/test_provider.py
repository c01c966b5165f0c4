"""The provider in the real QGIS: what the Toolbox shows, and that nothing stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingModelAlgorithm,
    QgsProcessingParameterDefinition,
)
from qgis.gui import QgsProcessingToolboxProxyModel

# id -> parameters; a question mark says optional
INTERFACE = {
    "create_demo_scene": "SIZE BANDS SEED CRS? OUTPUT RGB_OUTPUT?",
    "simulate_rgb": "INPUT RGB_BANDS? OUTPUT",
    "import_matlab_cube": "INPUT VARIABLE? WAVELENGTHS? OUTPUT",
    "train_cascade_stage": "INPUTS STAGE STAGES RGB_BANDS? BANDS? PRESET PATCH_SIZE? BATCH_SIZE? ITERATIONS? "
    "LEARNING_RATE? LOSS? P_UNCONDITIONAL SAM_WEIGHT TIMESTEPS EMA_DECAY? PREDICTION? VALIDATION_FRACTION "
    "DEVICE PRECISION SEED EARLY_STOP? RESUME OUTPUT REPORT? TENSORBOARD?",
    "assemble_cascade": "STAGE_FILES OUTPUT",
    "rgb_to_hyperspectral": "INPUT MODEL RGB_BANDS? EXTENT? SAMPLER? STEPS? GUIDANCE? TRUNCATION? TRUNCATION_TARGET? "
    "TRUNCATION_THRESHOLD? SAMPLES SEED TILE_SIZE? OVERLAP? BATCH_SIZE DEVICE PRECISION CLUSTER? RESUME? "
    "OUTPUT COARSE_OUTPUT? UNCERTAINTY?",
    "evaluate_reconstruction": "PREDICTION REFERENCE UNCERTAINTY? PEAK? OUTPUT_JSON? OUTPUT_HTML? SAM_MAP?",
    "sample_spectral_profiles": "POINTS INPUTS WINDOW OUTPUT",
    "import_released_checkpoint": "INPUT CONFIG WEIGHTS OUTPUT",
    "check_engine": "",
}
RETURNS = {
    "create_demo_scene": "OUTPUT RGB_OUTPUT",
    "simulate_rgb": "OUTPUT",
    "import_matlab_cube": "OUTPUT",
    "train_cascade_stage": "OUTPUT REPORT FINAL_LOSS VALIDATION_LOSS ITERATIONS_DONE",
    "assemble_cascade": "OUTPUT",
    "rgb_to_hyperspectral": "OUTPUT COARSE_OUTPUT UNCERTAINTY SECONDS TILES",
    "evaluate_reconstruction": "RMSE SAM MPSNR MSSIM COVERAGE_1 COVERAGE_2 OUTPUT_JSON OUTPUT_HTML SAM_MAP",
    "import_released_checkpoint": "OUTPUT",
    "sample_spectral_profiles": "OUTPUT",
    "check_engine": "PYTHON TORCH DEVICES",
}
DEFAULTS = {
    "create_demo_scene": {"SIZE": 256, "BANDS": 48, "SEED": 0},
    "train_cascade_stage": {
        "STAGES": 2,
        "PRESET": "tiny",
        "P_UNCONDITIONAL": 0.1,
        "SAM_WEIGHT": 1.0,
        "TIMESTEPS": 1000,
        "VALIDATION_FRACTION": 0.15,
        "DEVICE": "auto",
        "PRECISION": "auto",
        "SEED": 0,
        "EARLY_STOP": False,
        "RESUME": False,
    },
    "rgb_to_hyperspectral": {
        "SAMPLES": 0,
        "SEED": 0,
        "BATCH_SIZE": 0,
        "DEVICE": "auto",
        "PRECISION": "auto",
        "RESUME": False,
    },
    "sample_spectral_profiles": {"WINDOW": 1},
    "import_released_checkpoint": {"WEIGHTS": "ema"},
}


def algorithm(name: str) -> Any:
    return QgsApplication.processingRegistry().createAlgorithmById(f"scdm:{name}")


@pytest.mark.parametrize("name", INTERFACE)
def test_parameters_outputs_and_defaults_are_the_contract(plugin: Any, name: str) -> None:
    one = algorithm(name)
    declared = {
        definition.name(): definition.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional
        for definition in one.parameterDefinitions()
    }
    assert {key + ("?" if optional else "") for key, optional in declared.items()} == set(INTERFACE[name].split())
    assert {output.name() for output in one.outputDefinitions()} == set(RETURNS[name].split())
    defaults = {
        definition.name(): definition.defaultValue()
        for definition in one.parameterDefinitions()
        if definition.defaultValue() is not None
    }
    assert defaults == DEFAULTS.get(name, {})


def test_there_is_nothing_but_the_contract_and_the_example_model(plugin: Any) -> None:
    names = {one.name() for one in QgsApplication.processingRegistry().providerById("scdm").algorithms()}
    assert names == {*INTERFACE, "train_and_reconstruct"}


def test_optional_outputs_are_not_made_by_default(plugin: Any) -> None:
    for name in INTERFACE:
        one = algorithm(name)
        for definition in one.destinationParameterDefinitions():
            optional = bool(definition.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional)
            assert definition.createByDefault() != optional, definition.name()


@pytest.mark.parametrize("name", INTERFACE)
def test_every_parameter_is_explained_where_the_user_reads(plugin: Any, name: str) -> None:
    one = algorithm(name)
    for definition in one.parameterDefinitions():
        assert len(definition.help()) > 5 and definition.help().endswith("."), definition.name()
        assert definition.description() != definition.name()
    assert one.shortHelpString().count("<h3>") == len(one.parameterDefinitions())
    assert Path(one.svgIconPath()).is_file() and not one.icon().isNull()


def test_the_toolbox_shows_the_groups_in_the_order_of_the_work(plugin: Any) -> None:
    model = QgsProcessingToolboxProxyModel(None, QgsApplication.processingRegistry(), None)
    top = [model.index(row, 0) for row in range(model.rowCount())]
    ours = next(index for index in top if "SCDM" in str(model.data(index)))
    groups = [str(model.data(model.index(row, 0, ours))) for row in range(model.rowCount(ours))]
    assert [re.sub(r"^\d · ", "", group) for group in groups] == [
        "Data",
        "Training",
        "Reconstruction",
        "Evaluation",
        "Engine",
    ]


def test_device_takes_any_text_and_hints_at_the_usual_ones(plugin: Any) -> None:
    from qgis.core import QgsProcessingContext
    from qgis.gui import QgsGui, QgsProcessingGui
    from qgis.PyQt.QtWidgets import QComboBox

    one = algorithm("rgb_to_hyperspectral")
    wrapper = QgsGui.processingGuiRegistry().createParameterWidgetWrapper(
        one.parameterDefinition("DEVICE"), QgsProcessingGui.WidgetType.Standard
    )
    widget = wrapper.createWrappedWidget(QgsProcessingContext())
    assert isinstance(widget, QComboBox)
    gpus = [f"cuda:{number}" for number in range(8)]
    assert [widget.itemText(i) for i in range(widget.count())] == ["auto", "cpu", "cuda", *gpus, "mps"]
    wrapper.setWidgetValue("cuda:1", QgsProcessingContext())
    assert wrapper.widgetValue() == "cuda:1"


def test_every_sampler_can_be_chosen(plugin: Any) -> None:
    one = algorithm("rgb_to_hyperspectral")
    sampler = one.parameterDefinition("SAMPLER")
    assert sampler.options() == ["ddpm", "ddim", "dpmpp", "unipc"]
    assert sampler.usesStaticStrings()
    for name in sampler.options():
        assert name in sampler.help()


def test_other_endings_are_refused_where_qgis_does_not_ask_which_are_written(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = type(QgsApplication.processingRegistry().providerById("scdm"))
    monkeypatch.setattr(provider, "supportedOutputRasterLayerExtensions", lambda self: ["gpkg", "tif"])
    demo = algorithm("create_demo_scene")
    context = QgsProcessingContext()
    for name in ("out.tif", "out.TIF", "TEMPORARY_OUTPUT"):
        output = name if name.isupper() else str(tmp_path / name)
        assert demo.checkParameterValues({"OUTPUT": output}, context) == (True, "")
    accepted, sentence = demo.checkParameterValues({"OUTPUT": str(tmp_path / "out.gpkg")}, context)
    assert not accepted and "would be a GeoTIFF. Give OUTPUT a name that ends in .tif." in sentence


def test_the_example_model_validates(plugin: Any) -> None:
    model = algorithm("train_and_reconstruct")
    assert isinstance(model, QgsProcessingModelAlgorithm)
    assert model.validate() == (True, [])
    assert model.canExecute()[0]
    assert len(model.destinationParameterDefinitions()) == 3


def test_loading_and_unloading_leaves_nothing(qgis_processing: None, plugin: Any) -> None:
    from scdm_qgis import classFactory

    plugin.unload()

    def state() -> List[object]:
        registry = QgsApplication.processingRegistry()
        return [
            sorted(provider.id() for provider in registry.providers()),
            len(registry.algorithms()),
            sorted(ProcessingConfig.settings),
            sorted(ProcessingConfig.settingIcons),
            len(QgsApplication.topLevelWidgets()),
        ]

    before = state()
    for _ in range(20):
        one = classFactory(None)
        one.initProcessing()
        one.initGui()
        assert "SCDM_ENGINE_PYTHON" in ProcessingConfig.settings
        assert QgsApplication.processingRegistry().providerById("scdm") is not None
        one.unload()
        one.unload()
    after = state()
    plugin.initGui()
    assert after == before


WITHOUT_TORCH = """
import sys
assert not any(__import__("importlib.util").util.find_spec(name) for name in ("torch", "rasterio"))
sys.path[:0] = [{checkout!r}, "/usr/share/qgis/python/plugins"]
from qgis.core import QgsApplication, QgsProcessingException, QgsProcessingFeedback
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()
from processing.core.Processing import Processing
Processing.initialize()
import processing
from scdm_qgis import classFactory
plugin = classFactory(None)
plugin.initProcessing()
print("LOADED", len(QgsApplication.processingRegistry().providerById("scdm").algorithms()))
for name, parameters in (("check_engine", {{}}), ("create_demo_scene", {{"OUTPUT": "TEMPORARY_OUTPUT"}})):
    feedback = QgsProcessingFeedback()
    try:
        processing.run("scdm:" + name, parameters, feedback=feedback)
    except QgsProcessingException as error:
        print("SAID", name, str(error).replace("\\n", " "))
    print("LOG", feedback.textLog())
plugin.unload()
"""


def test_a_python_without_torch_loads_the_provider_and_says_what_to_do(checkout: Path) -> None:
    python = "/usr/bin/python3"
    probe = "import importlib.util as u, sys; sys.exit(bool(u.find_spec('torch') or u.find_spec('rasterio')))"
    if not Path(python).exists() or subprocess.run([python, "-c", probe]).returncode:
        pytest.skip(f"no Python without torch and rasterio: install Debian's python3 as '{python}', without these two")
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    code = WITHOUT_TORCH.format(checkout=str(checkout))
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "LOADED 11" in done.stdout, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert [line.split()[1] for line in said] == ["check_engine", "create_demo_scene"]
    for line in said:
        assert "No Python for the engine is known" in line
        assert "python3 -m venv" in line and "-m pip install -r" in line
        assert "Settings ▸ Options ▸ Processing ▸ Providers" in line
        requirements = re.search(r'install -r "([^"]+)"', line)
        assert requirements is not None and Path(requirements.group(1)).is_file()
    assert "Traceback" not in done.stdout


def test_qgis_never_loads_what_only_the_engine_needs(checkout: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '/usr/share/qgis/python/plugins')\n"
        "import scdm_qgis.processing.provider, scdm_qgis.plugin\n"
        "print([name for name in ('torch', 'rasterio', 'scipy', 'h5py', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkout)
    assert done.stdout.strip() == "[]", done.stderr


def test_loading_the_plugin_does_not_wait_for_numpy() -> None:
    code = (
        "import sys, processing.core.ProcessingConfig\n"
        "sys.modules['numpy'] = None\n"
        "import scdm_qgis\n"
        "scdm_qgis.classFactory(None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
