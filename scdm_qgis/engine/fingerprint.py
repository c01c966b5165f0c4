"""What must be the same for interrupted work to be taken up again."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping, Optional, Sequence

from scdm_qgis.engine.job_paths import file_behind
from scdm_qgis.raster.cube import Cube


def as_json(fingerprint: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a fingerprint as it comes back from a file: tuples as lists, whole numbers as they are."""
    values: Dict[str, Any] = json.loads(json.dumps(fingerprint))
    return values


def first_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> Optional[str]:
    """Return the first name whose value differs, or None."""
    names = [*now, *(name for name in before if name not in now)]
    return next((name for name in names if before.get(name) != now.get(name)), None)


def of_raster(cube: Cube) -> Dict[str, Any]:
    """Return what tells a raster from a changed one without reading all of it: its header, and its files' dates."""
    return {
        "size": [cube.height, cube.width, cube.band_count],
        "type": cube.dtype,
        "nodata": repr(cube.nodata),
        "transform": list(cube.transform),
        "crs": cube.crs.to_wkt() if cube.crs else None,
        "files": _dates(cube.files),
    }


def _dates(paths: Sequence[str]) -> Dict[str, Any]:
    """Return size in bytes and time of change by file; not of statistics and overviews, which QGIS may write."""
    own = [path for path in paths if not path.endswith((".aux.xml", ".ovr"))]
    files = sorted({file for file in map(file_behind, own) if file is not None})
    return {file: [os.stat(file).st_size, os.stat(file).st_mtime_ns] for file in files}
