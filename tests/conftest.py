"""What all tests share: where the checkout, the built plugin and the real scenes are."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.errors import NotGeoreferencedWarning

# Property tests that depend neither on the machine's speed nor on luck.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let a test that skips fail where CI is set: everything is there, so it would check nothing and look right."""
    report = (yield).get_result()  # type: ignore[misc]
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the folder the sources lie in."""
    return CHECKOUT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real test data, or skip the test.

    The environment variable SCDM_TEST_DATA names it; by default it is `shared` beside the checkout.
    """
    folder = Path(os.environ.get("SCDM_TEST_DATA") or CHECKOUT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real test data: '{folder}' does not exist; set SCDM_TEST_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def scene(real_data: Path) -> Callable[[str], str]:
    """Return a function from the file name of a real scene to its path; it skips the test where it is missing."""

    def path_of(name: str) -> str:
        path = real_data / "scenes" / name
        if not path.is_file():
            pytest.skip(f"no real scene: '{path}' does not exist; set SCDM_TEST_DATA to the folder that holds scenes/")
        return str(path)

    return path_of


def write_raster(path: Path, values: Any, change: Any = None, **profile: Any) -> str:
    """Write values (band, row, column) and return the path; `change` gets the open dataset before they are written."""
    values = np.asarray(values)
    band_count, height, width = values.shape
    settings_ = {"driver": "GTiff", "count": band_count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{**settings_, **profile}) as dataset:
            if change is not None:
                change(dataset)
            dataset.write(values)
    return str(path)


@pytest.fixture
def make_raster(tmp_path) -> Callable[..., str]:
    """Return a function that writes values (band, row, column) and returns the path, see `write_raster`."""

    def make(values: Any, name: str = "raster.tif", change: Any = None, **profile: Any) -> str:
        return write_raster(tmp_path / name, values, change, **profile)

    return make
