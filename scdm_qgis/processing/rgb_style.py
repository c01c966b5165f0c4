"""Show a hyperspectral result in natural colours instead of its first three bands."""

from __future__ import annotations

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


_NATURAL_COLOURS = _NaturalColours()  # QGIS keeps no reference to it


def show_in_natural_colours(path: str, context: QgsProcessingContext) -> None:
    """Have the layer made from `path`, if one is loaded when the algorithm is done, styled."""
    if context.willLoadLayerOnCompletion(path):
        context.layerToLoadOnCompletionDetails(path).setPostProcessor(_NATURAL_COLOURS)
