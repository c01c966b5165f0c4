"""How far a reconstruction is from the truth: RMSE, SAM, PSNR, SSIM, and coverage of the errors, in float64.

Arrays are (band, row, column). Only pixels marked valid count; what stands in the others is never read
as a number, so they may be NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from scdm_qgis.core.errors import UserError

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1 = 0.01
SSIM_K2 = 0.03
NORMAL_COVERAGE = (math.erf(1 / math.sqrt(2)), math.erf(2 / math.sqrt(2)))
"""Shares of a normal distribution within one and within two standard deviations."""


@dataclass(frozen=True)
class BandEvaluation:
    """One band: its 1-based number, wavelength in nm, RMSE in data units, PSNR in dB, and SSIM.

    PSNR is infinite where the bands are identical. SSIM is NaN where no whole window is valid.
    """

    band: int
    wavelength_nm: Optional[float]
    rmse: float
    psnr: float
    ssim: float

    def to_json(self) -> Dict[str, Any]:
        """Return the band as JSON values; infinite and undefined numbers become null."""
        return {
            "band": self.band,
            "wavelength": self.wavelength_nm,
            "rmse": _json_number(self.rmse),
            "psnr": _json_number(self.psnr),
            "ssim": _json_number(self.ssim),
        }


@dataclass(frozen=True)
class Evaluation:
    """A reconstruction against the truth.

    Args:
        rmse: root mean square error in data units, over valid pixels and all bands.
        sam: mean spectral angle in radians.
        mpsnr: mean of the finite PSNRs in dB: identical bands are left out, as one of them would make
            the mean infinite; infinite where all bands are identical.
        mssim: mean of the bands' SSIM; NaN where no whole window is valid.
        peak: the peak value that PSNR and SSIM are stated for.
        pixels: number of valid pixels.
        per_band: one entry a band.
    """

    rmse: float
    sam: float
    mpsnr: float
    mssim: float
    peak: float
    pixels: int
    per_band: Tuple[BandEvaluation, ...]

    def to_json(self) -> Dict[str, Any]:
        """Return the evaluation as JSON values; infinite and undefined numbers become null."""
        return {
            "rmse": _json_number(self.rmse),
            "sam": _json_number(self.sam),
            "mpsnr": _json_number(self.mpsnr),
            "mssim": _json_number(self.mssim),
            "peak": self.peak,
            "pixels": self.pixels,
            "bands": len(self.per_band),
            "per_band": [band.to_json() for band in self.per_band],
        }


class AngleSums:
    """The sums over bands that a spectral angle needs, so that cubes can be read band by band."""

    def __init__(self, height: int, width: int) -> None:
        self._products = np.zeros((height, width))
        self._first_squares = np.zeros((height, width))
        self._second_squares = np.zeros((height, width))

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Take in one band of both cubes, each (row, column)."""
        a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
        self._products += a * b
        self._first_squares += a * a
        self._second_squares += b * b

    def angles(self) -> np.ndarray:
        """Return the angle in radians, (row, column): see `spectral_angle` for spectra of zeros."""
        lengths = np.sqrt(self._first_squares * self._second_squares)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines = np.clip(self._products / lengths, -1.0, 1.0)
        both_dark = (self._first_squares == 0) & (self._second_squares == 0)
        return np.arccos(np.where(both_dark, 1.0, np.where(lengths == 0, 0.0, cosines)))


def spectral_angle(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the angle between the spectra of each pixel in radians, (row, column).

    A spectrum of zeros has no direction: the angle is 0 to another such spectrum, pi / 2 to any other.
    A NaN in either spectrum gives NaN.

    Args:
        prediction, reference: (band, row, column), in the same units.
    """
    sums = AngleSums(*reference.shape[1:])
    for predicted, true in zip(prediction, reference):
        sums.add(predicted, true)
    return sums.angles()


def mean_square_error(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean of the squared differences of two arrays of one shape, in squared data units."""
    return float(np.square(np.asarray(prediction, np.float64) - np.asarray(reference, np.float64)).mean())


def structural_similarity(
    prediction: np.ndarray, reference: np.ndarray, peak: float, counted: Optional[np.ndarray] = None
) -> float:
    """Return the mean SSIM of one band (Wang et al. 2004, eq. 13), NaN where no position counts.

    The window is an 11 x 11 Gaussian with sigma 1.5, K1 = 0.01, K2 = 0.03.

    Args:
        prediction, reference: (row, column), finite.
        peak: the dynamic range L.
        counted: positions the mean is taken over, from `whole_windows`; by default all whose window
            lies inside the band.
    """
    if counted is None:
        counted = whole_windows(np.ones(reference.shape, bool))
    if not counted.any():
        return math.nan
    a, b = np.asarray(prediction, np.float64), np.asarray(reference, np.float64)
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a * mean_a
    variance_b = _window_mean(b * b) - mean_b * mean_b
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * peak) ** 2, (SSIM_K2 * peak) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity[counted].mean())


def whole_windows(valid: np.ndarray) -> np.ndarray:
    """Return where the whole SSIM window lies inside the raster on valid pixels, bool (row, column)."""
    from scipy.ndimage import minimum_filter  # QGIS's Python may lack scipy, and has use for the other measures

    whole: np.ndarray = minimum_filter(valid, size=2 * SSIM_RADIUS + 1, mode="constant", cval=False)
    return whole


def _window_mean(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter  # see `whole_windows`

    mean: np.ndarray = gaussian_filter(values, SSIM_SIGMA, truncate=SSIM_RADIUS / SSIM_SIGMA)
    return mean


class Evaluator:
    """Compare two cubes band by band: memory holds a few planes, however many bands there are.

    Args:
        valid: the pixels that count, bool (row, column).
        peak: the peak value of PSNR and SSIM in data units.

    Raises:
        UserError: no valid pixel, or a peak that is not positive.
    """

    def __init__(self, valid: np.ndarray, peak: float) -> None:
        if not valid.any():
            raise UserError(
                "No pixel is valid in both prediction and reference.",
                "Check the nodata values of both rasters, and that they show the same place.",
            )
        if not (math.isfinite(peak) and peak > 0):
            raise UserError(
                f"The peak value {peak:g} is not positive, so PSNR and SSIM have no meaning.",
                "Set PEAK to the largest value the data can take, such as 10000 for reflectance x 10000.",
            )
        self._valid = valid
        self._peak = float(peak)
        self._whole_windows = whole_windows(valid)
        self._angles = AngleSums(*valid.shape)
        self._square_errors = np.zeros(valid.shape)
        self._bands: List[BandEvaluation] = []

    def add_band(
        self, prediction: np.ndarray, reference: np.ndarray, band: int, wavelength_nm: Optional[float] = None
    ) -> None:
        """Take in one band of both cubes, each (row, column) in data units."""
        predicted = np.where(self._valid, np.asarray(prediction, np.float64), 0.0)
        true = np.where(self._valid, np.asarray(reference, np.float64), 0.0)
        self._angles.add(predicted, true)
        square_errors = np.square(predicted - true)
        self._square_errors += square_errors
        mean_square = float(square_errors[self._valid].mean())
        psnr = math.inf if mean_square == 0 else 20 * math.log10(self._peak) - 10 * math.log10(mean_square)
        ssim = structural_similarity(predicted, true, self._peak, self._whole_windows)
        self._bands.append(BandEvaluation(band, wavelength_nm, math.sqrt(mean_square), psnr, ssim))

    def angle_map(self) -> np.ndarray:
        """Return the spectral angle over the bands so far, radians (row, column), NaN where invalid."""
        return np.where(self._valid, self._angles.angles(), math.nan)

    def rmse_map(self) -> np.ndarray:
        """Return the RMSE over the bands so far, data units (row, column), NaN where invalid."""
        return np.where(self._valid, np.sqrt(self._square_errors / max(len(self._bands), 1)), math.nan)

    def result(self) -> Evaluation:
        """Return the evaluation over the bands so far; at least one is needed."""
        finite = [band.psnr for band in self._bands if math.isfinite(band.psnr)]
        return Evaluation(
            rmse=math.sqrt(sum(band.rmse**2 for band in self._bands) / len(self._bands)),
            sam=float(self.angle_map()[self._valid].mean()),
            mpsnr=sum(finite) / len(finite) if finite else math.inf,
            mssim=sum(band.ssim for band in self._bands) / len(self._bands),
            peak=self._peak,
            pixels=int(self._valid.sum()),
            per_band=tuple(self._bands),
        )


def evaluate(prediction: np.ndarray, reference: np.ndarray, valid: np.ndarray, peak: float) -> Evaluation:
    """Compare two cubes with the same bands.

    Args:
        prediction, reference: (band, row, column) in data units.
        valid: the pixels that count, bool (row, column).
        peak: the peak value of PSNR and SSIM in data units.

    Raises:
        UserError: different shapes, no valid pixel, or a peak that is not positive.
    """
    if prediction.shape != reference.shape or reference.shape[1:] != valid.shape:
        raise UserError(
            f"Prediction {prediction.shape}, reference {reference.shape} and mask {valid.shape} differ in shape.",
            "Compare cubes with the same bands, rows and columns.",
        )
    evaluator = Evaluator(valid, peak)
    for band, (predicted, true) in enumerate(zip(prediction, reference), start=1):
        evaluator.add_band(predicted, true, band)
    return evaluator.result()


class Coverage:
    """Count the errors within one and within two stated standard deviations, part of a cube by part.

    Values whose stated deviation is 0 were known, not estimated, and do not count.

    Example:
        >>> coverage = Coverage()
        >>> error = np.array([[[0.5, 1.5, 2.5, 0.0]]])
        >>> coverage.add(error, np.zeros((1, 1, 4)), np.array([[[1.0, 1.0, 1.0, 0.0]]]), np.ones((1, 4), bool))
        >>> [round(share, 3) for share in coverage.shares()]
        [0.333, 0.667]
    """

    def __init__(self) -> None:
        self._stated = 0
        self._within_one = 0
        self._within_two = 0

    def add(self, prediction: np.ndarray, reference: np.ndarray, deviation: np.ndarray, valid: np.ndarray) -> None:
        """Take in a part of the cubes.

        Args:
            prediction, reference: (band, row, column) in data units.
            deviation: the stated standard deviations, likewise; not negative.
            valid: the pixels that count, bool (row, column).
        """
        for predicted, true, stated in zip(prediction, reference, deviation):
            counted = valid & (stated > 0)
            sigmas = stated[counted].astype(np.float64)
            errors = np.abs(predicted[counted].astype(np.float64) - true[counted].astype(np.float64))
            self._stated += len(sigmas)
            self._within_one += int(np.count_nonzero(errors <= sigmas))
            self._within_two += int(np.count_nonzero(errors <= 2 * sigmas))

    def shares(self) -> Tuple[float, float]:
        """Return the shares, 0 to 1, within one and within two deviations; NaN where nothing counts."""
        if self._stated == 0:
            return math.nan, math.nan
        return self._within_one / self._stated, self._within_two / self._stated

    def to_json(self) -> Dict[str, Any]:
        """Return the shares as JSON values; undefined ones become null."""
        one_sigma, two_sigma = self.shares()
        return {"one_sigma": _json_number(one_sigma), "two_sigma": _json_number(two_sigma)}


def _json_number(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
