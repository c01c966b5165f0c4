"""Put build/scdm_qgis into the current user's default QGIS profile, enable it, and tell it this checkout's Python.

Afterwards QGIS and `qgis_process` show the plugin's algorithms. QGIS_CUSTOM_CONFIG_PATH is obeyed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from qgis.core import QgsUserProfileManager
from qgis.PyQt.QtCore import QSettings, QStandardPaths

PLUGIN = Path(__file__).resolve().parent.parent / "build" / "scdm_qgis"
ENABLED_KEY = "PythonPlugins/scdm_qgis"
ENGINE_PYTHON_KEY = "Processing/Configuration/SCDM_ENGINE_PYTHON"


def install(profile: Path, python: str) -> Path:
    """Install the built plugin into a QGIS profile and return its folder there.

    Args:
        profile: the profile's folder, which holds python/plugins and QGIS/QGIS3.ini.
        python: path of the Python the engine runs on.
    """
    installed = profile / "python" / "plugins" / PLUGIN.name
    if installed.is_symlink():
        installed.unlink()
    shutil.rmtree(installed, ignore_errors=True)
    shutil.copytree(PLUGIN, installed)
    settings = QSettings(str(profile / "QGIS" / "QGIS3.ini"), QSettings.Format.IniFormat)
    settings.setValue(ENABLED_KEY, True)
    settings.setValue(ENGINE_PYTHON_KEY, python)
    settings.sync()
    if settings.status() != QSettings.Status.NoError:
        raise SystemExit(f"{settings.fileName()} cannot be written.")
    return installed


def default_profile() -> Path:
    """Return the folder of the profile QGIS starts with by default; make it where there is none."""
    data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    base = os.environ.get("QGIS_CUSTOM_CONFIG_PATH") or f"{data}/QGIS/QGIS3"
    profiles = QgsUserProfileManager(QgsUserProfileManager.resolveProfilesFolder(base))
    return Path(profiles.getProfile(initSettings=False).folder())


if __name__ == "__main__":
    print(install(default_profile(), sys.executable))
