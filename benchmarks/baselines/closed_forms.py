"""Baselines that need no network: fitted to all training pixels, applied pixel by pixel."""

from __future__ import annotations

import itertools
from typing import Callable, Dict, Tuple

import numpy as np
from scipy.spatial import cKDTree

from scdm_qgis.core.regression import fit_ridge

NEIGHBOURS = 10

CLOSED_FORMS = (
    "mean training spectrum",
    "ridge regression",
    "cubic ridge regression",
    f"{NEIGHBOURS} nearest neighbours",
)

Predict = Callable[[np.ndarray], np.ndarray]
"""From RGB pixels to spectra, each (pixel, band)."""


def fit_closed_forms(rgb: np.ndarray, spectra: np.ndarray) -> Dict[str, Predict]:
    """Fit all closed forms to training pixels, RGB and spectra (pixel, band); return them by their names."""
    mean, deviation = rgb.mean(axis=0), rgb.std(axis=0)

    def cubes(pixels: np.ndarray) -> np.ndarray:
        standard = (pixels - mean) / deviation
        products = [
            standard[:, list(colours)].prod(axis=1)
            for degree in (1, 2, 3)
            for colours in itertools.combinations_with_replacement(range(3), degree)
        ]
        return np.stack(products, axis=1)

    plain, cubic, tree = fit_ridge(rgb, spectra), fit_ridge(cubes(rgb), spectra), cKDTree(rgb)
    models: Tuple[Predict, ...] = (
        lambda pixels: np.broadcast_to(spectra.mean(axis=0), (len(pixels), spectra.shape[1])),
        plain.predict,
        lambda pixels: cubic.predict(cubes(pixels)),
        lambda pixels: spectra[tree.query(pixels, NEIGHBOURS)[1]].mean(axis=1),
    )
    return dict(zip(CLOSED_FORMS, models))
