"""The plot: curves, gaps, ribbons and the marks of the RGB bands, drawn by pyqtgraph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np
import pyqtgraph
import pyqtgraph.exporters
from qgis.PyQt.QtCore import QBuffer, Qt, QVariant
from qgis.PyQt.QtGui import QBrush, QColor, QPainterPath, QPalette, QPen
from qgis.PyQt.QtWidgets import QGraphicsPathItem

from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.profile.curves import Curve, Role, axis_positions, drawing_order, lone_points, unbroken_runs

FEW_BANDS = 30
"""Curves of no more bands are drawn with a dot a band."""

_LINES: Dict[Role, Tuple[Qt.PenStyle, float]] = {
    Role.PREDICTION: (Qt.PenStyle.SolidLine, 2.0),
    Role.TRUTH: (Qt.PenStyle.DashLine, 1.5),
    Role.COARSE: (Qt.PenStyle.DotLine, 1.5),
    Role.UNCERTAINTY: (Qt.PenStyle.DashDotDotLine, 1.0),
    Role.OTHER: (Qt.PenStyle.DashDotLine, 1.0),
}
_RIBBONS = ((1.0, 70), (2.0, 35))
"""How many standard deviations on each side, and how opaque, of 255."""
_BEHIND = -1
"""Where ribbons lie, so that they veil no line of another pin."""
_RGB_COLOURS = ("#d93a2b", "#2fa84f", "#1f7fd6")
_PICTURE_WIDTH = 1600


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


class SpectralPlot(pyqtgraph.PlotWidget):
    """Curves over wavelength or band number."""

    def __init__(self) -> None:
        super().__init__(background=None)
        for item in (self.getViewBox(), self.getViewBox().childGroup):
            _in_qgis(item)
        self._by_wavelength = True
        self._drawn: Dict[Hashable, _CurveItems] = {}
        self._rgb_lines: List[pyqtgraph.InfiniteLine] = []
        paper = self.palette().color(QPalette.ColorRole.Window)
        paper.setAlpha(200)
        self._legend = self.addLegend(offset=(8, 8), labelTextSize="8pt", brush=paper, verSpacing=-4)
        # Nothing above it is scaled but by an export, which must scale it too.
        self._legend.setFlag(self._legend.GraphicsItemFlag.ItemIgnoresTransformations, False)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
            axis.enableAutoSIPrefix(False)
        self._legend.setLabelTextColor(ink)
        self.showGrid(x=True, y=True, alpha=0.15)
        self.setLabel("left", "Value (data units)")
        self.set_axis(True)

    def set_axis(self, by_wavelength: bool) -> None:
        """Take wavelengths in nm or band numbers for the axis; the curves are to be shown again afterwards."""
        self._by_wavelength = by_wavelength
        self.setLabel("bottom", "Wavelength (nm)" if by_wavelength else "Band")

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

    def show_legend(self, entries: Sequence[Tuple[str, Role]]) -> None:
        """Say what lines and ribbons mean: the names of the layers that are shown, with their roles."""
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        self._legend.clear()
        for name, role in entries:
            look = {"pen": _pen(role, ink)}
            if role is Role.UNCERTAINTY:
                look = {"pen": None, "fillLevel": 0, "fillBrush": QColor(ink.red(), ink.green(), ink.blue(), 70)}
            self._legend.addItem(_in_qgis(pyqtgraph.PlotDataItem(**look)), name)

    def mark_rgb(self, positions: Sequence[float]) -> None:
        """Mark where red, green and blue lie on the axis; nothing for no positions."""
        for line in self._rgb_lines:
            self.removeItem(line)
        self._rgb_lines = [
            _in_qgis(pyqtgraph.InfiniteLine(position, pen=QPen(QColor(colour), 0, Qt.PenStyle.DotLine)))
            for position, colour in zip(positions, _RGB_COLOURS)
        ]
        for line in self._rgb_lines:
            self.addItem(line, ignoreBounds=True)

    def write_picture(self, path: str) -> None:
        """Write what is plotted as PNG or SVG, by the name's ending.

        Raises:
            OSError: the file cannot be written.
        """
        svg = path.lower().endswith(".svg")
        with written_whole(path) as partial, open(partial, "wb") as file:
            file.write(self._as_svg() if svg else self._as_png())

    def _as_svg(self) -> bytes:
        exporter = pyqtgraph.exporters.SVGExporter(self.getPlotItem())
        size = (exporter.parameters()["width"], exporter.parameters()["height"])
        paper = '<rect width="{:.0f}" height="{:.0f}" fill="{}"/>'.format(*size, self._paper().name())
        # Of its own background, with sizes in per cent and a colour as rgba(), QGIS's layouts make a black square.
        return re.sub(rb'<rect width="100%"[^>]*/>', paper.encode(), exporter.export(toBytes=True), count=1)

    def _as_png(self) -> bytes:
        exporter = pyqtgraph.exporters.ImageExporter(self.getPlotItem())
        exporter.parameters()["width"] = _PICTURE_WIDTH
        exporter.parameters()["background"] = self._paper()
        buffer = QBuffer()
        exporter.export(toBytes=True).save(buffer, "PNG")
        return bytes(buffer.data())

    def _paper(self) -> QColor:
        return self.palette().color(QPalette.ColorRole.Base)


class _CurveItems:
    """What one curve is drawn with: a line, dots, and ribbons where there are standard deviations."""

    def __init__(self, plot: SpectralPlot) -> None:
        self._line = _in_qgis(pyqtgraph.PlotCurveItem(antialias=True))
        self._spread = _in_qgis(pyqtgraph.PlotCurveItem(antialias=True))
        self._dots = _in_qgis(pyqtgraph.ScatterPlotItem(size=5, pen=None))
        self._ribbons = [QGraphicsPathItem() for _ in _RIBBONS]
        for ribbon in self._ribbons:
            ribbon.setPen(QPen(Qt.PenStyle.NoPen))
            ribbon.setZValue(_BEHIND)
            ribbon.hide()
            plot.addItem(ribbon)
        for item in (self._spread, self._line, self._dots):
            plot.addItem(item)

    def remove(self, plot: SpectralPlot) -> None:
        for item in (*self._ribbons, self._spread, self._line, self._dots):
            plot.removeItem(item)

    def show(self, drawing: Drawing, by_wavelength: bool) -> None:
        positions = axis_positions(drawing.curve, by_wavelength)
        order = drawing_order(positions)
        x, y = positions[order], drawing.curve.without_bad_bands()[order]
        self._line.setData(x, y, connect="finite", pen=_pen(drawing.role, drawing.colour))
        dotted = np.isfinite(y) if len(y) <= FEW_BANDS else lone_points(y)
        self._dots.setData(x[dotted], y[dotted], brush=QBrush(drawing.colour))
        self._show_spread(drawing, x, y, order)
        sigma = None if drawing.sigma is None else drawing.sigma[order]
        for ribbon, (factor, opacity) in zip(self._ribbons, _RIBBONS):
            colour = QColor(drawing.colour)
            colour.setAlpha(opacity)
            ribbon.setBrush(colour)
            ribbon.setVisible(sigma is not None)  # an empty one would draw the axes to zero
            if sigma is not None:
                ribbon.setPath(_ribbon(x, y, factor * sigma))

    def _show_spread(self, drawing: Drawing, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> None:
        if drawing.curve.pixels == 1:
            self._spread.setData([], [])
            return
        spread = drawing.curve.spread[order]
        both_x = np.concatenate([x, [np.nan], x])
        both_y = np.concatenate([y - spread, [np.nan], y + spread])
        self._spread.setData(both_x, both_y, connect="finite", pen=QPen(drawing.colour, 0, Qt.PenStyle.DotLine))


def _in_qgis(item: Any) -> Any:
    """Make an item of pyqtgraph's take null as Qt does, and return it.

    QGIS has null pointers come to Python as QVariants, such as the scene of an item that is taken out of one;
    Qt's own itemChange, which pyqtgraph calls with them, raises a TypeError. None stands for the same.
    """
    inherited = item.itemChange
    item.itemChange = lambda change, value: inherited(change, None if isinstance(value, QVariant) else value)
    return item


def _pen(role: Role, colour: QColor) -> QPen:
    style, width = _LINES[role]
    pen = QPen(colour, width, style)
    pen.setCosmetic(True)  # a width in pixels, whatever the scale of the axes
    return pen


def _ribbon(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> QPainterPath:
    """Return the area within `half` of a curve; broken where either has a gap."""
    path = QPainterPath()
    for run in unbroken_runs(y + half):
        there_and_back = np.concatenate([x[run], x[run][::-1]])
        above_and_below = np.concatenate([(y + half)[run], (y - half)[run][::-1]])
        path.addPath(pyqtgraph.arrayToQPath(there_and_back, above_and_below))
    return path
