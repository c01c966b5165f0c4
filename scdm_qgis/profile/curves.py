"""What was read at a place of one raster, and how it lies on the axis of a plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Iterable, List, Optional, Tuple

import numpy as np

from scdm_qgis.raster.spectral import Spectrum

HOVER = 0
"""What the curves under the mouse have for a pin's number; pins count from 1."""


class Role(Enum):
    """What a raster is in a comparison."""

    PREDICTION = "prediction"
    TRUTH = "ground_truth"
    COARSE = "coarse_stage"
    UNCERTAINTY = "uncertainty"
    OTHER = "other"

    @property
    def title(self) -> str:
        """Return what users read."""
        return self.value.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Curve:
    """The spectrum of one raster at one place.

    Args:
        values: per data band, float64 in data units, NaN where nodata.
        spread: standard deviation over the pixels of the window, likewise; zeros for a single pixel.
        pixels: how many pixels it is the mean of.
        spectrum: what is known of the bands.
    """

    values: np.ndarray
    spread: np.ndarray
    pixels: int
    spectrum: Spectrum

    @cached_property
    def wavelengths_nm(self) -> Optional[Tuple[float, ...]]:
        """Return a wavelength for every band; None where one is missing."""
        known = [wavelength for wavelength in self.spectrum.wavelengths_nm or () if wavelength is not None]
        return tuple(known) if len(known) == len(self.values) else None

    def without_bad_bands(self) -> np.ndarray:
        """Return the values with NaN in bands that are flagged as bad."""
        return np.where(self.spectrum.bad, math.nan, self.values)


@dataclass(frozen=True)
class PinnedCurve:
    """A curve with the place and the raster it comes from, for files and tables.

    Args:
        pin: the pin's number.
        x, y: the place, in the coordinate system `crs` ("" where there is none).
        window: what it is the mean of: "3 x 3" pixels, or a "polygon".
        layer, role: the raster's name, and what it is.
    """

    pin: int
    x: float
    y: float
    crs: str
    window: str
    layer: str
    role: Role
    curve: Curve


def all_have_wavelengths(curves: Iterable[Curve]) -> bool:
    """Return whether a common axis in nm is possible: there are curves, and every band has its wavelength."""
    known = [curve.wavelengths_nm is not None for curve in curves]
    return bool(known) and all(known)


def axis_positions(curve: Curve, by_wavelength: bool) -> np.ndarray:
    """Return where each band lies: in nm, or at its number."""
    if by_wavelength and curve.wavelengths_nm is not None:
        return np.array(curve.wavelengths_nm)
    return np.arange(1.0, len(curve.values) + 1)


def drawing_order(positions: np.ndarray) -> np.ndarray:
    """Return the indices that sort bands along the axis: sensors with several detectors overlap."""
    return np.argsort(positions, kind="stable")


def lone_points(values: np.ndarray) -> np.ndarray:
    """Return which values have no neighbour to draw a line to, bool: between two gaps."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    return known[1:-1] & ~known[:-2] & ~known[2:]


def unbroken_runs(values: np.ndarray) -> List[slice]:
    """Return the pieces between gaps that hold two values or more."""
    known = np.concatenate([[False], np.isfinite(values), [False]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(known) == 1), np.flatnonzero(np.diff(known) == -1)
    return [slice(start, end) for start, end in zip(starts, ends) if end - start > 1]
