"""The map tool: the mouse's place while it moves, and where it clicks; wheel, middle button and space still pan."""

from __future__ import annotations

from typing import Optional

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool
from qgis.PyQt import sip
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
        self._before: Optional[QgsMapTool] = None

    def take_the_mouse(self) -> None:
        """Become the map's tool."""
        self._before = self.canvas().mapTool()
        self.canvas().setMapTool(self)

    def give_the_mouse_back(self) -> None:
        """Let the map have the tool it had before; nothing where it has another one by now."""
        if self.canvas().mapTool() is not self:
            return
        if self._before is None or sip.isdeleted(self._before):
            self.canvas().unsetMapTool(self)
        else:
            self.canvas().setMapTool(self._before)

    def canvasMoveEvent(self, event: QgsMapMouseEvent) -> None:
        """Tell where the mouse is, unless it drags the map."""
        if event.buttons() == Qt.MouseButton.NoButton:
            self.moved.emit(self.toMapCoordinates(event.pos()))

    def canvasReleaseEvent(self, event: QgsMapMouseEvent) -> None:
        """Tell where the left button was clicked."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(self.toMapCoordinates(event.pos()))
