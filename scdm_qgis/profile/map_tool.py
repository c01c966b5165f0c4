"""The map tool: the mouse's place while it moves, and where it clicks; wheel, middle button and space still pan."""

from __future__ import annotations

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool
from qgis.PyQt.QtCore import Qt, pyqtSignal


class ProfileMapTool(QgsMapTool):
    """Tells places in map coordinates.

    Args:
        canvas: the map.
    """

    moved = pyqtSignal(QgsPointXY)
    clicked = pyqtSignal(QgsPointXY)

    def __init__(self, canvas: QgsMapCanvas) -> None:
        super().__init__(canvas)
        self.setCursor(Qt.CursorShape.CrossCursor)

    def canvasMoveEvent(self, event: QgsMapMouseEvent) -> None:
        """Tell where the mouse is, unless it drags the map."""
        if event.buttons() == Qt.MouseButton.NoButton:
            self.moved.emit(self.toMapCoordinates(event.pos()))

    def canvasReleaseEvent(self, event: QgsMapMouseEvent) -> None:
        """Tell where the left button was clicked."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(self.toMapCoordinates(event.pos()))
