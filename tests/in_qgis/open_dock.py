"""The profile dock in the real QGIS, driven by mouse events on the map."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest

UTM = QgsCoordinateReferenceSystem("EPSG:32633")
NO_CRS = QgsCoordinateReferenceSystem()
X, Y = 500105.0, 5799895.0
"""The middle of the pixel in row 10, column 10 of the small rasters."""


class OpenDock:
    """The plugin's dock, opened by its button, and the mouse over the map."""

    def __init__(self, plugin: Any, canvas: Any, wait: Callable[..., None]) -> None:
        self.plugin, self.canvas, self._wait = plugin, canvas, wait
        self.dock = plugin._dock
        self.dock.pick.trigger()
        self.panel = self.dock.panel

    def show(self, extent: QgsRectangle, crs: QgsCoordinateReferenceSystem = UTM) -> None:
        self.canvas.setDestinationCrs(crs)
        self.canvas.setExtent(extent)

    def add(self, path: str, name: str) -> QgsRasterLayer:
        layer = QgsRasterLayer(path, name)
        QgsProject.instance().addMapLayer(layer)
        return layer

    def settle(self) -> None:
        """Wait until the files of all layers have been looked at."""
        layers = self.panel._layers
        self._wait(lambda: all(one.description or not one.path for one in layers.all()) and not layers._soon.isActive())

    def states(self) -> List[str]:
        """Return what the table of layers says of the place under the mouse."""
        table = self.panel._layer_table
        return [table.item(row, 2).text() for row in range(table.rowCount())]

    def curves(self) -> Dict[Any, Tuple[np.ndarray, np.ndarray]]:
        """Return what is drawn: positions on the axis and values, by pin and layer."""
        return {key: items._line.getData() for key, items in self.panel.plot._drawn.items()}

    def numbers(self) -> List[Dict[str, str]]:
        """Return the rows of the table of numbers, as texts by the columns' names."""
        table = self.panel._number_table
        columns = range(table.columnCount())
        names = [table.horizontalHeaderItem(column).text() for column in columns]
        return [
            {name: table.item(row, column).text() for name, column in zip(names, columns)}
            for row in range(table.rowCount())
        ]

    def pixel(self, x: float, y: float) -> QPoint:
        return self.canvas.getCoordinateTransform().transform(QgsPointXY(x, y)).toQPointF().toPoint()

    def hover(self, x: float, y: float) -> Dict[str, Any]:
        """Move the mouse to a place on the map and return what was read there."""
        self.panel._hovered = {}
        self.move(x, y)
        self._wait(lambda: bool(self.panel._hovered))
        return self.panel._hovered

    def move(self, x: float, y: float) -> None:
        """Send the map the event of a mouse that moves."""
        position = QPointF(self.pixel(x, y))
        none = Qt.MouseButton.NoButton
        event = QMouseEvent(QEvent.Type.MouseMove, position, none, none, Qt.KeyboardModifier.NoModifier)
        QCoreApplication.sendEvent(self.canvas.viewport(), event)

    def click(self, x: float, y: float) -> Any:
        QTest.mouseClick(self.canvas.viewport(), Qt.MouseButton.LeftButton, pos=self.pixel(x, y))
        pin = self.panel._pins.all()[-1]
        self._wait(lambda: all(reading.problem != "not read yet" for reading in pin.readings.values()))
        return pin
