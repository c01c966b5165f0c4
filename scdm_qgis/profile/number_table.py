"""The table of pins: how far each prediction is from its ground truth there."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from scdm_qgis.profile.numbers import Difference
from scdm_qgis.profile.pins import Pin

COLUMNS = ("Pin", "SAM (°)", "RMSE", "Largest error", "At nm", "Bands", "Prediction", "Ground truth")
_ROW_HEIGHT = 24


class NumberTable(QTableWidget):
    """One row for each pin and pair of prediction and ground truth; pins without a pair have a row of their own."""

    pin_clicked = pyqtSignal(int)

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setHorizontalHeaderLabels(COLUMNS)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.cellClicked.connect(lambda row, _: self.pin_clicked.emit(self._pin_of(row)))

    def show_rows(self, rows: Sequence[Tuple[Pin, Optional[Tuple[str, str, Difference]]]]) -> None:
        """Show pins, each with the names of prediction and truth and the numbers, where there are any."""
        self.setSortingEnabled(False)  # or rows would move while they are filled
        self.setRowCount(len(rows))
        for row, (pin, compared) in enumerate(rows):
            cells: List[object] = [pin.number]
            if compared is not None:
                prediction, truth, numbers = compared
                where = numbers.largest_error_nm
                cells += [
                    round(numbers.sam_degrees, 3),
                    _rounded(numbers.rmse),
                    _rounded(numbers.largest_error),
                    f"band {numbers.largest_error_band}" if where is None else round(where, 2),
                    numbers.bands,
                    prediction,
                    truth,
                ]
            for column in range(len(COLUMNS)):
                item = QTableWidgetItem()
                item.setData(Qt.ItemDataRole.DisplayRole, cells[column] if column < len(cells) else "")
                if column == 0:
                    item.setForeground(pin.colour)
                self.setItem(row, column, item)
        self.setSortingEnabled(True)
        self.resizeColumnsToContents()

    def selected_pins(self) -> List[int]:
        """Return the numbers of the pins whose rows are selected."""
        found: Dict[int, None] = {self._pin_of(index.row()): None for index in self.selectionModel().selectedRows()}
        return list(found)

    def _pin_of(self, row: int) -> int:
        return int(self.item(row, 0).data(Qt.ItemDataRole.DisplayRole))


def _rounded(number: float) -> float:
    return float(f"{number:.5g}")
