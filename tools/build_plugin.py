"""Assemble build/scdm_qgis, the folder QGIS loads: the package, metadata.txt, icons, LICENSE and requirements.txt.

The checkout itself is no loadable plugin: QGIS wants these side by side.
"""

from __future__ import annotations

import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PLUGIN = CHECKOUT / "build" / "scdm_qgis"
FILES_BESIDE_THE_PACKAGE = ("metadata.txt", "LICENSE", "requirements.txt")


def build(target: Path = PLUGIN) -> None:
    """Copy the plugin's files to `target`, replacing what is there."""
    being_built = target.with_name(target.name + ".part")
    shutil.rmtree(being_built, ignore_errors=True)
    shutil.copytree(CHECKOUT / "scdm_qgis", being_built, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in FILES_BESIDE_THE_PACKAGE:
        shutil.copyfile(CHECKOUT / name, being_built / name)
    shutil.copytree(CHECKOUT / "icons", being_built / "icons")
    shutil.rmtree(target, ignore_errors=True)
    being_built.rename(target)


if __name__ == "__main__":
    build()
