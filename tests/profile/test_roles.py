"""What a raster is taken for."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from scdm_qgis.profile.curves import Role
from scdm_qgis.profile.roles import RasterFacts, guess_roles, run_of

RUN = {"SCDM_MODEL": "abc", "SCDM_SEED": "0", "SCDM_SAMPLES": "4"}
BANDS = tuple(400.0 + 10 * band for band in range(20))


def facts(name: str = "a", bands: int = 20, floating: bool = False, **others: Any) -> RasterFacts:
    wavelengths = others.get("wavelengths", BANDS[:bands] if bands <= len(BANDS) else None)
    return RasterFacts(name, bands, wavelengths, floating, others.get("tags", {}))


def test_the_rasters_of_one_reconstruction_are_told_apart_by_bands_and_type() -> None:
    roles = guess_roles(
        {
            "result": facts(tags=RUN),
            "previous": facts(bands=7, tags=RUN),
            "sigma": facts(floating=True, tags=RUN),
            "scene": facts(),
            "rgb": facts(bands=3),
        }
    )
    assert roles == {
        "result": Role.PREDICTION,
        "previous": Role.COARSE,
        "sigma": Role.UNCERTAINTY,
        "scene": Role.TRUTH,
        "rgb": Role.OTHER,
    }


def test_rasters_of_another_run_are_not_the_coarse_stage() -> None:
    other = {**RUN, "SCDM_SEED": "1"}
    roles = guess_roles({"a": facts(tags=RUN), "b": facts(bands=7, tags=other)})
    assert roles == {"a": Role.PREDICTION, "b": Role.PREDICTION}


def test_names_tell_what_types_do_not() -> None:
    roles = guess_roles(
        {
            "a": facts("result", floating=True, tags=RUN),
            "b": facts("result uncertainty", floating=True, tags=RUN),
            "c": facts("Coarse stage", bands=7, tags=RUN),
        }
    )
    assert list(roles.values()) == [Role.PREDICTION, Role.UNCERTAINTY, Role.COARSE]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("My reconstruction", Role.PREDICTION),
        ("ground_truth", Role.TRUTH),
        ("scene gt", Role.TRUTH),
        ("lightgt", Role.OTHER),
        ("std of draws", Role.UNCERTAINTY),
        ("Potsdam", Role.OTHER),
    ],
)
def test_without_tags_the_name_decides(name: str, role: Role) -> None:
    assert guess_roles({"a": facts(name)}) == {"a": role}


def test_without_wavelengths_the_truth_has_as_many_bands_as_the_prediction() -> None:
    def roles(bands: int) -> Dict[str, Role]:
        return guess_roles({"a": facts(tags=RUN, wavelengths=None), "b": facts(bands=bands, wavelengths=None)})

    assert roles(20)["b"] is Role.TRUTH
    assert roles(21)["b"] is Role.OTHER


def test_a_scene_of_other_wavelengths_is_no_truth() -> None:
    far = tuple(wavelength + 1000 for wavelength in BANDS)
    roles = guess_roles({"a": facts(tags=RUN), "b": facts(wavelengths=far)})
    assert roles["b"] is Role.OTHER


def test_rasters_that_say_what_they_are_need_no_guess() -> None:
    products = ("reconstruction", "coarse stage", "uncertainty")
    rasters = {
        product: facts("sigma of stage 1", floating=True, tags={**RUN, "SCDM_PRODUCT": product}) for product in products
    }
    assert list(guess_roles(rasters).values()) == [Role.PREDICTION, Role.COARSE, Role.UNCERTAINTY]
    assert len({run_of(one.tags) for one in rasters.values()}) == 1
