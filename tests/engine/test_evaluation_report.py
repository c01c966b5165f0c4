"""The report of Evaluate Reconstruction: one page, whole and offline."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import List, Optional, Tuple
from xml.etree import ElementTree

import numpy as np

from tests.engine.evaluated_cubes import WAVELENGTHS_NM, run, write_cube


class _Page(HTMLParser):
    """Collects what a page would load, its headings, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: List[str] = []
        self.open_tags: List[str] = []
        self.headings: List[str] = []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_report_is_one_offline_page(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    name = "a <b>&'x' ü 水.tif"
    first = write_cube(tmp_path / name, cubes[0], WAVELENGTHS_NM)
    second = write_cube(tmp_path / "r.tif", cubes[1], WAVELENGTHS_NM)
    result, _ = run(first, second, output_html=tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open_tags == []
    assert page.headings[0] == f"Evaluation of {name}"
    assert "<b>" not in text
    assert len(page.loaded) == 4 and all(source.startswith("data:image/svg+xml;base64,") for source in page.loaded)
    assert not re.search(r"url\(|@import|<script|<link|<iframe", text)
    assert f"{result['RMSE']:.6g}" in text and f"{result['SAM']:.5f} rad" in text
    assert "peak value" in text and "r.tif" in text
    for source in page.loaded:
        drawing = ElementTree.fromstring(base64.b64decode(source.split(",", 1)[1]))
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        links = [value for node in drawing.iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert all(link.startswith(("#", "data:")) for link in links)


def test_report_is_the_same_each_time(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    for name in ("a.html", "b.html"):
        run(first, second, output_html=tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_report_of_one_row_and_of_one_pixel(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    for index, window in enumerate((np.s_[:, :1, :], np.s_[:, :, :1], np.s_[:1, :1, :1])):
        first = write_cube(tmp_path / f"p{index}.tif", cubes[0][window])
        second = write_cube(tmp_path / f"r{index}.tif", cubes[1][window])
        result, events = run(first, second, output_html=tmp_path / "e.html", output_json=tmp_path / "e.json")
        assert math.isnan(result["MSSIM"])
        assert any(event.get("level") == "warning" and "MSSIM" in event["message"] for event in events)
        assert json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["mssim"] is None
