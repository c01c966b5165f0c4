"""Show a hyperspectral result in natural colours instead of its first three bands."""

from __future__ import annotations

import os
from typing import List

from qgis.core import (
    QgsContrastEnhancement,
    QgsMapLayer,
    QgsMultiBandColorRenderer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
)
from qgis.PyQt import sip

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.raster_summary import summarise_raster


class _NaturalColours(QgsProcessingLayerPostProcessorInterface):
    """Chooses the bands nearest red, green and blue and stretches them."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style one layer; one whose colours are not known keeps QGIS's own style."""
        if not isinstance(layer, QgsRasterLayer):
            return
        try:
            bands = summarise_raster(layer.source()).rgb_bands(None)
        except UserError:
            return
        layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *bands))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
            QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        )


_WAITING: List[_NaturalColours] = []
"""One a layer: QGIS keeps no reference to them, but deletes each with the context it was given to."""


def show_in_natural_colours(path: str, context: QgsProcessingContext) -> None:
    """Have the layer made from `path`, if one is loaded when the algorithm is done, styled.

    QGIS knows the layer by the path as the user wrote it: with slashes on Windows, or not absolute.
    """
    _WAITING[:] = [one for one in _WAITING if not sip.isdeleted(one)]
    for given in context.layersToLoadOnCompletion():
        if os.path.abspath(given) == os.path.abspath(path):
            _WAITING.append(_NaturalColours())
            context.layerToLoadOnCompletionDetails(given).setPostProcessor(_WAITING[-1])
