"""What RGB pixels a model was trained on, and how others differ from them. Numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

TAIL = 0.001
"""Share of the training pixels beyond either limit."""

NOTEWORTHY_SHARE = 0.02
"""Pixels beyond a limit are spoken of from this share on."""

OTHER_UNIT_FACTOR = 4.0
"""Scenes of one sensor and kind of landscape hardly differ more than this in their median brightness."""

LARGEST_BYTE = 255


@dataclass(frozen=True)
class RgbDistribution:
    """Limits of the training pixels, in data units.

    Args:
        brightness: lowest, median and highest mean of red, green and blue, but for the tails.
        red_share: lowest and highest share of red in the sum of the three, likewise.
        green_share: the same of green.
    """

    brightness: Tuple[float, float, float]
    red_share: Tuple[float, float]
    green_share: Tuple[float, float]

    @classmethod
    def measure(cls, rgb: np.ndarray) -> RgbDistribution:
        """Measure training pixels (pixel, 3), of which there must be at least one."""
        red, green = _shares(rgb)
        return cls(
            _limits(rgb.mean(axis=1, dtype=np.float64), (TAIL, 0.5, 1 - TAIL)),  # type: ignore[arg-type]
            _limits(red, (TAIL, 1 - TAIL)),  # type: ignore[arg-type]
            _limits(green, (TAIL, 1 - TAIL)),  # type: ignore[arg-type]
        )

    def to_json(self) -> Dict[str, Any]:
        """Return the limits as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RgbDistribution:
        """Read the limits back; raises KeyError, TypeError or ValueError for anything else."""
        low, median, high = (float(value) for value in values["brightness"])
        (red_low, red_high), (green_low, green_high) = (
            (float(first), float(last)) for first, last in (values["red_share"], values["green_share"])
        )
        return cls((low, median, high), (red_low, red_high), (green_low, green_high))

    def differences(self, rgb: np.ndarray) -> List[str]:
        """Say in which ways pixels (pixel, 3) differ from the training pixels; nothing where they hardly do."""
        low, median, high = self.brightness
        brightness = rgb.mean(axis=1, dtype=np.float64)
        own_median = float(np.median(brightness))
        if self._is_other_unit(own_median):
            return [_other_unit(rgb, own_median, median)]
        red, green = _shares(rgb)
        hue = _outside(red, self.red_share) | _outside(green, self.green_share)
        ways = [
            (brightness > high, f"are brighter than the training data ({high:.4g} in the mean of red, green and blue)"),
            (brightness < low, f"are darker than the training data ({low:.4g} in the mean of red, green and blue)"),
            (hue & ~_outside(brightness, (low, high)), "have another hue than nearly all of the training data"),
        ]
        return [f"{share.mean():.0%} of the pixels {way}." for share, way in ways if share.mean() >= NOTEWORTHY_SHARE]

    def _is_other_unit(self, own_median: float) -> bool:
        _, median, _ = self.brightness
        if median <= 0 or own_median <= 0:
            return False
        return not 1 / OTHER_UNIT_FACTOR <= own_median / median <= OTHER_UNIT_FACTOR


def _other_unit(rgb: np.ndarray, own_median: float, median: float) -> str:
    sentence = (
        f"The input is probably in another unit or scale: its median brightness is {own_median:.4g}, that of the "
        f"training data {median:.4g}."
    )
    if 1 < rgb.max() <= LARGEST_BYTE and rgb.min() >= 0 and np.array_equal(rgb, np.rint(rgb)):
        sentence += (
            f" Its values lie from 0 to {LARGEST_BYTE}, as in a picture for the screen, but the model was trained on "
            "reflectance or radiance."
        )
    return f"{sentence} Multiplied by about {median / own_median:.2g} the input would fit, if it is linear."


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
