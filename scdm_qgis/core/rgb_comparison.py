"""Measure the RGB pixels a model is trained on, and say how others differ from them."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from scdm_qgis.core.rgb_distribution import RgbDistribution
from scdm_qgis.core.rgb_noise import Noise, noise_of

TAIL = 0.001
"""Share of the training pixels beyond either limit."""

NOTEWORTHY_SHARE = 0.02
"""Pixels beyond a limit are spoken of from this share on."""

OTHER_UNIT_FACTOR = 4.0
"""Scenes of one sensor and kind of landscape hardly differ more than this in their median brightness."""

LARGEST_BYTE = 255

NOISIER_FACTOR = 2.0
"""Scenes of one sensor hardly differ more than this in their noise."""

NOTEWORTHY_NOISE = 0.005
"""Share of the range of the training pixels' brightness below which noise is not spoken of."""


def measure_distribution(rgb: np.ndarray, detail: np.ndarray) -> RgbDistribution:
    """Measure training pixels.

    Args:
        rgb: the pixels (pixel, 3), at least one.
        detail: of their images, see `rgb_noise.measure_detail`.
    """
    red, green = _shares(rgb)
    return RgbDistribution(
        _limits(rgb.mean(axis=1, dtype=np.float64), (TAIL, 0.5, 1 - TAIL)),  # type: ignore[arg-type]
        _limits(red, (TAIL, 1 - TAIL)),  # type: ignore[arg-type]
        _limits(green, (TAIL, 1 - TAIL)),  # type: ignore[arg-type]
        noise_of(detail),
    )


def rgb_differences(rgb: np.ndarray, detail: np.ndarray, trained_on: RgbDistribution) -> List[str]:
    """Say in which ways pixels differ from the training pixels; nothing where they hardly do.

    Args:
        rgb: the pixels (pixel, 3).
        detail: of their images, see `rgb_noise.measure_detail`.
        trained_on: the training pixels.
    """
    low, median, high = trained_on.brightness
    brightness = rgb.mean(axis=1, dtype=np.float64)
    own_median = float(np.median(brightness))
    if _is_other_unit(own_median, median):
        return [_other_unit(rgb, own_median, median, trained_on_bytes=1 < high <= LARGEST_BYTE)]
    red, green = _shares(rgb)
    hue = _outside(red, trained_on.red_share) | _outside(green, trained_on.green_share)
    ways = [
        (brightness > high, f"are brighter than the training data (mean of red, green, blue: {_about(high, 4)})"),
        (brightness < low, f"are darker than the training data (mean of red, green, blue: {_about(low, 4)})"),
        (hue & ~_outside(brightness, (low, high)), "have another hue than nearly all of the training data"),
    ]
    shares = [f"{share.mean():.0%} of the pixels {way}." for share, way in ways if share.mean() >= NOTEWORTHY_SHARE]
    return shares + _noisier(noise_of(detail), trained_on.noise, high - low)


def _noisier(own: Optional[Noise], trained: Optional[Noise], brightness_range: float) -> List[str]:
    if own is None or trained is None:
        return []
    noisy = [
        f"{colour} ({_about(here)}, there {_about(there)})"
        for colour, here, there in zip(("red", "green", "blue"), own, trained)
        if here > max(NOISIER_FACTOR * there, NOTEWORTHY_NOISE * brightness_range)
    ]
    if not noisy:
        return []
    return [
        "The input is noisier than the training data, or its finest detail is more colourful, by the standard "
        f"deviation in {', '.join(noisy)}: spectra err more than UNCERTAINTY says."
    ]


def _about(value: float, digits: int = 2) -> str:
    """Return a number in so many digits, without an exponent however large it is."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def _is_other_unit(own_median: float, median: float) -> bool:
    if median <= 0 or own_median <= 0:
        return False
    return not 1 / OTHER_UNIT_FACTOR <= own_median / median <= OTHER_UNIT_FACTOR


def _other_unit(rgb: np.ndarray, own_median: float, median: float, trained_on_bytes: bool) -> str:
    here, there = _about(own_median, 4), _about(median, 4)
    sentence = (
        f"The input is probably in another unit or scale: its median brightness is {here}, that of the training data "
        f"{there}."
    )
    bytes_here = 1 < rgb.max() <= LARGEST_BYTE and rgb.min() >= 0 and np.array_equal(rgb, np.rint(rgb))
    if bytes_here and not trained_on_bytes:
        sentence += (
            f" Its values lie from 0 to {LARGEST_BYTE}, as in a picture for the screen, but the model was trained on "
            "reflectance or radiance."
        )
    return f"{sentence} Multiplied by about {_about(median / own_median)} the input would fit, if it is linear."


def _shares(rgb: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the shares of red and green in the sum of the three, a third each where that is not positive."""
    values = np.maximum(rgb.astype(np.float64), 0)
    total = values.sum(axis=1)
    safe = np.where(total > 0, total, 1)
    red, green = (np.where(total > 0, values[:, colour] / safe, 1 / 3) for colour in (0, 1))
    return red, green


def _limits(values: np.ndarray, shares: Tuple[float, ...]) -> Tuple[float, ...]:
    return tuple(float(limit) for limit in np.quantile(values, shares))


def _outside(values: np.ndarray, limits: Tuple[float, float]) -> np.ndarray:
    return np.asarray((values < limits[0]) | (values > limits[1]))
