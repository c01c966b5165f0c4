"""The algorithm Sample Spectral Profiles: GDAL inside QGIS reads the pixels, no engine is needed."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from qgis.core import (
    NULL,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeature,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsMapLayer,
    QgsPointXY,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingUtils,
    QgsVectorFileWriter,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QVariant

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.algorithm import ScdmAlgorithm
from scdm_qgis.processing.groups import EVALUATION
from scdm_qgis.processing.parameter_values import Parameters, plain_value, read_value, requested_destination
from scdm_qgis.processing.raster_summary import raster_path

if TYPE_CHECKING:
    from scdm_qgis.processing.pixel_reader import PixelReader

FIELDS = (
    ("point_id", QVariant.LongLong),
    ("raster", QVariant.String),
    ("band", QVariant.Int),
    ("wavelength", QVariant.Double),
    ("value", QVariant.Double),
)


class _Input(NamedTuple):
    """A raster to sample: its name, what GDAL opens, and its coordinate system, None for the file's own."""

    name: str
    path: str
    crs: Optional[QgsCoordinateReferenceSystem]


class SampleSpectralProfilesAlgorithm(ScdmAlgorithm):
    """Write the spectra of rasters at points into a table."""

    NAME = "sample_spectral_profiles"
    TITLE = "Sample Spectral Profiles"
    GROUP = EVALUATION
    TAGS = ("profile", "point", "extract", "values", "spectrum", "signature", "table")
    ABOUT = (
        "Reads the spectra of rasters at points and writes them as a table with one row for each point, raster and "
        "band. Rasters of different coordinate systems, pixel sizes and band counts mix freely: each is read at its "
        "own pixel. Nodata gives an empty value; points outside a raster give no rows."
    )

    def __init__(self) -> None:
        super().__init__()
        self._inputs: List[_Input] = []

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterFeatureSource("POINTS", "Points", [QgsProcessing.SourceType.TypeVectorPoint]),
            "Where to read. The table names each point by its feature id.",
        )
        self.add(
            QgsProcessingParameterMultipleLayers("INPUTS", "Rasters", QgsProcessing.SourceType.TypeRaster),
            "The rasters to read, such as a reconstruction and its ground truth.",
        )
        self.add(
            QgsProcessingParameterNumber(
                "WINDOW", "Window", QgsProcessingParameterNumber.Type.Integer, 1, minValue=1, maxValue=101
            ),
            "Mean of so many by so many pixels around the point, an odd number; 1 for the pixel alone.",
        )
        self.add(
            QgsProcessingParameterFeatureSink("OUTPUT", "Profiles", QgsProcessing.SourceType.TypeVector),
            "The table: point_id, raster, band, wavelength in nm where known, value.",
        )

    def checkParameterValues(self, parameters: Parameters, context: QgsProcessingContext) -> Tuple[bool, str]:
        """Tell the user, before the start, what is wrong and what to do."""
        try:
            _check_window(self._window(parameters, context))
            for source in self._rasters(parameters, context):
                _open(source).close()
        except UserError as error:
            return False, str(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read the parameters while layers may be touched; what is wrong with them is said here for models."""
        try:
            _check_window(self._window(parameters, context))
            self._inputs = self._rasters(parameters, context)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Dict[str, Any]:
        """Read point by point and write the rows."""
        source = self.parameterAsSource(parameters, "POINTS", context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, "POINTS"))
        fields = QgsFields()
        for name, kind in FIELDS:
            fields.append(QgsField(name, kind))
        sink, table = self.parameterAsSink(
            parameters, "OUTPUT", context, fields, QgsWkbTypes.Type.NoGeometry, QgsCoordinateReferenceSystem()
        )
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, "OUTPUT"))
        side = self._window(parameters, context)
        rasters: List[_OpenRaster] = []
        try:
            for one in self._inputs:
                rasters.append(_OpenRaster(one, source.sourceCrs(), context))
            points = source.featureCount()
            for done, feature in enumerate(source.getFeatures(), start=1):
                if feedback.isCanceled():
                    break
                for raster in rasters:
                    for row in raster.rows_at(feature, side):
                        if not sink.addFeature(row, QgsFeatureSink.Flag.FastInsert):
                            raise QgsProcessingException(self.writeFeatureError(sink, parameters, "OUTPUT"))
                if points > 0:
                    feedback.setProgress(100 * done / points)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        finally:
            for raster in rasters:
                raster.close()
        for raster in rasters:
            feedback.pushInfo(raster.account())
        if not feedback.isCanceled() and not any(raster.points_read for raster in rasters):
            feedback.pushWarning(
                "The table is empty: none of the points lies in any of the rasters. Check that POINTS has geometries, "
                "and the CRS of points and rasters."
            )
        if feedback.isCanceled():
            del sink  # closes the file
            if table.lower().endswith(".shp"):  # several files, and without geometries that one is none of them
                QgsVectorFileWriter.deleteShapeFile(table)
            elif os.path.isfile(table):
                os.remove(table)
        return {"OUTPUT": table}

    def _window(self, parameters: Parameters, context: QgsProcessingContext) -> Any:
        return read_value(self, "WINDOW", parameters, context, lambda *given: requested_destination(context, *given))

    def _rasters(self, parameters: Parameters, context: QgsProcessingContext) -> List[_Input]:
        given = plain_value(parameters.get("INPUTS"), context) or []
        inputs = []
        for value in given if isinstance(given, (list, tuple)) else [given]:
            path = raster_path("INPUTS", value, context)
            if path is None:
                continue
            layer = value if isinstance(value, QgsMapLayer) else None
            if layer is None:
                layer = QgsProcessingUtils.mapLayerFromString(str(value), context, allowLoadingNewLayers=False)
            if layer is None:
                inputs.append(_Input(os.path.splitext(os.path.basename(path))[0], path, None))
            else:
                inputs.append(_Input(layer.name(), path, QgsCoordinateReferenceSystem(layer.crs())))
        if not inputs:
            raise UserError("INPUTS names no raster.", "Choose at least one raster.")
        return inputs


def _check_window(side: Any) -> None:
    if not isinstance(side, int) or side < 1 or side % 2 == 0:
        raise UserError(f"WINDOW {side} has no pixel in its middle.", "Give an odd number of pixels, such as 3.")


def _open(source: _Input) -> PixelReader:
    from scdm_qgis.processing.pixel_reader import PixelReader  # needs numpy, which QGIS's start need not wait for

    return PixelReader(source.path)


class _OpenRaster:
    """One raster, and how many of the points lay outside it."""

    def __init__(self, source: _Input, points_crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext) -> None:
        self._name = source.name
        self._reader = _open(source)
        self.points_read = 0
        self._outside = 0
        crs = source.crs
        if crs is None:
            crs = QgsCoordinateReferenceSystem.fromWkt(self._reader.projection)
        self._transform = QgsCoordinateTransform()
        if crs.isValid() and points_crs.isValid():
            self._transform = QgsCoordinateTransform(points_crs, crs, context.transformContext())

    def close(self) -> None:
        self._reader.close()

    def account(self) -> str:
        return f"{self._name}: points read {self.points_read}, outside {self._outside}"

    def rows_at(self, feature: QgsFeature, side: int) -> List[QgsFeature]:
        """Return a row a band for each point of a feature that lies in the raster."""
        rows = []
        for vertex in feature.geometry().vertices():
            pixel = self._pixel_at(vertex.x(), vertex.y())
            if pixel is None:
                self._outside += 1
                continue
            self.points_read += 1
            values = self._reader.read_window(*pixel, side).mean.tolist()
            wavelengths = self._reader.summary.spectrum.wavelengths_nm or (None,) * len(values)
            for band, (wavelength, value) in enumerate(zip(wavelengths, values), start=1):
                row = QgsFeature()
                known = NULL if wavelength is None else wavelength
                number = NULL if math.isnan(value) else value
                row.setAttributes([feature.id(), self._name, band, known, number])
                rows.append(row)
        return rows

    def _pixel_at(self, x: float, y: float) -> Optional[Tuple[int, int]]:
        try:
            place = self._transform.transform(QgsPointXY(x, y))
        except QgsCsException:
            return None
        return self._reader.pixel_at(place.x(), place.y())
