"""How far a prediction's curve is from the truth's, in the numbers Evaluate Reconstruction gives for a raster."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional, Tuple

import numpy as np

from scdm_qgis.core.bands import match_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.metrics import mean_square_error, spectral_angle
from scdm_qgis.profile.curves import Curve

Wavelengths = Optional[Tuple[Optional[float], ...]]


@dataclass(frozen=True)
class Difference:
    """A predicted curve against the true one.

    Args:
        bands: how many bands both have a value in.
        sam_degrees: angle between the spectra.
        rmse: root mean square error over these bands, data units.
        largest_error: prediction minus truth where they are farthest apart, data units.
        largest_error_band: that band's number in the truth, from 1.
        largest_error_nm: its wavelength, where known.
    """

    bands: int
    sam_degrees: float
    rmse: float
    largest_error: float
    largest_error_band: int
    largest_error_nm: Optional[float]


def difference(prediction: Curve, truth: Curve) -> Optional[Difference]:
    """Compare two curves; None where they have no bands in common that hold values.

    Bands are matched as Evaluate Reconstruction does: by wavelength within 5 nm, else by position. Bands that
    either flags as bad, or has no value in, are left out.
    """
    pairs = _matched(
        prediction.spectrum.wavelengths_nm, len(prediction.values), truth.spectrum.wavelengths_nm, len(truth.values)
    )
    if not len(pairs):
        return None
    predicted = prediction.without_bad_bands()[pairs[:, 0] - 1]
    true = truth.without_bad_bands()[pairs[:, 1] - 1]
    common = np.isfinite(predicted) & np.isfinite(true)
    if not common.any():
        return None
    numbers = pairs[common, 1]
    predicted, true = predicted[common], true[common]
    largest = int(np.argmax(np.abs(predicted - true)))
    angle = spectral_angle(predicted[:, None, None], true[:, None, None])
    band = int(numbers[largest])
    return Difference(
        bands=len(true),
        sam_degrees=math.degrees(float(angle[0, 0])),
        rmse=math.sqrt(mean_square_error(predicted, true)),
        largest_error=float(predicted[largest] - true[largest]),
        largest_error_band=band,
        largest_error_nm=(truth.spectrum.wavelengths_nm or (None,) * band)[band - 1],
    )


@lru_cache(maxsize=64)  # matching hundreds of bands takes longer than reading them
def _matched(first_nm: Wavelengths, first_count: int, second_nm: Wavelengths, second_count: int) -> np.ndarray:
    """Return 1-based (first, second) band numbers, (pair, 2); none where the bands cannot be matched."""
    try:
        return np.array(match_bands(first_nm, first_count, second_nm, second_count))
    except UserError:
        return np.empty((0, 2), int)
