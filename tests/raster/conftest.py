"""Small rasters to read, and property tests that do not depend on the machine's speed or luck."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.errors import NotGeoreferencedWarning

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture
def make_raster(tmp_path) -> Callable[..., str]:
    """Return a function that writes values (band, row, column) and returns the path.

    `change` is called with the open dataset before the values are written.
    """

    def make(values: Any, name: str = "raster.tif", change: Any = None, **profile: Any) -> str:
        values = np.asarray(values)
        path = str(tmp_path / name)
        band_count, height, width = values.shape
        settings_ = {"driver": "GTiff", "count": band_count, "height": height, "width": width, "dtype": values.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **{**settings_, **profile}) as dataset:
                if change is not None:
                    change(dataset)
                dataset.write(values)
        return path

    return make
