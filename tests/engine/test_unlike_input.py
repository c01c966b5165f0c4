from types import SimpleNamespace

import numpy as np
import pytest

from scdm_qgis.core.rgb_comparison import measure_distribution
from scdm_qgis.core.rgb_noise import measure_detail
from scdm_qgis.engine.unlike_input import spread, warn_of_unlike_input
from scdm_qgis.raster.cube import open_cube


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 768, 5000])
def test_windows_compared_with_the_training_data_do_not_overlap(length):
    windows = spread(7, length)
    assert windows[0][0] == 7 and sum(windows[-1]) <= 7 + length
    assert all(start + size <= following for (start, size), (following, _) in zip(windows, windows[1:]))
    assert sum(size for _, size in windows) == min(length, 12 * 64)


@pytest.mark.parametrize(
    ("trained", "reconstructed", "rgb", "noisy"),
    [
        ("pavia_university_train.tif", "pavia_university_test.tif", (60, 30, 10), ["green", "blue"]),
        ("aviris_airport1.tif", "aviris_airport3.tif", (30, 20, 11), []),
    ],
)
def test_the_noise_of_real_scenes_is_compared(scene, recorder, trained, reconstructed, rgb, noisy):
    """Pavia's training raster is smoothed, its test raster is not; both of AVIRIS are measured values."""
    with open_cube(scene(trained)) as cube:
        values, valid = cube.read(rgb)
    known = measure_distribution(np.ascontiguousarray(values[:, valid].T), measure_detail(values, valid))
    with open_cube(scene(reconstructed)) as cube:
        window = 0, 0, cube.height, cube.width
        stage = SimpleNamespace(wavelengths_nm=None, bands=rgb, condition=SimpleNamespace(rgb_bands=rgb))
        header = SimpleNamespace(rgb_distribution=known, stages=[stage])
        warn_of_unlike_input(cube, rgb, window, header, recorder.events)
    said = [line for line in recorder.messages().splitlines() if "noisier" in line]
    assert [colour for colour in ("red", "green", "blue") if any(f"{colour} (" in line for line in said)] == noisy
