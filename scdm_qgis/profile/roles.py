"""Guess from a raster's tags, bands and name what it is in a comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from scdm_qgis.core.bands import match_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.profile.curves import Role

MOST_BANDS_OF_A_PICTURE = 4
"""A raster with no more bands is taken for a picture, not for a spectrum."""

_PRODUCT = "SCDM_PRODUCT"
_PRODUCTS = {"reconstruction": Role.PREDICTION, "coarse stage": Role.COARSE, "uncertainty": Role.UNCERTAINTY}
"""What a reconstruction calls its rasters."""

_NAMES = (
    (Role.UNCERTAINTY, re.compile(r"uncertain|sigma|std|deviation")),
    (Role.COARSE, re.compile(r"coarse|stage")),
    (Role.PREDICTION, re.compile(r"predict|reconstruct|estimate")),
    (Role.TRUTH, re.compile(r"truth|reference|(?<![a-z])gt(?![a-z])")),
)


@dataclass(frozen=True)
class RasterFacts:
    """What a role is guessed from.

    Args:
        name: the layer's name.
        band_count: its data bands.
        wavelengths_nm: one a band, where known.
        floating: whether its values are floating-point numbers.
        tags: the dataset's tags.
    """

    name: str
    band_count: int
    wavelengths_nm: Optional[Tuple[Optional[float], ...]]
    floating: bool
    tags: Mapping[str, str]


def run_of(tags: Mapping[str, str]) -> Tuple[Tuple[str, str], ...]:
    """Return the tags that a reconstruction leaves in all its rasters; empty for other rasters."""
    return tuple(sorted((key, tag) for key, tag in tags.items() if key.startswith("SCDM_") and key != _PRODUCT))


def guess_roles(rasters: Mapping[str, RasterFacts]) -> Dict[str, Role]:
    """Return a role for each raster.

    The rasters of a reconstruction say what they are. Among those of one that do not, written by earlier
    versions, those with fewer bands are the coarse stage, and one of floating-point numbers beside one of
    integers is the uncertainty. Names decide what these do not. A raster of many bands that match a
    prediction's is the ground truth.
    """
    roles: Dict[str, Role] = {}
    runs: Dict[Tuple[Tuple[str, str], ...], List[str]] = {}
    for key, facts in rasters.items():
        run = run_of(facts.tags)
        if run:
            runs.setdefault(run, []).append(key)
        else:
            roles[key] = _named(facts.name) or Role.OTHER
    for keys in runs.values():
        roles.update(_roles_in_run({key: rasters[key] for key in keys}))
    predictions = [rasters[key] for key, role in roles.items() if role is Role.PREDICTION]
    for key, role in roles.items():
        facts = rasters[key]
        if role is Role.OTHER and any(_same_bands(facts, prediction) for prediction in predictions):
            roles[key] = Role.TRUTH
    return roles


def _roles_in_run(rasters: Mapping[str, RasterFacts]) -> Dict[str, Role]:
    most = max(facts.band_count for facts in rasters.values())
    integers = any(not facts.floating and facts.band_count == most for facts in rasters.values())
    roles = {}
    for key, facts in rasters.items():
        named = _named(facts.name)
        product = _PRODUCTS.get(facts.tags.get(_PRODUCT, ""))
        if product is not None:
            roles[key] = product
        elif named in (Role.UNCERTAINTY, Role.COARSE):
            roles[key] = named
        elif facts.band_count < most:
            roles[key] = Role.COARSE
        else:
            roles[key] = Role.UNCERTAINTY if facts.floating and integers else Role.PREDICTION
    return roles


def _named(name: str) -> Optional[Role]:
    return next((role for role, pattern in _NAMES if pattern.search(name.lower())), None)


def _same_bands(facts: RasterFacts, prediction: RasterFacts) -> bool:
    """Return whether every band of a prediction has its counterpart."""
    if facts.band_count <= MOST_BANDS_OF_A_PICTURE:
        return False
    try:
        pairs = match_bands(prediction.wavelengths_nm, prediction.band_count, facts.wavelengths_nm, facts.band_count)
    except UserError:
        return False
    return len(pairs) == prediction.band_count
