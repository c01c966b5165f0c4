"""SCDM for QGIS: spectral super-resolution of rasters by a spectral-cascaded diffusion model."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin object; QGIS calls this."""
    from scdm_qgis.plugin import ScdmPlugin  # only QGIS may load it: the engine imports this package without qgis

    return ScdmPlugin(iface)
