"""What RGB pixels a model was trained on. Without numpy, as QGIS reads it while it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Tuple


@dataclass(frozen=True)
class RgbDistribution:
    """Limits of the training pixels, in data units.

    Args:
        brightness: lowest, median and highest mean of red, green and blue, but for the tails.
        red_share: lowest and highest share of red in the sum of the three, likewise.
        green_share: the same of green.
        noise: standard deviation of red, green and blue, see `rgb_noise.noise_of`; None where unknown.
    """

    brightness: Tuple[float, float, float]
    red_share: Tuple[float, float]
    green_share: Tuple[float, float]
    noise: Optional[Tuple[float, float, float]] = None

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
        limits = (low, median, high), (red_low, red_high), (green_low, green_high)
        if values.get("noise") is None:
            return cls(*limits)
        red, green, blue = (float(value) for value in values["noise"])
        return cls(*limits, (red, green, blue))
