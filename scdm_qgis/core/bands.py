"""Which bands a stage predicts (eq. 12), and which three bands are red, green and blue.

Band numbers are 1-based, as GDAL and QGIS count them; indices are 0-based.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple, Union

from scdm_qgis.core.errors import UserError

RGB_WAVELENGTHS_NM = (640.0, 550.0, 460.0)
"""Where red, green and blue are looked for, in nm."""

RGB_TOLERANCE_NM = 60.0
"""A band farther than this from a colour's wavelength does not show that colour."""

MATCH_TOLERANCE_NM = 5.0
"""Bands of two rasters whose wavelengths differ by no more than this are the same band."""

BandNumbers = Union[str, Sequence[int], None]


def stage_band_count(band_count: int, stage: int, stages: int) -> int:
    """Return how many bands stage `stage` of `stages` predicts (eq. 12 for K = 2).

    n_k = round(3 (N / 3)^(k / K)): each stage multiplies the bands by about the same factor.
    The last stage makes all N.
    """
    if stage == stages:
        return band_count
    count = math.floor(3 * (band_count / 3) ** (stage / stages) + 0.5)
    return min(max(count, 1), band_count)


def equally_spaced_indices(band_count: int, count: int) -> Tuple[int, ...]:
    """Return `count` 0-based indices floor(i N / n) spread evenly over `band_count` bands."""
    return tuple(i * band_count // count for i in range(count))


def stage_band_indices(band_count: int, stage: int, stages: int) -> Tuple[int, ...]:
    """Return the 0-based indices, among the N target bands, that one stage predicts."""
    return equally_spaced_indices(band_count, stage_band_count(band_count, stage, stages))


def parse_band_numbers(bands: BandNumbers, band_count: int) -> Tuple[int, ...]:
    """Read a bands string such as ``1-40,45``, or a list, into 1-based band numbers.

    Args:
        bands: the user's text or list; empty or None gives no bands.
        band_count: bands the raster has.

    Raises:
        UserError: text that is no band list, a repeated band, or a band the raster does not have.
    """
    if bands is None or (isinstance(bands, str) and not bands.strip()):
        return ()
    numbers = _read_band_text(bands) if isinstance(bands, str) else [int(band) for band in bands]
    for number in numbers:
        if not 1 <= number <= band_count:
            raise UserError(
                f"Band {number} does not exist: the raster has {band_count} bands.",
                f"Give band numbers from 1 to {band_count}.",
            )
    twice = next((number for number, times in Counter(numbers).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"Band {twice} is named twice.", "Name every band once.")
    return tuple(numbers)


def _read_band_text(text: str) -> List[int]:
    numbers: List[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise UserError(
                f"'{text}' is not a list of bands.",
                "Write band numbers and ranges separated by commas, such as 1-40,45.",
            )
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last < first or last - first > 100_000:
            raise UserError(
                f"'{part.strip()}' is not a range of bands.", "Write the smaller number first, such as 1-40."
            )
        numbers.extend(range(first, last + 1))
    return numbers


def choose_rgb_bands(
    bands: BandNumbers,
    band_count: int,
    wavelengths_nm: Optional[Sequence[Optional[float]]] = None,
    usable: Optional[Sequence[bool]] = None,
    by_position: bool = False,
) -> Tuple[int, int, int]:
    """Return the 1-based bands that show red, green and blue.

    Args:
        bands: what the user asked for; empty or None leaves the choice to the wavelengths.
        band_count: bands the raster has, alpha not counted.
        wavelengths_nm: one wavelength a band in nm, None where unknown; None without any.
        usable: False for bands that must not be chosen (bad or empty).
        by_position: take bands 1, 2, 3 of a raster with 3 or 4 bands of which no wavelength is known.

    Raises:
        UserError: not three bands, or no way to know which they are.
    """
    if band_count < 3:
        raise UserError(
            f"The raster has {band_count} band{'s' if band_count > 1 else ''}, but red, green and blue are three.",
            "Choose a raster with at least three bands.",
        )
    chosen = parse_band_numbers(bands, band_count)
    if chosen:
        if len(chosen) != 3:
            raise UserError(
                f"RGB_BANDS names {len(chosen)} bands.",
                "Name three: the red, the green and the blue band, such as 30,20,10.",
            )
        return chosen[0], chosen[1], chosen[2]
    by_wavelength = _nearest_rgb(wavelengths_nm, usable) if wavelengths_nm is not None else None
    if by_wavelength is not None:
        return by_wavelength
    unknown = wavelengths_nm is None or not any(wavelengths_nm)
    if by_position and band_count in (3, 4) and unknown and (usable is None or all(usable[:3])):
        return 1, 2, 3
    if unknown:
        raise UserError(
            f"Which of the {band_count} bands are red, green and blue is not known from wavelengths.",
            "Fill in RGB_BANDS with the three band numbers: red, green, blue.",
        )
    colours = ", ".join(f"{nm:g}" for nm in RGB_WAVELENGTHS_NM)
    raise UserError(
        f"The wavelengths of the {band_count} bands give no usable band of its own for each of red, green and blue "
        f"({colours} nm).",
        "Choose a raster that has all three, or name three bands in RGB_BANDS: red, green, blue.",
    )


def _nearest_rgb(
    wavelengths_nm: Sequence[Optional[float]], usable: Optional[Sequence[bool]]
) -> Optional[Tuple[int, int, int]]:
    chosen = []
    for colour_nm in RGB_WAVELENGTHS_NM:
        distances = [
            (abs(wavelength - colour_nm), number)
            for number, wavelength in enumerate(wavelengths_nm, start=1)
            if wavelength is not None and (usable is None or usable[number - 1])
        ]
        distance, number = min(distances, default=(math.inf, 0))
        if distance > RGB_TOLERANCE_NM or number in chosen:
            return None
        chosen.append(number)
    return chosen[0], chosen[1], chosen[2]


def match_bands(
    first_nm: Optional[Sequence[Optional[float]]],
    first_count: int,
    second_nm: Optional[Sequence[Optional[float]]],
    second_count: int,
) -> Tuple[Tuple[int, int], ...]:
    """Pair the bands of two rasters, as 1-based (first, second) numbers.

    By wavelength where both know theirs for every band (within 5 nm, each band used once, the
    closest pairs first), else by position.

    Raises:
        UserError: band counts differ where position decides, or no wavelengths agree.
    """
    if first_nm is None or second_nm is None or None in first_nm or None in second_nm:
        if first_count != second_count:
            raise UserError(
                f"The rasters have {first_count} and {second_count} bands and no wavelengths to match them by.",
                "Give rasters with the same bands, or with wavelengths.",
            )
        return tuple((number, number) for number in range(1, first_count + 1))
    candidates = sorted(
        (abs(a - b), i, j)
        for i, a in enumerate(first_nm, start=1)
        for j, b in enumerate(second_nm, start=1)
        if a is not None and b is not None and abs(a - b) <= MATCH_TOLERANCE_NM
    )
    pairs: Dict[int, int] = {}
    taken = set()
    for _, i, j in candidates:
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    if not pairs:
        raise UserError(
            "No wavelengths of the two rasters agree within 5 nm.",
            "Check that both cover the same part of the spectrum and state it in the same unit.",
        )
    return tuple(sorted(pairs.items()))
