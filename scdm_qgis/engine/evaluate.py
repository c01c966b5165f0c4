"""Evaluate Reconstruction: compare a prediction with the truth, band by band."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from scdm_qgis.core.bands import match_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import Evaluation, Evaluator
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.evaluation_report import BandPair, evaluation_page
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import EvaluateReconstruction
from scdm_qgis.raster.cube import Cube, open_cube
from scdm_qgis.raster.cube_writer import CubeWriter, OutputFormat

_STRIP_ROWS = 64
_BYTES_AT_ONCE = 256 * 2**20
"""What the bands of one cube read at once may take: a pixel-interleaved file is unpacked whole a time."""


def run(job: EvaluateReconstruction, events: EventWriter) -> Dict[str, Any]:
    """Compute RMSE, SAM, MPSNR and MSSIM over the pixels valid in both rasters, and write what is asked for.

    Bands are matched by wavelength, else by position; bands without a valid pixel are left out.

    Raises:
        UserError: an unreadable raster, different sizes, no bands or no valid pixels in common, or a
            peak value that is not positive.
    """
    with open_cube(job.prediction) as prediction, open_cube(job.reference) as reference:
        pairs = _matched_bands(prediction, reference, events)
        valid, brightest = _survey(prediction, reference, pairs, events)
        evaluator = Evaluator(valid, _peak(job.peak, brightest, valid))
        _compare(prediction, reference, pairs, evaluator, events)
        evaluation = evaluator.result()
        _say(evaluation, events)
        if job.output_html is not None:
            page = evaluation_page(prediction, reference, pairs, evaluation, evaluator, job.peak is not None)
            _write_text(job.output_html, page)
        if job.sam_map is not None:
            _write_angles(job.sam_map, evaluator.angle_map(), reference)
    if job.output_json is not None:
        _write_text(job.output_json, json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n")
    files = {"OUTPUT_JSON": job.output_json, "OUTPUT_HTML": job.output_html, "SAM_MAP": job.sam_map}
    return {
        "RMSE": evaluation.rmse,
        "SAM": evaluation.sam,
        "MPSNR": evaluation.mpsnr,
        "MSSIM": evaluation.mssim,
        **{key: path for key, path in files.items() if path is not None},
    }


def _matched_bands(prediction: Cube, reference: Cube, events: EventWriter) -> List[BandPair]:
    """Return 1-based (prediction, reference) band numbers, in the reference's order."""
    if (prediction.height, prediction.width) != (reference.height, reference.width):
        raise UserError(
            f"'{prediction.path}' has {prediction.height} x {prediction.width} pixels, "
            f"but '{reference.path}' has {reference.height} x {reference.width}.",
            "Cut both to the same rows and columns.",
        )
    places = prediction.transform.to_gdal(), reference.transform.to_gdal()
    if prediction.crs != reference.crs or not np.allclose(*places, rtol=1e-9, atol=1e-9):
        events.warning("The rasters do not state the same place; they are compared pixel by pixel all the same.")
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


def _say(evaluation: Evaluation, events: EventWriter) -> None:
    events.info(
        f"RMSE {evaluation.rmse:.6g}, SAM {evaluation.sam:.6g} rad, MPSNR {evaluation.mpsnr:.4g} dB, "
        f"MSSIM {evaluation.mssim:.4g}, over {evaluation.pixels} pixels and {len(evaluation.per_band)} bands "
        f"with peak {evaluation.peak:g}."
    )
    identical = sum(band.psnr == math.inf for band in evaluation.per_band)
    if identical:
        others = "and MPSNR is the mean of the others" if identical < len(evaluation.per_band) else "and so is MPSNR"
        events.info(f"{identical} bands are identical: their PSNR is infinite, {others}.")
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
        writer.write_rows(0, angles[None].astype(np.float32), np.isfinite(angles))
