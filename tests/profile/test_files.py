"""The files the curves are written to, read back by others."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Callable, List

import numpy as np
import pytest
import spectral.io.envi
from osgeo import gdal

from scdm_qgis.profile.curve_table import write_csv
from scdm_qgis.profile.curves import Curve, PinnedCurve, Role
from scdm_qgis.profile.spectral_library import write_spectral_libraries

WAVELENGTHS = (430.5, 560.123456789, 1010.25)
Make = Callable[..., Curve]


@pytest.fixture
def pinned(make_curve: Make) -> List[PinnedCurve]:
    """Return two pins on a raster with wavelengths, and one on a raster of two bands without."""

    def at(pin: int, layer: str, curve: Curve) -> PinnedCurve:
        return PinnedCurve(pin, 500000.1 + pin, 5800000.7, "EPSG:32633", "3 x 3", layer, Role.TRUTH, curve)

    return [
        at(1, "a, {first}", make_curve([1.1, 1 / 3, -7e20], WAVELENGTHS, bad=[1])),
        at(1, 'b "second"', make_curve([5, math.nan])),
        at(2, "a, {first}", make_curve([4, math.nan, 6], WAVELENGTHS, bad=[1])),
    ]


def test_csv_holds_every_number_exactly(pinned: List[PinnedCurve], tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write_csv(str(path), pinned)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["pin", "x", "y", "crs", "layer", "band", "wavelength", "value", "role", "window"]
    assert len(rows) == 8
    expected = [(one, index) for one in pinned for index in range(len(one.curve.values))]
    for row, (one, index) in zip(rows, expected):
        value, wavelengths = one.curve.values[index], one.curve.wavelengths_nm
        assert (int(row["pin"]), float(row["x"]), float(row["y"]), row["crs"]) == (one.pin, one.x, one.y, one.crs)
        assert (row["layer"], int(row["band"])) == (one.layer, index + 1)
        assert (row["role"], row["window"]) == ("ground_truth", "3 x 3")
        assert row["value"] == "" if math.isnan(value) else float(row["value"]) == value
        assert row["wavelength"] == "" if wavelengths is None else float(row["wavelength"]) == wavelengths[index]


def test_an_independent_parser_reads_the_spectral_library(pinned: List[PinnedCurve], tmp_path: Path) -> None:
    path = str(tmp_path / "library.sli")
    written = write_spectral_libraries(path, pinned)
    assert written == [path, str(tmp_path / "library_2.sli")]
    library = spectral.io.envi.open(str(tmp_path / "library.hdr"))
    assert isinstance(library, spectral.io.envi.SpectralLibrary)
    expected = np.stack([pinned[0].curve.values, pinned[2].curve.values])
    np.testing.assert_array_equal(library.spectra, expected)
    assert library.names == ["pin 1 a   first", "pin 2 a   first"]
    assert tuple(library.bands.centers) == WAVELENGTHS
    assert library.bands.band_unit == "Nanometers"
    assert library.metadata["bbl"] == ["1", "0", "1"]
    second = spectral.io.envi.open(str(tmp_path / "library_2.hdr"))
    np.testing.assert_array_equal(second.spectra, [[5, math.nan]])
    assert "wavelength" not in second.metadata


def test_the_header_is_what_envi_asks_for(pinned: List[PinnedCurve], tmp_path: Path) -> None:
    write_spectral_libraries(str(tmp_path / "library.sli"), pinned)
    header = (tmp_path / "library.hdr").read_text(encoding="utf-8")
    assert header.startswith("ENVI\n")
    for line in (
        "samples = 3",
        "lines = 2",
        "bands = 1",
        "header offset = 0",
        "file type = ENVI Spectral Library",
        "data type = 5",
        "interleave = bsq",
        "byte order = 0",
        "wavelength units = Nanometers",
    ):
        assert line in header.splitlines()
    assert os.path.getsize(tmp_path / "library.sli") == 2 * 3 * 8


def test_gdal_reads_the_same_values_as_a_plain_raster(pinned: List[PinnedCurve], tmp_path: Path) -> None:
    write_spectral_libraries(str(tmp_path / "library.sli"), pinned[::2])
    header = tmp_path / "library.hdr"
    header.write_text(header.read_text().replace("ENVI Spectral Library", "ENVI Standard"))
    dataset = gdal.Open(str(tmp_path / "library.sli"))
    assert dataset.GetDriver().ShortName == "ENVI"
    np.testing.assert_array_equal(dataset.ReadAsArray(), np.stack([one.curve.values for one in pinned[::2]]))


def test_a_file_that_cannot_be_written_leaves_nothing(pinned: List[PinnedCurve], tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_csv(str(tmp_path / "missing" / "curves.csv"), pinned)
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(OSError):
        write_csv(str(tmp_path / "taken.csv"), pinned)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]
