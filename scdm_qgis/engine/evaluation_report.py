"""The page that Evaluate Reconstruction writes: numbers in plain words, pictures, errors and spectra."""

from __future__ import annotations

import math
import os
from typing import List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import NORMAL_COVERAGE, Coverage, Evaluation, Evaluator
from scdm_qgis.engine.jobs import EvaluateReconstruction
from scdm_qgis.engine.report_page import Picture, Section, Table, picture, render_report
from scdm_qgis.raster.cube import Cube

BandPair = Tuple[int, int]
"""1-based numbers of the same band in the prediction and in the reference."""

_QUICKLOOK_PIXELS = 400
_GAMMA = 0.6  # brightens what a linear stretch shows too dark
_SPECTRUM_RANKS = (0.1, 0.5, 0.9, 0.99)


def evaluation_page(
    job: EvaluateReconstruction,
    prediction: Cube,
    reference: Cube,
    pairs: Sequence[BandPair],
    evaluation: Evaluation,
    evaluator: Evaluator,
    coverage: Optional[Coverage],
) -> str:
    """Return the report as one HTML page that needs no network.

    Args:
        job: what was asked for.
        prediction, reference: the open cubes.
        pairs: matched 1-based band numbers (prediction, reference), in the order of the evaluation's bands.
        evaluation: the numbers.
        evaluator: what they came from, for the maps.
        coverage: how many errors lie within the job's uncertainty, where it has one.
    """
    angles = evaluator.angle_map()
    return render_report(
        f"Evaluation of {os.path.basename(prediction.path)}",
        [
            _numbers(prediction, reference, evaluation, job.peak is not None),
            *([] if coverage is None else [_stated_deviations(job, coverage)]),
            Section("Images", pictures=[_quicklooks(prediction, reference, pairs, angles)]),
            Section("Where the errors are", pictures=[_error_maps(angles, evaluator.rmse_map())]),
            Section("Errors by band", pictures=[_band_curves(evaluation)]),
            Section(
                "Example spectra",
                ["The pixels are chosen by their spectral angle: from one of the best tenth to the worst hundredth."],
                pictures=[_spectra(prediction, reference, pairs, angles, evaluation)],
            ),
        ],
    )


def _numbers(prediction: Cube, reference: Cube, evaluation: Evaluation, peak_was_given: bool) -> Section:
    peak = "given" if peak_was_given else "the reference's largest valid value"
    identical = sum(band.psnr == math.inf for band in evaluation.per_band)
    left_out = f" {identical} identical bands, whose PSNR is infinite, are left out." if identical else ""
    return Section(
        "Result",
        [
            f"Prediction: {prediction.path}",
            f"Reference: {reference.path}",
            f"Compared are {len(evaluation.per_band)} bands in {evaluation.pixels} pixels that are valid in both. "
            f"PSNR and SSIM refer to the peak value {evaluation.peak:g} ({peak}); with another peak they differ.",
        ],
        Table(
            ("Measure", "Value", "What it says"),
            (
                (
                    "RMSE",
                    _text(evaluation.rmse, "{:.6g}"),
                    "Typical error of a value, in the data's units. 0 is perfect.",
                ),
                (
                    "SAM",
                    f"{evaluation.sam:.5f} rad ({math.degrees(evaluation.sam):.2f}°)",
                    "Mean angle between predicted and true spectrum: their difference in shape, whatever the "
                    "brightness. 0 is perfect.",
                ),
                (
                    "MPSNR",
                    _text(evaluation.mpsnr, "{:.2f} dB"),
                    f"Peak signal to noise, mean over the bands. Higher is better.{left_out}",
                ),
                (
                    "MSSIM",
                    _text(evaluation.mssim, "{:.4f}"),
                    "Likeness of spatial structure, mean over the bands. 1 is perfect.",
                ),
            ),
        ),
    )


def _stated_deviations(job: EvaluateReconstruction, coverage: Coverage) -> Section:
    rows = zip(("1 standard deviation", "2 standard deviations"), coverage.shares(), NORMAL_COVERAGE)
    return Section(
        "Errors and stated uncertainty",
        [
            f"Uncertainty: {job.uncertainty}",
            "Smaller shares than the well-calibrated ones say that the reconstruction errs more than its uncertainty "
            "tells, larger ones that it errs less. Values with deviation 0, which were copied and not estimated, are "
            "left out, and so are pixels without a valid deviation in every band.",
        ],
        Table(
            ("Errors within", "Share", "If well calibrated"),
            [(limit, _text(share, "{:.1%}"), f"{normal:.1%}") for limit, share, normal in rows],
        ),
    )


def _text(value: float, pattern: str) -> str:
    if math.isnan(value):
        return "undefined"
    return pattern.format(value) if math.isfinite(value) else "infinite"


def _rgb_pairs(reference: Cube, pairs: Sequence[BandPair]) -> List[BandPair]:
    """Return the band pairs shown as red, green and blue: by wavelength, else spread over the bands."""
    wavelengths_nm = reference.spectrum.wavelengths_nm
    if wavelengths_nm is not None:
        try:
            chosen = choose_rgb_bands(None, len(pairs), [wavelengths_nm[band - 1] for _, band in pairs])
            return [pairs[number - 1] for number in chosen]
        except UserError:
            return _spread(pairs)
    return _spread(pairs)


def _spread(pairs: Sequence[BandPair]) -> List[BandPair]:
    last = len(pairs) - 1
    return [pairs[round(last * share)] for share in (0.6, 0.35, 0.1)]


def _quicklooks(prediction: Cube, reference: Cube, pairs: Sequence[BandPair], angles: np.ndarray) -> Picture:
    rgb = _rgb_pairs(reference, pairs)
    step = _step(angles)
    shown = np.isfinite(angles)[::step, ::step]
    predicted = prediction.read([pair[0] for pair in rgb])[0][:, ::step, ::step]
    true = reference.read([pair[1] for pair in rgb])[0][:, ::step, ::step]
    low, high = np.percentile(true[:, shown] if shown.any() else true, (1, 99), axis=1)
    figure = _figure_for_two_maps(shown)
    for axes, values, title in zip(figure.subplots(1, 2), (predicted, true), ("prediction", "reference")):
        with np.errstate(invalid="ignore"):
            stretched = (values - low[:, None, None]) / np.maximum(high - low, 1e-12)[:, None, None]
        image = np.where(shown, np.clip(np.nan_to_num(stretched), 0, 1) ** _GAMMA, 1.0)
        axes.imshow(np.moveaxis(image, 0, 2), interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    numbers = ", ".join(str(pair[1]) for pair in rgb)
    return picture(
        figure, f"Bands {numbers} of the reference and their counterparts, both with the reference's stretch."
    )


def _error_maps(angles: np.ndarray, errors: np.ndarray) -> Picture:
    step = _step(angles)
    figure = _figure_for_two_maps(angles)
    maps = ((np.degrees(angles), "spectral angle (degrees)"), (errors, "RMSE over the bands (data units)"))
    for axes, (values, title) in zip(figure.subplots(1, 2), maps):
        image = axes.imshow(
            values[::step, ::step],
            cmap="magma",
            vmin=0,
            vmax=max(float(np.nanpercentile(values, 98)), 1e-12),
            interpolation="nearest",
        )
        axes.set_title(title)
        axes.set_axis_off()
        figure.colorbar(image, ax=axes, shrink=0.8, extend="max")
    return picture(figure, "Spectral angle and RMSE of each pixel; the brightest colour takes in the worst 2 %.")


def _figure_for_two_maps(plane: np.ndarray) -> Figure:
    height = 5.0 * plane.shape[0] / plane.shape[1] + 0.4
    return Figure(figsize=(10, min(max(height, 2.0), 12.0)), layout="constrained")


def _step(plane: np.ndarray) -> int:
    return max(1, math.ceil(max(plane.shape) / _QUICKLOOK_PIXELS))


def _abscissa(evaluation: Evaluation) -> Tuple[np.ndarray, str]:
    """Return where the bands stand in a plot, and what the axis says: wavelengths where all are known."""
    wavelengths_nm = [band.wavelength_nm for band in evaluation.per_band]
    if all(wavelength is not None for wavelength in wavelengths_nm):
        return np.array(wavelengths_nm, np.float64), "wavelength (nm)"
    return np.array([band.band for band in evaluation.per_band], np.float64), "band of the reference"


def _band_curves(evaluation: Evaluation) -> Picture:
    places, label = _abscissa(evaluation)
    order = np.argsort(places)
    figure = Figure(figsize=(10, 6), layout="constrained")
    curves = (
        ("PSNR (dB)", [band.psnr for band in evaluation.per_band]),
        ("SSIM", [band.ssim for band in evaluation.per_band]),
        ("RMSE (data units)", [band.rmse for band in evaluation.per_band]),
    )
    for axes, (title, values) in zip(figure.subplots(3, 1, sharex=True), curves):
        finite = np.where(np.isfinite(values), values, math.nan)
        axes.plot(places[order], finite[order], ".-", markersize=4, linewidth=1, color="#24618e")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
    axes.set_xlabel(label)
    return picture(
        figure,
        f"PSNR, SSIM and RMSE of each band; peak value {evaluation.peak:g}. Gaps: infinite or undefined.",
    )


def _spectra(
    prediction: Cube, reference: Cube, pairs: Sequence[BandPair], angles: np.ndarray, evaluation: Evaluation
) -> Picture:
    places, label = _abscissa(evaluation)
    order = np.argsort(places)
    ranked = np.flatnonzero(np.isfinite(angles.ravel()))
    ranked = ranked[np.argsort(angles.ravel()[ranked], kind="stable")]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, rank in zip(figure.subplots(2, 2, sharex=True).ravel(), _SPECTRUM_RANKS):
        row, column = (int(place) for place in divmod(ranked[int(rank * (len(ranked) - 1))], angles.shape[1]))
        true = reference.read([pair[1] for pair in pairs], row, column, 1, 1)[0][:, 0, 0]
        predicted = prediction.read([pair[0] for pair in pairs], row, column, 1, 1)[0][:, 0, 0]
        axes.plot(places[order], true[order], color="#222222", linewidth=1.2, label="reference")
        axes.plot(places[order], predicted[order], color="#c8501e", linewidth=1.2, label="prediction")
        axes.set_title(f"row {row}, column {column}: {math.degrees(angles[row, column]):.2f}°", fontsize=10)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.supxlabel(label, fontsize=10)
    return picture(
        figure, "Predicted and true spectra where the spectral angle is at its 10 %, 50 %, 90 % and 99 % quantile."
    )
