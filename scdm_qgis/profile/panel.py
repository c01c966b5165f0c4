"""What is in the dock: it hears the mouse, has places read, and shows what was read."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping, Optional

from qgis.core import QgsCsException, QgsPointXY, QgsProject
from qgis.PyQt.QtCore import QEvent, Qt, QTimer
from qgis.PyQt.QtGui import QColor, QHideEvent, QPalette, QResizeEvent, QShowEvent
from qgis.PyQt.QtWidgets import QLabel, QSizePolicy, QSplitter, QVBoxLayout, QWidget

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.profile.comparison import RoledCurve, compare, standard_deviations, uncertainty_of
from scdm_qgis.profile.controls import Controls
from scdm_qgis.profile.curves import HOVER, PinnedCurve, Role, all_have_wavelengths
from scdm_qgis.profile.exports import ask_path, export
from scdm_qgis.profile.layer_table import LayerTable
from scdm_qgis.profile.layers import ProfileLayer, ProfileLayers
from scdm_qgis.profile.map_tool import ProfileMapTool
from scdm_qgis.profile.missing_package import missing_package_label
from scdm_qgis.profile.number_table import NumberRow, NumberTable
from scdm_qgis.profile.pins import Pin, Pins
from scdm_qgis.profile.places import MapPlace, extent_around, places_in_layers, transform_between
from scdm_qgis.profile.reader import GONE, WAITING, ProfileReader, Reading
from scdm_qgis.profile.selected_polygon import selected_polygon

try:
    from scdm_qgis.profile.plot import Drawing, SpectralPlot
except (ImportError, AttributeError):  # absent, or made for another numpy or Qt
    SpectralPlot = None  # type: ignore[assignment,misc]

_PIXELS_AROUND_A_PIN = 20
_HOW_TO_BEGIN = "Press the first button to read spectra under the mouse."
_HOW_TO_GO_ON = "Move the mouse over the map; click to pin a place."


class ProfilePanel(QWidget):
    """Controls, layers, plot and numbers.

    Args:
        iface: QGIS.
        pick: the action that switches the map tool.
    """

    def __init__(self, iface: Any, pick: Any) -> None:
        super().__init__()
        self._iface = iface
        self._canvas = iface.mapCanvas()
        self._project = QgsProject.instance()
        self._hovered: Dict[str, Reading] = {}
        self._pins_allow_nm = self._axis_in_nm = True
        self._axis_without = self._said_numbers = ""
        self._reader = ProfileReader()
        self._layers = ProfileLayers(self._project, self._reader)
        self._pins = Pins(self._canvas)
        self.tool = ProfileMapTool(self._canvas)
        self.tool.setAction(pick)
        self._controls = Controls(pick)
        self._layer_table = LayerTable()
        self._number_table = NumberTable()
        self.plot = SpectralPlot() if SpectralPlot is not None else None
        self._status = QLabel(_HOW_TO_BEGIN)
        self._numbers_soon = QTimer(self)  # the curves are drawn first
        self._numbers_soon.setSingleShot(True)
        self._arrange()
        self._connect()
        self._show_layers()

    def close_down(self) -> None:
        """Take back the map, close all files and end the thread; the widget is of no use afterwards."""
        self.tool.give_the_mouse_back()
        self._project.cleared.disconnect(self._clear)
        self._canvas.destinationCrsChanged.disconnect(self._show_layers)
        self._reader.hovered.disconnect(self._show_hover)  # what it has read already may still be on its way
        self._reader.pinned.disconnect(self._take_pinned)
        self._reader.reopened.disconnect(self._read_again)
        self._numbers_soon.stop()
        self._layers.stop()
        self._reader.stop()
        self._pins.stop()
        if self.plot is not None:
            self.plot.close()
            self.plot = None  # which no change of palette may find any more
        self.tool.deleteLater()

    def hover(self, point: QgsPointXY) -> None:
        """Have the place under the mouse read."""
        place = MapPlace(point, self._crs(), self._controls.side)
        places, without = places_in_layers(place, self._layers.chosen(), self._crs(), self._project)
        self._reader.hover(without, places)

    def pin(self, point: QgsPointXY) -> None:
        """Set a pin and have its place read."""
        self._set_pin(MapPlace(point, self._crs(), self._controls.side))

    def pin_selected_polygon(self) -> None:
        """Set a pin for the mean of what is selected in the active polygon layer."""
        layer = self._iface.activeLayer()
        try:
            pin = self._set_pin(selected_polygon(layer, self._crs()))
        except UserError as error:
            self._say(str(error))
        else:
            self._say(f"Pin {pin.number} is the mean of what is selected in '{layer.name()}'.")

    def pinned_curves(self) -> List[PinnedCurve]:
        """Return all curves of all pins."""
        return [
            PinnedCurve(
                pin.number,
                pin.place.point.x(),
                pin.place.point.y(),
                pin.place.crs.authid() or pin.place.crs.toWkt(),
                pin.place.window,
                roled.name,
                roled.role,
                roled.curve,
            )
            for pin in self._pins.all()
            for roled in self._roled(pin.readings)
        ]

    def export(self, kind: str, path: Optional[str] = None) -> None:
        """Write the plot, the curves or the pins; asks for the file's name where none is given.

        Args:
            kind: png, svg, csv, sli, or points for a layer.
        """
        curves = self.pinned_curves()  # those asked about are those written, whatever is read meanwhile
        if kind != "points" and path is None:
            path = ask_path(self, kind, curves)
            if path is None:
                return
        try:
            self._say(export(kind, path or "", self.plot, curves, self._project))
        except UserError as error:
            self._say(str(error))

    def showEvent(self, event: QShowEvent) -> None:
        """Read again."""
        self._layers.update()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        """Keep no file open while nobody looks, and give the mouse back to the map."""
        if not event.spontaneous():  # as when QGIS is minimised
            self.tool.give_the_mouse_back()
            self._reader.keep_only(())
        super().hideEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put the parts side by side in a wide dock, below each other in a tall one."""
        wide = self.width() >= self.height()
        self._parts.setOrientation(Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical)
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Draw in the ink of the theme that QGIS has been given."""
        if event.type() == QEvent.Type.PaletteChange and self.plot is not None:
            self.plot.set_ink(self._ink())
            self._show_all()
        super().changeEvent(event)

    def _arrange(self) -> None:
        middle: QWidget = self.plot if self.plot is not None else missing_package_label("pyqtgraph", "The plot")
        self._parts = QSplitter()
        for part, stretch in ((self._layer_table, 2), (middle, 4), (self._number_table, 3)):
            self._parts.addWidget(part)
            self._parts.setStretchFactor(self._parts.count() - 1, stretch)
        self._parts.setSizes([360, 520, 460])
        # A long sentence must not make the dock wide.
        self._status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(2)
        layout.addWidget(self._controls)
        layout.addWidget(self._parts, 1)
        layout.addWidget(self._status)

    def _connect(self) -> None:
        self.tool.activated.connect(lambda: self._say(_HOW_TO_GO_ON))
        self.tool.deactivated.connect(lambda: self._say(_HOW_TO_BEGIN))
        self.tool.moved.connect(self.hover)
        self.tool.clicked.connect(self.pin)
        self._reader.hovered.connect(self._show_hover)
        self._numbers_soon.timeout.connect(self._say_numbers)
        self._reader.pinned.connect(self._take_pinned)
        self._reader.reopened.connect(self._read_again)
        self._layers.changed.connect(self._show_layers)
        self._project.cleared.connect(self._clear)
        self._canvas.destinationCrsChanged.connect(self._show_layers)  # those without one lie elsewhere now
        self._layer_table.chosen.connect(self._layers.choose)
        self._layer_table.role_given.connect(self._layers.set_role)
        self._number_table.pin_clicked.connect(self._zoom_to)
        self._number_table.removal_asked.connect(self._remove_selected)
        self._controls.polygon_asked.connect(self.pin_selected_polygon)
        self._controls.axis_changed.connect(self._show_all)
        self._controls.removal_asked.connect(self._remove_selected)
        self._controls.clearing_asked.connect(self._clear)
        self._controls.export_asked.connect(self.export)

    def _crs(self) -> Any:
        return self._canvas.mapSettings().destinationCrs()

    def _say(self, text: str) -> None:
        self._status.setText(text)
        self._status.setToolTip(text)

    def _set_pin(self, place: MapPlace) -> Pin:
        pin = self._pins.add(place)
        self._read_pin(pin)
        self._show_all()
        return pin

    def _read_pin(self, pin: Pin) -> None:
        """Have read at a pin what is new there, or elsewhere by now."""
        to_read = pin.to_read(*places_in_layers(pin.place, self._layers.chosen(), self._crs(), self._project))
        if to_read:
            self._reader.pin(pin, to_read)

    def _read_again(self, layer_id: str) -> None:
        """Have a layer read again at the pins: its file is another one."""
        for pin in self._pins.all():
            pin.forget(layer_id)
            self._read_pin(pin)

    def _take_pinned(self, pin: Pin, readings: Mapping[str, Reading]) -> None:
        if pin in self._pins.all():
            pin.readings.update(readings)
            self._show_all()
            self._read_what_was_gone(readings)

    def _show_hover(self, without: Mapping[str, Reading], readings: Mapping[str, Reading]) -> None:
        chosen = {layer.id for layer in self._layers.chosen()}  # layers may have gone since the mouse was there
        self._hovered = {key: reading for key, reading in {**without, **readings}.items() if key in chosen}
        self._read_what_was_gone(self._hovered)
        self._layer_table.show_readings(self._hovered)
        if self._by_wavelength() != self._axis_in_nm or self._without_wavelengths() != self._axis_without:
            self._show_all()
        elif self.plot is not None:
            self.plot.show_drawings(self._drawings(HOVER, self._hovered, self._ink()), only=HOVER)
        self._numbers_soon.start()

    def _read_what_was_gone(self, readings: Mapping[str, Reading]) -> None:
        """Tell the reader again what is chosen, and read that: the dock was hidden, or a layer changed, meanwhile."""
        if self.isVisible() and any(reading.problem == GONE for reading in readings.values()):
            self._layers.update()

    def _say_numbers(self) -> None:
        pairs = compare(self._roled(self._hovered))
        self._said_numbers = "   ".join(
            f"{prediction.name} against {truth.name}: SAM {numbers.sam_degrees:.2f}°, RMSE {numbers.rmse:.5g}"
            for prediction, truth, numbers in pairs
        )
        self._say(self._said_numbers)

    def _show_layers(self) -> None:
        """Show which layers there are; pins learn those that are new or moved and forget those that are gone."""
        chosen = {layer.id for layer in self._layers.chosen()}
        self._hovered = {key: reading for key, reading in self._hovered.items() if key in chosen}
        for pin in self._pins.all():
            self._read_pin(pin)
        if self._said_numbers and self._status.text() == self._said_numbers:
            self._say_numbers()
        self._layer_table.show_layers(self._layers.all())
        self._layer_table.show_readings(self._hovered)
        self._show_all()

    def _show_all(self) -> None:
        self._show_numbers()
        pinned = [roled.curve for pin in self._pins.all() for roled in self._roled(pin.readings)]
        self._pins_allow_nm = all_have_wavelengths(pinned) or not pinned
        self._axis_in_nm = self._by_wavelength()
        self._axis_without = self._without_wavelengths()
        if self.plot is None:
            return
        self.plot.set_axis(self._axis_in_nm, self._axis_without)
        drawings: Dict[Hashable, Drawing] = {}
        for pin in self._pins.all():
            drawings.update(self._drawings(pin.number, pin.readings, pin.colour))
        drawings.update(self._drawings(HOVER, self._hovered, self._ink()))
        self.plot.show_drawings(drawings)
        self.plot.show_legend(
            [(layer.name, layer.role) for layer in self._layers.chosen() if not layer.problem],
            [(f"Pin {pin.number}", pin.colour) for pin in self._pins.all()],
        )
        self.plot.mark_rgb(self._rgb_positions())

    def _show_numbers(self) -> None:
        rows: List[NumberRow] = []
        for pin in self._pins.all():
            curves = self._roled(pin.readings)
            pairs = compare(curves)
            rows += [NumberRow(pin, prediction.name, truth.name, numbers) for prediction, truth, numbers in pairs]
            if not pairs:
                read = {one.role for one in curves if not pin.readings[one.layer_id].problem}
                unlike = " (no band in common)" if {Role.PREDICTION, Role.TRUTH} <= read else ""
                rows.append(NumberRow(pin, self._at(pin, Role.PREDICTION), self._at(pin, Role.TRUTH) + unlike))
        self._number_table.show_rows(rows)

    def _at(self, pin: Pin, role: Role) -> str:
        """Return the names of the rasters of a role, each with what is wrong with it at a pin."""
        named = []
        for layer in self._layers.chosen():
            if layer.role is role:
                problem = pin.readings[layer.id].problem if layer.id in pin.readings else WAITING
                named.append(f"{layer.name}: {problem}" if problem else layer.name)
        return ", ".join(named) or "none chosen"

    def _roled(self, readings: Mapping[str, Reading]) -> List[RoledCurve]:
        return [
            RoledCurve(layer.id, layer.name, layer.role, layer.run, readings[layer.id].curve)
            for layer in self._layers.chosen()
            if _has_curve(readings, layer)
        ]

    def _drawings(self, key: int, readings: Mapping[str, Reading], colour: QColor) -> Dict[Hashable, Drawing]:
        curves = self._roled(readings)
        uncertainties = {roled.layer_id: uncertainty_of(roled, curves) for roled in curves}
        as_ribbons = {found.layer_id for found in uncertainties.values() if found is not None}
        drawings: Dict[Hashable, Drawing] = {}
        for roled in curves:
            if roled.layer_id not in as_ribbons:
                found = uncertainties[roled.layer_id]
                sigma = None if found is None else standard_deviations(found)
                drawings[key, roled.layer_id] = Drawing(roled.curve, roled.role, colour, sigma)
        return drawings

    def _by_wavelength(self) -> bool:
        hovered = [roled.curve for roled in self._roled(self._hovered)]
        allowed = self._pins_allow_nm and (all_have_wavelengths(hovered) or not hovered)
        return self._controls.wants_wavelengths and allowed

    def _without_wavelengths(self) -> str:
        """Return the first raster that keeps the axis from the nm asked for; "" where none does."""
        if not self._controls.wants_wavelengths:
            return ""
        shown = [roled for pin in self._pins.all() for roled in self._roled(pin.readings)] + self._roled(self._hovered)
        return next((roled.name for roled in shown if roled.curve.wavelengths_nm is None), "")

    def _rgb_positions(self) -> List[float]:
        """Return where red, green and blue lie: in the prediction, else the first layer that knows."""
        for layer in sorted(self._layers.chosen(), key=lambda layer: layer.role is not Role.PREDICTION):
            described = layer.description
            if described is None or described.problem or layer.role is Role.UNCERTAINTY:
                continue
            try:
                usable = [not bad for bad in described.bad]
                bands = choose_rgb_bands(None, described.band_count, described.wavelengths_nm, usable)
            except UserError:
                continue
            if self._axis_in_nm and described.wavelengths_nm is not None:
                return [described.wavelengths_nm[band - 1] or 0.0 for band in bands]
            return [float(band) for band in bands]
        return []

    def _ink(self) -> QColor:
        return self.palette().color(QPalette.ColorRole.WindowText)

    def _zoom_to(self, number: int) -> None:
        pin = self._pins.find(number)
        if pin is None:
            return
        readable = [layer for layer in self._layers.chosen() if not layer.problem]
        try:
            if readable:
                extent = extent_around(pin.place, readable[0], _PIXELS_AROUND_A_PIN, self._crs(), self._project)
                self._canvas.setExtent(extent)
            else:
                to_map = transform_between(pin.place.crs, self._crs(), self._project)
                self._canvas.setCenter(to_map.transform(pin.place.point))
        except QgsCsException:
            self._say(f"Pin {number} has no place in the map's coordinate system.")
        self._canvas.refresh()

    def _remove_selected(self) -> None:
        for number in self._number_table.selected_pins():
            self._pins.remove(number)
        self._show_all()

    def _clear(self) -> None:
        self._pins.clear()
        self._say("")
        self._show_all()


def _has_curve(readings: Mapping[str, Reading], layer: ProfileLayer) -> bool:
    return layer.id in readings and readings[layer.id].curve is not None
