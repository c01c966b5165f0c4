"""Zip build/scdm_qgis into dist/scdm_qgis-<version>.zip, as the QGIS plugin site takes it.

The same sources give the same bytes: entries are sorted and carry one date.
"""

from __future__ import annotations

import configparser
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PLUGIN = CHECKOUT / "build" / "scdm_qgis"
LARGEST_ZIP_BYTES = 25_000_000  # the plugin site's limit
PUBLISHERS_FIELDS = ("email", "tracker", "repository")
ONE_DATE = (1980, 1, 1, 0, 0, 0)


def read_metadata() -> configparser.SectionProxy:
    """Return the fields of the built plugin's metadata.txt."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    return metadata["general"]


def write_zip(path: Path) -> None:
    """Write the built plugin to `path`, all of it below one folder `scdm_qgis`."""
    path.parent.mkdir(exist_ok=True)
    files = sorted(file for file in PLUGIN.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(PLUGIN.parent).as_posix(), ONE_DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())


def main() -> None:
    """Write the zip and say what is still missing before it can be uploaded."""
    metadata = read_metadata()
    path = CHECKOUT / "dist" / f"scdm_qgis-{metadata['version']}.zip"
    write_zip(path)
    size = path.stat().st_size
    if size > LARGEST_ZIP_BYTES:
        raise SystemExit(f"{path} has {size} bytes; the plugin site takes {LARGEST_ZIP_BYTES}.")
    print(f"{path} ({size / 1000:.0f} kB)")
    empty = [field for field in PUBLISHERS_FIELDS if not metadata[field]]
    if empty:
        print(f"Before uploading, the publisher fills in these fields of metadata.txt: {', '.join(empty)}.")


if __name__ == "__main__":
    main()
