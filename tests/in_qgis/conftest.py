"""What the tests inside QGIS share: the loaded plugin, small rasters, small models, engines that misbehave."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple, Type

import numpy as np
import pytest
from osgeo import gdal, osr
from qgis.core import QgsProcessingFeedback, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QCoreApplication, QEvent

from tests.in_qgis.open_dock import OpenDock

WAVELENGTHS_NM = tuple(430.0 + 30.0 * band for band in range(16))
"""Wavelengths of the small scenes: 16 bands from 430 to 880 nm."""


RGB_WAVELENGTHS_NM = (640.0, 550.0, 460.0)

AT_ONCE_SECONDS = 10.0
"""Far from what a run goes on for that is not stopped, and more than a busy machine pauses a test for."""


class Rasters:
    """Makes small rasters."""

    @staticmethod
    def write(
        path: Path,
        values: np.ndarray,
        wavelengths_nm: Optional[Sequence[float]] = WAVELENGTHS_NM,
        nodata: Optional[float] = None,
        crs: Optional[int] = 32633,
    ) -> str:
        """Write values (band, row, column) as a GeoTIFF and return its path."""
        kinds = {"float32": gdal.GDT_Float32, "uint16": gdal.GDT_UInt16, "int16": gdal.GDT_Int16}
        bands, rows, columns = values.shape
        dataset = gdal.GetDriverByName("GTiff").Create(str(path), columns, rows, bands, kinds[values.dtype.name])
        if crs is not None:
            system = osr.SpatialReference()
            system.ImportFromEPSG(crs)
            dataset.SetProjection(system.ExportToWkt())
            dataset.SetGeoTransform((500000.0, 10.0, 0.0, 5800000.0, 0.0, -10.0))
        for number in range(1, bands + 1):
            band = dataset.GetRasterBand(number)
            band.WriteArray(values[number - 1])
            if nodata is not None:
                band.SetNoDataValue(nodata)
            if wavelengths_nm is not None:
                band.SetMetadata({"wavelength": str(wavelengths_nm[number - 1]), "wavelength_units": "Nanometers"})
        del dataset
        return str(path)

    @staticmethod
    def smooth(bands: int = 16, rows: int = 40, columns: int = 36, seed: int = 0) -> np.ndarray:
        """Return uint16 values (band, row, column) of smooth spectra mixed from three materials."""
        generator = np.random.default_rng(seed)
        position = np.linspace(0, 1, bands)
        materials = np.stack([1000 + 2000 * position, 3000 - 1500 * position, 1500 + 1000 * np.sin(6 * position)])
        shares = generator.random((3, rows // 4 + 1, columns // 4 + 1)).repeat(4, axis=1).repeat(4, axis=2)
        shares = shares[:, :rows, :columns] / shares[:, :rows, :columns].sum(axis=0)
        values = np.einsum("mb,mrc->brc", materials, shares) + generator.normal(0, 10, (bands, rows, columns))
        return values.round().astype(np.uint16)

    @staticmethod
    def rgb_of(values: np.ndarray) -> np.ndarray:
        """Return the bands nearest 640, 550 and 460 nm of values with `WAVELENGTHS_NM`."""
        return values[[7, 4, 1]]


@pytest.fixture(scope="session")
def rasters() -> Type[Rasters]:
    """Return what makes small rasters."""
    return Rasters


@pytest.fixture(scope="session")
def plugin(qgis_processing: None) -> Iterator[Any]:
    """Load the plugin as QGIS does."""
    from scdm_qgis import classFactory

    loaded = classFactory(None)
    loaded.initGui()
    yield loaded
    loaded.unload()


@pytest.fixture
def run(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dict[str, Any]]:
    """Return a function that runs an algorithm as a script does; the engine runs on this Python."""
    import processing

    monkeypatch.setenv("SCDM_ENGINE_PYTHON", sys.executable)

    def run_algorithm(
        name: str, parameters: Dict[str, Any], feedback: Optional[QgsProcessingFeedback] = None
    ) -> Dict[str, Any]:
        return processing.run(f"scdm:{name}", parameters, feedback=feedback or QgsProcessingFeedback())

    return run_algorithm


@pytest.fixture(scope="session")
def small_models(plugin: Any, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Train two stages for two iterations, and one on other data; return the paths of files.

    `scene` and `rgb` are rasters; `stage1`, `stage2`, `cascade` belong together; `other2` is a second
    stage that was trained on data of another range.
    """
    import processing

    folder = tmp_path_factory.mktemp("models")
    values = Rasters.smooth()
    files = {
        "scene": Rasters.write(folder / "scene.tif", values),
        "other": Rasters.write(folder / "other.tif", (values // 7).astype(np.uint16)),
        "rgb": Rasters.write(folder / "rgb.tif", Rasters.rgb_of(values), RGB_WAVELENGTHS_NM),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCDM_ENGINE_PYTHON", sys.executable)
        for name, scene, stage in (("stage1", "scene", 1), ("stage2", "scene", 2), ("other2", "other", 2)):
            files[name] = str(folder / f"{name}.safetensors")
            processing.run(
                "scdm:train_cascade_stage",
                {
                    "INPUTS": [files[scene]],
                    "STAGE": stage,
                    "ITERATIONS": 2,
                    "PATCH_SIZE": 16,
                    "BATCH_SIZE": 2,
                    "PRECISION": "float32",
                    "OUTPUT": files[name],
                },
            )
        files["cascade"] = str(folder / "cascade.safetensors")
        stages = [files["stage2"], files["stage1"]]
        processing.run("scdm:assemble_cascade", {"STAGE_FILES": stages, "OUTPUT": files["cascade"]})
    return files


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that makes the engine's Python a script which does what the given code does.

    The script answers as a real Python when it is asked what it is.
    """

    def make(code: str) -> str:
        path = tmp_path / "fake_python"
        path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, signal, sys, time\n"
            "if sys.argv[1] == '-c':\n"
            "    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
            "def say(**event):\n"
            "    print(json.dumps(event), flush=True)\n"
            f"{code}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("SCDM_ENGINE_PYTHON", str(path))
        return str(path)

    return make


@pytest.fixture
def project() -> Iterator[QgsProject]:
    """Return the empty project; its layers are removed afterwards."""
    project = QgsProject.instance()
    project.clear()
    yield project
    project.clear()


@pytest.fixture
def dock(qgis_processing: None, plugin: Any, qgis_iface: Any, project: QgsProject, qtbot: Any) -> Iterator[OpenDock]:
    from scdm_qgis import classFactory

    plugin.unload()
    one = classFactory(qgis_iface)
    one.initGui()
    qgis_iface.mainWindow().show()
    qgis_iface.mapCanvas().resize(400, 400)
    qgis_iface.mapCanvas().show()
    opened = OpenDock(one, qgis_iface.mapCanvas(), lambda until: qtbot.waitUntil(until, timeout=5000))
    yield opened
    one.unload()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    plugin.initGui()


@pytest.fixture
def pair(dock: OpenDock, rasters: Any, tmp_path: Path) -> Tuple[QgsRasterLayer, QgsRasterLayer, np.ndarray]:
    """Add a ground truth and a prediction 10, 20, 30, ... above it; return both with the truth's values."""
    values = rasters.smooth()
    truth = dock.add(rasters.write(tmp_path / "truth.tif", values), "truth")
    higher = values + 10 * np.arange(1, 17, dtype=np.uint16)[:, None, None]
    prediction = dock.add(rasters.write(tmp_path / "prediction.tif", higher), "prediction")
    dock.show(truth.extent())
    dock.settle()
    return truth, prediction, values
