"""Create Demo Scene: a synthetic hyperspectral raster to try everything on."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any, Dict, Tuple

import numpy as np
from affine import Affine
from rasterio._err import CPLE_BaseError  # what GDAL says where rasterio has no word of its own for it
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_points

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.demo_scene import DemoScene
from scdm_qgis.engine.demo_spectra import band_centres
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import CreateDemoScene
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat

DEFAULT_CRS = "EPSG:32633"
REFLECTANCE_SCALE = 10_000
NODATA = 65_535.0

_LONGITUDE, _LATITUDE = 13.0, 52.4
_DEGREES_A_PIXEL = 1e-5
_STRIP_ROWS = 64


def run(job: CreateDemoScene, events: EventWriter) -> Dict[str, Any]:
    """Write the scene, and the RGB image of it where one is asked for.

    Values are reflectance x 10000 as uint16, from 400 to 1000 nm, one metre a pixel.

    Raises:
        UserError: a CRS that is unknown or does not reach the scene's place; too few bands for RGB.
    """
    crs, transform = _place(job.crs or DEFAULT_CRS, job.size, job.seed)
    wavelengths_nm, fwhm_nm = band_centres(job.bands)
    scene = DemoScene(job.size, wavelengths_nm, fwhm_nm, job.seed)
    all_bands = tuple(range(1, job.bands + 1))
    with ExitStack() as stack:
        outputs = [(all_bands, stack.enter_context(_writer(job.output, all_bands, job, crs, transform)))]
        if job.rgb_output is not None:
            rgb = _rgb_bands(wavelengths_nm)
            outputs.append((rgb, stack.enter_context(_writer(job.rgb_output, rgb, job, crs, transform))))
        for row in range(0, job.size, _STRIP_ROWS):
            rows = min(_STRIP_ROWS, job.size - row)
            values = np.clip(scene.reflectance(row, rows) * REFLECTANCE_SCALE, 0, NODATA - 1)
            for bands, writer in outputs:
                writer.write(row, 0, values[[band - 1 for band in bands]], np.ones(values.shape[1:], bool))
            events.progress(100 * (row + rows) / job.size, f"{row + rows} of {job.size} rows")
    results = {"OUTPUT": job.output}
    if job.rgb_output is not None:
        results["RGB_OUTPUT"] = job.rgb_output
    return results


def _writer(path: str, bands: Tuple[int, ...], job: CreateDemoScene, crs: CRS, transform: Affine) -> CubeWriter:
    wavelengths_nm, fwhm_nm = band_centres(job.bands)
    output_format = OutputFormat(
        height=job.size,
        width=job.size,
        band_count=len(bands),
        dtype="uint16",
        nodata=NODATA,
        crs=crs,
        transform=transform,
        wavelengths_nm=tuple(float(wavelengths_nm[band - 1]) for band in bands),
        fwhm_nm=(fwhm_nm,) * len(bands),
        rgb=path == job.rgb_output,
    )
    return CubeWriter(path, output_format)


def _rgb_bands(wavelengths_nm: np.ndarray) -> Tuple[int, int, int]:
    try:
        return choose_rgb_bands(None, len(wavelengths_nm), [float(wavelength) for wavelength in wavelengths_nm])
    except UserError as error:
        raise UserError(
            f"{len(wavelengths_nm)} bands from 400 to 1000 nm do not tell red, green and blue apart.",
            "Set BANDS to 8 or more, or leave RGB_OUTPUT empty.",
        ) from error


def _place(crs_text: str, size: int, seed: int) -> Tuple[CRS, Affine]:
    """Put scenes near Potsdam; scenes of different seeds lie side by side, not on each other."""
    try:
        crs = CRS.from_user_input(crs_text)
        (east,), (north,) = transform_points(CRS.from_epsg(4326), crs, [_LONGITUDE], [_LATITUDE])
    except CRSError as error:
        raise UserError(f"The CRS '{crs_text}' is unknown.", "Give a code such as EPSG:32633.") from error
    except CPLE_BaseError:
        east = north = math.nan
    on_a_map = crs.is_geographic or crs.is_projected  # not of heights, nor of a building site
    if not (on_a_map and math.isfinite(east) and math.isfinite(north)):
        raise UserError(
            f"The CRS '{crs_text}' does not reach the demo scene's place near Potsdam.",
            "Give a CRS such as EPSG:32633.",
        )
    pixel = _DEGREES_A_PIXEL if crs.is_geographic else 1.0
    east, north = round(east / pixel) * pixel, round(north / pixel) * pixel
    return crs, Affine(pixel, 0.0, east + (seed % 64) * size * pixel, 0.0, -pixel, north)
