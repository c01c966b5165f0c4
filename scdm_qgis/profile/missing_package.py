"""What to say where QGIS's Python lacks a package: one sentence with the command that installs it."""

from __future__ import annotations

import os
import sys


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
