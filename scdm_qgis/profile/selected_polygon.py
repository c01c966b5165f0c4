"""The polygon that is selected in a vector layer, as a place on the map."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry, QgsVectorLayer, QgsWkbTypes

from scdm_qgis.core.errors import UserError
from scdm_qgis.profile.places import MapPlace


def selected_polygon(layer: Any, map_crs: QgsCoordinateReferenceSystem) -> MapPlace:
    """Return what is selected in a layer as one place; a layer without a coordinate system lies in the map's.

    Args:
        layer: the active layer, of any kind; None where there is none.
        map_crs: the map's coordinate system.

    Raises:
        UserError: no layer of polygons, or nothing selected that has an area.
    """
    polygons = QgsWkbTypes.GeometryType.PolygonGeometry
    if not isinstance(layer, QgsVectorLayer) or layer.geometryType() != polygons:
        raise UserError("Select a polygon of a vector layer first, and make that layer the active one.", "")
    # A union with an outline that crosses itself may come out empty.
    areas = [feature.geometry().makeValid() for feature in layer.selectedFeatures() if feature.hasGeometry()]
    polygon = QgsGeometry.unaryUnion(areas)
    polygon.convertGeometryCollectionToSubclass(polygons)  # what has no area becomes a line or a point
    if polygon.isEmpty() or polygon.type() != polygons:
        raise UserError(f"No polygon of the layer '{layer.name()}' is selected.", "")
    crs = layer.crs() if layer.crs().isValid() else map_crs
    return MapPlace(polygon.pointOnSurface().asPoint(), crs, polygon=polygon)
