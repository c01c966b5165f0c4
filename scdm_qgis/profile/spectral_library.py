"""ENVI spectral libraries: the curves as rows of float64 in NAME.sli, what they are in NAME.hdr."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Sequence, Tuple

import numpy as np

from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.profile.curves import PinnedCurve
from scdm_qgis.raster.spectral import Spectrum

_FLOAT64 = 5  # ENVI's number for the data type


def library_files(path: str, curves: Sequence[PinnedCurve]) -> List[str]:
    """Return the paths of all files that `write_spectral_libraries` writes, headers included."""
    names = _names(path, len(_of_the_same_bands(curves)))
    return [file for name in names for file in (name, _header_path(name))]


def write_spectral_libraries(path: str, curves: Sequence[PinnedCurve]) -> List[str]:
    """Write the curves and return the paths of the .sli files.

    The spectra of one library share their bands, so there is one file for every set of bands: the first under
    `path`, the others under the name with _2, _3, ... Bands that are nodata hold NaN.

    Args:
        path: the file's name, ending in .sli.
        curves: at least one.

    Raises:
        OSError: a file cannot be written.
    """
    libraries = _of_the_same_bands(curves)
    names = _names(path, len(libraries))
    for name, members in zip(names, libraries):
        _write_library(name, members[0].curve.spectrum, members)
    return names


def _of_the_same_bands(curves: Sequence[PinnedCurve]) -> List[List[PinnedCurve]]:
    libraries: Dict[Tuple[object, ...], List[PinnedCurve]] = {}
    for pinned in curves:
        spectrum = pinned.curve.spectrum
        libraries.setdefault((spectrum.wavelengths_nm, spectrum.bad), []).append(pinned)
    return list(libraries.values())


def _names(path: str, count: int) -> List[str]:
    root, ending = os.path.splitext(path)
    return [path if number == 1 else f"{root}_{number}{ending}" for number in range(1, count + 1)]


def _header_path(path: str) -> str:
    return os.path.splitext(path)[0] + ".hdr"


def _write_library(path: str, spectrum: Spectrum, members: Sequence[PinnedCurve]) -> None:
    values = np.stack([pinned.curve.values for pinned in members])
    with written_whole(path) as partial, open(partial, "wb") as file:
        file.write(values.astype("<f8").tobytes())
    with written_whole(_header_path(path)) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(_header(spectrum, members))


def _header(spectrum: Spectrum, members: Sequence[PinnedCurve]) -> str:
    lines = [
        "ENVI",
        f"samples = {len(members[0].curve.values)}",
        f"lines = {len(members)}",
        "bands = 1",
        "header offset = 0",
        "file type = ENVI Spectral Library",
        f"data type = {_FLOAT64}",
        "interleave = bsq",
        "byte order = 0",
        f"spectra names = {_braced(_spectrum_name(pinned) for pinned in members)}",
    ]
    if spectrum.wavelengths_nm is not None and None not in spectrum.wavelengths_nm:
        lines.append("wavelength units = Nanometers")
        lines.append(f"wavelength = {_braced(map(repr, spectrum.wavelengths_nm))}")
        if spectrum.fwhm_nm is not None and None not in spectrum.fwhm_nm:
            lines.append(f"fwhm = {_braced(map(repr, spectrum.fwhm_nm))}")
    if any(spectrum.bad):
        lines.append(f"bbl = {_braced('0' if bad else '1' for bad in spectrum.bad)}")
    return "\n".join(lines) + "\n"


def _braced(items: Iterable[str]) -> str:
    return "{" + ", ".join(items) + "}"


def _spectrum_name(pinned: PinnedCurve) -> str:
    """Return a name without the characters that ENVI's lists are made of."""
    name = f"pin {pinned.pin} {pinned.layer}"
    return "".join(" " if character in "{},=\r\n" else character for character in name)
