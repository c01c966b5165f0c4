"""The legend under the plot: what its lines, ribbons and colours stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen
from qgis.PyQt.QtWidgets import QGraphicsWidget

SAMPLE = QRectF(0, 0, 24, 12)
"""Where the sample of an entry is drawn."""
_POINTS = 8.0
_ROW, _GAP = 16.0, 6.0
_LONGEST_NAME = 30


@dataclass(frozen=True)
class Entry:
    """A sample with its meaning.

    Args:
        text: what it stands for.
        pen: of the line across the sample, where there is one.
        areas: rectangles in the sample, with their colours.
    """

    text: str
    pen: Optional[QPen] = None
    areas: Sequence[Tuple[QRectF, QColor]] = ()


class Legend(QGraphicsWidget):
    """Entries side by side, in as many rows as there is room for; what does not fit is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._ink = QColor()
        self._font = QFont()
        self._font.setPointSizeF(_POINTS)
        self._entries: List[Entry] = []
        self._corners: List[QPointF] = []
        self._width = self._room = 0.0

    def show_entries(self, entries: Sequence[Entry]) -> None:
        """Show these entries and no others."""
        self._entries = list(entries)
        self._arrange()

    def set_ink(self, ink: QColor) -> None:
        """Write the texts in a colour."""
        self._ink = ink
        self.update()

    def fit(self, width: float, room: float) -> None:
        """Fill a width; be no higher than `room`."""
        self._width, self._room = width, room
        self._arrange()

    def paint(self, painter: QPainter, option: Any, widget: Any = None) -> None:
        """Draw samples and texts."""
        painter.setFont(self._font)
        for entry, corner in zip(self._entries, self._corners):
            sample = SAMPLE.translated(corner)
            for area, colour in entry.areas:
                painter.fillRect(area.translated(sample.topLeft()), colour)
            if entry.pen is not None:
                painter.setPen(entry.pen)
                painter.drawLine(
                    QPointF(sample.left(), sample.center().y()), QPointF(sample.right(), sample.center().y())
                )
            painter.setPen(self._ink)
            beside = QRectF(sample.right() + _GAP, corner.y(), self._text_width(entry), SAMPLE.height())
            painter.drawText(
                beside,
                Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip,
                entry.text,
            )

    def _arrange(self) -> None:
        x, y = _GAP, 0.0
        corners = []
        for entry in self._entries:
            width = SAMPLE.width() + _GAP + self._text_width(entry)
            if corners and x + width > self._width:
                x, y = _GAP, y + _ROW
            if y + _ROW > self._room:
                break
            corners.append(QPointF(x, y))
            x += width + 2 * _GAP
        height = corners[-1].y() + _ROW if corners else 0.0
        self._corners = corners
        self.setMinimumHeight(height)
        self.setMaximumHeight(height)
        self.update()

    def _text_width(self, entry: Entry) -> float:
        return float(QFontMetricsF(self._font).horizontalAdvance(entry.text))


def shortened(name: str) -> str:
    """Return a name with an ellipsis for the middle of a long one: names of one run differ at their ends."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[: half - 1]}…{name[-half:]}"
