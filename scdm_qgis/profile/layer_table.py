"""The table of layers: which are shown, what they are, and how the last place was read."""

from __future__ import annotations

from typing import Mapping, Sequence

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QAbstractItemView, QComboBox, QHeaderView, QTableWidget, QTableWidgetItem

from scdm_qgis.profile.curves import Role
from scdm_qgis.profile.layers import ProfileLayer
from scdm_qgis.profile.reader import Reading

_NAME, _ROLE, _STATE = range(3)
_STATE_WIDTH = 80
_EXPLANATIONS = (
    "Ticked rasters have their curves shown",
    "How the raster takes part: predictions are compared with ground truths",
    "How the raster was read at the place under the mouse",
)
_ROW_HEIGHT = 24


class LayerTable(QTableWidget):
    """One row a raster of the project."""

    chosen = pyqtSignal(str, bool)
    role_given = pyqtSignal(str, object)

    def __init__(self) -> None:
        super().__init__(0, 3)
        self.setHorizontalHeaderLabels(["Layer", "Role", "State"])
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        for column, explanation in enumerate(_EXPLANATIONS):
            self.horizontalHeaderItem(column).setToolTip(explanation)
        header = self.horizontalHeader()
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.resizeSection(_ROLE, _role_box().sizeHint().width())
        header.resizeSection(_STATE, _STATE_WIDTH)
        self._ids: Sequence[str] = ()
        self.itemChanged.connect(self._tell_choice)

    def show_layers(self, layers: Sequence[ProfileLayer]) -> None:
        """Show these layers, their roles, and what is wrong with them."""
        self.blockSignals(True)
        ids = tuple(layer.id for layer in layers)
        if ids != self._ids:
            self._ids = ids
            self.setRowCount(len(ids))
            for row, layer_id in enumerate(ids):
                self._fill_row(row, layer_id)
        for row, layer in enumerate(layers):
            name = self.item(row, _NAME)
            name.setText(layer.name)
            name.setToolTip(layer.name)
            name.setCheckState(Qt.CheckState.Checked if layer.chosen else Qt.CheckState.Unchecked)
            roles = self.cellWidget(row, _ROLE)
            roles.blockSignals(True)
            roles.setCurrentIndex(roles.findData(layer.role.value))
            roles.blockSignals(False)
            self._set_state(row, layer.problem)
        self.blockSignals(False)

    def show_readings(self, readings: Mapping[str, Reading]) -> None:
        """Show how each layer was read at a place."""
        self.blockSignals(True)
        for row, layer_id in enumerate(self._ids):
            if layer_id in readings:
                reading = readings[layer_id]
                self._set_state(row, reading.problem or "read")
        self.blockSignals(False)

    def _fill_row(self, row: int, layer_id: str) -> None:
        name = QTableWidgetItem()
        name.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
        self.setItem(row, _NAME, name)
        roles = _role_box()
        roles.currentIndexChanged.connect(lambda _, box=roles: self.role_given.emit(layer_id, Role(box.currentData())))
        self.setCellWidget(row, _ROLE, roles)
        self.setItem(row, _STATE, QTableWidgetItem())

    def _set_state(self, row: int, text: str) -> None:
        item = self.item(row, _STATE)
        if item.text() != text:
            item.setText(text)
            item.setToolTip(text)

    def _tell_choice(self, item: QTableWidgetItem) -> None:
        if item.column() == _NAME:
            self.chosen.emit(self._ids[item.row()], item.checkState() == Qt.CheckState.Checked)


def _role_box() -> QComboBox:
    roles = QComboBox()
    for role in Role:
        roles.addItem(role.title, role.value)
    return roles
