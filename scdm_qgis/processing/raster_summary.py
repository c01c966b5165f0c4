"""What can be known of a raster before any work: its path, its bands, its wavelengths."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional, Tuple

from osgeo import gdal
from qgis.core import QgsMapLayer, QgsProcessingContext, QgsProcessingUtils, QgsProviderRegistry, QgsRasterLayer

from scdm_qgis.core.bands import choose_rgb_bands
from scdm_qgis.core.errors import UserError
from scdm_qgis.raster.spectral import Spectrum, read_spectrum

_SPECTRAL_DOMAINS = ("", "IMAGERY", "ENVI")
_NO_PART_OF_A_PATH = ("openOptions", "credentialOptions", "authcfg")


@dataclass(frozen=True)
class RasterSummary:
    """A raster that GDAL can open.

    Args:
        path: what GDAL opens.
        band_count: its bands, alpha not counted.
        spectrum: wavelengths and bad bands of these bands.
        has_place: whether the file names a coordinate system and where in it the pixels lie.
        geotransform: pixels to places, as QGIS shows the raster: one without lies below the origin.
    """

    path: str
    band_count: int
    spectrum: Spectrum
    has_place: bool
    geotransform: Tuple[float, ...]

    def rgb_bands(self, asked: Any, by_position: bool = False) -> Tuple[int, int, int]:
        """Return the bands that show red, green and blue; raises UserError where they are not known."""
        usable = [not bad for bad in self.spectrum.bad]
        return choose_rgb_bands(asked, self.band_count, self.spectrum.wavelengths_nm, usable, by_position)


def raster_path(name: str, value: Any, context: QgsProcessingContext) -> Optional[str]:
    """Return the path that GDAL opens for a layer, a layer's id, or a path; None where nothing was given.

    Args:
        name: the parameter, for the message.
        value: what the user gave.
        context: where ids of layers are looked up.

    Raises:
        UserError: a layer that is no raster, or that GDAL does not read.
    """
    if isinstance(value, QgsMapLayer):
        layer = value
    else:
        text = str(value or "").strip()
        if not text:
            return None
        layer = QgsProcessingUtils.mapLayerFromString(text, context, allowLoadingNewLayers=False)
        if layer is None:
            return text  # a path; what is wrong with it is said where paths are checked
    if not isinstance(layer, QgsRasterLayer):
        raise UserError(f"{name} '{layer.name()}' is not a raster layer.", "Choose a raster.")
    if layer.providerType() != "gdal":
        raise UserError(
            f"The layer '{layer.name()}' comes from '{layer.providerType()}', not from a file that GDAL reads.",
            "Save it as a GeoTIFF first (right-click the layer ▸ Export ▸ Save As…, raw data), then use that file.",
        )
    registry = QgsProviderRegistry.instance()
    parts = registry.decodeUri("gdal", layer.source())
    return registry.encodeUri("gdal", {key: part for key, part in parts.items() if key not in _NO_PART_OF_A_PATH})


def open_raster(path: str) -> gdal.Dataset:
    """Open a raster with GDAL, quietly.

    Raises:
        UserError: GDAL cannot open it.
    """
    with quiet_gdal():
        try:
            dataset = gdal.Open(path)
        except RuntimeError:  # where another plugin has switched on GDAL's exceptions
            dataset = None
    if dataset is None:
        raise UserError(f"'{path}' cannot be read as a raster.", "Choose a raster that QGIS can show.")
    return dataset


@contextmanager
def quiet_gdal() -> Iterator[None]:
    """Keep this thread's GDAL errors out of the console: they are told as a UserError."""
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        yield
    finally:
        gdal.PopErrorHandler()


def summarise_raster(path: str) -> RasterSummary:
    """Open a raster with GDAL and return what it is.

    Raises:
        UserError: GDAL cannot open it, or it has no bands.
    """
    return summary_of(path, open_raster(path))


def summary_of(path: str, dataset: gdal.Dataset) -> RasterSummary:
    """Return what an open raster is; raises UserError where it has no bands."""
    bands = [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]
    data = [i for i, band in enumerate(bands) if band.GetColorInterpretation() != gdal.GCI_AlphaBand]
    if not data:
        raise UserError(f"'{path}' has no bands.", "Choose another raster, or one layer of it.")
    descriptions = [_text(band.GetDescription()) for band in bands]
    spectrum = read_spectrum(_tags(dataset), [_tags(band) for band in bands], descriptions)
    geotransform = dataset.GetGeoTransform(can_return_null=True)
    has_place = bool(dataset.GetProjection()) and geotransform is not None
    return RasterSummary(
        path, len(data), spectrum.of_bands(data), has_place, geotransform or (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    )


def _tags(source: Any) -> Dict[str, Dict[str, str]]:
    """Return the tags of a GDAL dataset or band by domain."""
    return {domain: tags_in(source, domain) for domain in _SPECTRAL_DOMAINS}


def tags_in(source: Any, domain: str = "") -> Dict[str, str]:
    """Return the tags of a GDAL dataset or band in one domain."""
    return {_text(key): _text(value) for key, value in (source.GetMetadata_Dict(domain) or {}).items()}


def _text(value: Any) -> str:
    """Return what GDAL says as text; it gives bytes where a file, such as an ENVI header, is not in UTF-8."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
