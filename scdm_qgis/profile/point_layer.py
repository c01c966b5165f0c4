"""Pins as a point layer whose attributes are the profiles."""

from __future__ import annotations

import math
from typing import List, Sequence

from qgis.core import NULL, QgsCoordinateReferenceSystem, QgsFeature, QgsField, QgsGeometry, QgsPointXY, QgsVectorLayer
from qgis.PyQt.QtCore import QVariant

from scdm_qgis.profile.curves import PinnedCurve, all_have_wavelengths

LAYER_NAME = "Spectral profile pins"


def point_layer(curves: Sequence[PinnedCurve], crs: QgsCoordinateReferenceSystem) -> QgsVectorLayer:
    """Return a temporary layer with one point for each pin and raster.

    Its fields are the pin's number, the raster's name and role, the window, and a field a band: named for its
    wavelength in nm where all curves have theirs, else for its number.

    Args:
        curves: all in one coordinate system.
        crs: that system, invalid for none.
    """
    by_wavelength = all_have_wavelengths(pinned.curve for pinned in curves)
    names = [_band_names(pinned, by_wavelength) for pinned in curves]
    layer = QgsVectorLayer("Point", LAYER_NAME, "memory")
    layer.setCrs(crs)
    fields = [QgsField("pin", QVariant.Int)]
    fields += [QgsField(name, QVariant.String) for name in ("layer", "role", "window")]
    fields += [QgsField(name, QVariant.Double) for name in dict.fromkeys(name for of in names for name in of)]
    layer.dataProvider().addAttributes(fields)
    layer.updateFields()
    features: List[QgsFeature] = []
    for pinned, band_names in zip(curves, names):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(pinned.x, pinned.y)))
        feature["pin"], feature["layer"], feature["role"] = pinned.pin, pinned.layer, pinned.role.title
        feature["window"] = pinned.window
        for name, value in zip(band_names, pinned.curve.values.tolist()):
            feature[name] = NULL if math.isnan(value) else value
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    layer.updateExtents()
    return layer


def _band_names(pinned: PinnedCurve, by_wavelength: bool) -> List[str]:
    wavelengths = pinned.curve.wavelengths_nm
    if not by_wavelength or wavelengths is None:
        return [f"band_{number}" for number in range(1, len(pinned.curve.values) + 1)]
    names = [f"nm_{wavelength:.7g}" for wavelength in wavelengths]
    # Where detectors overlap, two bands may have one wavelength.
    return [name if names.count(name) == 1 else f"{name}_b{number}" for number, name in enumerate(names, start=1)]
