"""What to say where QGIS's Python lacks a package: one sentence with the command that installs it."""

from __future__ import annotations

import os
import sys

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QLabel


def missing_package(package: str, purpose: str) -> str:
    """Return the sentence.

    Args:
        package: its name, the same for pip and, after python3-, for Debian.
        purpose: what it is needed for.
    """
    if sys.platform == "win32":
        how = f"in the OSGeo4W Shell: python -m pip install {package}"
    elif sys.platform == "darwin":
        how = f'in a terminal: "{os.path.join(sys.exec_prefix, "bin", "python3")}" -m pip install {package}'
    elif os.path.exists("/etc/debian_version"):
        how = f"in a terminal: sudo apt install python3-{package}"
    else:
        how = f"in a terminal: python3 -m pip install --user {package}"
    return f"{purpose} needs {package}, which QGIS's Python does not have; install it and start QGIS anew, {how}"


def missing_package_label(package: str, purpose: str) -> QLabel:
    """Return the sentence where the missing part would be: no wider than that, and its command can be copied."""
    label = QLabel(missing_package(package, purpose))
    label.setWordWrap(True)
    label.setMargin(12)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
