"""The table of pins: how far each prediction is from its ground truth there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from qgis.PyQt.QtCore import QEvent, Qt, pyqtSignal
from qgis.PyQt.QtGui import QKeyEvent
from qgis.PyQt.QtWidgets import QAbstractItemView, QApplication, QTableWidget, QTableWidgetItem

from scdm_qgis.profile.numbers import Difference
from scdm_qgis.profile.pins import Pin

_COLUMNS = {
    "Pin": "The pin's number; its colour is that of its curves and of its marker on the map",
    "SAM (°)": "Angle between the two spectra in degrees: how far their shapes differ",
    "RMSE": "Root mean square error over the bands, in the data's units",
    "Largest error": "Prediction minus ground truth where they are farthest apart, in the data's units",
    "At nm": "The wavelength of the largest error, or its band where no wavelength is known",
    "Bands": "How many bands both have a value in",
    "Window": "What was read: a window of so many pixels, or a polygon",
    "Prediction": "The prediction, or why there is none here",
    "Ground truth": "The ground truth, or why there is none here",
}
_DELETE = (Qt.Key.Key_Delete, Qt.Key.Key_Backspace)  # the key named delete on a Mac's keyboard is Backspace
_WIDEST_COLUMN = 170
_ROW_HEIGHT = 24


@dataclass(frozen=True)
class NumberRow:
    """A pin with a prediction and a ground truth.

    Args:
        pin: the pin.
        prediction, truth: the rasters' names, or why there is nothing to compare.
        numbers: how far they are apart; None where they cannot be compared.
    """

    pin: Pin
    prediction: str
    truth: str
    numbers: Optional[Difference] = None


class NumberTable(QTableWidget):
    """One row for each pin and pair of prediction and ground truth; pins without a pair have a row of their own."""

    pin_clicked = pyqtSignal(int)
    removal_asked = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        for column, explanation in enumerate(_COLUMNS.values()):
            self.horizontalHeaderItem(column).setToolTip(explanation)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.cellClicked.connect(self._tell_click)

    def show_rows(self, rows: Sequence[NumberRow]) -> None:
        """Show these rows and no others; pins that were selected stay so."""
        selected = self.selected_pins()
        self.setSortingEnabled(False)  # or rows would move while they are filled
        self.setRowCount(len(rows))
        for index, row in enumerate(rows):
            for column, cell in enumerate(_cells(row)):
                self.setItem(index, column, cell)
        self.setSortingEnabled(True)
        self.resizeColumnsToContents()
        for column in range(len(_COLUMNS)):
            self.setColumnWidth(column, min(self.columnWidth(column), _WIDEST_COLUMN))
        self._select(selected)

    def selected_pins(self) -> List[int]:
        """Return the numbers of the pins whose rows are selected."""
        found: Dict[int, None] = {self._pin_of(index.row()): None for index in self.selectionModel().selectedRows()}
        return list(found)

    def event(self, event: QEvent) -> bool:
        """Keep the keys that delete from QGIS's own deletion of features."""
        if event.type() == QEvent.Type.ShortcutOverride and _deletes(event):
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ask for the selected pins to be removed when Delete is pressed."""
        if _deletes(event):
            self.removal_asked.emit()
        else:
            super().keyPressEvent(event)

    def _select(self, pins: Sequence[int]) -> None:
        self.clearSelection()
        flag = self.selectionModel().SelectionFlag
        for row in range(self.rowCount()):
            if self._pin_of(row) in pins:
                self.selectionModel().select(self.model().index(row, 0), flag.Select | flag.Rows)

    def _tell_click(self, row: int, column: int) -> None:
        if QApplication.keyboardModifiers() == Qt.KeyboardModifier.NoModifier:  # else the user is selecting
            self.pin_clicked.emit(self._pin_of(row))

    def _pin_of(self, row: int) -> int:
        return int(self.item(row, 0).data(Qt.ItemDataRole.DisplayRole))


class _Cell(QTableWidgetItem):
    """A cell that is sorted by its value, whatever its text is; cells without a value come first."""

    def __init__(self, text: str, value: Any = None, number: bool = True) -> None:
        super().__init__(text)
        self.setToolTip(text)
        self._value = value if number else text.lower()
        if number:
            self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        mine, its = self._value, other._value
        return its is not None if mine is None else its is not None and bool(mine < its)


def _cells(row: NumberRow) -> List[_Cell]:
    pin = _Cell(str(row.pin.number), row.pin.number)
    pin.setForeground(row.pin.colour)
    read = [_Cell(text, number=False) for text in (row.pin.place.window, row.prediction, row.truth)]
    numbers = row.numbers
    if numbers is None:
        blank = [_Cell("") for _ in range(5)]
        for cell in blank:
            cell.setToolTip(f"Prediction: {row.prediction}\nGround truth: {row.truth}")
        return [pin, *blank, *read]
    nm, band = numbers.largest_error_nm, numbers.largest_error_band
    return [
        pin,
        _Cell(f"{numbers.sam_degrees:.3f}", numbers.sam_degrees),
        _Cell(f"{numbers.rmse:.5g}", numbers.rmse),
        _Cell(f"{numbers.largest_error:.5g}", numbers.largest_error),
        _Cell(f"band {band}" if nm is None else f"{nm:.1f}", float(band) if nm is None else nm),
        _Cell(str(numbers.bands), numbers.bands),
        *read,
    ]


def _deletes(event: QKeyEvent) -> bool:
    alone = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
    return event.key() in _DELETE and event.modifiers() in alone
