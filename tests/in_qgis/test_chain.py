"""The main job inside QGIS, with the real engine: from a demo scene to an evaluation."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from glob import glob
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
import pytest
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsRasterLayer,
)

from scdm_qgis.core.cascade_header import read_header
from tests.in_qgis.conftest import AT_ONCE_SECONDS

Run = Callable[..., Dict[str, Any]]
Files = Dict[str, str]

SMALL = {"ITERATIONS": 5, "PATCH_SIZE": 16, "BATCH_SIZE": 2, "PRECISION": "float32"}


def test_from_a_demo_scene_to_an_evaluation(run: Run, tmp_path: Path) -> None:
    def path(name: str) -> str:
        return str(tmp_path / name)

    for seed, name in ((1, "train.tif"), (2, "test.tif")):
        parameters = {"SIZE": 48, "BANDS": 12, "SEED": seed, "OUTPUT": path(name)}
        assert run("create_demo_scene", parameters) == {"OUTPUT": path(name)}
    run("simulate_rgb", {"INPUT": path("test.tif"), "OUTPUT": path("rgb.tif")})
    for stage in (1, 2):
        parameters = {"INPUTS": [path("train.tif")], "STAGE": stage, "OUTPUT": path(f"stage{stage}.safetensors")}
        results = run("train_cascade_stage", {**parameters, **SMALL, "REPORT": path("report.html")})
        assert results["ITERATIONS_DONE"] == 5 and np.isfinite(results["FINAL_LOSS"])
        assert results["REPORT"] == path("report.html") and "<html" in Path(results["REPORT"]).read_text()
    stages = [path("stage2.safetensors"), path("stage1.safetensors")]
    run("assemble_cascade", {"STAGE_FILES": stages, "OUTPUT": path("model.safetensors")})
    results = run(
        "rgb_to_hyperspectral",
        {
            "INPUT": QgsRasterLayer(path("rgb.tif"), "RGB"),
            "MODEL": path("model.safetensors"),
            "PRECISION": "float32",
            "OUTPUT": path("out.tif"),
            "COARSE_OUTPUT": path("coarse.tif"),
            "UNCERTAINTY": path("uncertainty.tif"),
            "SAMPLES": 2,
            "SAMPLER": "ddim",
            "STEPS": 2,
        },
    )
    assert set(results) == {"OUTPUT", "COARSE_OUTPUT", "UNCERTAINTY", "SECONDS", "TILES"}
    assert results["TILES"] >= 1 and results["SECONDS"] > 0
    source, output = gdal.Open(path("rgb.tif")), gdal.Open(path("out.tif"))
    assert output.RasterCount == 12
    assert output.GetGeoTransform() == source.GetGeoTransform()
    assert output.GetSpatialRef().IsSame(source.GetSpatialRef())
    assert gdal.Open(path("uncertainty.tif")).GetRasterBand(1).DataType == gdal.GDT_Float32
    assert 3 < gdal.Open(path("coarse.tif")).RasterCount < 12
    results = run(
        "evaluate_reconstruction",
        {
            "PREDICTION": path("out.tif"),
            "REFERENCE": path("test.tif"),
            "UNCERTAINTY": path("uncertainty.tif"),
            "OUTPUT_JSON": path("figures.json"),
            "OUTPUT_HTML": path("report.html"),
            "SAM_MAP": path("sam.tif"),
        },
    )
    figures = json.loads(Path(path("figures.json")).read_text())
    for name in ("RMSE", "SAM", "MPSNR", "MSSIM"):
        assert results[name] == figures[name.lower()]
    assert [results["COVERAGE_1"], results["COVERAGE_2"]] == list(figures["coverage"].values())
    assert 0 <= results["COVERAGE_1"] <= results["COVERAGE_2"] <= 1
    prediction, truth = (gdal.Open(path(name)).ReadAsArray().astype(float) for name in ("out.tif", "test.tif"))
    assert results["RMSE"] == pytest.approx(np.sqrt(np.mean((prediction - truth) ** 2)), rel=1e-6)
    assert not list(tmp_path.glob("*.part*"))


def test_temporary_outputs_are_loaded_and_styled_by_wavelength(run: Run, small_models: Files) -> None:
    import processing

    parameters = {
        "INPUT": small_models["rgb"],
        "MODEL": small_models["cascade"],
        "PRECISION": "float32",
        "OUTPUT": "TEMPORARY_OUTPUT",
    }
    try:
        results = processing.runAndLoadResults("scdm:rgb_to_hyperspectral", parameters)
        layers = list(QgsProject.instance().mapLayers().values())
        assert [layer.name() for layer in layers] == ["Hyperspectral raster"]
        assert os.path.samefile(layers[0].source(), results["OUTPUT"])
        renderer = layers[0].renderer()
        # The scene's bands are 430, 460, ... nm: 640, 550 and 460 nm are nearest in bands 8, 5 and 2.
        assert (renderer.redBand(), renderer.greenBand(), renderer.blueBand()) == (8, 5, 2)
    finally:
        QgsProject.instance().clear()


def test_the_example_model_runs(run: Run, small_models: Files, tmp_path: Path) -> None:
    feedback = QgsProcessingFeedback()
    results = run(
        "train_and_reconstruct",
        {
            "TRAINING": [small_models["scene"]],
            "ITERATIONS": 2,
            "RGB": small_models["rgb"],
            "REFERENCE": small_models["scene"],
            "assemble:Cascade file": str(tmp_path / "model.safetensors"),
            "reconstruct:Hyperspectral raster": str(tmp_path / "out.tif"),
            "evaluate:Report": str(tmp_path / "report.html"),
        },
        feedback,
    )
    assert results["reconstruct:Hyperspectral raster"] == str(tmp_path / "out.tif")
    assert read_header(results["assemble:Cascade file"]).stages[-1].of == 2
    assert gdal.Open(str(tmp_path / "out.tif")).RasterCount == 16
    assert "<html" in (tmp_path / "report.html").read_text()


def engine_pid() -> Optional[int]:
    """Return the process id of the engine this process has started, once it runs a job."""
    for listing in glob(f"/proc/{os.getpid()}/task/*/children"):
        for pid in Path(listing).read_text().split():
            try:
                if b"--watch-stdin" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
            except OSError:
                continue
    return None


LONG_TRAINING = {**SMALL, "STAGE": 1, "ITERATIONS": 1_000_000}


def run_and_interrupt(
    run: Run, scene: str, output: Path, interrupt: Callable[[int, QgsProcessingFeedback], None]
) -> Any:
    """Train for two seconds, interrupt, and return what was said and how long that took."""
    feedback = QgsProcessingFeedback()
    interrupted_at = []

    def wait_and_interrupt() -> None:
        for _ in range(600):
            if "iterations on cpu" in feedback.textLog():
                break
            time.sleep(0.1)
        time.sleep(2)  # now it is among the iterations
        pid = engine_pid()
        assert pid is not None
        interrupted_at.append(time.monotonic())
        interrupt(pid, feedback)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    with pytest.raises(QgsProcessingException) as caught:
        run("train_cascade_stage", {**LONG_TRAINING, "INPUTS": [scene], "OUTPUT": str(output)}, feedback)
    waited = time.monotonic() - interrupted_at[0]
    thread.join()
    assert "Traceback" not in feedback.textLog()
    return str(caught.value), waited


def test_a_killed_engine_leaves_qgis_alive_and_no_file(run: Run, small_models: Files, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    said, _ = run_and_interrupt(
        run, small_models["scene"], folder / "stage.safetensors", lambda pid, feedback: os.kill(pid, signal.SIGKILL)
    )
    assert "The engine was killed by the operating system, most likely because the memory ran out." in said
    assert list(folder.iterdir()) == []
    assert run("simulate_rgb", {"INPUT": small_models["scene"], "OUTPUT": str(tmp_path / "rgb.tif")})


def test_cancel_ends_the_run_at_once_and_leaves_no_file(run: Run, small_models: Files, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    said, waited = run_and_interrupt(
        run, small_models["scene"], folder / "stage.safetensors", lambda pid, feedback: feedback.cancel()
    )
    assert "cancelled" in said
    assert waited < AT_ONCE_SECONDS
    assert engine_pid() is None
    assert list(folder.iterdir()) == []


def test_a_cancelled_reconstruction_is_taken_up(run: Run, small_models: Files, rasters: Any, tmp_path: Path) -> None:
    """Cancelled once its journal is there; resumed, it is what a run without interruption gives."""
    folder = tmp_path / "out"
    folder.mkdir()
    values = rasters.rgb_of(rasters.smooth(rows=150))
    rgb = rasters.write(tmp_path / "rgb.tif", values, (640.0, 550.0, 460.0))
    parameters = {"INPUT": rgb, "MODEL": small_models["cascade"], "SAMPLES": 4, "STEPS": 4, "PRECISION": "float32"}
    parameters = {**parameters, "TILE_SIZE": 16, "OVERLAP": 4, "BATCH_SIZE": 1}
    output, journal = folder / "out.tif", folder / "out.journal.json"
    feedback, cancelled_at = QgsProcessingFeedback(), []

    def cancel_once_rows_are_whole() -> None:
        for _ in range(6000):
            if journal.exists() and json.loads(journal.read_text())["done"]["rows"] > 0:
                break
            time.sleep(0.01)
        cancelled_at.append(time.monotonic())
        feedback.cancel()

    thread = threading.Thread(target=cancel_once_rows_are_whole)
    thread.start()
    with pytest.raises(QgsProcessingException, match="cancelled"):
        run("rgb_to_hyperspectral", {**parameters, "OUTPUT": str(output)}, feedback)
    thread.join()
    assert time.monotonic() - cancelled_at[0] < AT_ONCE_SECONDS
    assert sorted(path.name for path in folder.iterdir()) == ["out.journal.json", "out.part.tif"]
    assert f"'{journal}', '{folder / 'out.part.tif'}': run again with RESUME" in feedback.textLog()

    run("rgb_to_hyperspectral", {**parameters, "OUTPUT": str(output), "RESUME": True})
    assert [path.name for path in folder.iterdir()] == ["out.tif"]
    run("rgb_to_hyperspectral", {**parameters, "OUTPUT": str(tmp_path / "whole.tif")})
    resumed, whole = (gdal.Open(str(path)).ReadAsArray() for path in (output, tmp_path / "whole.tif"))
    assert np.array_equal(resumed, whole)


def test_check_engine_tells_what_it_runs_on(run: Run) -> None:
    feedback = QgsProcessingFeedback()
    results = run("check_engine", {}, feedback)
    assert os.path.samefile(results["PYTHON"], sys.executable)
    assert results["TORCH"][0].isdigit() and "cpu" in results["DEVICES"]
    assert "rasterio" in feedback.textLog()


def test_a_layer_that_is_loaded_later_needs_no_context(run: Run, small_models: Files, tmp_path: Path) -> None:
    """Layers of a project are given by id, as the dialog and batch rows do."""
    layer = QgsRasterLayer(small_models["scene"], "scene")
    QgsProject.instance().addMapLayer(layer)
    try:
        context = QgsProcessingContext()
        context.setProject(QgsProject.instance())
        import processing

        parameters = {"INPUT": layer.id(), "OUTPUT": str(tmp_path / "rgb.tif")}
        assert processing.run("scdm:simulate_rgb", parameters, context=context)["OUTPUT"] == str(tmp_path / "rgb.tif")
    finally:
        QgsProject.instance().clear()


def test_what_the_dialog_runs_in_the_background_is_loaded(
    plugin: Any, small_models: Files, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QGIS runs an algorithm in a thread, with a context of that thread, and loads what that was told."""
    monkeypatch.setenv("SCDM_ENGINE_PYTHON", sys.executable)
    project, context, feedback = QgsProject.instance(), QgsProcessingContext(), QgsProcessingFeedback()
    context.setProject(project)
    names = ("OUTPUT", "COARSE_OUTPUT")
    outputs = {name: QgsProcessingOutputLayerDefinition("TEMPORARY_OUTPUT", project) for name in names}
    one = QgsApplication.processingRegistry().createAlgorithmById("scdm:rgb_to_hyperspectral")
    parameters = {"INPUT": small_models["rgb"], "MODEL": small_models["cascade"], **outputs}
    task = QgsProcessingAlgRunnerTask(one, parameters, context, feedback)
    with qtbot.waitSignal(task.executed, timeout=60_000) as executed:
        QgsApplication.taskManager().addTask(task)
    succeeded, results = executed.args
    assert succeeded, feedback.textLog()
    to_load = context.layersToLoadOnCompletion()
    assert {results[name]: name for name in names} == {path: details.outputName for path, details in to_load.items()}
    assert all(os.path.exists(path) and details.postProcessor() is not None for path, details in to_load.items())
