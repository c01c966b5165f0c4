"""Runs inside QGIS: drive the spectral profile dock with real mouse events, take a picture of each step, end QGIS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import qgis.utils
from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
)
from qgis.PyQt.QtCore import QPoint, QTimer
from qgis.PyQt.QtWidgets import QDockWidget, QToolButton
from qgis.utils import iface

PLUGIN = "scdm_qgis"
MILLISECONDS_BETWEEN_STEPS = 1500
FOLDER = Path(os.environ["SCDM_PICTURES"])
RASTERS = Path(os.environ["SCDM_RASTERS"])
NATURAL_COLOURS = (60, 30, 10)
LAYERS = (("truth", "Pavia University"), ("prediction", "Reconstruction"))
LATER_LAYERS = (("coarse", "Reconstruction, coarse stage"), ("uncertainty", "Reconstruction, uncertainty"))
PLACES = ((30.5, -40.5), (62.5, -48.5), (52.5, -100.5))


def dock() -> Any:
    """Return the plugin's dock."""
    return qgis.utils.plugins[PLUGIN]._dock


def mouse(position: QPoint, *then: str) -> None:
    """Move the screen's mouse pointer, by another program, as a hand would; then do what else xdotool is told."""
    subprocess.Popen(["xdotool", "mousemove", str(position.x()), str(position.y()), *then])


def on_map(x: float, y: float) -> QPoint:
    """Return where on the screen a place of the map is."""
    canvas = iface.mapCanvas()
    pixel = canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
    return canvas.viewport().mapToGlobal(QPoint(round(pixel.x()), round(pixel.y())))


def arrange_window() -> None:
    """Fill the screen and keep the layer tree."""
    window = iface.mainWindow()
    window.showMaximized()
    for panel in window.findChildren(QDockWidget):
        panel.setVisible(panel.objectName() == "Layers")


def add_layers() -> None:
    """Add the scene and its reconstruction, in natural colours."""
    for name, title in LAYERS:
        layer = QgsRasterLayer(str(RASTERS / f"{name}.tif"), title)
        layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *NATURAL_COLOURS))
        layer.setContrastEnhancement(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
            QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        )
        QgsProject.instance().addMapLayer(layer)


def press_the_button() -> None:
    """Click the toolbar button, which opens the dock and takes the mouse."""
    buttons = iface.mainWindow().findChildren(QToolButton)
    button = next(one for one in buttons if one.defaultAction() is dock().pick and one.isVisible())
    mouse(button.mapToGlobal(button.rect().center()), "click", "1")


def give_the_dock_room() -> None:
    """Make the dock as high as a reader needs."""
    from qgis.PyQt.QtCore import Qt

    iface.mainWindow().resizeDocks([dock()], [370], Qt.Orientation.Vertical)


def zoom_to_the_scene() -> None:
    """Fill the map with the scene."""
    extent = QgsProject.instance().mapLayersByName(LAYERS[0][1])[0].extent()
    extent.scale(1.05)
    iface.mapCanvas().setExtent(extent)
    iface.mapCanvas().refresh()


def hover() -> None:
    """Rest the mouse over the scene."""
    mouse(on_map(*PLACES[0]))


def pin(number: int) -> Callable[[], None]:
    """Return a step that clicks at one of the places."""

    def click() -> None:
        mouse(on_map(*PLACES[number]), "click", "1")

    return click


def add_later_layers() -> None:
    """Add the coarse stage and the uncertainty, hidden on the map: the pins learn their curves."""
    for name, title in LATER_LAYERS:
        layer = QgsRasterLayer(str(RASTERS / f"{name}.tif"), title)
        QgsProject.instance().addMapLayer(layer)
        QgsProject.instance().layerTreeRoot().findLayer(layer.id()).setItemVisibilityChecked(False)


def export() -> None:
    """Write all that can be written."""
    for kind in ("png", "svg", "csv", "sli", "points"):
        dock().panel.export(kind, str(FOLDER / f"export.{kind}"))


def remove_pins() -> None:
    """Remove all pins."""
    dock().panel._controls.clearing_asked.emit()


def unload() -> None:
    """Unload the plugin."""
    qgis.utils.unloadPlugin(PLUGIN)


def reload() -> None:
    """Load the plugin again."""
    qgis.utils.loadPlugin(PLUGIN)
    qgis.utils.startPlugin(PLUGIN)


def picture(name: str) -> Callable[[], None]:
    """Return a step that writes what the screen shows."""
    return lambda: QgsApplication.primaryScreen().grabWindow(0).save(str(FOLDER / f"{name}.png"))


def end() -> None:
    """End QGIS."""
    QgsProject.instance().setDirty(False)
    QgsApplication.exit(0)


STEPS: List[Callable[[], Any]] = [
    *(arrange_window, add_layers, press_the_button, give_the_dock_room, zoom_to_the_scene, picture("opened")),
    *(hover, picture("spectral_profile_hover")),
    *(pin(0), pin(1), pin(2), add_later_layers, hover, picture("spectral_profile_pins")),
    *(export, picture("exported"), remove_pins, picture("removed")),
    *(unload, picture("unloaded"), reload, press_the_button, hover, picture("reloaded"), end),
]
for number, step in enumerate(STEPS, start=1):
    QTimer.singleShot(number * MILLISECONDS_BETWEEN_STEPS, step)
