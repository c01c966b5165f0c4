"""The plot: curves, gaps, ribbons and the marks of the RGB bands, drawn by pyqtgraph."""

from __future__ import annotations

import html
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Hashable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import pyqtgraph
import pyqtgraph.exporters
from qgis.PyQt.QtCore import QBuffer, QRectF, Qt, QVariant
from qgis.PyQt.QtGui import QBrush, QColor, QImage, QPainterPath, QPalette, QPen
from qgis.PyQt.QtWidgets import QGraphicsPathItem

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.profile.curves import HOVER, Curve, Role, axis_positions, drawing_order, lone_points, unbroken_runs
from scdm_qgis.profile.legend import SAMPLE, Entry, Legend, shortened

FEW_BANDS = 30
"""Curves of no more bands are drawn with a dot a band."""

_LINES: Dict[Role, Tuple[Qt.PenStyle, float]] = {
    Role.PREDICTION: (Qt.PenStyle.SolidLine, 2.0),
    Role.TRUTH: (Qt.PenStyle.DashLine, 1.5),
    Role.COARSE: (Qt.PenStyle.DotLine, 1.5),
    Role.UNCERTAINTY: (Qt.PenStyle.DashDotDotLine, 1.0),
    Role.OTHER: (Qt.PenStyle.SolidLine, 1.2),
}
_SPREAD_OPACITY = 110
"""Of the lines around a window's mean, of 255; ribbons likewise."""
_RIBBONS = ((1.0, 70), (2.0, 35))
"""How many standard deviations on each side, and how opaque, of 255."""
_BEHIND = -1
"""Where ribbons lie, so that they veil no line of another pin."""
_PATCH = SAMPLE.adjusted(SAMPLE.width() - SAMPLE.height(), 0, 0, 0)
"""The square of a pin's colour in the legend."""
_RGB_COLOURS = ("#d93a2b", "#2fa84f", "#1f7fd6")
_LOWEST_WITH_LEGEND = 150
_LEGENDS_SHARE = 0.35
"""How much of the plot's height the legend may take."""
_PICTURE = QRectF(0, 0, 800, 500)
"""How large the plot is in drawings, in pixels of the screen, whatever the dock's shape."""
_PNG_SCALE = 2


@dataclass(frozen=True)
class Drawing:
    """One curve to draw.

    Args:
        curve: the values.
        role: decides how its line looks.
        colour: of its pin.
        sigma: standard deviations a band for a ribbon around it, where there are any.
    """

    curve: Curve
    role: Role
    colour: QColor
    sigma: Optional[np.ndarray] = None


class _Axis(pyqtgraph.AxisItem):
    """An axis that lies in an export where it lies on the screen.

    pyqtgraph records what it draws and plays it again; where the resolution of an export's device is not exactly
    the screen's, Qt scales what is played, and ticks and curves no longer fit.
    """

    def paint(self, painter: Any, option: Any, widget: Any) -> None:
        specs = self.generateDrawSpecs(painter) if self._exportOpts else None
        if specs is None:
            super().paint(painter, option, widget)
        else:
            self.drawPicture(painter, *specs)


class SpectralPlot(pyqtgraph.PlotWidget):
    """Curves over wavelength or band number."""

    def __init__(self) -> None:
        axes = {side: _in_qgis(_Axis(side)) for side in ("left", "bottom")}
        super().__init__(background=None, axisItems=axes)
        for item in (self.getViewBox(), self.getViewBox().childGroup):
            _in_qgis(item)
        self.getPlotItem().setMenuEnabled(False)  # it offers another export, and much that is undone with the next move
        self._by_wavelength = True
        self._drawn: Dict[Hashable, _CurveItems] = {}
        self._rgb_lines: List[pyqtgraph.InfiniteLine] = []
        self._axes = tuple(axes.values())
        for axis in self._axes:
            axis.enableAutoSIPrefix(False)
        self._legend = Legend()
        self.set_ink(self.palette().color(QPalette.ColorRole.WindowText))
        self.getPlotItem().layout.addItem(self._legend, 4, 0, 1, 3)  # under the bottom axis
        self.getPlotItem().geometryChanged.connect(self._fit_legend)
        self.showGrid(x=True, y=True, alpha=0.15)
        self.setLabel("left", "Value (data units)")
        self.set_axis(True)

    def set_ink(self, ink: QColor) -> None:
        """Write axes and legend in a colour; the legend is to be shown again afterwards."""
        self._ink = ink
        for axis in self._axes:
            axis.setPen(QPen(ink, 1))
            axis.setTextPen(ink)
        self._legend.set_ink(ink)

    def set_axis(self, by_wavelength: bool, without: str = "") -> None:
        """Take wavelengths in nm or band numbers for the axis; the curves are to be shown again afterwards.

        Args:
            without: the raster without wavelengths that is the reason for band numbers, if any.
        """
        self._by_wavelength = by_wavelength
        why = f" ({html.escape(shortened(without))} has no wavelengths)" if without else ""
        self.setLabel("bottom", "Wavelength (nm)" if by_wavelength else f"Band{why}")

    def show_drawings(self, drawings: Dict[Hashable, Drawing], only: Optional[Hashable] = None) -> None:
        """Draw these curves and no others.

        Args:
            drawings: by keys of (pin, layer); a key that was there before keeps its place in the drawing.
            only: a pin whose curves are given; those of the others stay as they are.
        """
        for key in [key for key in self._drawn if key not in drawings and only in (None, key[0])]:
            self._drawn.pop(key).remove(self)
        for key, drawing in drawings.items():
            if key not in self._drawn:
                self._drawn[key] = _CurveItems(self)
            self._drawn[key].show(drawing, self._by_wavelength)

    def show_legend(self, layers: Sequence[Tuple[str, Role]], pins: Sequence[Tuple[str, QColor]]) -> None:
        """Say what lines, ribbons and colours mean: the layers that are shown, with their roles, and the pins."""
        self._legend.show_entries(
            [_entry_of_layer(name, role, self._ink) for name, role in layers]
            + [Entry(name, areas=[(_PATCH, colour)]) for name, colour in pins]
        )

    def mark_rgb(self, positions: Sequence[float]) -> None:
        """Mark where red, green and blue lie on the axis; nothing for no positions."""
        for line in self._rgb_lines:
            self.removeItem(line)
        self._rgb_lines = [
            _in_qgis(pyqtgraph.InfiniteLine(position, pen=_pen(QColor(colour), Qt.PenStyle.DotLine, 1.0)))
            for position, colour in zip(positions, _RGB_COLOURS)
        ]
        for line in self._rgb_lines:
            self.addItem(line, ignoreBounds=True)

    def write_picture(self, path: str) -> None:
        """Write what is plotted as PNG or SVG, by the name's ending.

        Raises:
            OSError: the file cannot be written.
            UserError: pyqtgraph cannot make a drawing.
        """
        with self._laid_out_for_a_picture():
            content = self._as_svg() if path.lower().endswith(".svg") else self._as_png()
        with written_whole(path) as partial, open(partial, "wb") as file:
            file.write(content)

    def _fit_legend(self) -> None:
        size = self.getPlotItem().size()
        self._legend.fit(size.width(), _LEGENDS_SHARE * size.height() if size.height() >= _LOWEST_WITH_LEGEND else 0.0)

    @contextmanager
    def _laid_out_for_a_picture(self) -> Iterator[None]:
        """Give the plot a picture's size, without the curves under the mouse where there are pins."""
        item = self.getPlotItem()
        on_screen = item.geometry()
        pinned = any(key[0] != HOVER for key in self._drawn)
        hovered = [items for key, items in self._drawn.items() if pinned and key[0] == HOVER]
        for items in hovered:
            items.set_visible(False)
        try:
            item.setGeometry(_PICTURE)
            item.layout.activate()
            self._image(1)  # axes take the room for their numbers when they are painted
            item.layout.activate()
            self.scene().prepareForPaint()
            yield
        finally:
            for items in hovered:
                items.set_visible(True)
            item.setGeometry(on_screen)

    def _as_svg(self) -> bytes:
        exporter = pyqtgraph.exporters.SVGExporter(self.getPlotItem())
        exporter.parameters()["scaling stroke"] = True
        paper = f'<rect width="{_PICTURE.width():.0f}" height="{_PICTURE.height():.0f}" fill="{self._paper().name()}"/>'
        try:
            drawing = exporter.export(toBytes=True)
        except ValueError as error:  # pyqtgraph 0.14 does not know the closed paths that Qt 6.11 writes
            raise UserError("pyqtgraph cannot make an SVG with this version of Qt.", "Save a PNG instead.") from error
        # Of its own background, with sizes in per cent and a colour as rgba(), QGIS's layouts make a black square.
        return re.sub(rb'<rect width="100%"[^>]*/>', paper.encode(), drawing, count=1)

    def _as_png(self) -> bytes:
        self._widen_lines(_PNG_SCALE)
        try:
            image = self._image(_PNG_SCALE)
        finally:
            self._widen_lines(1 / _PNG_SCALE)
        buffer = QBuffer()
        image.save(buffer, "PNG")
        return bytes(buffer.data())

    def _image(self, scale: int) -> QImage:
        exporter = pyqtgraph.exporters.ImageExporter(self.getPlotItem())
        exporter.parameters()["width"] = scale * int(_PICTURE.width())
        exporter.parameters()["background"] = self._paper()
        return exporter.export(toBytes=True)

    def _widen_lines(self, factor: float) -> None:
        """Widen what has its width in pixels: an export scales all else."""
        lines = [line for items in self._drawn.values() for line in items.lines] + self._rgb_lines
        for line in lines:
            pen = QPen(line.pen if isinstance(line, pyqtgraph.InfiniteLine) else line.opts["pen"])
            pen.setWidthF(factor * pen.widthF())
            line.setPen(pen)

    def _paper(self) -> QColor:
        return self.palette().color(QPalette.ColorRole.Base)


class _CurveItems:
    """What one curve is drawn with: a line, dots, and ribbons where there are standard deviations."""

    def __init__(self, plot: SpectralPlot) -> None:
        self._line = _in_qgis(pyqtgraph.PlotCurveItem(antialias=True))
        self._spread = _in_qgis(pyqtgraph.PlotCurveItem(antialias=True))
        self.lines = (self._spread, self._line)
        self._dots = _in_qgis(pyqtgraph.ScatterPlotItem(size=5, pen=None))
        self._ribbons = [QGraphicsPathItem() for _ in _RIBBONS]
        for ribbon in self._ribbons:
            ribbon.setPen(QPen(Qt.PenStyle.NoPen))
            ribbon.setZValue(_BEHIND)
            plot.addItem(ribbon, ignoreBounds=True)  # or one bad band would squeeze all curves
        for item in (self._spread, self._line, self._dots):
            plot.addItem(item)

    def remove(self, plot: SpectralPlot) -> None:
        for item in (*self._ribbons, self._spread, self._line, self._dots):
            plot.removeItem(item)

    def set_visible(self, visible: bool) -> None:
        for item in (*self._ribbons, self._spread, self._line, self._dots):
            item.setVisible(visible)

    def show(self, drawing: Drawing, by_wavelength: bool) -> None:
        positions = axis_positions(drawing.curve, by_wavelength)
        order = drawing_order(positions)
        x, y = positions[order], drawing.curve.without_bad_bands()[order]
        self._line.setData(x, y, connect="finite", pen=_pen(drawing.colour, *_LINES[drawing.role]))
        dotted = np.isfinite(y) if len(y) <= FEW_BANDS else lone_points(y)
        self._dots.setData(x[dotted], y[dotted], brush=QBrush(drawing.colour))
        self._show_spread(drawing, x, y, order)
        sigma = None if drawing.sigma is None else drawing.sigma[order]
        for ribbon, (factor, opacity) in zip(self._ribbons, _RIBBONS):
            ribbon.setBrush(_with_opacity(drawing.colour, opacity))
            ribbon.setPath(QPainterPath() if sigma is None else _ribbon(x, y, factor * sigma))

    def _show_spread(self, drawing: Drawing, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> None:
        if drawing.curve.pixels == 1:
            self._spread.setData([], [])
            return
        spread = drawing.curve.spread[order]
        both_x = np.concatenate([x, [np.nan], x])
        both_y = np.concatenate([y - spread, [np.nan], y + spread])
        pale = _with_opacity(drawing.colour, _SPREAD_OPACITY)
        self._spread.setData(both_x, both_y, connect="finite", pen=_pen(pale, Qt.PenStyle.SolidLine, 1.0))


def _in_qgis(item: Any) -> Any:
    """Make an item of pyqtgraph's take null as Qt does, and return it.

    QGIS has null pointers come to Python as QVariants, such as the scene of an item that is taken out of one;
    Qt's own itemChange, which pyqtgraph calls with them, raises a TypeError. None stands for the same.
    """
    inherited = item.itemChange
    item.itemChange = lambda change, value: inherited(change, None if isinstance(value, QVariant) else value)
    return item


def _pen(colour: QColor, style: Qt.PenStyle, width: float) -> QPen:
    pen = QPen(colour, width, style)
    pen.setCosmetic(True)  # a width in pixels, whatever the scale of the axes
    return pen


def _with_opacity(colour: QColor, opacity: int) -> QColor:
    paler = QColor(colour)
    paler.setAlpha(opacity)
    return paler


def _entry_of_layer(name: str, role: Role, ink: QColor) -> Entry:
    """Return a legend's entry; it names the role where the name does not."""
    said = role is Role.OTHER or role.title.lower() in name.lower().replace("_", " ")
    text = shortened(name) if said else f"{shortened(name)} ({role.title.lower()})"
    if role is Role.UNCERTAINTY:
        whole, half = SAMPLE, SAMPLE.adjusted(0, SAMPLE.height() / 4, 0, -SAMPLE.height() / 4)
        return Entry(text, areas=[(whole, _with_opacity(ink, 35)), (half, _with_opacity(ink, 70))])
    style, width = _LINES[role]
    return Entry(text, pen=QPen(ink, width, style))


def _ribbon(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> QPainterPath:
    """Return the area within `half` of a curve; broken where either has a gap."""
    path = QPainterPath()
    for run in unbroken_runs(y + half):
        there_and_back = np.concatenate([x[run], x[run][::-1]])
        above_and_below = np.concatenate([(y + half)[run], (y - half)[run][::-1]])
        path.addPath(pyqtgraph.arrayToQPath(there_and_back, above_and_below))
    return path
