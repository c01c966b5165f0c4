"""Evaluate Reconstruction: known answers from files, bands matched, outputs whole and offline."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import pytest
import rasterio
from affine import Affine

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import Coverage, spectral_angle
from scdm_qgis.core.metrics import evaluate as evaluate_arrays
from scdm_qgis.engine import evaluate
from tests.engine.evaluated_cubes import PLACE, WAVELENGTHS_NM, run, write_cube


def test_numbers_are_those_of_the_metrics(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    prediction, reference = cubes
    first = write_cube(tmp_path / "p.tif", prediction, WAVELENGTHS_NM)
    second = write_cube(tmp_path / "r.tif", reference, WAVELENGTHS_NM)
    result, events = run(first, second, output_json=tmp_path / "e.json")
    expected = evaluate_arrays(prediction, reference, np.ones((70, 50), bool), float(reference.max()))
    assert (result["RMSE"], result["SAM"]) == pytest.approx((expected.rmse, expected.sam))
    assert (result["MPSNR"], result["MSSIM"]) == pytest.approx((expected.mpsnr, expected.mssim))
    assert result["OUTPUT_JSON"] == str(tmp_path / "e.json") and "SAM_MAP" not in result
    values = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert values["peak"] == pytest.approx(float(reference.max()))
    assert values["pixels"] == 3500 and values["bands"] == 6
    assert [entry["wavelength"] for entry in values["per_band"]] == list(WAVELENGTHS_NM)
    assert [entry["psnr"] for entry in values["per_band"]] == pytest.approx([band.psnr for band in expected.per_band])
    percents = [event["percent"] for event in events if event["event"] == "progress"]
    assert percents == sorted(percents)


def test_stated_peak_shifts_psnr(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    low, _ = run(first, second, peak=1000.0)
    high, _ = run(first, second, peak=10_000.0)
    assert high["MPSNR"] - low["MPSNR"] == pytest.approx(20)
    assert high["RMSE"] == low["RMSE"]


def test_bands_are_matched_by_wavelength(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    prediction, reference = cubes
    order = [4, 0, 2]
    first = write_cube(tmp_path / "p.tif", prediction[order], [WAVELENGTHS_NM[band] + 2 for band in order])
    second = write_cube(tmp_path / "r.tif", reference, WAVELENGTHS_NM)
    result, _ = run(first, second, output_json=tmp_path / "e.json", peak=4000.0)
    chosen = sorted(order)
    expected = evaluate_arrays(prediction[chosen], reference[chosen], np.ones((70, 50), bool), 4000.0)
    assert (result["RMSE"], result["SAM"]) == pytest.approx((expected.rmse, expected.sam))
    values = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert [(entry["band"], entry["wavelength"]) for entry in values["per_band"]] == [(1, 450), (3, 550), (5, 650)]


def test_only_pixels_valid_in_both_count(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    prediction, reference = cubes
    valid = np.ones((70, 50), bool)
    valid[:20] = valid[:, 45:] = False
    spoilt_prediction, spoilt_reference = prediction.copy(), reference.copy()
    spoilt_prediction[2, :20] = np.nan
    spoilt_reference[:, :, 45:] = -9999
    first = write_cube(tmp_path / "p.tif", spoilt_prediction)
    second = write_cube(tmp_path / "r.tif", spoilt_reference, nodata=-9999)
    result, _ = run(first, second, sam_map=tmp_path / "sam.tif", output_json=tmp_path / "e.json")
    expected = evaluate_arrays(prediction, reference, valid, float(reference[:, valid].max()))
    assert [result[key] for key in ("RMSE", "SAM", "MPSNR", "MSSIM")] == pytest.approx(
        [expected.rmse, expected.sam, expected.mpsnr, expected.mssim]
    )
    assert json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["pixels"] == valid.sum()
    with rasterio.open(tmp_path / "sam.tif") as angles:
        assert angles.count == 1 and angles.dtypes == ("float32",) and math.isnan(angles.nodata)
        assert angles.crs == rasterio.crs.CRS.from_epsg(32633) and angles.transform == PLACE
        assert np.array_equal(angles.read_masks(1) > 0, valid)
        assert angles.read(1)[valid] == pytest.approx(spectral_angle(prediction, reference)[valid], abs=1e-6)


def test_bands_read_in_groups_give_the_same(
    cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    at_once, _ = run(first, second)
    monkeypatch.setattr(evaluate, "_BYTES_AT_ONCE", 4 * 70 * 50 * 4)
    assert run(first, second)[0] == at_once


def test_identical_rasters(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first = write_cube(tmp_path / "p.tif", cubes[1])
    second = write_cube(tmp_path / "r.tif", cubes[1])
    result, events = run(first, second, output_json=tmp_path / "e.json", output_html=tmp_path / "e.html")
    assert (result["RMSE"], result["SAM"], result["MPSNR"]) == (0, 0, math.inf)
    assert json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["mpsnr"] is None
    assert any("Identical bands: " in event.get("message", "") for event in events if event["event"] == "log")
    assert "infinite" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_empty_bands_are_left_out(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    prediction, reference = cubes
    holed = reference.copy()
    holed[3] = -9999
    first = write_cube(tmp_path / "p.tif", prediction, WAVELENGTHS_NM)
    second = write_cube(tmp_path / "r.tif", holed, WAVELENGTHS_NM, nodata=-9999)
    result, _ = run(first, second)
    kept = [0, 1, 2, 4, 5]
    expected = evaluate_arrays(prediction[kept], reference[kept], np.ones((70, 50), bool), 4000.0)
    assert result["RMSE"] == pytest.approx(expected.rmse)


def test_other_place_is_a_warning(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first = write_cube(tmp_path / "p.tif", cubes[0], place=Affine(2.0, 0.0, 0.0, 0.0, -2.0, 0.0))
    second = write_cube(tmp_path / "r.tif", cubes[1])
    _, events = run(first, second)
    assert any(event.get("level") == "warning" and "same place" in event["message"] for event in events)


def test_sizes_must_agree(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first = write_cube(tmp_path / "p.tif", cubes[0][:, :69])
    second = write_cube(tmp_path / "r.tif", cubes[1])
    with pytest.raises(UserError, match=r"p.tif' has 69 x 50 pixels, but '.*r.tif' has 70 x 50"):
        run(first, second)


@pytest.mark.parametrize("wavelengths_nm", [None, (1000.0, 1100.0, 1200.0, 1300.0, 1400.0)])
def test_bands_must_agree(
    cubes: Tuple[np.ndarray, np.ndarray], wavelengths_nm: Optional[Sequence[float]], tmp_path: Path
) -> None:
    first = write_cube(tmp_path / "p.tif", cubes[0][:5], wavelengths_nm)
    second = write_cube(tmp_path / "r.tif", cubes[1], WAVELENGTHS_NM)
    with pytest.raises(UserError, match=r"p.tif' \(5 bands\) and '.*r.tif' \(6 bands\)"):
        run(first, second, output_json=tmp_path / "e.json")
    assert sorted(os.listdir(tmp_path)) == ["p.tif", "r.tif"]


def test_nothing_valid_in_common_is_an_error(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    prediction, reference = cubes[0].copy(), cubes[1].copy()
    prediction[:, :40] = np.nan
    reference[:, 30:] = np.nan
    first, second = write_cube(tmp_path / "p.tif", prediction), write_cube(tmp_path / "r.tif", reference)
    with pytest.raises(UserError, match="No pixel is valid"):
        run(first, second, output_html=tmp_path / "e.html")
    assert sorted(os.listdir(tmp_path)) == ["p.tif", "r.tif"]


def test_reference_without_positive_values_asks_for_a_peak(tmp_path: Path) -> None:
    values = np.full((2, 20, 20), -1.0, np.float32)
    first, second = write_cube(tmp_path / "p.tif", values), write_cube(tmp_path / "r.tif", values)
    with pytest.raises(UserError, match="PEAK"):
        run(first, second)


def shares_of(
    prediction: np.ndarray, reference: np.ndarray, deviation: np.ndarray, valid: Optional[np.ndarray] = None
) -> Dict[str, float]:
    coverage = Coverage()
    coverage.add(prediction, reference, deviation, np.ones(reference.shape[1:], bool) if valid is None else valid)
    return dict(zip(("COVERAGE_1", "COVERAGE_2"), coverage.shares()))


@pytest.fixture
def deviation() -> np.ndarray:
    """Return deviations that fit the errors of `cubes` on average over bands, but no single band's."""
    return np.linspace(50, 150, 6, dtype=np.float32)[:, None, None] * np.ones((6, 70, 50), np.float32)


def test_coverage_is_reported_everywhere(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path
) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    third = write_cube(tmp_path / "u.tif", deviation, nodata=math.nan)
    without, _ = run(first, second, output_json=tmp_path / "e.json")
    values_without = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    result, events = run(
        first, second, uncertainty=third, output_json=tmp_path / "e.json", output_html=tmp_path / "e.html"
    )
    expected = shares_of(*cubes, deviation)
    assert 0 < expected["COVERAGE_1"] < expected["COVERAGE_2"] < 1
    assert result == {**without, **expected, "OUTPUT_HTML": str(tmp_path / "e.html")}
    values = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    shares = {"one_sigma": expected["COVERAGE_1"], "two_sigma": expected["COVERAGE_2"]}
    assert values == {**values_without, "coverage": shares}
    one, two = (f"{share:.1%}" for share in expected.values())
    said = f"Within one and two standard deviations: {one} and {two} of the errors; well-calibrated ones have 68.3% and"
    assert any(event.get("message", "").startswith(said) for event in events)
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert "Errors and stated uncertainty" in page and "u.tif" in page
    assert f"<td>{one}</td><td>68.3%</td>" in page and f"<td>{two}</td><td>95.4%</td>" in page
    percents = [event["percent"] for event in events if event["event"] == "progress"]
    assert percents == sorted(percents) and percents[-1] <= 100


def test_without_uncertainty_nothing_is_said_of_coverage(cubes: Tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    result, events = run(first, second, output_json=tmp_path / "e.json", output_html=tmp_path / "e.html")
    assert not any(key.startswith("COVERAGE") for key in result)
    assert "coverage" not in json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert "stated uncertainty" not in (tmp_path / "e.html").read_text(encoding="utf-8")
    assert not any("standard deviation" in event.get("message", "") for event in events)


def test_coverage_read_in_strips_is_the_same(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate((*cubes, deviation))]
    at_once, _ = run(*paths[:2], uncertainty=paths[2])
    monkeypatch.setattr(evaluate, "_BYTES_AT_ONCE", 4 * 6 * 50 * 3)
    assert run(*paths[:2], uncertainty=paths[2])[0] == at_once


def test_uncertainty_is_matched_with_the_prediction_by_position(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path
) -> None:
    order = [4, 0, 2]
    first = write_cube(tmp_path / "p.tif", cubes[0][order], [WAVELENGTHS_NM[band] for band in order])
    second = write_cube(tmp_path / "r.tif", cubes[1], WAVELENGTHS_NM)
    third = write_cube(tmp_path / "u.tif", deviation[order], nodata=math.nan)
    result, _ = run(first, second, uncertainty=third)
    expected = shares_of(*(cube[sorted(order)] for cube in (*cubes, deviation)))
    assert {key: result[key] for key in expected} == expected


def test_copied_bands_do_not_count(cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path) -> None:
    prediction, reference = cubes[0].copy(), cubes[1]
    prediction[[1, 4]], deviation[[1, 4]] = reference[[1, 4]], 0
    first, second = write_cube(tmp_path / "p.tif", prediction), write_cube(tmp_path / "r.tif", reference)
    third = write_cube(tmp_path / "u.tif", deviation, nodata=math.nan)
    result, _ = run(first, second, uncertainty=third)
    estimated = [0, 2, 3, 5]
    expected = shares_of(prediction[estimated], reference[estimated], deviation[estimated])
    assert {key: result[key] for key in expected} == expected


def test_pixels_invalid_in_any_raster_do_not_count_for_coverage(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path
) -> None:
    prediction, reference = cubes[0].copy(), cubes[1].copy()
    prediction[2, :20], reference[:, :, 45:], deviation[3, 66:] = math.nan, -9999, math.nan
    valid = np.zeros((70, 50), bool)
    valid[20:66, :45] = True
    first = write_cube(tmp_path / "p.tif", prediction)
    second = write_cube(tmp_path / "r.tif", reference, nodata=-9999)
    third = write_cube(tmp_path / "u.tif", deviation, nodata=math.nan)
    without, _ = run(first, second)
    result, _ = run(first, second, uncertainty=third)
    assert result == {**without, **shares_of(prediction, reference, deviation, valid)}


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_uncertainty_that_states_nothing_is_a_warning(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, value: float, tmp_path: Path
) -> None:
    first, second = (write_cube(tmp_path / f"{i}.tif", values) for i, values in enumerate(cubes))
    third = write_cube(tmp_path / "u.tif", np.full_like(deviation, value), nodata=math.nan)
    result, events = run(
        first, second, uncertainty=third, output_json=tmp_path / "e.json", output_html=tmp_path / "e.html"
    )
    assert math.isnan(result["COVERAGE_1"]) and math.isnan(result["COVERAGE_2"]) and result["RMSE"] > 0
    values = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert values["coverage"] == {"one_sigma": None, "two_sigma": None}
    assert "<td>undefined</td><td>68.3%</td>" in (tmp_path / "e.html").read_text(encoding="utf-8")
    assert any(event.get("level") == "warning" and "UNCERTAINTY" in event["message"] for event in events)


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        (np.s_[:5], r"u.tif' has 5 bands, but PREDICTION '.*p.tif' has 6\. Give the UNCERTAINTY"),
        (np.s_[:, :69], r"u.tif' has 69 x 50 pixels, but '.*p.tif' has 70 x 50\. Cut both"),
    ],
)
def test_uncertainty_must_fit_the_prediction(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, window: Any, sentence: str, tmp_path: Path
) -> None:
    first, second = write_cube(tmp_path / "p.tif", cubes[0]), write_cube(tmp_path / "r.tif", cubes[1])
    third = write_cube(tmp_path / "u.tif", deviation[window], nodata=math.nan)
    with pytest.raises(UserError, match=sentence):
        run(first, second, uncertainty=third, output_json=tmp_path / "e.json")
    assert sorted(os.listdir(tmp_path)) == ["p.tif", "r.tif", "u.tif"]


def test_negative_deviation_is_an_error(
    cubes: Tuple[np.ndarray, np.ndarray], deviation: np.ndarray, tmp_path: Path
) -> None:
    first, second = write_cube(tmp_path / "p.tif", cubes[0]), write_cube(tmp_path / "r.tif", cubes[1])
    deviation[5, 69, 49] = -1
    third = write_cube(tmp_path / "u.tif", deviation, nodata=math.nan)
    with pytest.raises(UserError, match=r"u.tif' holds negative values"):
        run(first, second, uncertainty=third, output_json=tmp_path / "e.json")
    assert sorted(os.listdir(tmp_path)) == ["p.tif", "r.tif", "u.tif"]


def test_enmap_scene_against_itself_with_an_offset(scene: Callable[[str], str], tmp_path: Path) -> None:
    path = scene("enmap_potsdam.tif")
    with rasterio.open(path) as source:
        profile, values = source.profile, source.read()
        shifted = np.where(values == source.nodata, values, values + 50).astype(np.int16)
        with rasterio.open(tmp_path / "p.tif", "w", **profile) as prediction:
            prediction.write(shifted)
            for band in source.indexes:
                prediction.update_tags(band, **source.tags(band))
        filled = (values != source.nodata).any(axis=(1, 2))
        valid = (values[filled] != source.nodata).all(axis=0)
    result, _ = run(tmp_path / "p.tif", Path(path), output_json=tmp_path / "e.json", output_html=tmp_path / "e.html")
    evaluation = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert result["RMSE"] == pytest.approx(50)
    assert evaluation["bands"] == filled.sum() == 218
    assert evaluation["pixels"] == valid.sum()
    assert evaluation["peak"] == values[filled][:, valid].max()
    assert result["MPSNR"] == pytest.approx(20 * math.log10(evaluation["peak"] / 50))
