"""Runs inside QGIS: arrange Toolbox and dialog, take a picture of the screen, end QGIS."""

from __future__ import annotations

import os
from typing import Any, Callable, List

import processing
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QModelIndex, QPoint, Qt, QTimer
from qgis.PyQt.QtWidgets import QDockWidget, QWidget
from qgis.utils import iface

PROVIDER = "SCDM"
MILLISECONDS_BETWEEN_STEPS = 1500
opened: List[QWidget] = []


def arrange_window() -> None:
    """Fill the screen, keep the docks a reader needs, and load the demo layer."""
    window = iface.mainWindow()
    window.showMaximized()
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in ("Layers", "ProcessingToolbox"))
    layer = QgsRasterLayer(os.environ["SCDM_PICTURE_LAYER"], "demo scene, RGB")
    QgsProject.instance().addMapLayer(layer)


def fill_the_map() -> None:
    """Zoom until the layer fills the map; the layer has set the map's CRS by now."""
    extent = iface.activeLayer().extent()
    extent.scale(0.75)
    iface.mapCanvas().setExtent(extent)
    iface.mapCanvas().refresh()


def expand_our_provider() -> None:
    """Open the Toolbox at our provider, every group of it expanded."""
    window = iface.mainWindow()
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    window.resizeDocks([toolbox], [380], Qt.Orientation.Horizontal)
    tree = toolbox.algorithmTree
    model = tree.model()
    for row in range(model.rowCount()):
        index = model.index(row, 0, QModelIndex())
        if PROVIDER in str(index.data()):
            tree.expandRecursively(index)
            tree.scrollTo(index, tree.ScrollHint.PositionAtTop)


def open_dialog() -> None:
    """Open the dialog of RGB→Hyperspectral beside the Toolbox."""
    parameters: Any = {"INPUT": iface.activeLayer().id(), "MODEL": "/data/cascade.safetensors"}
    dialog = processing.createAlgorithmDialog("scdm:rgb_to_hyperspectral", parameters)
    dialog.show()
    dialog.resize(800, 640)
    dialog.move(iface.mainWindow().mapToGlobal(QPoint(340, 160)))
    opened.append(dialog)


def take_picture() -> None:
    """Write what the screen shows and end QGIS."""
    QgsApplication.primaryScreen().grabWindow(0).save(os.environ["SCDM_PICTURE"])
    QgsProject.instance().setDirty(False)
    QgsApplication.exit(0)


STEPS: List[Callable[[], None]] = [arrange_window, fill_the_map, expand_our_provider, open_dialog, take_picture]
for number, step in enumerate(STEPS, start=1):
    QTimer.singleShot(number * MILLISECONDS_BETWEEN_STEPS, step)
