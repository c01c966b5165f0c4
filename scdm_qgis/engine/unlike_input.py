"""Say, before a reconstruction starts, in which ways its input differs from what the model was trained on."""

from __future__ import annotations

import math
from typing import List, Optional, Sequence, Tuple

import numpy as np

from scdm_qgis.core.bands import RGB_TOLERANCE_NM
from scdm_qgis.core.cascade_header import CascadeHeader
from scdm_qgis.core.rgb_comparison import rgb_differences
from scdm_qgis.core.rgb_noise import measure_detail
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.raster.cube import Cube
from scdm_qgis.raster.tiles import Window

SAMPLE_SIDE = 64
"""Side in pixels of the windows that are compared with the training data."""

SAMPLES_A_SIDE = 12
"""Most such windows in a row and in a column."""


def warn_of_unlike_input(
    cube: Cube, rgb_bands: Sequence[int], window: Window, header: CascadeHeader, events: EventWriter
) -> None:
    """Log a warning for every way in which the RGB bands and their pixels differ, as far as the model knows its own.

    Args:
        cube: the input.
        rgb_bands: its red, green and blue.
        window: the part that is reconstructed.
        header: of the model.
        events: where to log.
    """
    _compare_wavelengths(cube.spectrum.wavelengths_nm, rgb_bands, header, events)
    if header.rgb_distribution is None:
        return
    pixels, detail = _sample(cube, rgb_bands, window)
    differences = rgb_differences(pixels, detail, header.rgb_distribution) if len(pixels) else []
    for difference in differences:
        events.warning(difference)
    if differences:
        events.warning(
            "Spectra of pixels unlike the training data are guesses. Train on scenes that hold such pixels, or check "
            "that INPUT has the unit of the training data."
        )


def _compare_wavelengths(
    wavelengths_nm: Optional[Sequence[Optional[float]]],
    rgb_bands: Sequence[int],
    header: CascadeHeader,
    events: EventWriter,
) -> None:
    if wavelengths_nm is None:
        return
    last, known = header.stages[-1], next((s.condition.rgb_bands for s in header.stages if s.condition.rgb_bands), ())
    if last.wavelengths_nm is None or not set(known) <= set(last.bands):
        return
    here = [wavelengths_nm[band - 1] for band in rgb_bands]
    there = [last.wavelengths_nm[last.bands.index(band)] for band in known]
    if any(a is not None and b is not None and abs(a - b) > RGB_TOLERANCE_NM for a, b in zip(here, there)):
        found, trained = (", ".join("?" if nm is None else f"{nm:.0f}" for nm in of) for of in (here, there))
        events.warning(
            f"Red, green and blue are bands of {found} nm; the model was trained with bands of {trained} nm. "
            "Check the numbers and the order of RGB_BANDS."
        )


def _sample(cube: Cube, rgb_bands: Sequence[int], window: Window) -> Tuple[np.ndarray, np.ndarray]:
    """Return RGB pixels of pieces spread over the window, all of a small one, and their detail; (pixel, 3) each."""
    top, left, height, width = window
    pixels, detail = [], []
    for row, rows in spread(top, height):
        for column, columns in spread(left, width):
            rgb, valid = cube.read(rgb_bands, row, column, rows, columns)
            pixels.append(rgb[:, valid].T)
            detail.append(measure_detail(rgb, valid))
    return np.concatenate(pixels), np.concatenate(detail)


def spread(first: int, length: int) -> List[Tuple[int, int]]:
    """Return start and length of up to `SAMPLES_A_SIDE` pieces spread evenly over a length, none over another."""
    count = min(SAMPLES_A_SIDE, math.ceil(length / SAMPLE_SIDE))
    edges = [number * length // count for number in range(count + 1)]
    return [(first + start, min(SAMPLE_SIDE, end - start)) for start, end in zip(edges, edges[1:])]
