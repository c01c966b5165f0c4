"""What the tests of the dock's pure parts share: curves."""

from __future__ import annotations

from typing import Callable, Optional, Sequence

import numpy as np
import pytest

from scdm_qgis.profile.curves import Curve
from scdm_qgis.raster.spectral import Spectrum


@pytest.fixture
def make_curve() -> Callable[..., Curve]:
    """Return a function from values, and wavelengths and bad bands where there are any, to a curve."""

    def make(
        values: Sequence[float], wavelengths_nm: Optional[Sequence[Optional[float]]] = None, bad: Sequence[int] = ()
    ) -> Curve:
        flags = tuple(index in bad for index in range(len(values)))
        known = None if wavelengths_nm is None else tuple(wavelengths_nm)
        spectrum = Spectrum(known, None, flags, "test", False)
        return Curve(np.array(values, float), np.zeros(len(values)), 1, spectrum)

    return make
