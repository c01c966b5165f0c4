import pytest

from scdm_qgis.engine.unlike_input import spread


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 768, 5000])
def test_windows_compared_with_the_training_data_do_not_overlap(length):
    windows = spread(7, length)
    assert windows[0][0] == 7 and sum(windows[-1]) <= 7 + length
    assert all(start + size <= following for (start, size), (following, _) in zip(windows, windows[1:]))
    assert sum(size for _, size in windows) == min(length, 12 * 64)
