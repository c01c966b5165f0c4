"""Wavelengths, widths and bad-band flags are found in every place, in the stated order, and never crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scdm_qgis.raster.spectral import read_spectrum, spectral_tags

NONE = {"": {}}


def imagery(*wavelengths_um):
    return [{"IMAGERY": {"CENTRAL_WAVELENGTH_UM": str(w)}} for w in wavelengths_um]


def in_bands(*tags):
    return [{"": dict(tag)} for tag in tags]


def test_band_imagery_domain_is_in_micrometres():
    bands = [{"IMAGERY": {"CENTRAL_WAVELENGTH_UM": "0.55", "FWHM_UM": "0.0100"}}]
    spectrum = read_spectrum({}, bands, [None])
    assert spectrum.wavelengths_nm == (550.0,)
    assert spectrum.fwhm_nm == (10.0,)
    assert not spectrum.unit_guessed
    assert "IMAGERY" in spectrum.origin


@pytest.mark.parametrize(
    ("tags", "expected_nm"),
    [
        ({"wavelength": "550", "wavelength_units": "Nanometers"}, 550.0),
        ({"wavelength": "550", "wavelength_unit": "nm"}, 550.0),
        ({"wavelengths": "0.55", "wavelength_units": "Micrometers"}, 550.0),
        ({"wavelength": " 0.55 ", "wavelength_units": " um "}, 550.0),
        ({"Wavelength": "0.55", "Wavelength Units": "µm"}, 550.0),
        ({"wavelength": "0.55", "wavelength_units": "\u03bcm"}, 550.0),
        ({"wavelength": "0.55", "wavelength_units": "microns"}, 550.0),
        ({"wavelength": "550", "wavelength_units": "nanometres"}, 550.0),
    ],
)
def test_band_tags_in_every_spelling_of_the_unit(tags, expected_nm):
    spectrum = read_spectrum({}, in_bands(tags), [None])
    assert spectrum.wavelengths_nm == (expected_nm,)
    assert not spectrum.unit_guessed


@pytest.mark.parametrize("unit", ["Wavenumber", "GHz", "Index", "parsec"])
def test_numbers_in_another_unit_are_no_wavelengths(unit):
    spectrum = read_spectrum({}, in_bands({"wavelength": "550", "wavelength_units": unit}), [None])
    assert spectrum.wavelengths_nm is None
    assert spectrum.origin == "none"


def test_unit_is_guessed_from_the_size_of_all_numbers():
    micrometres = read_spectrum({}, in_bands({"wavelength": "0.45"}, {"wavelength": "14.2"}), [None] * 2)
    assert micrometres.wavelengths_nm == (450.0, 14200.0)
    assert micrometres.unit_guessed
    nanometres = read_spectrum({}, in_bands({"wavelength": "450"}, {"wavelength": "2400"}), [None] * 2)
    assert nanometres.wavelengths_nm == (450.0, 2400.0)
    assert nanometres.unit_guessed


def test_unknown_unit_counts_as_unstated():
    spectrum = read_spectrum({}, in_bands({"wavelength": "0.45", "wavelength_units": "Unknown"}), [None])
    assert spectrum.wavelengths_nm == (450.0,)
    assert spectrum.unit_guessed


def test_an_absurd_number_does_not_sway_the_guess():
    spectrum = read_spectrum({"ENVI": {"wavelength": "{0.45, 0.55, 1e12}"}}, [NONE] * 3, [None] * 3)
    assert spectrum.wavelengths_nm == (450.0, 550.0, None)


def test_band_unit_may_stand_on_the_dataset():
    spectrum = read_spectrum({"": {"wavelength_units": "Micrometers"}}, in_bands({"wavelength": "0.55"}), [None])
    assert spectrum.wavelengths_nm == (550.0,)
    assert not spectrum.unit_guessed


@pytest.mark.parametrize("text", ["{0.45, 0.55,\n 0.64}", "0.45,0.55,0.64", "0.45 0.55 0.64", " { 0.45 ,0.55, 0.64 } "])
@pytest.mark.parametrize("domain", ["ENVI", ""])
def test_lists_on_the_dataset(domain, text):
    tags = {"wavelength": text, "wavelength_units": "Micrometers", "fwhm": "{.01, .02, .03}", "bbl": "{1, 0, 1}"}
    spectrum = read_spectrum({domain: tags}, [NONE] * 3, [None] * 3)
    assert spectrum.wavelengths_nm == (450.0, 550.0, 640.0)
    assert spectrum.fwhm_nm == (10.0, 20.0, 30.0)
    assert spectrum.bad == (False, True, False)


def test_lists_of_another_length_are_stale():
    tags = {"ENVI": {"wavelength": "{450, 550, 640}", "fwhm": "{1, 2, 3}", "bbl": "{0, 0, 0}"}}
    spectrum = read_spectrum(tags, [NONE] * 2, [None] * 2)
    assert spectrum.wavelengths_nm is None
    assert spectrum.fwhm_nm is None
    assert spectrum.bad == (False, False)


def test_numbered_dataset_tags_as_gdals_envi_reader_writes_them():
    tags = {"": {"Band_1": "450 Nanometers", "Band_2": "green (550 Nanometers)"}}
    assert read_spectrum(tags, [NONE] * 2, [None] * 2).wavelengths_nm == (450.0, 550.0)
    assert read_spectrum(tags, [NONE], [None]).wavelengths_nm is None


@pytest.mark.parametrize(
    ("description", "expected_nm"),
    [
        ("550 nm", 550.0),
        ("Band 3 (550.5 nm)", 550.5),
        ("green (0.55 Micrometers)", 550.0),
        ("0.55µm", 550.0),
        ("B3_550NM", 550.0),
        ("5e-1 um", None),
        ("550.5", 550.5),
        ("(550.5)", 550.5),
        ("0.55", 550.0),
        ("3", None),
        ("Band 3", None),
        ("NDVI 2", None),
        ("-550 nm", None),
        ("450-520 nm", 485.0),
        ("Band 1 (0.45 - 0.52 um)", 485.0),
        ("450–520 nm", 485.0),
        ("0.45 um - 520 nm", 485.0),
        ("520 to 600 nm", 560.0),
        ("2 - 490 nm", 490.0),
        ("Band 300 - 431 nm", 431.0),
        ("#300 - 431 nm", 431.0),
        ("0,55 µm", None),
        ("5 nm", None),
        ("", None),
        (None, None),
    ],
)
def test_numbers_in_descriptions(description, expected_nm):
    spectrum = read_spectrum({}, [NONE], [description])
    assert spectrum.wavelengths_nm == (None if expected_nm is None else (expected_nm,))


def test_descriptions_that_begin_with_the_bands_number():
    descriptions = [f"{number} - {349 + number} nm" for number in range(1, 2152)]
    wavelengths = read_spectrum({}, [NONE] * 2151, descriptions).wavelengths_nm
    assert wavelengths == tuple(float(349 + number) for number in range(1, 2152))


def test_descriptions_that_count_bands_are_no_wavelengths():
    descriptions = [str(number) for number in range(1, 225)]
    assert read_spectrum({}, [NONE] * 224, descriptions).wavelengths_nm is None


def test_a_plain_number_counts_only_where_all_descriptions_are_numbers():
    assert read_spectrum({}, [NONE] * 2, ["2018", "mean"]).wavelengths_nm is None


def test_order_of_places():
    bands = [
        {
            "IMAGERY": {"CENTRAL_WAVELENGTH_UM": "0.501"},
            "": {"wavelength": "502", "wavelength_units": "nm"},
        }
    ]
    dataset = {"ENVI": {"wavelength": "{503}", "wavelength_units": "nm"}, "": {"wavelength": "504", "Band_1": "505 nm"}}
    description = ["506 nm"]
    found = []
    for forget in (
        lambda: bands[0].pop("IMAGERY"),
        lambda: bands[0].pop(""),
        lambda: dataset.pop("ENVI"),
        lambda: dataset[""].pop("wavelength"),
        lambda: dataset.pop(""),
        lambda: description.__setitem__(0, None),
    ):
        found.append(read_spectrum(dataset, bands, description).wavelengths_nm)
        forget()
    assert found == [(501.0,), (502.0,), (503.0,), (504.0,), (505.0,), (506.0,)]
    assert read_spectrum(dataset, bands, description).wavelengths_nm is None


def test_a_band_the_first_place_does_not_know_is_looked_up_in_the_next():
    bands = [*imagery(0.45), *in_bands({"wavelength": "x"}), NONE]
    spectrum = read_spectrum({}, bands, [None, "550 nm", None])
    assert spectrum.wavelengths_nm == (450.0, 550.0, None)
    assert spectrum.origin == "band IMAGERY domain and band descriptions"


@pytest.mark.parametrize(
    "text", ["", "n/a", "nan", "inf", "-550", "0", "1e12", "1e400", "9" * 500, "{}", "5 50", "\u00b2"]
)
def test_what_is_no_wavelength_is_unknown(text):
    bands = in_bands({"wavelength": text, "wavelength_units": "Nanometers", "fwhm": text, "bbl": text})
    dataset = {"ENVI": {"wavelength": text, "fwhm": text}, "": {"wavelengths": text, "Band_1": text}}
    spectrum = read_spectrum(dataset, bands, [text])
    assert spectrum.wavelengths_nm is None


@pytest.mark.parametrize(
    ("flag", "bad"), [("0", True), ("0.0", True), ("1", False), ("1.0", False), ("", False), ("yes", False)]
)
def test_bad_band_flags_on_bands(flag, bad):
    assert read_spectrum({}, in_bands({"bbl": flag}), [None]).bad == (bad,)
    assert read_spectrum({}, in_bands({"bad_band_multiplier": flag}), [None]).bad == (bad,)


def test_band_flags_win_over_the_datasets_list():
    spectrum = read_spectrum({"ENVI": {"bbl": "{0, 0}"}}, [*in_bands({"bbl": "1"}), NONE], [None] * 2)
    assert spectrum.bad == (False, True)


def test_no_bands():
    spectrum = read_spectrum({}, [], [])
    assert (spectrum.wavelengths_nm, spectrum.fwhm_nm, spectrum.bad) == (None, None, ())


known = st.lists(st.one_of(st.none(), st.floats(100.0, 99_999.0).map(lambda nm: round(nm, 3))), min_size=1, max_size=12)


@given(known, st.booleans())
def test_written_tags_read_back_from_each_of_the_three_places(wavelengths, with_fwhm):
    fwhm = [None if nm is None or not with_fwhm else 7.25 for nm in wavelengths]
    tags = spectral_tags(wavelengths, fwhm)
    count = len(wavelengths)
    expected = tuple(wavelengths) if any(wavelengths) else None
    expected_fwhm = tuple(fwhm) if any(fwhm) else None
    for domain in ("IMAGERY", ""):
        bands = [{domain: band.get(domain, {})} for band in tags.bands]
        spectrum = read_spectrum({}, bands, [None] * count)
        assert spectrum.wavelengths_nm == expected
        assert spectrum.fwhm_nm == expected_fwhm
        assert not spectrum.unit_guessed
    assert read_spectrum({}, [NONE] * count, tags.descriptions).wavelengths_nm == expected
    if None not in wavelengths:
        listed = read_spectrum(tags.dataset, [NONE] * count, [None] * count)
        assert listed.wavelengths_nm == expected
        assert listed.fwhm_nm == expected_fwhm


def test_written_tags_have_the_names_other_software_looks_for():
    tags = spectral_tags((550.0, 640.5), (10.0, None))
    assert tags.descriptions == ("550 nm", "640.5 nm")
    assert tags.bands[0] == {
        "": {"wavelength": "550", "wavelength_units": "Nanometers", "fwhm": "10"},
        "IMAGERY": {"CENTRAL_WAVELENGTH_UM": "0.55", "FWHM_UM": "0.01"},
    }
    assert "fwhm" not in tags.bands[1][""]
    assert tags.dataset == {"ENVI": {"wavelength": "{550, 640.5}", "wavelength_units": "Nanometers"}}


def test_no_wavelengths_no_tags():
    tags = spectral_tags(None, None)
    assert (tags.dataset, tags.bands, tags.descriptions) == ({}, (), ())
    assert spectral_tags((None, 550.0), None).dataset == {}


text = st.text(max_size=12)
keys = st.sampled_from(["wavelength", "wavelength_units", "fwhm", "bbl", "Band_1"])
tag = st.dictionaries(st.one_of(keys, text), text)
domains = st.dictionaries(st.sampled_from(["", "ENVI", "IMAGERY"]), tag)


@given(domains, st.lists(domains, max_size=3), st.lists(text, min_size=3, max_size=3))
def test_no_text_makes_it_crash(dataset, bands, descriptions):
    spectrum = read_spectrum(dataset, bands, descriptions[: len(bands)])
    assert len(spectrum.bad) == len(bands)
    for nm in spectrum.wavelengths_nm or ():
        assert nm is None or 100.0 <= nm <= 1e6
