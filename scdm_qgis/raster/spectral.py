"""Wavelengths, widths and bad-band flags, in every place a raster may carry them.

Works on dictionaries of tags, metadata domain by metadata domain ("" is the default one), so that callers
with rasterio and callers with osgeo.gdal share it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

Domains = Mapping[str, Mapping[str, str]]
Numbers = List[Optional[float]]

SHORTEST_NM = 100.0
LONGEST_NM = 1e6
"""No optical sensor sees below 100 nm or beyond 1 mm: such a number is no wavelength."""

_MICROMETRE = re.compile(r"(?:um|µm|μm|microns?|micromet(?:er|re)s?)")
_NANOMETRE = re.compile(r"(?:nm|nanomet(?:er|re)s?)")
_UNIT_UNSTATED = ("", "unknown", "none")
_UNIT_KEYS = ("wavelength_units", "wavelength_unit")
_WAVELENGTH_KEYS = ("wavelength", "wavelengths")
_BAD_BAND_KEYS = ("bbl", "bad_band_multiplier")
_NUMBER = r"(?P<number>\d+(?:\.\d*)?|\.\d+)"
_UNIT = rf"(?:{_MICROMETRE.pattern}|{_NANOMETRE.pattern})"
_NUMBER_AND_UNIT = re.compile(rf"(?<![^\W_])(?<![.,-]){_NUMBER}\s*(?P<unit>{_UNIT})(?![^\W_])")
_RANGE = re.compile(
    rf"(?<![^\W_.])(?P<low>[\d.]+)\s*(?P<low_unit>{_UNIT})?\s*(?:[-–—]|to)\s*"
    rf"(?P<high>[\d.]+)\s*(?P<unit>{_UNIT})(?![^\W_])"
)
_NUMBERED = re.compile(r"(?:band|bande|channel|kanal|ch\.?|layer|#)[\s_]*$")
_WIDEST_RANGE = 2.0
"""No band reaches from a wavelength to more than twice that: "2 - 490 nm" is the second band, not a range."""
_BARE_NUMBER = re.compile(rf"\s*\(?\s*{_NUMBER}\s*\)?\s*")


@dataclass(frozen=True)
class Spectrum:
    """What is known of a raster's bands; every tuple holds one entry a band.

    Args:
        wavelengths_nm: centre wavelengths in nm, None for a band without; None where no band has one.
        fwhm_nm: widths (full width at half maximum) in nm, in the same form.
        bad: True for a band that is flagged as bad.
        origin: where the wavelengths were found, for the log; "none" where they were not.
        unit_guessed: True where no unit was stated and the numbers' size decided.
    """

    wavelengths_nm: Optional[Tuple[Optional[float], ...]]
    fwhm_nm: Optional[Tuple[Optional[float], ...]]
    bad: Tuple[bool, ...]
    origin: str
    unit_guessed: bool

    def of_bands(self, indices: Sequence[int]) -> Spectrum:
        """Return what is known of some bands, by 0-based indices: of the data bands, without alpha."""

        def pick(values: Any) -> Any:
            return values and tuple(values[index] for index in indices)

        return replace(self, wavelengths_nm=pick(self.wavelengths_nm), fwhm_nm=pick(self.fwhm_nm), bad=pick(self.bad))


@dataclass(frozen=True)
class SpectralTags:
    """Tags to write: for the dataset, for each band, and each band's description ("" for none)."""

    dataset: Dict[str, Dict[str, str]]
    bands: Tuple[Dict[str, Dict[str, str]], ...]
    descriptions: Tuple[str, ...]


class _Source(NamedTuple):
    """One place's numbers in nm, one a band, None where it has none."""

    origin: str
    wavelengths: Numbers
    fwhm: Numbers
    unit_guessed: Sequence[bool]


def read_spectrum(
    dataset_tags: Domains, band_tags: Sequence[Domains], descriptions: Sequence[Optional[str]]
) -> Spectrum:
    """Find wavelengths, widths and bad-band flags.

    Looks, band by band, at the band's IMAGERY domain, the band's default and ENVI domains, the dataset's
    ENVI and default domains, and last at numbers in the band descriptions; the first that knows the band
    wins. What the band itself carries comes first because lists on the dataset go stale when bands are
    taken out; lists whose length is not the band count are ignored. Text that is no number and numbers that
    are no wavelength count as unknown.

    Args:
        dataset_tags: the dataset's tags, domain by domain.
        band_tags: each band's tags, domain by domain.
        descriptions: each band's description.
    """
    count = len(band_tags)
    dataset = {domain: _plain_keys(tags) for domain, tags in dataset_tags.items()}
    bands = [{domain: _plain_keys(tags) for domain, tags in band.items()} for band in band_tags]
    default, envi = dataset.get("", {}), dataset.get("ENVI", {})
    unit = _first_of(envi, _UNIT_KEYS) or _first_of(default, _UNIT_KEYS)
    sources = (
        _from_imagery(bands),
        _from_band_tags("band tags", [band.get("", {}) for band in bands], unit),
        _from_band_tags("band ENVI domain", [band.get("ENVI", {}) for band in bands], unit),
        _from_lists("dataset ENVI lists", envi, count, unit),
        _from_lists("dataset tags", default, count, unit),
        _from_texts("dataset tags Band_1, Band_2, ...", _numbered_texts(default, count)),
        _from_texts("band descriptions", descriptions),
    )
    chosen = [next((source for source in sources if source.wavelengths[i] is not None), None) for i in range(count)]
    wavelengths = tuple(None if source is None else source.wavelengths[i] for i, source in enumerate(chosen))
    fwhm = tuple(next((s.fwhm[i] for s in sources if s.fwhm[i] is not None), None) for i in range(count))
    return Spectrum(
        wavelengths_nm=wavelengths if any(chosen) else None,
        fwhm_nm=fwhm if any(width is not None for width in fwhm) else None,
        bad=_bad_bands(default, envi, bands),
        origin=" and ".join(dict.fromkeys(source.origin for source in chosen if source)) or "none",
        unit_guessed=any(source is not None and source.unit_guessed[i] for i, source in enumerate(chosen)),
    )


def spectral_tags(
    wavelengths_nm: Optional[Sequence[Optional[float]]], fwhm_nm: Optional[Sequence[Optional[float]]]
) -> SpectralTags:
    """Return the tags that carry wavelengths and widths, in nm, in every place they are looked for.

    Bands without a wavelength get no tags and an empty description. The ENVI lists on the dataset are
    written only where every band has a value, since a list with gaps cannot be read.
    """
    wavelengths = list(wavelengths_nm or ())
    widths = list(fwhm_nm or (None,) * len(wavelengths))
    dataset: Dict[str, Dict[str, str]] = {}
    if wavelengths and None not in wavelengths:
        dataset["ENVI"] = {"wavelength": _envi_list(wavelengths), "wavelength_units": "Nanometers"}
        if None not in widths:
            dataset["ENVI"]["fwhm"] = _envi_list(widths)
    bands = tuple(_band_tags(wavelength, width) for wavelength, width in zip(wavelengths, widths))
    descriptions = tuple("" if wavelength is None else f"{_text(wavelength)} nm" for wavelength in wavelengths)
    return SpectralTags(dataset, bands, descriptions)


def _plain_keys(tags: Mapping[str, str]) -> Dict[str, str]:
    return {key.strip().lower().replace(" ", "_"): value for key, value in tags.items()}


def _first_of(tags: Mapping[str, str], keys: Sequence[str]) -> Optional[str]:
    return next((tags[key] for key in keys if key in tags), None)


def _from_imagery(bands: Sequence[Domains]) -> _Source:
    tags = [band.get("IMAGERY", {}) for band in bands]
    wavelengths = [band.get("central_wavelength_um") for band in tags]
    return _source("band IMAGERY domain", wavelengths, [band.get("fwhm_um") for band in tags], ["um"] * len(tags))


def _from_band_tags(origin: str, tags: Sequence[Mapping[str, str]], dataset_unit: Optional[str]) -> _Source:
    wavelengths = [_first_of(band, _WAVELENGTH_KEYS) for band in tags]
    units = [_first_of(band, _UNIT_KEYS) or dataset_unit for band in tags]
    return _source(origin, wavelengths, [band.get("fwhm") for band in tags], units)


def _from_lists(origin: str, tags: Mapping[str, str], count: int, unit: Optional[str]) -> _Source:
    wavelengths = _list_items(_first_of(tags, _WAVELENGTH_KEYS), count)
    return _source(origin, wavelengths, _list_items(tags.get("fwhm"), count), [unit] * count)


def _numbered_texts(tags: Mapping[str, str], count: int) -> List[Optional[str]]:
    """Return Band_1, Band_2, ... as GDAL's ENVI reader writes them; nothing where they are not one a band."""
    stale = f"band_{count + 1}" in tags
    return [None if stale else tags.get(f"band_{number}") for number in range(1, count + 1)]


def _from_texts(origin: str, texts: Sequence[Optional[str]]) -> _Source:
    """Read numbers followed by a unit, the middle of a range, or texts that are all nothing but a number."""
    lower = [_with_middles((text or "").lower(), number) for number, text in enumerate(texts, start=1)]
    found = [_NUMBER_AND_UNIT.search(text) for text in lower]
    if any(found):
        numbers = [match and match.group("number") for match in found]
        return _source(origin, numbers, [None] * len(texts), [match and match.group("unit") for match in found])
    bare = [_BARE_NUMBER.fullmatch(text or "") for text in texts]
    numbers = [match.group("number") if match else None for match in bare]
    # "1", "2", "3" are band numbers, not wavelengths in micrometres.
    if None in numbers or any(number.isdigit() and int(number) < SHORTEST_NM for number in numbers if number):
        numbers = [None] * len(texts)
    return _source(origin, numbers, [None] * len(texts), [None] * len(texts))


def _with_middles(text: str, band: int) -> str:
    """Return a band's text with the middle in nm in place of what is written as from one wavelength to another."""

    def middle(match: re.Match[str]) -> str:
        ends = ("low", match["low_unit"] or match["unit"]), ("high", match["unit"])
        low, high = (_in_nm(_number(match[end]), _nm_per_unit(unit), 0.0) for end, unit in ends)
        is_number = match["low"] == str(band) or _NUMBERED.search(text[: match.start()])
        if is_number or low is None or high is None or not low < high <= _WIDEST_RANGE * low:
            return match[0]
        return f"{(low + high) / 2:.12g} nm"

    return _RANGE.sub(middle, text)


def _source(
    origin: str,
    wavelengths: Sequence[Optional[str]],
    fwhm: Sequence[Optional[str]],
    units: Sequence[Optional[str]],
) -> _Source:
    numbers = [_number(text) for text in wavelengths]
    unstated = [(unit or "").strip().lower() in _UNIT_UNSTATED for unit in units]
    undecided = [number for number, guess in zip(numbers, unstated) if guess and number and number <= LONGEST_NM]
    guessed_unit = ("um" if all(number < SHORTEST_NM for number in undecided) else "nm") if undecided else None
    factors = [_nm_per_unit(guessed_unit if guess else unit) for unit, guess in zip(units, unstated)]
    return _Source(
        origin,
        [_in_nm(number, factor, SHORTEST_NM) for number, factor in zip(numbers, factors)],
        [_in_nm(_number(text), factor, 0.0) for text, factor in zip(fwhm, factors)],
        unstated,
    )


def _nm_per_unit(unit: Optional[str]) -> Optional[float]:
    text = (unit or "").strip().lower()
    if _NANOMETRE.fullmatch(text):
        return 1.0
    return 1000.0 if _MICROMETRE.fullmatch(text) else None


def _in_nm(number: Optional[float], factor: Optional[float], shortest_nm: float) -> Optional[float]:
    if number is None or factor is None or not shortest_nm <= number * factor <= LONGEST_NM:
        return None
    # Twelve digits rid 0.55 um x 1000 of binary dust (550.0000000000001).
    return float(f"{number * factor:.12g}")


def _number(text: Optional[str]) -> Optional[float]:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _list_items(text: Optional[str], count: int) -> List[Optional[str]]:
    """Return the items of ``{a, b, c}`` or ``a,b,c``; nothing where they are not one a band."""
    items = [item for item in re.split(r"[\s,;]+", (text or "").strip(" \t\r\n{}")) if item]
    return list(items) if len(items) == count else [None] * count


def _bad_bands(default: Mapping[str, str], envi: Mapping[str, str], bands: Sequence[Domains]) -> Tuple[bool, ...]:
    lists = [_list_items(tags.get("bbl"), len(bands)) for tags in (envi, default)]
    bad = []
    for i, band in enumerate(bands):
        flags = [_first_of(band.get(domain, {}), _BAD_BAND_KEYS) for domain in ("", "ENVI")]
        flags.extend(items[i] for items in lists)
        bad.append(_is_zero(next((flag for flag in flags if flag is not None), "1")))
    return tuple(bad)


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0.0
    except ValueError:
        return False


def _band_tags(wavelength_nm: Optional[float], fwhm_nm: Optional[float]) -> Dict[str, Dict[str, str]]:
    if wavelength_nm is None:
        return {}
    default = {"wavelength": _text(wavelength_nm), "wavelength_units": "Nanometers"}
    imagery = {"CENTRAL_WAVELENGTH_UM": _text(wavelength_nm / 1000)}
    if fwhm_nm is not None:
        default["fwhm"] = _text(fwhm_nm)
        imagery["FWHM_UM"] = _text(fwhm_nm / 1000)
    return {"": default, "IMAGERY": imagery}


def _envi_list(numbers: Sequence[Optional[float]]) -> str:
    return "{" + ", ".join(_text(number) for number in numbers if number is not None) + "}"


def _text(number: float) -> str:
    return f"{number:.9g}"
