"""A pin's marker on the map: a cross or a box in the pin's colour with its number, seen on any ground."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapCanvasItem
from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QFont, QPainter, QPainterPath, QPen

_HALF = 7.0
_LINE, _OUTLINE = 3.0, 6.0
_TEXT_OUTLINE = 3.0
_TEXT_AT = QPointF(_HALF + 3, -2)
_TEXT_HEIGHT = 13
_REACH = QRectF(-12, -24, 60, 36)
"""What the marker and a number of four digits cover, in pixels around the place."""
_AROUND = QColor(255, 255, 255, 200)


class PinMarker(QgsMapCanvasItem):
    """A marker that stays at its place while the map moves.

    Args:
        canvas: the map.
        number, colour: the pin's.
        of_polygon: whether the pin is the mean of a polygon, which has a box instead of a cross.
    """

    def __init__(self, canvas: QgsMapCanvas, number: int, colour: QColor, of_polygon: bool) -> None:
        super().__init__(canvas)
        self._colour = colour
        self._center: Optional[QgsPointXY] = None
        self._shape = QPainterPath()
        if of_polygon:
            self._shape.addRect(QRectF(-_HALF, -_HALF, 2 * _HALF, 2 * _HALF))
        else:
            self._shape.moveTo(0, -_HALF)
            self._shape.lineTo(0, _HALF)
            self._shape.moveTo(-_HALF, 0)
            self._shape.lineTo(_HALF, 0)
        font = QFont()
        font.setPixelSize(_TEXT_HEIGHT)
        font.setBold(True)
        self._text = QPainterPath()
        self._text.addText(_TEXT_AT, font, str(number))

    def center(self) -> Optional[QgsPointXY]:
        """Return where it is, in the map's coordinates."""
        return self._center

    def set_center(self, point: QgsPointXY) -> None:
        """Put it at a place in the map's coordinates."""
        self._center = point
        self.updatePosition()

    def updatePosition(self) -> None:
        """Follow the map, which calls this when it shows something else."""
        if self._center is not None:
            self.setPos(self.toCanvasCoordinates(self._center))

    def boundingRect(self) -> QRectF:
        """Return what it covers, in pixels around its place."""
        return _REACH

    def paint(self, painter: QPainter, option: Any = None, widget: Any = None) -> None:
        """Draw it with a light edge."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for colour, width in ((_AROUND, _OUTLINE), (self._colour, _LINE)):
            painter.setPen(QPen(colour, width, cap=Qt.PenCapStyle.SquareCap))
            painter.drawPath(self._shape)
        painter.setPen(QPen(_AROUND, _TEXT_OUTLINE, join=Qt.PenJoinStyle.RoundJoin))
        painter.drawPath(self._text)
        painter.fillPath(self._text, self._colour)
