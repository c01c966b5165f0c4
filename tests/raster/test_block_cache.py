"""GDAL's cache is as large as asked, in processes of their own: GDAL reads its settings once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Callable

import numpy as np
import pytest

from scdm_qgis.raster.block_cache import LEAST_BYTES
from scdm_qgis.raster.cube import CACHE_BYTES

SIZE_OF_THE_CACHE = """
import ctypes, sys
from scdm_qgis.raster.block_cache import fit_block_cache
from scdm_qgis.raster.cube import open_cube
library = next(line.split()[-1] for line in open('/proc/self/maps') if 'libgdal' in line)
size = ctypes.CDLL(library).GDALGetCacheMax64
size.restype = ctypes.c_longlong
with open_cube(sys.argv[1]) as cube:
    cube.read([1])
    print(size())
    for rows in sys.argv[2:]:
        fit_block_cache(cube, int(rows))
        cube.read([1])
        print(size())
"""


@pytest.fixture
def sizes(make_raster: Callable[..., str], checkout: Any) -> Callable[..., list]:
    """Return a function from numbers of rows to the cache's bytes, before any and after each is fitted."""
    path = make_raster(np.zeros((1, 600, 32768), np.uint8), compress="deflate", blockysize=1)

    def measure(*rows: int, **settings: str) -> list:
        environment = {key: value for key, value in os.environ.items() if key != "GDAL_CACHEMAX"}
        command = [sys.executable, "-c", SIZE_OF_THE_CACHE, path, *map(str, rows)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=checkout, env={**environment, **settings}, check=True
        )
        return [int(line) for line in done.stdout.splitlines()]

    return measure


def test_the_cache_holds_the_rows_that_two_readers_read_again(sizes):
    assert sizes(1, 512, 600, 10**6) == [CACHE_BYTES, LEAST_BYTES, 2 * 512 * 32768, 2 * 600 * 32768, 2 * 600 * 32768]


def test_a_cache_that_the_user_has_chosen_stays(sizes):
    assert sizes(1, GDAL_CACHEMAX="100") == [100 * 2**20] * 2
