"""Pins: places that keep their curves, each in a colour of its own, marked on the map."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

from qgis.core import QgsCsException, QgsProject
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtGui import QColor

from scdm_qgis.profile.pin_marker import PinMarker
from scdm_qgis.profile.places import MapPlace, transform_between
from scdm_qgis.profile.reader import WAITING, Place, Reading

_GOLDEN_RATIO = 0.618034
_FIRST_HUE = 0.58


class Pin:
    """A place and what the layers have there.

    Args:
        number: from 1; counted anew when all pins have been taken out.
        place: where.
    """

    def __init__(self, number: int, place: MapPlace) -> None:
        self.number = number
        self.place = place
        self.colour = pin_colour(number)
        self.readings: Dict[str, Reading] = {}
        self._asked: Dict[str, Place] = {}

    def to_read(self, places: Sequence[Place], without: Mapping[str, Reading]) -> List[Place]:
        """Take in where the layers lie at the pin, and forget all others; return what is to be read of them.

        That is what was not read there before, or not opened; it waits from now on.

        Args:
            places: where to read the layers.
            without: what is to be said of the layers that cannot be read there.
        """
        new = [one for one in places if self._asked.get(one.layer_id) != one or self.readings[one.layer_id].unreadable]
        self._asked = {place.layer_id: place for place in places}
        kept = {layer_id: reading for layer_id, reading in self.readings.items() if layer_id in self._asked}
        waiting = {place.layer_id: Reading(None, WAITING) for place in new}
        self.readings = {**kept, **waiting, **without}
        return new

    def forget(self, layer_id: str) -> None:
        """Have a layer read again next time, unless it waits for that."""
        if layer_id in self._asked and self.readings[layer_id].problem != WAITING:
            del self._asked[layer_id]


def pin_colour(number: int) -> QColor:
    """Return a colour that no other of the first pins is near: hues a golden section apart, three shades."""
    hue = (_FIRST_HUE + (number - 1) * _GOLDEN_RATIO) % 1.0
    return QColor.fromHsvF(hue, 0.9, (0.8, 0.6, 0.95)[(number - 1) % 3])


class Pins:
    """All pins, and their markers on a map.

    Args:
        canvas: the map.
    """

    def __init__(self, canvas: QgsMapCanvas) -> None:
        self._canvas = canvas
        self._pins: Dict[int, Pin] = {}
        self._markers: Dict[int, PinMarker] = {}
        self._last = 0
        canvas.destinationCrsChanged.connect(self._place_markers)

    def stop(self) -> None:
        """Remove all pins and listen to the map no longer."""
        self._canvas.destinationCrsChanged.disconnect(self._place_markers)
        self.clear()

    def all(self) -> List[Pin]:
        """Return the pins, oldest first."""
        return list(self._pins.values())

    def find(self, number: int) -> Optional[Pin]:
        """Return one pin; None where it has been removed."""
        return self._pins.get(number)

    def add(self, place: MapPlace) -> Pin:
        """Set a pin."""
        self._last += 1
        pin = Pin(self._last, place)
        self._pins[pin.number] = pin
        self._markers[pin.number] = PinMarker(self._canvas, pin.number, pin.colour, place.polygon is not None)
        self._place_markers()
        return pin

    def remove(self, number: int) -> None:
        """Take out one pin."""
        del self._pins[number]
        self._canvas.scene().removeItem(self._markers.pop(number))
        if not self._pins:
            self._last = 0

    def clear(self) -> None:
        """Take out all pins."""
        for number in list(self._pins):
            self.remove(number)

    def _place_markers(self) -> None:
        to = self._canvas.mapSettings().destinationCrs()
        for number, marker in self._markers.items():
            place = self._pins[number].place
            try:
                marker.set_center(transform_between(place.crs, to, QgsProject.instance()).transform(place.point))
                marker.show()
            except QgsCsException:
                marker.hide()
