"""Import MATLAB Cube: an array rows x columns x bands of a .mat file becomes a GeoTIFF."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np
from affine import Affine

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.job_values import read_wavelengths
from scdm_qgis.engine.jobs import ImportMatlabCube
from scdm_qgis.engine.matlab_file import MatlabCube, open_matlab_cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat, choose_nodata

_STRIP_ROWS = 64
_OUTPUT_TYPES = {"uint8", "int16", "uint16", "int32", "uint32", "float32"}


def run(job: ImportMatlabCube, events: EventWriter) -> Dict[str, Any]:
    """Write the cube without a georeference, which MATLAB arrays do not have.

    Whole numbers of up to 32 bits keep their type (int8 becomes int16); all else becomes float32.
    A pixel with a value that is not finite becomes nodata.

    Raises:
        UserError: an unreadable file, no or several arrays to choose from, values that are not real
            numbers, or wavelengths that do not fit the bands.
    """
    with open_matlab_cube(job.input, job.variable) as cube:
        events.info(f"'{cube.name}' has {cube.height} rows, {cube.width} columns and {cube.band_count} bands.")
        wavelengths_nm = _wavelengths(job, cube.band_count)
        holes = 0
        with CubeWriter(job.output, _output_format(cube, wavelengths_nm)) as writer:
            for row in range(0, cube.height, _STRIP_ROWS):
                rows = min(_STRIP_ROWS, cube.height - row)
                values = cube.read_rows(row, rows)
                valid = np.isfinite(values).all(axis=0)
                writer.write(row, 0, values, valid)
                holes += int(np.count_nonzero(~valid))
                events.progress(100 * (row + rows) / cube.height, f"{row + rows} of {cube.height} rows")
            if holes == cube.height * cube.width:
                raise UserError(
                    f"No pixel of '{cube.name}' has a finite value in every band.",
                    "Remove bands that hold no numbers before saving the file in MATLAB.",
                )
    if writer.clipped:
        events.warning(f"{writer.clipped} values lay outside the output's data type and were clipped to its limits.")
    if holes:
        events.warning(f"{holes} pixels have values that are not finite: they are nodata now.")
    return {"OUTPUT": job.output}


def _wavelengths(job: ImportMatlabCube, band_count: int) -> Optional[Tuple[float, ...]]:
    wavelengths_nm = read_wavelengths(job.wavelengths)
    if wavelengths_nm is None:
        return None
    if isinstance(job.wavelengths, str) and "," not in job.wavelengths and len(wavelengths_nm) == 2:
        return tuple(float(wavelength) for wavelength in np.linspace(*wavelengths_nm, band_count))
    if len(wavelengths_nm) != band_count:
        raise UserError(
            f"WAVELENGTHS has {len(wavelengths_nm)} numbers, but the cube has {band_count} bands.",
            "Give one a band, or the first and the last such as 430-860.",
        )
    return wavelengths_nm


def _output_format(cube: MatlabCube, wavelengths_nm: Optional[Tuple[float, ...]]) -> OutputFormat:
    dtype = "int16" if cube.dtype.name == "int8" else cube.dtype.name
    dtype = dtype if dtype in _OUTPUT_TYPES else "float32"
    return OutputFormat(
        height=cube.height,
        width=cube.width,
        band_count=cube.band_count,
        dtype=dtype,
        nodata=choose_nodata(dtype, None),
        crs=None,
        transform=Affine.identity(),
        wavelengths_nm=wavelengths_nm,
        fwhm_nm=None,
    )
