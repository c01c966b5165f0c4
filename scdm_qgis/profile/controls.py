"""The dock's row of buttons; a dock too narrow for all has the rest in the menu at the row's end."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QMenu, QToolBar, QToolButton

WINDOW_SIDES = (1, 3, 5, 7)


class Choice(QMenu):
    """A menu in which one of several values is chosen; its own text says which.

    Args:
        title: what is chosen.
        values: each with its name; the first is chosen at the start.
    """

    changed = pyqtSignal()

    def __init__(self, title: str, values: Sequence[Tuple[str, Any]]) -> None:
        super().__init__()
        self._title = title
        self._names = [name for name, _ in values]
        self._values = [value for _, value in values]
        self._actions: List[Any] = []
        for index, name in enumerate(self._names):
            action = self.addAction(name)
            action.setCheckable(True)
            action.triggered.connect(lambda _, index=index: self.choose(index))
            self._actions.append(action)
        self.choose(0)

    @property
    def value(self) -> Any:
        """What is chosen."""
        return self._values[self._index]

    def choose(self, index: int) -> None:
        """Choose the value at an index."""
        self._index = index
        for number, action in enumerate(self._actions):
            action.setChecked(number == index)
        self.menuAction().setText(f"{self._title}: {self._names[index]}")
        self.changed.emit()


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
        self._window = Choice("Window", [(f"{side} × {side}", side) for side in WINDOW_SIDES])
        self._add_menu(
            self._window, "Read one pixel of each raster, or the mean of a window of pixels around the place"
        )
        self._axis = Choice("Axis", [("wavelength", True), ("band number", False)])
        self._axis.changed.connect(self.axis_changed.emit)
        self._add_menu(self._axis, "Wavelengths are used where every curve has them")
        self._add("mActionSelectPolygon", "Pin the mean of the selected polygon", self.polygon_asked.emit)
        self._add("mActionDeleteSelected", "Remove the pins selected in the table", self.removal_asked.emit)
        self._add("mActionRemove", "Remove all pins", self.clearing_asked.emit)
        self._add_exports()

    @property
    def side(self) -> int:
        """How many pixels the window is wide."""
        return int(self._window.value)

    @property
    def wants_wavelengths(self) -> bool:
        """Whether the axis shall be in nm where it can."""
        return bool(self._axis.value)

    def _add(self, icon: str, text: str, do: Callable[[], None]) -> None:
        self.addAction(QgsApplication.getThemeIcon(f"/{icon}.svg"), text).triggered.connect(lambda _: do())

    def _add_menu(self, menu: QMenu, explanation: str) -> None:
        """Add a menu as an action of its own: other widgets are lost where the row is too narrow for them."""
        menu.setParent(self, menu.windowFlags())
        action = menu.menuAction()
        action.setToolTip(explanation)
        self.addAction(action)
        button = self.widgetForAction(action)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        if action.icon().isNull():
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)

    def _add_exports(self) -> None:
        menu = QMenu("Export")
        menu.setIcon(QgsApplication.getThemeIcon("/mActionFileSave.svg"))
        for text, kind in (
            ("Plot as PNG…", "png"),
            ("Plot as SVG…", "svg"),
            ("Curves as CSV…", "csv"),
            ("Curves as ENVI spectral library…", "sli"),
            ("Pins as point layer", "points"),
        ):
            menu.addAction(text).triggered.connect(lambda _, kind=kind: self.export_asked.emit(kind))
        self._add_menu(menu, "Save the plot, the curves or the pins")
