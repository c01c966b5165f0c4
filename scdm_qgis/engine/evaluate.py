"""Evaluate Reconstruction: compare a prediction with the truth, band by band."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from scdm_qgis.core.bands import match_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import NORMAL_COVERAGE, Coverage, Evaluation, Evaluator
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.evaluation_report import BandPair, evaluation_page
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.job_paths import check_apart
from scdm_qgis.engine.jobs import EvaluateReconstruction
from scdm_qgis.raster.cube import Cube, open_cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat

_STRIP_ROWS = 64
_BYTES_AT_ONCE = 256 * 2**20
"""What the bands of one cube read at once may take: a pixel-interleaved file is unpacked whole a time."""


def run(job: EvaluateReconstruction, events: EventWriter) -> Dict[str, Any]:
    """Compute RMSE, SAM, MPSNR and MSSIM over the pixels valid in both rasters, and write what is asked for.

    Bands are matched by wavelength, else by position; bands without a valid pixel are left out. Where there
    is an uncertainty, count the errors within it over the pixels that are valid in it, too.

    Raises:
        UserError: an unreadable raster, different sizes, no bands or no valid pixels in common, a peak
            value that is not positive, or an uncertainty with other bands or with negative values.
    """
    with ExitStack() as opened:
        prediction = opened.enter_context(open_cube(job.prediction))
        reference = opened.enter_context(open_cube(job.reference))
        uncertainty = None if job.uncertainty is None else opened.enter_context(open_cube(job.uncertainty))
        for cube in (prediction, reference, uncertainty):
            if cube is not None:
                check_apart(job.output_paths(), cube.files)
        if uncertainty is not None:
            job.check_uncertainty_bands(uncertainty.band_count, prediction.band_count)
            _check_same_grid(uncertainty, prediction, events)
        pairs = _matched_bands(prediction, reference, events)
        valid, brightest = _survey(prediction, reference, pairs, events)
        evaluator = Evaluator(valid, _peak(job.peak, brightest, valid))
        _compare(prediction, reference, pairs, evaluator, events)
        evaluation = evaluator.result()
        _say(evaluation, events)
        coverage = None
        if uncertainty is not None:
            coverage = _coverage(prediction, reference, uncertainty, pairs, valid, events)
            _say_coverage(coverage, events)
        if job.output_html is not None:
            page = evaluation_page(job, prediction, reference, pairs, evaluation, evaluator, coverage)
            _write_text(job.output_html, page)
        if job.sam_map is not None:
            _write_angles(job.sam_map, evaluator.angle_map(), reference)
    if job.output_json is not None:
        values = evaluation.to_json()
        if coverage is not None:
            values["coverage"] = coverage.to_json()
        _write_text(job.output_json, json.dumps(values, indent=2, allow_nan=False) + "\n")
    files = {"OUTPUT_JSON": job.output_json, "OUTPUT_HTML": job.output_html, "SAM_MAP": job.sam_map}
    shares = {} if coverage is None else dict(zip(("COVERAGE_1", "COVERAGE_2"), coverage.shares()))
    return {
        "RMSE": evaluation.rmse,
        "SAM": evaluation.sam,
        "MPSNR": evaluation.mpsnr,
        "MSSIM": evaluation.mssim,
        **shares,
        **{key: path for key, path in files.items() if path is not None},
    }


def _check_same_grid(first: Cube, second: Cube, events: EventWriter) -> None:
    """Raise UserError for different sizes, and warn of different places."""
    if (first.height, first.width) != (second.height, second.width):
        raise UserError(
            f"'{first.path}' has {first.height} x {first.width} pixels, "
            f"but '{second.path}' has {second.height} x {second.width}.",
            "Cut both to the same rows and columns.",
        )
    places = first.transform.to_gdal(), second.transform.to_gdal()
    if first.crs != second.crs or not np.allclose(*places, rtol=1e-9, atol=1e-9):
        events.warning(
            f"'{first.path}' and '{second.path}' do not state the same place; "
            "they are compared pixel by pixel all the same."
        )


def _matched_bands(prediction: Cube, reference: Cube, events: EventWriter) -> List[BandPair]:
    """Return 1-based (prediction, reference) band numbers, in the reference's order."""
    _check_same_grid(prediction, reference, events)
    try:
        pairs = match_bands(
            prediction.spectrum.wavelengths_nm,
            prediction.band_count,
            reference.spectrum.wavelengths_nm,
            reference.band_count,
        )
    except UserError as error:
        raise UserError(
            f"'{prediction.path}' ({prediction.band_count} bands) and '{reference.path}' "
            f"({reference.band_count} bands) cannot be compared. {error.message}",
            error.remedy,
        ) from error
    empty_in_prediction, empty_in_reference = prediction.empty_bands(), reference.empty_bands()
    kept = [pair for pair in pairs if pair[0] not in empty_in_prediction and pair[1] not in empty_in_reference]
    if not kept:
        raise UserError(
            f"'{prediction.path}' and '{reference.path}' have no band in common that holds valid pixels.",
            "Check the nodata values of both rasters.",
        )
    left_out = (prediction.band_count - len(kept), reference.band_count - len(kept))
    if any(left_out):
        events.info(
            f"{len(kept)} bands are compared; without counterpart or without valid pixels are {left_out[0]} bands "
            f"of the prediction and {left_out[1]} of the reference."
        )
    return sorted(kept, key=lambda pair: pair[1])


def _survey(
    prediction: Cube, reference: Cube, pairs: Sequence[BandPair], events: EventWriter
) -> Tuple[np.ndarray, np.ndarray]:
    """Return which pixels are valid in all bands of both, and the reference's maximum in each pixel."""
    size = (reference.height, reference.width)
    valid, brightest = np.zeros(size, bool), np.zeros(size, np.float32)
    predicted_bands, true_bands = zip(*pairs)
    for row in range(0, size[0], _STRIP_ROWS):
        rows = slice(row, min(row + _STRIP_ROWS, size[0]))
        _, predicted_valid = prediction.read(predicted_bands, row, 0, rows.stop - row, size[1])
        true, true_valid = reference.read(true_bands, row, 0, rows.stop - row, size[1])
        valid[rows] = predicted_valid & true_valid
        brightest[rows] = true.max(axis=0)
        events.progress(30 * rows.stop / size[0], "Looking for valid pixels")
    return valid, brightest


def _peak(wanted: Optional[float], brightest: np.ndarray, valid: np.ndarray) -> float:
    if wanted is not None:
        return float(wanted)
    return float(brightest[valid].max()) if valid.any() else 1.0  # without pixels the Evaluator refuses


def _compare(
    prediction: Cube, reference: Cube, pairs: Sequence[BandPair], evaluator: Evaluator, events: EventWriter
) -> None:
    wavelengths_nm = reference.spectrum.wavelengths_nm or (None,) * reference.band_count
    at_once = max(1, _BYTES_AT_ONCE // (4 * reference.height * reference.width))
    for first in range(0, len(pairs), at_once):
        group = pairs[first : first + at_once]
        predicted, _ = prediction.read([pair[0] for pair in group])
        true, _ = reference.read([pair[1] for pair in group])
        for index, (_, band) in enumerate(group):
            evaluator.add_band(predicted[index], true[index], band, wavelengths_nm[band - 1])
            events.progress(30 + 60 * (first + index + 1) / len(pairs), f"Band {first + index + 1} of {len(pairs)}")


def _coverage(
    prediction: Cube,
    reference: Cube,
    uncertainty: Cube,
    pairs: Sequence[BandPair],
    valid: np.ndarray,
    events: EventWriter,
) -> Coverage:
    """Count the errors within the stated deviations; the uncertainty has the prediction's band numbers."""
    coverage = Coverage()
    height, width = valid.shape
    predicted_bands, true_bands = zip(*pairs)
    strip_rows = max(1, min(_STRIP_ROWS, _BYTES_AT_ONCE // (4 * len(pairs) * width)))
    for row in range(0, height, strip_rows):
        rows = slice(row, min(row + strip_rows, height))
        strip = (row, 0, rows.stop - row, width)
        stated, stated_valid = uncertainty.read(predicted_bands, *strip)
        counted = valid[rows] & stated_valid
        if stated.min(where=counted, initial=0) < 0:
            raise UserError(
                f"UNCERTAINTY '{uncertainty.path}' holds negative values, which no standard deviation has.",
                "Give the UNCERTAINTY that RGB→Hyperspectral wrote together with this reconstruction.",
            )
        predicted, _ = prediction.read(predicted_bands, *strip)
        true, _ = reference.read(true_bands, *strip)
        coverage.add(predicted, true, stated, counted)
        events.progress(90 + 8 * rows.stop / height, "Comparing errors with their stated deviations")
    return coverage


def _say_coverage(coverage: Coverage, events: EventWriter) -> None:
    (one, two), (normal_one, normal_two) = coverage.shares(), NORMAL_COVERAGE
    if math.isnan(one):
        events.warning(
            "Nothing can be said of UNCERTAINTY: no value with a deviation above 0 lies in a pixel valid everywhere."
        )
        return
    events.info(
        f"Within one and two standard deviations: {one:.1%} and {two:.1%} of the errors; "
        f"well-calibrated ones have {normal_one:.1%} and {normal_two:.1%}."
    )


def _say(evaluation: Evaluation, events: EventWriter) -> None:
    events.info(
        f"RMSE {evaluation.rmse:.6g}, SAM {evaluation.sam:.6g} rad, MPSNR {evaluation.mpsnr:.4g} dB, "
        f"MSSIM {evaluation.mssim:.4g}, over {evaluation.pixels} pixels and {len(evaluation.per_band)} bands "
        f"with peak {evaluation.peak:g}."
    )
    identical = sum(band.psnr == math.inf for band in evaluation.per_band)
    if identical:
        others = "and MPSNR is the mean of the others" if identical < len(evaluation.per_band) else "and so is MPSNR"
        events.info(f"Identical bands: {identical}. Their PSNR is infinite, {others}.")
    if math.isnan(evaluation.mssim):
        events.warning("MSSIM is undefined: nowhere are 11 x 11 pixels valid together.")


def _write_text(path: str, text: str) -> None:
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(text)


def _write_angles(path: str, angles: np.ndarray, reference: Cube) -> None:
    output_format = OutputFormat(
        height=reference.height,
        width=reference.width,
        band_count=1,
        dtype="float32",
        nodata=math.nan,
        crs=reference.crs,
        transform=reference.transform,
        wavelengths_nm=None,
        fwhm_nm=None,
    )
    with CubeWriter(path, output_format) as writer:
        writer.write(0, 0, angles[None].astype(np.float32), np.isfinite(angles))
