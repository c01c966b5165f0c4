"""Which curves of one place belong together: predictions with ground truths, and with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from scdm_qgis.profile.curves import Curve, Role
from scdm_qgis.profile.numbers import Difference, difference


@dataclass(frozen=True)
class RoledCurve:
    """A curve, and what its raster is.

    Args:
        layer_id, name: the raster.
        run: what the rasters of one reconstruction have in common; empty for others.
    """

    layer_id: str
    name: str
    role: Role
    run: Tuple[Tuple[str, str], ...]
    curve: Curve


def compare(curves: Sequence[RoledCurve]) -> List[Tuple[RoledCurve, RoledCurve, Difference]]:
    """Return every pair of prediction and ground truth that has bands in common, with its numbers."""
    pairs = []
    for prediction in curves:
        for truth in curves:
            if prediction.role is Role.PREDICTION and truth.role is Role.TRUTH:
                numbers = difference(prediction.curve, truth.curve)
                if numbers is not None:
                    pairs.append((prediction, truth, numbers))
    return pairs


def uncertainty_of(prediction: RoledCurve, curves: Sequence[RoledCurve]) -> Optional[RoledCurve]:
    """Return the standard deviations of a prediction: of its own run, else the only one without a run.

    None for curves that are no prediction, and where the band counts differ.
    """
    if prediction.role is not Role.PREDICTION:
        return None
    fitting = [
        one for one in curves if one.role is Role.UNCERTAINTY and len(one.curve.values) == len(prediction.curve.values)
    ]
    own = [one for one in fitting if one.run == prediction.run]
    unclaimed = [one for one in fitting if not one.run or not prediction.run]
    return next(iter(own or unclaimed), None)


def standard_deviations(uncertainty: RoledCurve) -> np.ndarray:
    """Return the deviations a band; NaN for negative ones, which are none."""
    values = uncertainty.curve.without_bad_bands()
    return np.where(values >= 0, values, np.nan)
