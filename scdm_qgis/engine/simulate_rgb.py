"""Simulate RGB from Hyperspectral: cut the red, the green and the blue band out of a cube."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from scdm_qgis.core.bands import choose_rgb_bands, parse_band_numbers
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.job_paths import check_apart
from scdm_qgis.engine.jobs import SimulateRgb
from scdm_qgis.raster.cube import Cube, open_cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat, choose_nodata

_STRIP_ROWS = 64


def run(job: SimulateRgb, events: EventWriter) -> Dict[str, Any]:
    """Write three bands of the input as they are, in its data type, with its georeference and mask.

    Raises:
        UserError: an unreadable input, one that the output is part of, or no way to know its red, green and blue bands.
    """
    with open_cube(job.input) as cube:
        check_apart(job.output_paths(), cube.files)
        bands = _rgb_bands(cube, job)
        events.info(f"Red, green and blue are bands {bands[0]}, {bands[1]} and {bands[2]}.")
        with CubeWriter(job.output, _output_format(cube, bands)) as writer:
            for row in range(0, cube.height, _STRIP_ROWS):
                rows = min(_STRIP_ROWS, cube.height - row)
                values, valid = cube.read_native(bands, row, 0, rows, cube.width)
                writer.write(row, 0, values, valid)
                events.progress(100 * (row + rows) / cube.height, f"{row + rows} of {cube.height} rows")
    return {"OUTPUT": job.output}


def _rgb_bands(cube: Cube, job: SimulateRgb) -> Tuple[int, int, int]:
    wavelengths_nm = cube.spectrum.wavelengths_nm
    if wavelengths_nm is None or parse_band_numbers(job.rgb_bands, cube.band_count):
        return choose_rgb_bands(job.rgb_bands, cube.band_count)
    empty = cube.empty_bands()
    usable = [band not in empty and not cube.spectrum.bad[band - 1] for band in range(1, cube.band_count + 1)]
    return choose_rgb_bands(None, cube.band_count, wavelengths_nm, usable)


def _output_format(cube: Cube, bands: Tuple[int, ...]) -> OutputFormat:
    wavelengths_nm, fwhm_nm = cube.spectrum.wavelengths_nm, cube.spectrum.fwhm_nm
    return OutputFormat(
        height=cube.height,
        width=cube.width,
        band_count=len(bands),
        dtype=cube.dtype,
        nodata=choose_nodata(cube.dtype, cube.nodata),
        crs=cube.crs,
        transform=cube.transform,
        wavelengths_nm=wavelengths_nm and tuple(wavelengths_nm[band - 1] for band in bands),
        fwhm_nm=fwhm_nm and tuple(fwhm_nm[band - 1] for band in bands),
        rgb=True,
    )
