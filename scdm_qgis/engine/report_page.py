"""One self-contained HTML page: sections of text, tables and figures, readable without a network.

    page = render_report("Training of stage 1", [
        Section("Loss", ["The loss fell from 0.9 to 0.1."], pictures=[picture(figure, "Loss by iteration")]),
    ])

All text is escaped. Figures are SVG inside the page, drawn without pyplot (`matplotlib.figure.Figure`).
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Optional, Sequence

import jinja2
import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font-family: sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; padding-bottom: 0.2rem; }
p { line-height: 1.5; max-width: 48rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td { overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; }
figcaption { color: #555; font-size: 0.9rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for paragraph in section.paragraphs %}
<p>{{ paragraph }}</p>
{% endfor %}
{% if section.table %}
<table>
<thead><tr>{% for name in section.table.header %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in section.table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endif %}
{% for picture in section.pictures %}
<figure>
<img src="{{ picture.source }}" alt="{{ picture.caption }}">
<figcaption>{{ picture.caption }}</figcaption>
</figure>
{% endfor %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Table:
    """A table of texts; every row is as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and the caption that stands below it."""

    source: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then a table, then pictures; each may be missing."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Optional[Table] = None
    pictures: Sequence[Picture] = ()


def picture(figure: Figure, caption: str) -> Picture:
    """Draw a figure as SVG for the page.

    Give file names to the caption, not to the figure: its font lacks many of the world's letters.
    """
    # A fixed salt makes the drawing the same each time; metadata would hold the date and web addresses.
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawing = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "scdm"}):
        FigureCanvasSVG(figure).print_svg(drawing, metadata=nothing)
    code = base64.b64encode(drawing.getvalue()).decode("ascii")
    return Picture(f"data:image/svg+xml;base64,{code}", caption)


def render_report(title: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML text, to be written as UTF-8."""
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    return page.render(title=title, sections=sections) + "\n"
