"""From a place on the map to the same place in each layer's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
)

from scdm_qgis.profile.layers import ProfileLayer
from scdm_qgis.profile.reader import OUTSIDE, Place, Reading


@dataclass(frozen=True)
class MapPlace:
    """A place on the map.

    Args:
        point: the place; a polygon's own point.
        crs: its coordinate system.
        side: of the window around it, in pixels of each raster.
        polygon: what to take the mean of instead of the window.
    """

    point: QgsPointXY
    crs: QgsCoordinateReferenceSystem
    side: int = 1
    polygon: Optional[QgsGeometry] = None

    @property
    def window(self) -> str:
        """Return what is read there: "3 x 3" for a window of 3 pixels a side, or "polygon"."""
        return "polygon" if self.polygon is not None else f"{self.side} x {self.side}"


def places_in_layers(
    place: MapPlace, layers: Sequence[ProfileLayer], map_crs: QgsCoordinateReferenceSystem, project: QgsProject
) -> Tuple[List[Place], Dict[str, Reading]]:
    """Return where to read each layer, and what is to be said of those that cannot be read there.

    A place or a layer without a coordinate system lies in the map's, as QGIS draws it.
    """
    places: List[Place] = []
    without: Dict[str, Reading] = {}
    for layer in layers:
        if not layer.path:
            without[layer.id] = Reading(None, layer.problem)
            continue
        transform = transform_between(_known(place.crs, map_crs), _known(layer.layer.crs(), map_crs), project)
        try:
            point, wkb = transform.transform(place.point), None
            if place.polygon is not None:
                polygon = QgsGeometry(place.polygon)
                polygon.transform(transform)
                wkb = bytes(polygon.asWkb())
        except QgsCsException:
            without[layer.id] = Reading(None, OUTSIDE)
            continue
        places.append(Place(layer.id, layer.path, point.x(), point.y(), place.side, wkb))
    return places, without


def transform_between(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem, project: QgsProject
) -> QgsCoordinateTransform:
    """Return the transformation; one that changes nothing where either side has no coordinate system."""
    if source.isValid() and target.isValid() and source != target:
        return QgsCoordinateTransform(source, target, project)
    return QgsCoordinateTransform()


def extent_around(
    place: MapPlace, layer: ProfileLayer, pixels: int, map_crs: QgsCoordinateReferenceSystem, project: QgsProject
) -> QgsRectangle:
    """Return what shows so many pixels of a layer on each side of a place, in the map's coordinates.

    Raises:
        QgsCsException: the place has no counterpart in the layer's coordinates, or in the map's.
    """
    layer_crs = _known(layer.layer.crs(), map_crs)
    middle = transform_between(_known(place.crs, map_crs), layer_crs, project).transform(place.point)
    half_width = pixels * layer.layer.rasterUnitsPerPixelX()
    half_height = pixels * layer.layer.rasterUnitsPerPixelY()
    extent = QgsRectangle(
        middle.x() - half_width, middle.y() - half_height, middle.x() + half_width, middle.y() + half_height
    )
    return transform_between(layer_crs, map_crs, project).transformBoundingBox(extent)


def _known(crs: QgsCoordinateReferenceSystem, map_crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    return crs if crs.isValid() else map_crs
