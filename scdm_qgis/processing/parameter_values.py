"""The values of an algorithm's parameters as a job wants them: None where nothing was given."""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Dict, List, Optional, Union

from qgis.core import (
    NULL,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingDestinationParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingUtils,
    QgsProperty,
)

from scdm_qgis.processing.raster_summary import raster_path

Parameters = Dict[str, Any]
Destination = Callable[[QgsProcessingDestinationParameter, Any], Optional[str]]


def read_value(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    parameters: Parameters,
    context: QgsProcessingContext,
    destination: Destination,
) -> Any:
    """Return one parameter's value: a number, a text, a path, a list of paths, a flag; None where none was given.

    Numbers that are none, and choices that do not exist, come back as they are: the job says what is
    wrong with them.

    Args:
        algorithm: what declares the parameter.
        name: the parameter.
        parameters: what the user gave.
        context: where layers are looked up.
        destination: gives an output parameter's path.

    Raises:
        UserError: a layer that GDAL does not read.
    """
    definition = algorithm.parameterDefinition(name)
    raw = _given(definition, parameters, context)
    if isinstance(definition, QgsProcessingDestinationParameter):
        return destination(definition, raw)
    if raw is None:
        return None
    if isinstance(definition, QgsProcessingParameterRasterLayer):
        return raster_path(name, raw, context)
    if isinstance(definition, QgsProcessingParameterMultipleLayers):
        if definition.layerType() == QgsProcessing.SourceType.TypeFile:
            return algorithm.parameterAsFileList(parameters, name, context)
        paths: List[Optional[str]] = [raster_path(name, item, context) for item in _as_list(raw)]
        return [path for path in paths if path is not None]
    if isinstance(definition, QgsProcessingParameterBoolean):
        return algorithm.parameterAsBoolean(parameters, name, context)
    if isinstance(definition, QgsProcessingParameterNumber):
        return _number(raw, definition.dataType() == QgsProcessingParameterNumber.Type.Integer)
    if isinstance(definition, QgsProcessingParameterCrs):
        crs = algorithm.parameterAsCrs(parameters, name, context)
        return (crs.authid() or crs.toWkt()) if crs.isValid() else str(raw)
    return ",".join(str(item) for item in raw) if isinstance(raw, (list, tuple)) else str(raw)


def requested_destination(
    context: QgsProcessingContext, definition: QgsProcessingDestinationParameter, raw: Any
) -> Optional[str]:
    """Return the path an output parameter asks for, without any effect on the run.

    QGIS makes up the path of a temporary output when it runs; until then a name in its temporary
    folder stands for it.
    """
    if isinstance(raw, QgsProcessingOutputLayerDefinition):
        raw = raw.sink
    path = plain_value(raw, context)
    if path == QgsProcessing.TEMPORARY_OUTPUT:
        return os.path.join(QgsProcessingUtils.tempFolder(), definition.name())
    return str(path) if path is not None else None


def _given(definition: QgsProcessingParameterDefinition, parameters: Parameters, context: QgsProcessingContext) -> Any:
    """Return what the user gave, else the default; None for all the ways QGIS says nothing."""
    raw = plain_value(parameters.get(definition.name()), context)
    return plain_value(definition.defaultValue(), context) if raw is None else raw


def plain_value(raw: Any, context: QgsProcessingContext) -> Any:
    """Return a value without QGIS's wrapping, data-defined ones evaluated; None for all the ways QGIS says nothing."""
    value = raw.value(context.expressionContext())[0] if isinstance(raw, QgsProperty) else raw
    if value is None or (isinstance(value, str) and not value.strip()) or (type(value) is type(NULL) and value == NULL):
        return None
    return value


def _as_list(raw: Any) -> List[Any]:
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]


def _number(raw: Any, whole: bool) -> Union[int, float, str]:
    if isinstance(raw, bool):
        return str(raw)
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return str(raw)
    return int(number) if whole and math.isfinite(number) and number == int(number) else number
