"""What the values of a job may be: read from what a user wrote, and checked."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Optional, Sequence, Tuple, Union

from scdm_qgis.core.errors import UserError

BandText = Union[str, Sequence[int], None]
PerStage = Union[float, str, Sequence[float], None]


def read_per_stage(name: str, value: PerStage) -> Optional[Tuple[float, ...]]:
    """Read one number, a list, or text such as ``0,0.5`` into numbers; None stays None.

    Raises:
        UserError: text that holds anything but numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    single = [value] if not isinstance(value, (list, tuple)) else value
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else single
    try:
        if not parts or any(isinstance(part, bool) for part in parts):
            raise ValueError
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name} '{value}' is not a list of numbers.",
            "Give one number for all stages, or one a stage such as 0,0.5.",
        ) from error


def per_stage(name: str, value: PerStage, stages: int) -> Optional[Tuple[float, ...]]:
    """Return one number a stage, or None where the user gave none.

    Raises:
        UserError: neither one number nor one a stage.
    """
    numbers = read_per_stage(name, value)
    if numbers is None:
        return None
    if len(numbers) not in (1, stages):
        raise UserError(
            f"{name} has {len(numbers)} numbers, but the model has {stages} stages.", "Give one number, or one a stage."
        )
    return numbers * stages if len(numbers) == 1 else numbers


def read_wavelengths(value: Union[str, Sequence[float], None]) -> Optional[Tuple[float, ...]]:
    """Read a list of wavelengths in nm, or ``first-last`` as a pair of two; None stays None.

    A pair written with a hyphen stands for bands spread evenly from the first to the last; the caller
    knows how many.

    Raises:
        UserError: anything but positive numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    span = re.fullmatch(r"\s*([\d.]+)\s*-\s*([\d.]+)\s*", value) if isinstance(value, str) else None
    parts = span.groups() if span else value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"WAVELENGTHS '{value}' cannot be read.", "Give a list in nm, or the first and the last such as 430-860."
        ) from error
    if any(not (math.isfinite(number) and 0 < number < 1e6) for number in numbers):
        raise UserError("WAVELENGTHS must be positive numbers in nm below 1000000.", "Correct the list.")
    return numbers


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: Optional[float] = None,
    whole: bool = False,
) -> None:
    """Raise UserError unless a value is None, or a number within its bounds; `low` and `high` are included."""
    if value is None:
        return
    good = isinstance(value, int) if whole else isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    if not good or isinstance(value, bool):
        raise UserError(f"{name} must be a {'whole ' if whole else ''}number, not '{value}'.", f"Correct {name}.")
    if not low <= value <= high or (above is not None and value <= above):
        bounds = f"above {above:g}" if above is not None else f"at least {low:.15g}" if low > -math.inf else ""
        upper = f"at most {high:.15g}" if high < math.inf else ""
        raise UserError(f"{name} is {value}.", f"It must be {' and '.join(part for part in (bounds, upper) if part)}.")


def check_seed(seed: int) -> None:
    """Raise UserError unless a value is a seed."""
    check_number("SEED", seed, whole=True, low=0, high=2**31 - 1)


def check_choice(name: str, value: Optional[str], choices: Sequence[str]) -> None:
    """Raise UserError unless a value is None or one of the choices."""
    if value is not None and value not in choices:
        raise UserError(f"{name} '{value}' does not exist.", f"Choose one of: {', '.join(choices)}.")


def check_device(device: Any) -> None:
    """Raise UserError unless a value names a device, whether or not this machine has it."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda|cuda:\d{1,3}|mps", device):
        raise UserError(
            f"DEVICE '{device}' does not exist.", "Choose auto, cpu, cuda, cuda:0 (or another number) or mps."
        )


def check_bands(name: str, bands: Any) -> None:
    """Raise UserError unless a value is None, a text, or a list of whole numbers; no band is looked up."""
    whole = isinstance(bands, (list, tuple)) and all(type(band) is int for band in bands)
    if not (bands is None or isinstance(bands, str) or whole):
        raise UserError(f"{name} is not a list of bands.", "Write band numbers such as 1-40,45.")


def check_flag(name: str, value: Any) -> None:
    """Raise UserError unless a value is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, not '{value}'.", f"Correct {name}.")


def check_text(name: str, text: Any) -> None:
    """Raise UserError unless a value is None or a text."""
    if text is not None and not isinstance(text, str):
        raise UserError(f"{name} must be text, not '{text}'.", f"Correct {name}.")


def check_extent(extent: Any) -> None:
    """Raise UserError unless a value is None or [xmin, ymin, xmax, ymax]."""
    if extent is None:
        return
    numbers = isinstance(extent, (list, tuple)) and len(extent) == 4
    numbers = numbers and all(isinstance(edge, (int, float)) and abs(edge) < math.inf for edge in extent)
    if not numbers or not (extent[0] < extent[2] and extent[1] < extent[3]):
        raise UserError("EXTENT is no rectangle.", "Give [xmin, ymin, xmax, ymax] with the smaller values first.")
