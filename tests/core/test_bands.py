import pytest
from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.core.bands import (
    choose_rgb_bands,
    match_bands,
    parse_band_numbers,
    stage_band_count,
    stage_band_indices,
)
from scdm_qgis.core.errors import UserError


@pytest.mark.parametrize(("bands", "coarse"), [(48, 12), (102, 17), (103, 18), (205, 25), (218, 26)])
def test_two_stage_band_counts_of_the_paper(bands, coarse):
    assert stage_band_count(bands, 1, 2) == coarse
    assert stage_band_count(bands, 2, 2) == bands


def test_houston_takes_every_fourth_band():
    assert stage_band_indices(48, 1, 2) == tuple(range(0, 48, 4))


@given(st.integers(3, 400), st.integers(1, 6))
def test_every_stage_adds_bands_and_the_last_has_all(bands, stages):
    counts = [stage_band_count(bands, stage, stages) for stage in range(1, stages + 1)]
    assert counts == sorted(counts)
    assert counts[-1] == bands
    assert counts[0] >= 3
    for stage in range(1, stages + 1):
        indices = stage_band_indices(bands, stage, stages)
        assert indices[0] == 0
        assert list(indices) == sorted(set(indices))
        assert indices[-1] < bands


def test_band_text_with_ranges():
    assert parse_band_numbers("1-4, 9,7", 10) == (1, 2, 3, 4, 9, 7)
    assert parse_band_numbers("", 10) == ()
    assert parse_band_numbers([3, 1], 3) == (3, 1)


@pytest.mark.parametrize("text", ["0", "11", "1,,2", "a", "4-2", "1-3,2", "-1", "1.5"])
def test_bad_band_text_is_refused(text):
    with pytest.raises(UserError):
        parse_band_numbers(text, 10)


def test_rgb_by_wavelength_skips_unusable_bands():
    wavelengths = [450, 470, 540, 560, 630, 645, 700, 900]
    assert choose_rgb_bands(None, 8, wavelengths) == (6, 3, 1)
    usable = [True] * 8
    usable[5] = False
    assert choose_rgb_bands("", 8, wavelengths, usable) == (5, 3, 1)


def test_rgb_by_position_only_where_asked_and_only_for_images():
    assert choose_rgb_bands(None, 3, None, by_position=True) == (1, 2, 3)
    assert choose_rgb_bands(None, 4, None, by_position=True) == (1, 2, 3)
    for count, by_position in ((3, False), (5, True)):
        with pytest.raises(UserError, match="not known from wavelengths"):
            choose_rgb_bands(None, count, None, by_position=by_position)
    for wavelengths in ([865, 665, 560], [None, None, 2190], [560, 665, 842, 1610]):
        with pytest.raises(UserError, match="give no usable band of its own for each of red"):
            choose_rgb_bands(None, len(wavelengths), wavelengths, by_position=True)
    with pytest.raises(UserError, match="not known from wavelengths"):
        choose_rgb_bands(None, 3, None, usable=[False, True, True], by_position=True)
    for bands in (None, "1,2,1"):
        with pytest.raises(UserError, match="The raster has 2 bands"):
            choose_rgb_bands(bands, 2, None, by_position=True)


def test_infrared_bands_are_not_taken_for_colours():
    with pytest.raises(UserError):
        choose_rgb_bands(None, 4, [800, 900, 1000, 1100])


def test_rgb_needs_three_bands():
    assert choose_rgb_bands("60,30,10", 103) == (60, 30, 10)
    with pytest.raises(UserError, match="names 2 bands"):
        choose_rgb_bands("60,30", 103)


def test_bands_match_by_wavelength_each_once():
    assert match_bands((500.0, 600.0, 700.0), 3, (701.0, 502.0), 2) == ((1, 2), (3, 1))
    assert match_bands((500.0, 503.0), 2, (502.0,), 1) == ((2, 1),)


def test_bands_match_by_position_without_wavelengths():
    assert match_bands(None, 2, (500.0, 600.0), 2) == ((1, 1), (2, 2))
    with pytest.raises(UserError):
        match_bands(None, 2, None, 3)
    with pytest.raises(UserError):
        match_bands((500.0,), 1, (900.0,), 1)
