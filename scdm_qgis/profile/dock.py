"""The dock itself, light enough for QGIS's start: what is in it is loaded when it is first seen."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QMenu

from scdm_qgis.processing.plugin_files import icon

TITLE = "Spectral Profile"


class ProfileDock(QgsDockWidget):
    """View ▸ Panels ▸ Spectral Profile, and the button that picks places on the map.

    Args:
        iface: QGIS.
    """

    def __init__(self, iface: Any) -> None:
        super().__init__(TITLE, iface.mainWindow())
        self.setObjectName("ScdmSpectralProfile")  # by which QGIS remembers where it was
        self._iface = iface
        self.panel: Any = None
        # Qt 5 and 6 keep actions in different modules; a menu makes them in both.
        self._menu = QMenu(self)
        self.pick = self._menu.addAction(icon("profile"), TITLE)
        self.pick.setToolTip("Show the spectra of the rasters under the mouse; click to pin them")
        self.pick.setCheckable(True)
        self.pick.triggered.connect(self._switch)
        iface.addToolBarIcon(self.pick)
        iface.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, self)
        self.hide()  # QGIS shows it again where it was open last time
        self.visibilityChanged.connect(self._fill)

    def close_down(self) -> None:
        """Remove everything from QGIS's window, close all files and end the reading thread."""
        self.visibilityChanged.disconnect(self._fill)
        self.hide()
        if self.panel is not None:
            self.panel.close_down()
            self.panel = None
        self._iface.removeToolBarIcon(self.pick)
        self._iface.removeDockWidget(self)
        self.deleteLater()

    def _switch(self, on: bool) -> None:
        if on:
            self.setUserVisible(True)
            self._fill(True)
        if self.panel is None:
            self.pick.setChecked(False)
        elif on:
            self.panel.tool.take_the_mouse()
        else:
            self.panel.tool.give_the_mouse_back()

    def _fill(self, visible: bool) -> None:
        if not visible or self.widget() is not None:
            return
        try:
            # Loading pyqtgraph takes longer than QGIS's start may grow.
            from scdm_qgis.profile.panel import ProfilePanel
        except ImportError as error:
            from scdm_qgis.profile.missing_package import missing_package_label

            self.setWidget(missing_package_label(error.name or "numpy", "The dock"))
            return
        self.panel = ProfilePanel(self._iface, self.pick)
        self.setWidget(self.panel)
