"""Curves as a CSV table: one row a band."""

from __future__ import annotations

import csv
import math
from typing import Sequence

from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.profile.curves import PinnedCurve

COLUMNS = ("pin", "x", "y", "crs", "layer", "band", "wavelength", "value", "role", "window")


def write_csv(path: str, curves: Sequence[PinnedCurve]) -> None:
    """Write all bands of all curves, in full precision; wavelengths are in nm.

    A wavelength that is not known, and a value that is nodata, is an empty field.

    Raises:
        OSError: the file cannot be written.
    """
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for pinned in curves:
            curve = pinned.curve
            wavelengths = curve.spectrum.wavelengths_nm or (None,) * len(curve.values)
            for band, (wavelength, value) in enumerate(zip(wavelengths, curve.values.tolist()), start=1):
                place = (pinned.pin, repr(pinned.x), repr(pinned.y), pinned.crs)
                known = "" if wavelength is None else repr(wavelength)
                number = "" if math.isnan(value) else repr(value)
                table.writerow((*place, pinned.layer, band, known, number, pinned.role.value, pinned.window))
