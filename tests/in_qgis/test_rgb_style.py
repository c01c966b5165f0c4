"""Results in natural colours."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsProject, QgsRasterLayer
from qgis.PyQt import sip

from scdm_qgis.processing.rgb_style import show_in_natural_colours


@pytest.mark.parametrize("written", ["{folder}/out.tif", "{folder}/./out.tif", "{folder}//sub/../out.tif"])
def test_the_layer_is_found_however_its_path_was_written(plugin: Any, tmp_path: Path, written: str) -> None:
    context, project = QgsProcessingContext(), QgsProject.instance()
    paths = written.format(folder=tmp_path), str(tmp_path / "other.tif")
    for path in paths:
        context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails("out", project, "OUTPUT"))
    show_in_natural_colours(os.path.abspath(paths[0]), context)
    styled = [context.layerToLoadOnCompletionDetails(path).postProcessor() is not None for path in paths]
    assert styled == [True, False]


def test_run_after_run_is_styled(plugin: Any, small_models: Dict[str, str]) -> None:
    """QGIS deletes what styles a layer together with the context of the run; every layer has its own."""
    path = small_models["scene"]
    before = None
    for _ in range(2):
        context = QgsProcessingContext()
        for name in (path, small_models["other"]):
            details = QgsProcessingContext.LayerDetails("out", QgsProject.instance(), "OUTPUT")
            context.addLayerToLoadOnCompletion(name, details)
            show_in_natural_colours(name, context)
        assert before is None or sip.isdeleted(before)
        layer = QgsRasterLayer(path)
        before = context.layerToLoadOnCompletionDetails(path).postProcessor()
        other = context.layerToLoadOnCompletionDetails(small_models["other"]).postProcessor()
        assert other is not before
        before.postProcessLayer(layer, context, QgsProcessingFeedback())
        assert [layer.renderer().redBand(), layer.renderer().greenBand(), layer.renderer().blueBand()] == [8, 5, 2]
        del context, details
        gc.collect()
