"""The dock's row of buttons."""

from __future__ import annotations

from typing import Any, Callable

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QLabel, QMenu, QToolBar, QToolButton

WINDOW_SIDES = (1, 3, 5, 7)
AUTOMATIC, BY_BAND = "automatic", "band"


class Controls(QToolBar):
    """Buttons and choices; what they do is decided by who listens.

    Args:
        pick: the action that switches the map tool on and off.
    """

    polygon_asked = pyqtSignal()
    axis_changed = pyqtSignal()
    removal_asked = pyqtSignal()
    clearing_asked = pyqtSignal()
    export_asked = pyqtSignal(str)

    def __init__(self, pick: Any) -> None:
        super().__init__()
        self.addAction(pick)
        self._window = QComboBox()
        for side in WINDOW_SIDES:
            self._window.addItem(f"{side} × {side}", side)
        self._add_choice("Window", self._window, "Mean of so many pixels of each raster around the place.")
        self._axis = QComboBox()
        self._axis.addItem("Wavelength", AUTOMATIC)
        self._axis.addItem("Band number", BY_BAND)
        self._axis.currentIndexChanged.connect(lambda _: self.axis_changed.emit())
        self._add_choice("Axis", self._axis, "Wavelengths are used where every curve has them.")
        self._add("mActionSelectPolygon", "Pin the mean of the selected polygon", self.polygon_asked.emit)
        self._add("mActionDeleteSelected", "Remove the pins selected in the table", self.removal_asked.emit)
        self._add("mActionRemove", "Remove all pins", self.clearing_asked.emit)
        self._add_exports()

    @property
    def side(self) -> int:
        """How many pixels the window is wide."""
        return int(self._window.currentData())

    @property
    def wants_wavelengths(self) -> bool:
        """Whether the axis shall be in nm where it can."""
        return bool(self._axis.currentData() == AUTOMATIC)

    def _add(self, icon: str, text: str, do: Callable[[], None]) -> None:
        self.addAction(QgsApplication.getThemeIcon(f"/{icon}.svg"), text).triggered.connect(lambda _: do())

    def _add_choice(self, title: str, box: QComboBox, explanation: str) -> None:
        box.setToolTip(explanation)
        self.addWidget(QLabel(f" {title} "))
        self.addWidget(box)

    def _add_exports(self) -> None:
        menu = QMenu(self)
        for text, kind in (
            ("Plot as PNG…", "png"),
            ("Plot as SVG…", "svg"),
            ("Curves as CSV…", "csv"),
            ("Curves as ENVI spectral library…", "sli"),
            ("Pins as point layer", "points"),
        ):
            menu.addAction(text).triggered.connect(lambda _, kind=kind: self.export_asked.emit(kind))
        button = QToolButton()
        button.setIcon(QgsApplication.getThemeIcon("/mActionFileSave.svg"))
        button.setText("Export")
        button.setToolTip("Save the plot, the curves or the pins")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setMenu(menu)
        self.addWidget(button)
