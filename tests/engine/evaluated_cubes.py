"""Small cubes on disk, and Evaluate Reconstruction run on them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import rasterio
from affine import Affine

from scdm_qgis.engine import evaluate
from scdm_qgis.engine.events import EventWriter, parse_event
from scdm_qgis.engine.jobs import EvaluateReconstruction

PLACE = Affine(2.0, 0.0, 364000.0, 0.0, -2.0, 5809000.0)
WAVELENGTHS_NM = (450.0, 500.0, 550.0, 600.0, 650.0, 700.0)


def write_cube(
    path: Path,
    values: np.ndarray,
    wavelengths_nm: Optional[Sequence[float]] = None,
    nodata: Optional[float] = None,
    place: Affine = PLACE,
) -> Path:
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=values.dtype,
        nodata=nodata,
        crs="EPSG:32633",
        transform=place,
    ) as dataset:
        dataset.write(values)
        for band, wavelength in enumerate(wavelengths_nm or (), start=1):
            dataset.update_tags(band, wavelength=str(wavelength), wavelength_units="Nanometers")
    return path


def run(prediction: Path, reference: Path, **settings: Any) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    log = io.StringIO()
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    result = evaluate.run(EvaluateReconstruction(str(prediction), str(reference), **texts), EventWriter(log))
    return result, [event for event in map(parse_event, log.getvalue().splitlines()) if event]
