"""GDAL's block cache: what a run reads again and no more, as a larger one only fills up with old blocks."""

from __future__ import annotations

import os

from rasterio.env import set_gdal_config

from scdm_qgis.raster.cube import CACHE_BYTES, Cube

LEAST_BYTES = 8 * 2**20


def fit_block_cache(cube: Cube, rows: int) -> None:
    """Make the cache hold the blocks of some neighbouring rows for two that read a raster one after the other.

    It never becomes larger than `CACHE_BYTES`. A size that the user has chosen with GDAL_CACHEMAX stays.

    Args:
        cube: what is read.
        rows: how many rows are read again, at most.
    """
    if os.environ.get("GDAL_CACHEMAX") == str(CACHE_BYTES):
        wanted = 2 * cube.bytes_of_rows(rows)
        set_gdal_config("GDAL_CACHEMAX", min(max(wanted, LEAST_BYTES), CACHE_BYTES))
