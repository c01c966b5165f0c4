"""The same pixels give the same spectra whatever kind of raster they come in."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine

from scdm_qgis.raster.cube import open_cube
from tests.engine.conftest import GEOREFERENCE
from tests.engine.known_arithmetic import ask, check_spectra, write_model

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

HEIGHT, WIDTH = 75, 90
GAP = slice(40, 44)
"""Columns without a valid pixel: a mosaic's two files leave them out."""

UNITS = {
    "uint8": {"offset": 120.0, "scale": 40.0, "low": 20, "high": 220, "nodata": 0},
    "uint16": {"offset": 3000.0, "scale": 1500.0, "low": 200, "high": 9000, "nodata": 65535},
    "int16": {"offset": -100.0, "scale": 400.0, "low": -700, "high": 500, "nodata": -9999},
    "float32": {"offset": 0.3, "scale": 0.2, "low": 0.01, "high": 0.7, "nodata": float("nan")},
}
"""By data type: where its values lie, what of them is 0 and 1 to the model, and what is nodata."""

PLACE = {"crs": "EPSG:32633", "transform": GEOREFERENCE}


def content(dtype):
    """Return values (3, row, column) without nodata, and which pixels are valid (row, column)."""
    random = np.random.default_rng(0)
    rgb = random.uniform(UNITS[dtype]["low"], UNITS[dtype]["high"], (3, HEIGHT, WIDTH)).astype(dtype)
    valid = random.random((HEIGHT, WIDTH)) > 0.1
    valid[10:50, 50:85] = False  # a tile of 32 lies in it
    valid[:, GAP] = False
    return rgb, valid


def with_nodata(rgb, valid):
    """Return values with nodata in one of the three bands at least of each pixel that is not valid."""
    rgb, (row, column) = rgb.copy(), np.nonzero(~valid)
    nodata = UNITS[rgb.dtype.name]["nodata"]
    rgb[(row + column) % 3, row, column] = nodata
    rgb[:, 10:50, 50:85] = nodata
    rgb[:, :, GAP] = nodata
    return rgb


def write(path, values, **form):
    """Write values (band, row, column) and return the path."""
    count, height, width = values.shape
    whole = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, **form}
    with rasterio.open(path, "w", **whole) as dataset:
        dataset.write(values)
    return str(path)


def write_with_nodata(path, rgb, valid, **form):
    return write(path, with_nodata(rgb, valid), nodata=UNITS[rgb.dtype.name]["nodata"], **{**PLACE, **form})


def envi(folder, rgb, valid):
    path = write_with_nodata(folder / "image.bsq", rgb, valid, driver="ENVI", interleave="bsq")
    assert "interleave = bsq" in (folder / "image.hdr").read_text()
    return path


def tiled(folder, rgb, valid):
    return write_with_nodata(folder / "tiled.tif", rgb, valid, tiled=True, blockxsize=32, blockysize=16)


def stripped(folder, rgb, valid):
    return write_with_nodata(folder / "strips.tif", rgb, valid, tiled=False, blockysize=7, compress="deflate")


def band_after_band(folder, rgb, valid):
    return write_with_nodata(folder / "bands.tif", rgb, valid, interleave="band")


def mosaic(folder, rgb, valid):
    """Two files side by side, with nothing between."""
    values, nodata = with_nodata(rgb, valid), UNITS[rgb.dtype.name]["nodata"]
    sources = []
    for name, first, last in (("left.tif", 0, GAP.start), ("right.tif", GAP.stop, WIDTH)):
        transform = GEOREFERENCE * GEOREFERENCE.translation(first, 0)
        write(folder / name, values[:, :, first:last], nodata=nodata, **{**PLACE, "transform": transform})
        size = f'xSize="{last - first}" ySize="{HEIGHT}"'
        sources.append((name, f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{first}" yOff="0" {size}/>'))
    kind = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}[rgb.dtype.name]
    bands = ""
    for band in (1, 2, 3):
        bands += f'<VRTRasterBand dataType="{kind}" band="{band}"><NoDataValue>{nodata}</NoDataValue>'
        for name, rectangles in sources:
            bands += f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            bands += f"<SourceBand>{band}</SourceBand>{rectangles}</SimpleSource>"
        bands += "</VRTRasterBand>"
    numbers = ", ".join(str(number) for number in GEOREFERENCE.to_gdal())
    path = folder / "mosaic.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>"
    )
    return str(path)


def zipped(folder, rgb, valid):
    image = write_with_nodata(folder / "image.tif", rgb, valid)
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(image, "scene/image.tif")
    (folder / "image.tif").unlink()
    return f"/vsizip/{path}/scene/image.tif"


def with_alpha(folder, rgb, valid):
    """What is hidden has ordinary values; what is a little opaque counts."""
    opacity = np.where(valid, 1 + np.arange(WIDTH) % 200 // 2, 0).astype(rgb.dtype)
    path = folder / "alpha.tif"
    write(path, np.concatenate([rgb, opacity[None]]), photometric="rgb", alpha="yes", **PLACE)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    return str(path)


def with_mask(folder, rgb, valid):
    """What is hidden has ordinary values."""
    path, form = folder / "mask.tif", {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": rgb.dtype}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", "GTiff", **form, **PLACE) as dataset:
        dataset.write(rgb)
        dataset.write_mask(valid)
    assert not (folder / "mask.tif.msk").exists()
    return str(path)


KINDS = {
    "ENVI": envi,
    "tiled GeoTIFF": tiled,
    "stripped GeoTIFF": stripped,
    "GeoTIFF band after band": band_after_band,
    "mosaic": mosaic,
    "zip": zipped,
    "alpha": with_alpha,
    "internal mask": with_mask,
}


def check_answer(folder, source, rgb, valid, crs, transform):
    """Assert that a raster's reconstruction has the known spectra, and the raster's mask, size and place."""
    dtype = rgb.dtype.name
    unit, model = UNITS[dtype], str(folder / "model.safetensors")
    write_model(model, dtype, unit["nodata"], unit["offset"], unit["scale"])
    output = ask(model, source, str(folder / "output.tif"), tile_size=32, overlap=8)
    check_spectra(output, model, rgb, valid)
    with open_cube(output) as cube:
        assert (cube.height, cube.width) == (HEIGHT, WIDTH)
        assert cube.crs == crs
        assert cube.transform.almost_equals(transform, 1e-9)


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_spectra_mask_and_place_do_not_depend_on_the_kind_of_file(tmp_path, kind, dtype):
    rgb, valid = content(dtype)
    source = KINDS[kind](tmp_path, rgb, valid)
    check_answer(tmp_path, source, rgb, valid, rasterio.CRS.from_epsg(32633), GEOREFERENCE)


ROTATED = Affine(4, 1.5, 400000, 1.25, -4.5, 5800000)
SOUTH_UP = Affine(5, 0, 400000, 0, 5, 5800000)


@pytest.mark.parametrize(
    "place",
    [
        {"crs": "EPSG:32633", "transform": ROTATED},
        {"crs": "EPSG:32633", "transform": SOUTH_UP},
        {"crs": "EPSG:32633"},
        {"crs": None, "transform": GEOREFERENCE},
        {"crs": None, "transform": ROTATED},
        {"crs": None},
    ],
    ids=["rotated", "south up", "CRS alone", "no CRS", "rotated without CRS", "no place"],
)
def test_every_place_is_kept(tmp_path, place):
    rgb, valid = content("uint16")
    form = {"transform": Affine.identity(), **place}
    source = write_with_nodata(tmp_path / "placed.tif", rgb, valid, **form)
    check_answer(tmp_path, source, rgb, valid, place["crs"] and rasterio.CRS.from_epsg(32633), form["transform"])
